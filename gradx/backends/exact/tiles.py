"""Elementwise functions of NumPy's arrays, tile by tile, so that what they compute on the way stays in the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gradx.backends.exact.namespace import Exact

_TILE = 8192  # elements


def tiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """An elementwise function whose arguments are arrays that broadcast, and others; it gives one array."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        arrays = [arg for arg in args if isinstance(arg, np.ndarray) and arg.size > 1]
        if max((array.size for array in arrays), default=0) <= _TILE:
            return function(*args)
        shape = np.broadcast_shapes(*(arg.shape for arg in args if isinstance(arg, np.ndarray)))
        flat = [np.broadcast_to(a, shape).reshape(-1) if _long(a) else _single(a) for a in args]
        out: Any = None
        size = int(np.prod(shape))
        for start in range(0, size, _TILE):
            part = function(*[a[start : start + _TILE] if _long(a) else a for a in flat])
            if out is None:
                out = np.empty(size, part.dtype)
            out[start : start + _TILE] = part
        return out.reshape(shape)

    return run


def _long(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 1


def _single(value: Any) -> Any:
    """An array of one element without dimensions; anything else as it is."""
    return value.reshape(()) if isinstance(value, np.ndarray) else value


class TiledExact(Exact):
    """NumPy's names, every function that is not an operation of NumPy's tile by tile."""

    def __init__(self) -> None:
        super().__init__(np)

    def _exact(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return tiled(super()._exact(name, function))
