"""How arrays fall into slices, and how the kernels of ``slices.cu``, which combine the elements of each, are launched.

Imported by the CuPy backend only, since it imports CuPy. Index arithmetic is in 64 bits. Inputs are read where they lie,
whatever their strides; only with more than eight dimensions that do not merge are they copied first.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import cupy
import numpy as np
from cupy.cuda.device import get_device_id

Dims = tuple[int, ...]

# By dtype.char: the CUDA type of elements, and the dtype in which they are computed.
TYPE: Final = {"e": "__half", "E": "__nv_bfloat16", "f": "float", "d": "double"}
ACCUMULATOR: Final = {"e": "f", "E": "f", "f": "f", "d": "d"}
BYTES: Final = {"e": 2, "E": 2, "f": 4, "d": 8}
DTYPES: Final = frozenset(TYPE)
_FILE: Final = {
    "softmax": "softmax",
    "softmax_backward": "softmax",
    "reduce": "reduce",
}  # of a kernel, if not "classes"
_DIMENSIONS: Final = 8  # of a strided array, at most: of its slices, and along one
_MAX_BLOCKS: Final = 2**31 - 1  # of a grid's first dimension


# ---- slices ------------------------------------------------------------------------------------------------


class Slices(NamedTuple):
    """Arrays of one shape as (outer, n, inner), in slices of n elements.

    Args:
        strides: of each array, where not all of them are contiguous in this order.
        dimensions: along a slice, at least 1, if there are strides.
    """

    arrays: tuple[cupy.ndarray, ...]
    outer: int
    n: int
    inner: int
    strides: tuple[np.void, ...] = ()
    dimensions: int = 0

    @property
    def number(self) -> int:
        """How many slices there are."""
        return self.outer * self.inner


class _Dimension(NamedTuple):
    """The length of a dimension, and its stride in each of some arrays, in elements."""

    length: int
    strides: Dims


def along(arrays: tuple[cupy.ndarray, ...], dim: int) -> Slices:
    """The slices along one dimension, in the order of the arrays' dimensions."""
    shape = arrays[0].shape
    outer, n, inner = prod(shape[:dim]), shape[dim], prod(shape[dim + 1 :])
    if _contiguous(arrays):
        return Slices(arrays, outer, n, inner)
    kept, taken = _dimensions(arrays, (dim,))
    if len(kept) > _DIMENSIONS:
        return Slices(tuple(map(cupy.ascontiguousarray, arrays)), outer, n, inner)
    return Slices(arrays, outer, n, inner, strides(kept, taken, len(arrays)), max(1, len(taken)))


def over(arrays: tuple[cupy.ndarray, ...], dim: Dims) -> Slices:
    """The slices over several dimensions, whose elements come in any order."""
    shape = arrays[0].shape
    reduced = [d for d in sorted(dim) if shape[d] != 1]
    begin, end = (reduced[0], reduced[-1] + 1) if reduced else (0, 0)
    if _contiguous(arrays) and all(d in reduced or shape[d] == 1 for d in range(begin, end)):
        return Slices(arrays, prod(shape[:begin]), prod(shape[begin:end]), prod(shape[end:]))
    kept, taken = _dimensions(arrays, dim)
    contiguous = _as_contiguous(kept, taken)
    if contiguous:
        return Slices(arrays, *contiguous)
    if max(len(kept), len(taken)) > _DIMENSIONS:
        order = [d for d in range(len(shape)) if d not in reduced] + reduced
        moved = tuple(cupy.ascontiguousarray(array.transpose(order)) for array in arrays)
        return over(moved, tuple(range(len(order) - len(reduced), len(order))))
    count, n = (prod(dimension.length for dimension in dimensions) for dimensions in (kept, taken))
    by_column = kept and taken and abs(kept[-1].strides[0]) < abs(taken[-1].strides[0])
    outer, inner = (1, count) if by_column else (count, 1)
    return Slices(arrays, outer, n, inner, strides(kept, taken, len(arrays)), max(1, len(taken)))


