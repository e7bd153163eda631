"""Fused CUDA kernels for float16, bfloat16, float32 and float64: softmax, mse_loss, reductions and others.

Imported by the CuPy backend only, since it imports CuPy. Functions take and return arrays of the current
device, launch on the current stream, and neither synchronise nor copy between host and device. The halves,
float16 and bfloat16, are computed in float32 and rounded once. Index arithmetic is in 64 bits. An input that is not contiguous is
copied first, on the device: one more launch. The CUDA source is in ``slices.cu``.
"""

from __future__ import annotations

import functools
import importlib.resources
from math import prod
from typing import Any, Final, NamedTuple

import cupy

from gradx.dtypes import INEXACT

Dims = tuple[int, ...]

# By dtype.char: the CUDA type of elements, and the dtype in which they are computed.
TYPE: Final = {"e": "__half", "E": "__nv_bfloat16", "f": "float", "d": "double"}
ACCUMULATOR: Final = {"e": "f", "E": "f", "f": "f", "d": "d"}
DTYPES: Final = frozenset(TYPE)
_MAX_BLOCKS: Final = 2**31 - 1  # of a grid's first dimension
SHARE: Final = 16384  # elements of a slice for one team, where a long slice is split among several


class _Team(NamedTuple):
    """How many threads work on a slice, slices are in a block, elements of each operand in a thread."""

    lanes: int
    teams: int
    items: int


# By rising length of the slice. In a block of 1024 threads each has 64 registers, half of them for elements.
_ROWS: Final = (_Team(8, 32, 4), _Team(32, 8, 8), _Team(128, 2, 16), _Team(512, 1, 16), _Team(1024, 1, 32))
_COLUMNS: Final = (_Team(1, 256, 8), _Team(8, 32, 16), _Team(32, 32, 32), _Team(128, 8, 32))
_FULL_BLOCK: Final = 1024
_REGISTERS: Final = 32


@functools.cache
def _source() -> str:
    return importlib.resources.files(__package__).joinpath("slices.cu").read_text()


@functools.cache
def _kernel(name: str, char: str, operands: int, columns: bool, team: _Team, defines: tuple[str, ...]) -> Any:
    """A kernel of ``slices.cu`` for one dtype and one shape of team."""
    words = team.items * operands * (2 if char == "d" else 1)
    crowded = team.lanes * team.teams == _FULL_BLOCK and words > _REGISTERS
    macros = {
        "ELEMENT": TYPE[char],
        "ACCUMULATOR": TYPE[ACCUMULATOR[char]],
        "COLUMNS": int(columns),
        "LANES": team.lanes,
        "TEAMS": team.teams,
        "ITEMS": team.items * _REGISTERS // words if crowded else team.items,
    }
    options = [f"-D{macro}={value}" for macro, value in macros.items()]
    options += [f"-D{define}" for define in (name.upper(), *defines)]
    if any(TYPE["E"] in option for option in options):
        options.append("-DBFLOAT16")  # its header is large, and left out otherwise
    return cupy.RawKernel(_source(), name, options=("-std=c++17", *options))


