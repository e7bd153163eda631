"""The CPU: NumPy's arrays, computed by NumPy's kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gradx.backends.base import EXACT, Backend, Parts, Rule, refusing
from gradx.backends.cpu.kernels import FastKernels
from gradx.backends.cpu.memory import owns, pool
from gradx.backends.cpu.quiet import Quiet, quiet
from gradx.backends.cpu.split import in_blocks, rule_in_blocks
from gradx.backends.dlpack import Source, host_array
from gradx.backends.kernels import Array, Dims
from gradx.device import device
from gradx.dtypes import INEXACT, REAL

CPU = device("cpu")
_add: Any = np.add.reduce
_MANY = 1_000_000
_BLOCK = 64  # terms that are added one after the other where NumPy does not sum pairwise


class NumpyBackend(FastKernels, Backend):
    device_type = "cpu"
    array_types = (np.ndarray, np.generic)
    synchronous = True
    widens = True  # NumPy computes bfloat16 number by number, at a fraction of the speed of float32

    def __init__(self) -> None:
        super().__init__(np)

    def kernel(self, name: str) -> Callable[..., Array]:
        """The kernel `name` without warnings, whose results are arrays also where NumPy returns scalars."""
        return quiet(super().kernel(name))

    def exact_kernel(self, name: str, expression: Rule | None, static: frozenset[int]) -> Rule | None:
        from gradx.backends.cpu import exact as cpu_exact

        return self.exact_dropout() if name == "dropout" else quiet(cpu_exact.kernel(name, expression, static))

    def large_kernel(self, name: str, expression: Callable[..., Array] | None, parts: Parts) -> Callable[..., Array]:
        if expression is not None:  # of operations, whose kernels enter the context of `quiet`
            return np.errstate(all="ignore")(in_blocks(self.rounded(expression), expression, name, parts, expression))
        exact = self.function(name)
        function = exact if name in EXACT else self.rounded(exact)
        return quiet(refusing(name, in_blocks(function, exact, name, parts)))

    def large_rule(self, rule: Rule, parts: Parts) -> Rule:
        return rule_in_blocks(self.rounded(rule) if parts.elementwise else rule, rule, parts)

    def owns_memory(self, array: Array) -> bool:
        return owns(array)

    def empty(self, shape: Dims, dtype: np.dtype[Any], where: device) -> Array:
        return pool.empty(shape, dtype)

    def computed(self, expression: Callable[..., Array], name: str, static: frozenset[int]) -> Callable[..., Array]:
        return quiet(self.fuse(expression, name, static))

    def device_of(self, array: Array) -> device:
        return CPU

    def from_host(self, array: np.ndarray[Any, Any], where: device, non_blocking: bool = False) -> Array:
        return array

    def to_host(self, array: Array, non_blocking: bool = False) -> np.ndarray[Any, Any]:
        return array  # type: ignore[no-any-return]

    def from_dlpack(self, source: Source) -> Array:
        return host_array(source)

    def pointer(self, array: Array) -> int:
        return int(array.__array_interface__["data"][0]) if array.size else 0

    def quiet(self) -> AbstractContextManager[Any]:
        return Quiet()

    def alias(self, x: Array) -> Array:
        return np.asarray(x).view()

    def expand(self, x: Array, shape: Dims) -> Array:
        y = np.broadcast_to(x, shape)
        y.flags.writeable = x.flags.writeable  # parts of it, such as y[0], may be written to
        return y

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        if type(y) is int and y == 0 and _alike(condition, x):
            return _kept(x, condition)
        if type(x) is int and x == 0 and _alike(condition, y):
            return _kept(y, np.logical_not(condition))
        return np.where(condition, x, y)

    def threshold_backward(self, g: Array, out: Array) -> Array:
        return self.where(out <= 0, 0, g)  # NaN passes the gradient on, as in torch

    def floor_divide(self, x: Array | float, y: Array | float) -> Array:
        _refuse_zero(x, y)
        return np.floor_divide(x, y)

    def div_floor(self, x: Array | float, y: Array | float) -> Array:
        return self.floor_divide(x, y)

    def remainder(self, x: Array | float, y: Array | float) -> Array:
        _refuse_zero(x, y)
        return np.remainder(x, y)

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        """NumPy sums pairwise only along contiguous memory; other long dimensions are first summed in blocks."""
        x = np.asarray(x)
        if x.dtype.kind not in INEXACT:
            return _add(x, axis=dim, keepdims=keepdim, dtype=np.int64)
        total = self._wide(x)
        if total.flags.c_contiguous and len(dim) == total.ndim:  # pairwise, good enough up to a million
            if total.size > _MANY:
                shape = (1,) * total.ndim if keepdim else ()
                return np.asarray(_sum_rows(total.reshape(-1, 1), 1).astype(x.dtype).reshape(shape))
        else:
            if total.flags.c_contiguous and sorted(dim) == list(range(len(dim))):
                total, dim = _sum_rows(total, len(dim)), tuple(range(len(dim)))
            for d in dim:
                while total.shape[d] > 2 * _BLOCK and total.strides[d] != total.itemsize:
                    total = _sum_blocks(total, d)
        return np.asarray(_add(total, axis=dim, keepdims=keepdim)).astype(x.dtype, copy=False)


_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def _alike(condition: Array, x: Any) -> bool:
    """Whether `x` holds floating-point numbers, one for each of the truth values in `condition`."""
    return isinstance(x, np.ndarray) and x.dtype.kind in REAL and condition.dtype == bool and condition.shape == x.shape


def _kept(x: Array, mask: Array) -> Array:
    """`x` where `mask` holds, else 0: by the bits, ten times as fast as `np.where`, and of NaN and inf too, which a
    multiplication by the mask would spread."""
    bits = _BITS[x.itemsize]
    kept = np.negative(mask.view(np.int8), dtype=bits)  # all bits set, or none
    return np.bitwise_and(x.view(bits), kept).view(x.dtype)


def _refuse_zero(x: Array | float, y: Array | float) -> None:
    """Whole numbers have no infinity to be the quotient; NumPy would say 0."""
    if np.result_type(x, y).kind not in INEXACT and np.any(np.equal(y, 0)):
        raise RuntimeError("ZeroDivisionError. A whole number was divided by zero.")


def _sum_rows(x: Array, lead: int) -> Array:
    """`x`, contiguous, summed in float64 over its `lead` first dimensions, kept with length 1; as it is where few.

    Short rows are laid side by side: NumPy adds the longer ones several times as fast.
    """
    columns = math.prod(x.shape[lead:])
    rows = math.prod(x.shape[:lead])
    if columns == 0 or rows <= 2 * _BLOCK:
        return x
    fold = max(1, min(rows, 1024 // columns))
    flat = x.reshape(rows, columns)
    whole, wide = rows // fold * fold, np.result_type(x, np.float64)
    total = np.add.reduce(flat[:whole].reshape(-1, fold * columns), axis=0, dtype=wide).reshape(fold, columns)
    total = np.add.reduce(total, axis=0) + np.add.reduce(flat[whole:], axis=0, dtype=wide)
    return total.reshape((1,) * lead + x.shape[lead:])


def _sum_blocks(x: Array, dim: int) -> Array:
    """`x` with every `_BLOCK` neighbours along `dim` replaced by their sum, the rest kept as they are."""
    count = x.shape[dim] // _BLOCK
    head = np.moveaxis(x, dim, 0)[: count * _BLOCK]
    wide = np.result_type(x, np.float64)
    blocks = _add(head.reshape(count, _BLOCK, *head.shape[1:]), axis=1, dtype=wide)
    rest = np.moveaxis(x, dim, 0)[count * _BLOCK :]
    if len(rest):
        blocks = np.concatenate((blocks, _add(rest, axis=0, keepdims=True, dtype=wide)))
    return np.moveaxis(blocks, 0, dim)
