"""Dimension arguments, as torch takes and refuses them."""

from __future__ import annotations

import math
from collections.abc import Sequence

Dim = int | Sequence[int] | None  # as users give it
Dims = tuple[int, ...]  # wrapped


def wrap(dim: int, ndim: int) -> int:
    """`dim` as 0 <= dim < ndim; negative ones count from the end. A tensor without dimensions takes -1 and 0.

    Raises:
        IndexError: there is no such dimension.
    """
    if not isinstance(dim, int) and hasattr(dim, "__index__"):
        dim = dim.__index__()
    size = ndim or 1
    if not -size <= dim < size:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})")
    return dim % size


def wrap_all(dim: Dim, ndim: int) -> tuple[int, ...]:
    """The dimensions to reduce: all for None or (), else each of `dim` wrapped.

    Raises:
        IndexError: there is no such dimension.
        RuntimeError: a dimension appears twice.
    """
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(ndim))
    wrapped = tuple(wrap(d, ndim) for d in ((dim,) if isinstance(dim, int) else dim))
    for i, d in enumerate(wrapped):
        if d in wrapped[:i]:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    return wrapped if ndim else ()


def kept_shape(shape: tuple[int, ...], dim: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a reduction over `dim` that keeps the reduced dimensions."""
    return tuple(1 if d in dim else n for d, n in enumerate(shape))


def count(shape: tuple[int, ...], dim: tuple[int, ...]) -> int:
    """How many elements each result of a reduction over `dim` comes from."""
    return math.prod(shape[d] for d in dim)