def launch(
    name: str,
    defines: tuple[str, ...],
    operands: tuple[cupy.ndarray, ...],
    size: int,
    slices: int,
    inner: int,
    arguments: tuple[Any, ...],
) -> None:
    """Launch a kernel with teams that suit `slices` slices of `size` elements each."""
    table = _ROWS if inner == 1 else _COLUMNS
    team = next((team for team in table if size <= team.lanes * team.items), table[-1])
    kernel = _kernel(name, operands[0].dtype.char, len(operands), inner != 1, team, defines)
    blocks = min(-(-slices // team.teams), _MAX_BLOCKS)
    kernel((blocks,), (team.lanes * team.teams,), arguments)


# ---- softmax -----------------------------------------------------------------------------------------------


def _softmax(name: str, log: int, operands: tuple[cupy.ndarray, ...], dim: int) -> cupy.ndarray:
    shape = operands[0].shape or (1,)
    dim %= len(shape)
    out = cupy.empty(operands[0].shape, operands[0].dtype)
    if out.size == 0:
        return out
    n, inner = shape[dim], prod(shape[dim + 1 :])
    slices = out.size // n
    contiguous = tuple(cupy.ascontiguousarray(operand) for operand in operands)
    arguments = (*contiguous, out, slices, n, inner)
    launch(name, (f"LOG={log}",), contiguous, n, slices, inner, arguments)
    return out


def softmax(x: cupy.ndarray, dim: int) -> cupy.ndarray:
    """exp(x) / sum(exp(x)) along `dim`, shifted by the maximum; one launch. Same shape and dtype as `x`."""
    return _softmax("softmax", 0, (x,), dim)


def softmax_backward(g: cupy.ndarray, out: cupy.ndarray, dim: int) -> cupy.ndarray:
    """The gradient of softmax's input, from its output and the gradient `g` of that; one launch."""
    return _softmax("softmax_backward", 0, (g, out), dim)


def log_softmax(x: cupy.ndarray, dim: int) -> cupy.ndarray:
    """x - log(sum(exp(x))) along `dim`, shifted by the maximum; one launch. Same shape and dtype as `x`."""
    return _softmax("softmax", 1, (x,), dim)


def log_softmax_backward(g: cupy.ndarray, out: cupy.ndarray, dim: int) -> cupy.ndarray:
    """The gradient of log_softmax's input, from its output and the gradient `g` of that; one launch."""
    return _softmax("softmax_backward", 1, (g, out), dim)


# ---- reductions --------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """An array as (outer, n, inner), contiguous in this order, of which n is reduced."""

    array: cupy.ndarray
    outer: int
    n: int
    inner: int


def _layout(x: cupy.ndarray, dim: Dims) -> _Layout:
    """`x` with the reduced dimensions side by side; copied, with them moved last, where they are not."""
    reduced = [d for d in sorted(dim) if x.shape[d] != 1]
    if len(reduced) == x.ndim - x.shape.count(1):  # all of them: the order of reading does not matter
        return _Layout(x.T if x.flags.f_contiguous else cupy.ascontiguousarray(x), 1, x.size, 1)
    begin, end = (reduced[0], reduced[-1] + 1) if reduced else (0, 0)
    if any(d not in reduced and x.shape[d] != 1 for d in range(begin, end)):
        kept = [d for d in range(x.ndim) if d not in reduced]
        x = x.transpose(kept + reduced)
        begin, end = len(kept), x.ndim
    shape = x.shape
    x = cupy.ascontiguousarray(x)
    return _Layout(x, prod(shape[:begin]), prod(shape[begin:end]), prod(shape[end:]))


def _splits(layout: _Layout) -> int:
    """Into how many shares to cut each slice, so that a few long slices occupy the whole device."""
    slices = layout.outer * layout.inner
    if layout.n <= 2 * SHARE or slices >= 512:
        return 1
    return min(-(-layout.n // SHARE), 1024 // slices)


def _reduce(
    term: str,
    layout: _Layout,
    out: cupy.ndarray,
    splits: int = 1,
    other: cupy.ndarray | None = None,
    means: cupy.ndarray | None = None,
    p: float = 1,
    **last: Any,
) -> None:
    """Write to `out` the sum of `term` over each slice; two launches if the slices are split, the second over shares.

    Args:
        last: what becomes of the sums, as `_reduce_shares` has it.
    """
    if layout.outer * layout.inner == 0:
        return
    if splits == 1:
        _reduce_shares(term, layout, out, 1, other, means, p, **last)
        return
    x, outer, n, inner = layout
    parts, centres = cupy.empty((2, outer, splits, inner), ACCUMULATOR[x.dtype.char])
    _reduce_shares(term, layout, parts, splits, other, centres, p)
    if term == "VARIANCE":
        _reduce_shares("MERGE", _Layout(centres, outer, splits, inner), out, 1, parts, means, p, whole=n, **last)
    else:
        _reduce_shares("TOTAL", _Layout(parts, outer, splits, inner), out, p=p, **last)


def _reduce_shares(
    term: str,
    layout: _Layout,
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
    x, outer, n, inner = layout
    slices = outer * inner * splits
    defines = (term, f"RESULT={TYPE[out.dtype.char]}", f"ROOT={int(root)}")
    pointers = (x, x if other is None else other, out, out if means is None else means)
    arguments = (*pointers, slices, n, inner, splits, whole, float(divisor), float(p))
    operands = (x, x) if term in ("DISTANCE", "MERGE") else (x,)
    launch("reduce", defines, operands, -(-n // splits), slices, inner, arguments)


def _reduced(x: cupy.ndarray, dim: Dims, keepdim: bool, dtype: Any = None) -> cupy.ndarray:
    kept = ((1 if d in dim else n) for d, n in enumerate(x.shape) if keepdim or d not in dim)
    return cupy.empty(tuple(kept), dtype or x.dtype)


def total(x: cupy.ndarray, dim: Dims, keepdim: bool, divisor: float = 1) -> cupy.ndarray:
    """The sum over the dimensions `dim`, over `divisor`; one launch, two for few long slices."""
    out, layout = _reduced(x, dim, keepdim), _layout(x, dim)
    _reduce("TOTAL", layout, out, _splits(layout), divisor=divisor)
    return out


def norm(x: cupy.ndarray, p: float, dim: Dims, keepdim: bool) -> cupy.ndarray:
    """sum(|x|^p)^(1/p) over the dimensions `dim`, for 0 < p < inf; one launch, two for few long slices."""
    out, layout = _reduced(x, dim, keepdim), _layout(x, dim)
    _reduce("POWER", layout, out, _splits(layout), p=p, root=True)
    return out


def var(
    x: cupy.ndarray, dim: Dims, correction: float, keepdim: bool, root: bool = False
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """The variance over `dim` (with `root`, the standard deviation), and the mean in the precision of accumulation.

    One launch, two for few long slices: each share's mean and squares, then those of the whole.
    """
    out, layout = _reduced(x, dim, keepdim), _layout(x, dim)
    means = cupy.empty(out.shape, ACCUMULATOR[x.dtype.char])
    divisor = max(0.0, layout.n - correction)
    _reduce("VARIANCE", layout, out, _splits(layout), means=means, divisor=divisor, p=2, root=root)
    return out, means


def ties(x: cupy.ndarray, extremum: cupy.ndarray, dim: Dims) -> cupy.ndarray:
    """How many elements over `dim` equal the extremum there, NaN taken for equal to NaN; keeps the dimensions.

    Args:
        extremum: of the shape of the result.
    """
    out, layout = _reduced(x, dim, True), _layout(x, dim)
    _reduce("TIES", layout, out, _splits(layout), cupy.ascontiguousarray(extremum))
    return out


def logsumexp(x: cupy.ndarray, dim: Dims, keepdim: bool) -> cupy.ndarray:
    """log(sum(exp(x))) over the dimensions `dim`, shifted by the maximum; one launch."""
    out = _reduced(x, dim, keepdim)
    _reduce("LOGSUMEXP", _layout(x, dim), out)
    return out


# ---- mse_loss ----------------------------------------------------------------------------------------------


def mse_loss(input: cupy.ndarray, target: cupy.ndarray, divisor: float) -> cupy.ndarray:
    """The sum of (input - target)^2, of one shape and dtype, over `divisor`; one launch, two for many elements."""
    out = cupy.empty((), input.dtype)
    layout = _Layout(cupy.ascontiguousarray(input), 1, input.size, 1)
    _reduce("DISTANCE", layout, out, _splits(layout), cupy.ascontiguousarray(target), divisor=divisor)
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
