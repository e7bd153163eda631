"""Kernels as NumPy computes them fastest, with the numbers of the generic ones.

Each takes an array `out` to write the result to, and makes as few passes and temporaries as it can: so they suit blocks of
large arrays, and are no slower on small ones. Half precision and complex numbers are left to the generic kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradx.backends.base import LARGE
from gradx.backends.cpu.tiles import BLOCK, each, elementwise, reduce_tiled, rowwise
from gradx.backends.kernels import Array, Dims, Kernels

_PIECE = 256  # elements that are summed at once: few enough for the last digit, and for BLAS to use no threads
_WORTH = 4096  # elements from which on a detour to faster loops pays
_ONES = {dtype: np.ones(_PIECE, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}
_ZEROS = {dtype: np.zeros(BLOCK, dtype) for dtype in _ONES}

Out = Array | None


def single(*arrays: Any) -> bool:
    """Whether these are all arrays of float32, or all of float64."""
    dtype = arrays[0].dtype
    return dtype in _ONES and all(a.dtype == dtype for a in arrays)


def last(x: Array, dim: int | Dims) -> bool:
    """Whether `dim` is the last dimension, along which memory is contiguous."""
    return dim in (x.ndim - 1, (x.ndim - 1,)) and x.flags.c_contiguous and x.size > 0


def row_sums(x: Array) -> Array:
    """The sums along the last dimension, kept with length 1, of a contiguous array of a single dtype.

    A product with ones adds in wide registers: twice as fast as `numpy.sum`, and as exact.
    """
    if x.shape[-1] % _PIECE:
        return np.add.reduce(x, axis=-1, keepdims=True)
    pieces = np.vecdot(x.reshape(-1, _PIECE), _ONES[x.dtype])
    if x.shape[-1] > _PIECE:
        pieces = np.add.reduce(pieces.reshape(-1, x.shape[-1] // _PIECE), axis=-1, dtype=np.float64).astype(x.dtype)
    return pieces.reshape(*x.shape[:-1], 1)


def row_dots(x: Array, y: Array) -> Array:
    """The sums of `x * y` along the last dimension, kept with length 1, of contiguous arrays of a single dtype."""
    width = x.shape[-1]
    if width <= _PIECE:
        return np.vecdot(x, y)[..., None]
    if width % _PIECE:
        return row_sums(x * y)
    pieces = np.vecdot(x.reshape(-1, _PIECE), y.reshape(-1, _PIECE))
    total = np.add.reduce(pieces.reshape(-1, width // _PIECE), axis=-1, dtype=np.float64)
    return total.astype(x.dtype).reshape(*x.shape[:-1], 1)


class FastKernels(Kernels):
    """Generic kernels with fewer passes."""

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        if not single(x) or not x.flags.c_contiguous or x.size < _WORTH:
            return self.sum_any(x, dim, keepdim)
        if last(x, dim) and x.shape[-1] % _PIECE == 0:
            total = row_sums(x)
            return total if keepdim else total[..., 0]
        if not whole(x) or sorted(dim) != list(range(len(dim))):
            return self.sum_any(x, dim, keepdim)
        total = sum_all(x) if len(dim) == x.ndim else sum_leading(x, len(dim))
        kept = (1,) * len(dim) + x.shape[len(dim) :] if keepdim else x.shape[len(dim) :]
        return np.asarray(total, x.dtype).reshape(kept)

    def sum_any(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        """`sum` of any array."""
        return super().sum(x, dim, keepdim)

    def amax(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._extremum(x, dim, keepdim, np.argmax, np.maximum)

    def amin(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._extremum(x, dim, keepdim, np.argmin, np.minimum)

    def _extremum(self, x: Array, dim: Dims, keepdim: bool, place: Any, ufunc: np.ufunc) -> Array:
        """NumPy looks for the place of the extremum in wide registers, where rows are short for the extremum alone."""
        if whole(x) and len(dim) == x.ndim:
            return reduce_tiled(ufunc.reduce, [x], ufunc).reshape((1,) * x.ndim if keepdim else ())
        if x.size < _WORTH or not (last(x, dim) and single(x) and x.ndim > 1 and 32 <= x.shape[-1] <= 2048):
            return ufunc.reduce(x, axis=dim, keepdims=keepdim)
        rows = x.reshape(-1, x.shape[-1])
        top = rows.reshape(-1)[place(rows, axis=1) + np.arange(0, rows.size, rows.shape[1])]
        return top.reshape(*x.shape[:-1], *((1,) if keepdim else ()))

    def softmax(self, x: Array, dim: int, out: Out = None) -> Array:
        if not (single(x) and x.size):
            return into(out, super().softmax(x, dim))
        e = np.subtract(x, self.amax(x, (dim,), True), out=out)
        np.exp(e, out=e)
        return np.divide(e, self.sum(e, (dim,), True), out=e)

    def softmax_backward(self, g: Array, y: Array, dim: int, out: Out = None) -> Array:
        if not (single(g, y) and y.size):
            return into(out, super().softmax_backward(g, y, dim))
        inner = row_dots(g, y) if last(g, dim) and last(y, dim) else self.sum(g * y, (dim,), True)
        z = np.subtract(g, inner, out=out)
        return np.multiply(z, y, out=z)

    def log_softmax(self, x: Array, dim: int, out: Out = None) -> Array:
        if not (single(x) and x.size):
            return into(out, super().log_softmax(x, dim))
        shifted = np.subtract(x, self.amax(x, (dim,), True), out=out)
        total = self.sum(np.exp(shifted), (dim,), True)
        return np.subtract(shifted, np.log(total, out=total), out=shifted)

    def log_softmax_backward(self, g: Array, y: Array, dim: int, out: Out = None) -> Array:
        if not (single(g, y) and y.size):
            return into(out, super().log_softmax_backward(g, y, dim))
        z = np.exp(y, out=out)
        np.multiply(z, self.sum(g, (dim,), True), out=z)
        return np.subtract(g, z, out=z)

    def logsumexp(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        if not (single(x) and x.size and x.ndim):
            return super().logsumexp(x, dim, keepdim)
        top = np.asarray(self.amax(x, dim, True))
        np.copyto(top, 0, where=~np.isfinite(top))
        e = np.subtract(x, top)
        total = self.sum(np.exp(e, out=e), dim, True)
        np.add(np.log(total, out=total), top, out=total)
        return total if keepdim else total.squeeze(dim)

    def var(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> tuple[Array, Array]:
        if whole(x) and len(dim) == x.ndim:
            mean = x.dtype.type(sum_all(x) / x.size)
            if x.itemsize == 8:  # its rounding error, of which float32 has none
                mean += reduce_tiled(lambda line: line_sum(line - mean), [x], np.add) / x.size
            square = reduce_tiled(functools.partial(_square_distance, y=mean), [x], np.add)
            kept = (1,) * x.ndim if keepdim else ()
            spread = np.asarray(square / max(0.0, x.size - correction), x.dtype)
            return spread.reshape(kept), np.asarray(mean).reshape(kept)
        if not (single(x) and last(x, dim) and x.size >= _WORTH):
            return super().var(x, dim, correction, keepdim)
        both = rowwise(_spread_and_mean, (x, correction), x.ndim - 1)
        kept = x.shape[:-1] + ((1,) if keepdim else ())
        return both[..., 0].copy().reshape(kept), both[..., 1].copy().reshape(kept)

    def norm(self, x: Array, p: float, dim: Dims, keepdim: bool) -> Array:
        if p == 2 and whole(x) and len(dim) == x.ndim:
            square = reduce_tiled(lambda line: line_sum(line * line), [x], np.add)
            return np.asarray(np.sqrt(square), x.dtype).reshape((1,) * x.ndim if keepdim else ())
        if not (p == 2 and single(x) and last(x, dim)):
            return super().norm(x, p, dim, keepdim)
        total = row_dots(x, x)
        np.sqrt(total, out=total)
        return total if keepdim else total[..., 0]

    def sigmoid(self, x: Array, out: Out = None) -> Array:
        if not (x.ndim and single(x)):
            return into(out, super().sigmoid(x))
        z = np.negative(x, out=out)
        np.exp(z, out=z)  # inf, for which the quotient is 0
        np.add(z, 1, out=z)
        return np.divide(1, z, out=z)

    def mse_loss(self, x: Array, target: Array, reduction: str) -> Array:
        if reduction == "none" or not whole(x, target):
            return super().mse_loss(x, target, reduction)
        total = reduce_tiled(_square_distance, [x, target], np.add)
        return np.asarray(total / x.size if reduction == "mean" else total, x.dtype)

    def mse_loss_backward(self, g: Array, x: Array, target: Array, scale: float) -> Array:
        if g.size > 1 or not (whole(x, target) and single(g, x)):
            return super().mse_loss_backward(g, x, target, scale)
        return elementwise(_scaled_difference, (x, target, g.reshape(()) * scale), _scaled_difference, x.dtype)


# ---- elementwise functions that write to `out`; the names that are missing are ufuncs --------------------------------


def _scaled_difference(x: Array, y: Array, scale: Any, out: Out = None) -> Array:
    z = np.subtract(x, y, out=out)
    return np.multiply(z, scale, out=out)


def relu(x: Array, out: Array) -> None:
    """Zeros that fill an array are compared with in wide registers, the number 0 is not."""
    zeros = _ZEROS.get(x.dtype)
    np.maximum(x, 0 if zeros is None or x.size > zeros.size else zeros[: x.size].reshape(x.shape), out=out)


def clone(x: Array, out: Array) -> None:
    np.copyto(out, x)


WRITING = frozenset("sigmoid softmax softmax_backward log_softmax log_softmax_backward".split())  # of `FastKernels`
WRITERS: dict[str, Callable[..., object]] = {
    "sub": np.subtract,
    "neg": np.negative,
    "reciprocal": functools.partial(np.divide, 1),
    "relu": relu,
    "contiguous": clone,
}


# ---- reductions of all elements -------------------------------------------------------------------------------------


def whole(*arrays: Array) -> bool:
    """Whether arrays are large, contiguous, of one shape and of one single dtype."""
    shape = arrays[0].shape
    return (
        arrays[0].size >= LARGE and single(*arrays) and all(a.shape == shape and a.flags.c_contiguous for a in arrays)
    )


def line_sum(x: Array) -> Any:
    """The sum of a line of elements, in float64."""
    return np.add.reduce(_folded(x, 1024), dtype=np.float64)


def _square_distance(x: Array, y: Any) -> Any:
    z = np.subtract(x, y)
    return line_sum(np.multiply(z, z, out=z))


def sum_all(x: Array) -> Any:
    """The sum of all elements, in float64, of an array that is `whole`."""
    return reduce_tiled(line_sum, [x], np.add)


def sum_leading(x: Array, lead: int) -> Array:
    """The sum over the `lead` first dimensions, in float64, of an array that is `whole`.

    Each block of rows is folded in halves, which adds long lines in wide registers and keeps the error small.
    """
    columns = math.prod(x.shape[lead:])
    rows = x.reshape(-1, columns)
    width = min(columns, 4096)
    step = max(64, BLOCK // width)
    corners = [(i, j) for i in range(0, len(rows), step) for j in range(0, columns, width)]
    parts = np.empty((-(-len(rows) // step), columns))

    def work(n: int) -> None:
        i, j = corners[n]
        parts[i // step, j : j + width] = _folded(rows[i : i + step, j : j + width], 1)[0]

    each(work, len(corners))
    return np.add.reduce(parts, axis=0).reshape(x.shape[lead:])


def _folded(rows: Array, most: int) -> Array:
    """`most` rows, or fewer, of the same sum as `rows`: one half is added to the other, again and again."""
    out: Out = None
    while len(rows) > most:
        half = len(rows) // 2
        odd = rows[2 * half :]
        out = np.add(rows[:half], rows[half : 2 * half], out=None if out is None else out[:half])
        if len(odd):
            out[:1] += odd
        rows = out
    return rows


def _spread_and_mean(x: Array, correction: float) -> Array:
    """The variance and the mean along the last dimension, side by side.

    The mean is rid of its rounding error: of equal elements it is the element itself, and their spread exactly 0. The
    gradient of std hangs on it.
    """
    number = x.dtype.type(x.shape[-1])
    mean = row_sums(x) / number
    deviation = np.subtract(x, mean)
    mean += row_sums(deviation) / number
    np.subtract(x, mean, out=deviation)
    spread = row_dots(deviation, deviation) / x.dtype.type(max(0.0, x.shape[-1] - correction))
    return np.concatenate((spread, mean), axis=-1)


def into(out: Out, result: Array) -> Array:
    """`result`, written to `out` if there is one."""
    if out is None:
        return result
    out[...] = result
    return out
