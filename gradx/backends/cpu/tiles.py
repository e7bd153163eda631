"""Large arrays, computed in blocks that stay in a core's cache, several at once, into memory of the pool.

A function of several passes over its arrays makes each pass over one block before it goes on to the next. For that, the
parts that blocks cut out must not depend on each other: elements of elementwise functions, rows of functions along later
dimensions. Blocks depend on shapes alone, never on the number of threads, so that results do not either.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradx.backends.base import LARGE
from gradx.backends.cpu.memory import pool
from gradx.backends.cpu.quiet import InBlocks
from gradx.backends.cpu.threads import workers
from gradx.backends.kernels import Array, Dims

BLOCK = 1 << 18  # elements: large enough that Python's share is small, small enough for a part of the cache
_LIGHT = 4  # times as large where one pass is all there is, for the cache does not matter then
_THREADED = 1 << 19  # elements from which on threads are worth their while

Index = tuple[slice, ...]
Cut = Callable[[Any, Index], Any]


def blocks(shape: Dims, lead: int, size: int) -> list[Index]:
    """Indices that cut an array into blocks of about `size` elements, along its first `lead` dimensions only."""
    inner = math.prod(shape)
    for dim in range(lead):
        inner //= shape[dim]
        if inner <= size or dim == lead - 1:
            break
    step = max(1, size // inner)
    outer = itertools.product(*([slice(i, i + 1) for i in range(n)] for n in shape[:dim]))
    inside = [slice(i, min(i + step, shape[dim])) for i in range(0, shape[dim], step)]
    return [(*before, last) for before in outer for last in inside]


def each(work: Callable[[int], object], count: int, size: int = BLOCK) -> None:
    """Call `work` with 0, 1, ..., `count` - 1, on blocks of `size` elements each: in threads where that is worth it."""
    with InBlocks():
        if count * size >= _THREADED:
            workers.run(work, count)
        else:
            for i in range(count):
                work(i)


def run_tiled(
    function: Callable[..., Array],
    args: Sequence[Any],
    shape: Dims,
    lead: int,
    cut: Cut,
    *,
    write: Callable[..., object] | None = None,
    dtype: np.dtype[Any] | None = None,
    final: Dims | None = None,
    light: bool = False,
) -> Array | None:
    """`function(*args)`, computed block by block into an array of the pool; None where there is nothing to compute.

    Args:
        function: of as many arguments; on a block it gives the block of the result.
        shape: what blocks are cut from; its `lead` first dimensions are those of the result, too.
        cut: gives the part of an argument that belongs to a block.
        write: does what `function` does, into its argument `out`.
        dtype: of the result, if it is known and the result is of this very shape; else the first block is to show it.
        final: the result's shape, where it is not the one in which it is computed.
        light: whether it takes a single pass.
    """
    size = _LIGHT * BLOCK if light else BLOCK
    indices = blocks(shape, lead, size)
    inner, done = shape, 0
    if write is None or dtype is None:
        first = function(*[cut(arg, indices[0]) for arg in args])
        if first.shape[:lead] != _cut_rows(Shape(shape[:lead]), indices[0]) or _shares(first, args):
            return None  # less than was asked for, or a view of what there is
        inner, dtype, done = shape[:lead] + first.shape[lead:], first.dtype, 1
    result = pool.empty(final or inner, dtype)
    out = result.reshape(inner)
    if done:
        out[indices[0]] = first

    def work(i: int) -> None:
        index = indices[i + done]
        parts = [cut(arg, index) for arg in args]
        if write is None:
            out[index] = function(*parts)
        else:
            write(*parts, out=out[index])

    each(work, len(indices) - done, size)
    return result


def _shares(array: Array, args: Sequence[Any]) -> bool:
    return any(isinstance(arg, np.ndarray) and np.may_share_memory(array, arg) for arg in args)


def reduce_tiled(function: Callable[..., Array], arrays: Sequence[Array], total: np.ufunc) -> Array:
    """`function`, which reduces lines of elements to one value, of each block; and these, reduced by `total`.

    Args:
        arrays: contiguous and of one shape.
    """
    lines = [array.reshape(-1) for array in arrays]
    indices = blocks(lines[0].shape, 1, BLOCK)
    parts: list[Any] = [None] * len(indices)

    def work(i: int) -> None:
        parts[i] = function(*[line[indices[i]] for line in lines])

    each(work, len(indices))
    return total.reduce(np.asarray(parts))


# ---- elementwise -----------------------------------------------------------------------------------------------------


def elementwise(
    function: Callable[..., Array],
    args: Sequence[Any],
    write: Callable[..., object] | None = None,
    dtype: np.dtype[Any] | None = None,
    light: bool = False,
) -> Array:
    """An elementwise function of arrays that broadcast, and of parameters, in blocks where the arrays allow it."""
    arrays = [arg for arg in args if isinstance(arg, np.ndarray)]
    if write is not None and dtype is not None and _fits_one_block(arrays):  # soon done, and so without more ado
        result = pool.empty(arrays[0].shape, dtype)
        write(*args, out=result)
        return result
    shape = _broadcast(arrays)
    if shape is None or math.prod(shape) < LARGE:
        return function(*args)
    lines = [_line(arg, shape) for arg in args]
    if not any(line is None or np.ndim(line[0]) for line in lines):
        dtype = None  # all are repeated: the result may be of another shape
    out = None
    if None not in lines:
        size = (math.prod(shape),)
        flat = [line[0] for line in lines]  # type: ignore[index]
        out = run_tiled(function, flat, size, 1, _cut_line, write=write, dtype=dtype, final=shape, light=light)
    elif any(array.shape == shape and array.flags.c_contiguous for array in arrays):
        cut = functools.partial(_cut_broadcast, len(shape))
        out = run_tiled(function, args, shape, len(shape), cut, write=write, dtype=dtype, light=light)
    return function(*args) if out is None else out


def _fits_one_block(arrays: list[Array]) -> bool:
    shape = arrays[0].shape
    return arrays[0].size <= BLOCK and all(array.shape == shape and array.flags.c_contiguous for array in arrays)


def _broadcast(arrays: list[Array]) -> Dims | None:
    """The shape to which arrays broadcast; None where they do not, or there are none."""
    shapes = {array.shape for array in arrays}
    if len(shapes) < 2:
        return shapes.pop() if shapes else None
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def _line(arg: Any, shape: Dims) -> tuple[Any] | None:
    """An argument as a line of elements, or as the single one that it repeats; None where it is neither."""
    if not isinstance(arg, np.ndarray) or not arg.ndim:
        return (arg,)
    if arg.shape == shape and arg.flags.c_contiguous:
        return (arg.reshape(-1),)
    return None if any(arg.strides) else (arg[(slice(1),) * arg.ndim].reshape(()),)


def _cut_line(arg: Any, index: Index) -> Any:
    return arg[index] if isinstance(arg, np.ndarray) and arg.ndim else arg


def _cut_broadcast(ndim: int, arg: Any, index: Index) -> Any:
    """The part of an array that broadcasts to `ndim` dimensions, and so is aligned with the last."""
    if not isinstance(arg, np.ndarray):
        return arg
    aligned = index[ndim - arg.ndim :]
    return arg[tuple([slice(None) if n == 1 else part for n, part in zip(arg.shape, aligned, strict=False)])]


# ---- row-wise --------------------------------------------------------------------------------------------------------


class Shape(tuple[int, ...]):
    """A shape among the arguments of a row-wise function: that of a block is another."""


def rowwise(
    function: Callable[..., Array],
    args: Sequence[Any],
    lead: int,
    write: Callable[..., object] | None = None,
    dtype: np.dtype[Any] | None = None,
    light: bool = False,
) -> Array:
    """A function along dimensions after the first `lead`, in blocks of rows where the arrays allow it."""
    shape = max((_shape(arg) for arg in args), key=lambda shape: (len(shape), math.prod(shape)))
    arrays = [arg for arg in args if isinstance(arg, np.ndarray)]
    fits = all(array.shape[:lead] == shape[:lead] for array in arrays)
    contiguous = all(array.flags.c_contiguous for array in arrays if array.shape == shape)
    out = None
    size = math.prod(shape)
    if lead and fits and contiguous and write is not None and dtype is not None and LARGE <= size <= BLOCK:
        out = pool.empty(shape, dtype)
        write(*args, out=out)
    elif lead and fits and contiguous and size >= LARGE:
        out = run_tiled(function, args, shape, lead, _cut_rows, write=write, dtype=dtype, light=light)
    return function(*args) if out is None else out


def _shape(arg: Any) -> Dims:
    return arg if isinstance(arg, Shape) else arg.shape if isinstance(arg, np.ndarray) else ()


def _cut_rows(arg: Any, index: Index) -> Any:
    if isinstance(arg, np.ndarray):
        return arg[index]
    if isinstance(arg, Shape):
        return tuple([part.stop - part.start for part in index]) + arg[len(index) :]
    return arg
