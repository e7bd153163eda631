"""Kernels of NumPy's arrays that give the same bits as those on CUDA: exact operations on float64, see `gradx.backends.exact`.

Imported when deterministic mode is first used.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np

from gradx.backends.base import Rule, is_elementwise, named, refusing
from gradx.backends.exact.choices import discrete
from gradx.backends.exact.doubles import NAN
from gradx.backends.exact.formats import FORMATS, is_floating, on_doubles, rounded
from gradx.backends.exact.kernels import ExactKernels
from gradx.backends.exact.tiles import TiledExact, tiled


def widened(x: Any) -> Any:
    """An array of NumPy's in float64, if it is floating-point."""
    return x.astype(np.float64, copy=False) if is_floating(x) else x


def narrowed(x: Any, dtype: np.dtype[Any]) -> Any:
    """An array of NumPy's in float64 as one of `dtype`. NaN, whose sign and digits are the machine's, is made one."""
    if dtype.name in FORMATS:
        x = rounded(np, x, *FORMATS[dtype.name])
    x = np.asarray(x).astype(dtype, copy=False)
    nan = x != x
    return np.where(nan, dtype.type(NAN), x) if nan.any() else x


_CONVERSIONS: Final = {
    "cast": lambda x, dtype: narrowed(widened(x), dtype),
    "cast_discrete": lambda x, dtype: discrete(np, widened(x), dtype),
}


@functools.cache
def _kernels() -> ExactKernels:
    return ExactKernels(TiledExact())


def kernel(name: str, expression: Rule | None, static: frozenset[int]) -> Rule:
    """The kernel `name`, or `expression`, for arrays of which some are floating-point; see `Backend.exact_kernel`."""
    if expression is not None:
        return tiled(on_doubles(expression, widened, narrowed))
    if name in _CONVERSIONS:
        return _CONVERSIONS[name]
    found = on_doubles(named(_kernels(), name), widened, narrowed)
    return refusing(name, tiled(found) if is_elementwise(name) else found)
