"""Fused CUDA kernels for float16, bfloat16, float32 and float64: softmax, mse_loss, reductions and others.

Imported by the CuPy backend only, since it imports CuPy. Functions take and return arrays of the current
device, launch on the current stream, and neither synchronise nor copy between host and device. The halves,
float16 and bfloat16, are computed in float32 and rounded once. Arrays may have any strides.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any, Final

import cupy

from gradx.backends.cuda import slices as cuda_slices
from gradx.backends.cuda.slices import ACCUMULATOR, TYPE, Dims, Operands, Slices
from gradx.dtypes import INEXACT

SHARE: Final = 16384  # elements of a slice for one team, where a long slice is split among several


# ---- softmax -----------------------------------------------------------------------------------------------


def _softmax(name: str, log: int, operands: tuple[cupy.ndarray, ...], held: int, dim: int) -> cupy.ndarray:
    out = cupy.empty(operands[0].shape, operands[0].dtype)
    if out.size == 0:
        return out
    if out.ndim == 0:
        operands, dim = tuple(operand.reshape(1) for operand in operands), 0
    slices = cuda_slices.along(operands, dim % operands[0].ndim)
    kinds = Operands(out.dtype.char, held, held)
    cuda_slices.launch(name, (f"LOG={log}",), kinds, slices, (*slices.arrays, out))
    return out


def softmax(x: cupy.ndarray, dim: int) -> cupy.ndarray:
    """exp(x) / sum(exp(x)) along `dim`, shifted by the maximum; one launch. Same shape and dtype as `x`."""
    return _softmax("softmax", 0, (x,), 1, dim)


def softmax_backward(g: cupy.ndarray, out: cupy.ndarray, dim: int) -> cupy.ndarray:
    """The gradient of softmax's input, from its output and the gradient `g` of that; one launch."""
    return _softmax("softmax_backward", 0, (g, out), 2, dim)


def log_softmax(x: cupy.ndarray, dim: int) -> cupy.ndarray:
    """x - log(sum(exp(x))) along `dim`, shifted by the maximum; one launch. Same shape and dtype as `x`."""
    return _softmax("softmax", 1, (x,), 1, dim)


def log_softmax_backward(g: cupy.ndarray, out: cupy.ndarray, dim: int) -> cupy.ndarray:
    """The gradient of log_softmax's input, from its output and the gradient `g` of that; one launch."""
    return _softmax("softmax_backward", 1, (g, out), 1, dim)


# ---- reductions --------------------------------------------------------------------------------------------

# By term: how many inputs it reads along a slice, and how many of them in several passes, which are held.
_READ: Final = {"DISTANCE": (2, 0), "MERGE": (2, 1), "VARIANCE": (1, 1), "LOGSUMEXP": (1, 1)}
# How the results of shares are put together.
_JOIN: Final = {"VARIANCE": "MERGE", "LOGSUMEXP": "LOGSUMEXP"}


def _operands(term: str, char: str) -> Operands:
    return Operands(char, *_READ.get(term, (1, 0)))