def strides(kept: Sequence[_Dimension], taken: Sequence[_Dimension], arrays: int) -> tuple[np.void, ...]:
    """What the kernels call Strided, for each array: the dimensions that tell slices apart, and those along a slice."""
    return tuple(
        _strided(*(tuple((d.length, d.strides[i]) for d in part) for part in (kept, taken))) for i in range(arrays)
    )


@functools.lru_cache(1024)
def _strided(*parts: tuple[tuple[int, int], ...]) -> np.void:
    fields = []
    for part in parts:
        rest = [0] * (_DIMENSIONS - len(part))
        fields += [len(part), *(length for length, _ in part), *rest, *(stride for _, stride in part), *rest]
    packed: np.void = np.array(fields, np.int64).view(np.dtype((np.void, 8 * len(fields))))[0]
    return packed


def _contiguous(arrays: Iterable[cupy.ndarray]) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def _dimensions(arrays: tuple[cupy.ndarray, ...], dim: Dims) -> tuple[list[_Dimension], list[_Dimension]]:
    """The dimensions of the arrays but `dim`, and `dim`, by falling strides; merged where neighbours can be."""
    every = [
        _Dimension(n, tuple(array.strides[d] // array.itemsize for array in arrays))
        for d, n in enumerate(arrays[0].shape)
    ]
    taken = sorted((every[d] for d in dim), key=lambda d: [abs(stride) for stride in d.strides], reverse=True)
    return _merged(every[d] for d in range(len(every)) if d not in dim), _merged(taken)


def _merged(dimensions: Iterable[_Dimension]) -> list[_Dimension]:
    merged: list[_Dimension] = []
    for one in dimensions:
        if one.length == 1:
            continue
        if merged and merged[-1].strides == tuple(one.length * stride for stride in one.strides):
            merged[-1] = _Dimension(merged[-1].length * one.length, one.strides)
        else:
            merged.append(one)
    return merged


def _as_contiguous(kept: list[_Dimension], taken: list[_Dimension]) -> tuple[int, int, int] | None:
    """outer, n and inner of arrays that are contiguous in this order, as they are with some dimensions permuted."""
    if len(taken) != 1 or any(len(set(d.strides)) > 1 for d in kept + taken):
        return None
    n, inner = taken[0].length, taken[0].strides[0]
    count = prod(d.length for d in kept)
    if inner < 1 or count % inner:
        return None
    outer = count // inner
    expected = [(length, stride) for length, stride in ((outer, n * inner), (inner, 1)) if length > 1]
    return (outer, n, inner) if [(d.length, d.strides[0]) for d in kept] == expected else None


# ---- teams -------------------------------------------------------------------------------------------------


class _Team(NamedTuple):
    """How many threads work on a slice, slices are in a block, elements of each operand in a thread."""

    lanes: int
    teams: int
    items: int


# By rising length of the slice. In a block of 1024 threads each has 64 registers, half of them for elements.
_ROWS: Final = (_Team(8, 32, 4), _Team(32, 8, 8), _Team(128, 2, 16), _Team(512, 1, 16), _Team(1024, 1, 32))
_COLUMNS: Final = (_Team(1, 256, 8), _Team(8, 32, 16), _Team(32, 32, 32), _Team(128, 8, 32))
# For slices longer than these hold in registers: with shared memory. The fewer columns side by side, the longer they may be.
_LONG_ROWS: Final = (_ROWS[-1],)
_LONG_COLUMNS: Final = (_COLUMNS[-1], _Team(256, 4, 32), _Team(512, 2, 32), _Team(1024, 1, 32))
_FULL_BLOCK: Final = 1024
_REGISTERS: Final = 32
_PARTS: Final = 2048  # bytes of shared memory in which the lanes of these put their results together
_ALWAYS: Final = 32768  # bytes of shared memory that a launch may ask for without saying so before


class Operands(NamedTuple):
    """The inputs that a kernel reads along each slice: their dtype and number, and how many of them it reads only once."""

    char: str
    number: int = 1
    held: int = 0


@functools.cache
def _shared_memory(device: int) -> int:
    """Bytes of shared memory that a block may have."""
    return cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"]  # type: ignore[no-any-return]


def _items(team: _Team, operands: Operands) -> int:
    words = operands.number * BYTES[ACCUMULATOR[operands.char]] // 4
    return min(team.items, _REGISTERS // words) if team.lanes * team.teams == _FULL_BLOCK else team.items


def _beyond(team: _Team, operands: Operands, shared: int) -> int:
    """How many elements of a slice fit in shared memory."""
    each = operands.held * team.teams * BYTES[operands.char]
    return (shared - _PARTS) // each if each else 0


@functools.lru_cache(4096)
def _choose(columns: bool, size: int, operands: Operands, shared: int) -> tuple[_Team, int]:
    """The team for slices of `size` elements, and how many of these it holds in shared memory."""
    table, long = (_COLUMNS, _LONG_COLUMNS) if columns else (_ROWS, _LONG_ROWS)
    for team in table:
        if size <= team.lanes * _items(team, operands):
            return team, 0
    for team in long:
        held = team.lanes * _items(team, operands)
        if size <= held + _beyond(team, operands, shared):
            return team, size - held
    return long[0], _beyond(long[0], operands, shared)


def capacity(slices: Slices, operands: Operands) -> int:
    """Up to which length a slice is read once by a block that reads whole sectors of memory."""
    columns = slices.inner != 1
    team = (_LONG_COLUMNS if columns else _LONG_ROWS)[0]
    shared = _shared_memory(get_device_id())
    return team.lanes * _items(team, operands) + _beyond(team, operands, shared)


# ---- launches ----------------------------------------------------------------------------------------------


@functools.cache
def _source(name: str) -> str:
    folder = importlib.resources.files(__package__)
    return "\n".join(folder.joinpath(f"{part}.cu").read_text() for part in ("slices", _FILE.get(name, "classes")))


@functools.cache
def _kernel(
    name: str, columns: bool, strided: int, team: _Team, operands: Operands, defines: tuple[str, ...], device: int
) -> Any:
    """A kernel for one dtype and one shape of team; with all of the shared memory of `device`, if that is not -1."""
    macros = {
        "ELEMENT": TYPE[operands.char],
        "ACCUMULATOR": TYPE[ACCUMULATOR[operands.char]],
        "COLUMNS": int(columns),
        "LANES": team.lanes,
        "TEAMS": team.teams,
        "ITEMS": _items(team, operands),
        "BEYOND": int(operands.held > 0 and team in _LONG_ROWS + _LONG_COLUMNS),
        "STRIDED": strided,
        "DIMENSIONS": _DIMENSIONS,
    }
    options = [f"-D{macro}={value}" for macro, value in macros.items()]
    options += [f"-D{define}" for define in (name.upper(), *defines)]
    if any(TYPE["E"] in option for option in options):
        options.append("-DBFLOAT16")  # its header is large, and left out otherwise
    kernel = cupy.RawKernel(_source(name), name, options=("-std=c++17", *options))
    if device >= 0:
        kernel.max_dynamic_shared_size_bytes = _shared_memory(device) - _PARTS
    return kernel


def launch(
    name: str,
    defines: tuple[str, ...],
    operands: Operands,
    slices: Slices,
    pointers: tuple[Any, ...],
    numbers: tuple[float, ...] = (),
    splits: int = 1,
) -> None:
    """Launch a kernel with teams that suit the slices, each cut into `splits` shares.

    Args:
        pointers, numbers: the kernel's parameters before and after those that describe the slices.
    """
    device, columns, count = get_device_id(), slices.inner != 1, slices.number * splits
    team, kept = _choose(columns, -(-slices.n // splits), operands, _shared_memory(device))
    shared = kept * operands.held * team.teams * BYTES[operands.char]
    on = device if shared > _ALWAYS else -1
    kernel = _kernel(name, columns, slices.dimensions, team, operands, defines, on)
    blocks = min(-(-count // team.teams), _MAX_BLOCKS)
    arguments = (*pointers, count, slices.n, slices.inner, kept, *numbers, *slices.strides)
    kernel((blocks,), (team.lanes * team.teams,), arguments, shared_mem=shared)