def _splits(slices: Slices, operands: Operands) -> int:
    """Into how many shares to cut each slice: few long slices shall occupy the whole device, and none be read twice."""
    share = SHARE if slices.inner == 1 else SHARE // 4
    least = -(-slices.n // cuda_slices.capacity(slices, operands)) if operands.held else 1
    if slices.n <= 2 * SHARE or slices.number >= 512:
        return max(1, least)
    return max(least, min(-(-slices.n // share), 1024 // slices.number))


def _reduce(
    term: str,
    slices: Slices,
    out: cupy.ndarray,
    other: cupy.ndarray | None = None,
    means: cupy.ndarray | None = None,
    p: float = 1,
    **last: Any,
) -> None:
    """Write to `out` the sum of `term` over each slice; two launches if the slices are split, the second over shares.

    Args:
        last: what becomes of the sums, as `_reduce_shares` has it.
    """
    if slices.number == 0:
        return
    char = slices.arrays[0].dtype.char
    splits = _splits(slices, _operands(term, char))
    if splits == 1:
        _reduce_shares(term, slices, out, 1, other, means, p, **last)
        return
    parts, centres = cupy.empty((2, slices.outer, splits, slices.inner), ACCUMULATOR[char])
    _reduce_shares(term, slices, parts, splits, other, centres, p)
    sums, shape = _JOIN.get(term, "TOTAL"), (slices.outer, splits, slices.inner)
    if sums == "MERGE":
        _reduce_shares(sums, Slices((centres, parts), *shape), out, 1, parts, means, p, whole=slices.n, **last)
    else:
        _reduce_shares(sums, Slices((parts,), *shape), out, p=p, **last)


def _reduce_shares(
    term: str,
    slices: Slices,
    out: cupy.ndarray,
    splits: int = 1,
    other: cupy.ndarray | None = None,
    means: cupy.ndarray | None = None,
    p: float = 1,
    whole: int = 0,
    divisor: float = 1,
    root: bool = False,
) -> None:
    """One launch: each of `splits` shares of every slice gives a sum, over `divisor`, and of that the p-th root if `root`."""
    x = slices.arrays[0]
    defines = (term, f"RESULT={TYPE[out.dtype.char]}", f"ROOT={int(root)}")
    pointers = (x, x if other is None else other, out, out if means is None else means)
    numbers = (splits, whole, float(divisor), float(p))
    cuda_slices.launch("reduce", defines, _operands(term, x.dtype.char), slices, pointers, numbers, splits)


def _reduced(x: cupy.ndarray, dim: Dims, keepdim: bool, dtype: Any = None) -> cupy.ndarray:
    kept = ((1 if d in dim else n) for d, n in enumerate(x.shape) if keepdim or d not in dim)
    return cupy.empty(tuple(kept), dtype or x.dtype)


def total(x: cupy.ndarray, dim: Dims, keepdim: bool, divisor: float = 1, dtype: Any = None) -> cupy.ndarray:
    """The sum over the dimensions `dim`, over `divisor`; one launch, two for few long slices. `dtype` is the result's."""
    out = _reduced(x, dim, keepdim, dtype)
    _reduce("TOTAL", cuda_slices.over((x,), dim), out, divisor=divisor)
    return out


def norm(x: cupy.ndarray, p: float, dim: Dims, keepdim: bool) -> cupy.ndarray:
    """sum(|x|^p)^(1/p) over the dimensions `dim`, for 0 < p < inf; one launch, two for few long slices."""
    out = _reduced(x, dim, keepdim)
    _reduce("POWER", cuda_slices.over((x,), dim), out, p=p, root=True)
    return out


def var(
    x: cupy.ndarray, dim: Dims, correction: float, keepdim: bool, root: bool = False
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """The variance over `dim` (with `root`, the standard deviation), and the mean in the precision of accumulation.

    One launch, two for few long slices: each share's mean and squares, then those of the whole.
    """
    out = _reduced(x, dim, keepdim)
    means = cupy.empty(out.shape, ACCUMULATOR[x.dtype.char])
    divisor = max(0.0, prod(x.shape[d] for d in dim) - correction)
    _reduce("VARIANCE", cuda_slices.over((x,), dim), out, means=means, divisor=divisor, p=2, root=root)
    return out, means


def ties(x: cupy.ndarray, extremum: cupy.ndarray, dim: Dims) -> cupy.ndarray:
    """How many elements over `dim` equal the extremum there, NaN taken for equal to NaN; keeps the dimensions.

    Args:
        extremum: of the shape of the result.
    """
    out = _reduced(x, dim, True, ACCUMULATOR[x.dtype.char])  # more than a half may hold
    _reduce("TIES", cuda_slices.over((x,), dim), out, cupy.ascontiguousarray(extremum))
    return out


def logsumexp(x: cupy.ndarray, dim: Dims, keepdim: bool) -> cupy.ndarray:
    """log(sum(exp(x))) over the dimensions `dim`, shifted by the maximum; one launch, two for few long slices."""
    out = _reduced(x, dim, keepdim)
    _reduce("LOGSUMEXP", cuda_slices.over((x,), dim), out)
    return out


# ---- mse_loss ----------------------------------------------------------------------------------------------


def mse_loss(input: cupy.ndarray, target: cupy.ndarray, divisor: float) -> cupy.ndarray:
    """The sum of (input - target)^2, of one shape and dtype, over `divisor`; one launch, two for many elements."""
    out = cupy.empty((), input.dtype)
    slices = cuda_slices.over((input, target), tuple(range(input.ndim)))
    _reduce("DISTANCE", slices, out, slices.arrays[1], divisor=divisor)
    return out


# ---- gather and scatter ------------------------------------------------------------------------------------

_LOCATE: Final = """
ptrdiff_t at[_ind.ndim];
for (int d = 0; d < _ind.ndim; ++d) at[d] = _ind.get()[d];
at[dim] = place;
const bool inside = 0 <= place && place < array.shape()[dim];
"""


@functools.cache
def _gather_kernel() -> Any:
    body = _LOCATE + "out = inside ? array[at] : T(missing)"
    inputs = "raw T array, int64 place, int64 dim, float64 missing"
    return cupy.ElementwiseKernel(inputs, "T out", body, "gradx_gather", reduce_dims=False)


@functools.cache
def _scatter_add_kernel() -> Any:
    body = _LOCATE + "if (inside) atomicAdd(&array[at], x)"
    inputs = "T x, int64 place, int64 dim"
    return cupy.ElementwiseKernel(inputs, "raw T array", body, "gradx_scatter_add", reduce_dims=False)


def gather(x: cupy.ndarray, dim: int, index: cupy.ndarray) -> cupy.ndarray:
    """The elements of `x` at `index` along `dim`, in the shape of `index`; one launch.

    Checking the indices would have to wait for the device: one that is out of range gives NaN, or 0 for integers.
    """
    missing = float("nan") if x.dtype.kind in INEXACT else 0.0
    if x.ndim == 0:
        return gather(x.reshape(1), 0, index.reshape(1)).reshape(())
    out = cupy.empty(index.shape, x.dtype)
    return _gather_kernel()(x, index, dim, missing, out)


def scatter_add(x: cupy.ndarray, shape: Dims, dim: int, index: cupy.ndarray) -> cupy.ndarray:
    """Zeros of `shape` to which `x` is added at `index` along `dim`; one launch. The order of additions varies."""
    out = cupy.zeros(shape or 1, x.dtype)
    if not shape:
        x, index = x.reshape(1), index.reshape(1)
    _scatter_add_kernel()(x, index, dim, out)
    return out.reshape(shape)
