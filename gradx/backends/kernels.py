"""Every kernel that is more than a function of the array library, written once over NumPy's names.

Kernels take raw arrays of one dtype (Python numbers where an operand may be one), dimensions already wrapped to
0 <= dim < ndim, and return raw arrays. Half-precision sums accumulate in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradx.device import device

Array = Any  # numpy.ndarray, cupy.ndarray: the two share their methods, not a base class
Dims = tuple[int, ...]


class Kernels:
    """Kernels over the array library `xp`. A backend overrides those that it does better."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        # Powers that are quicker, and as exact as torch's, by other means.
        self._roots = {2: xp.square, 0.5: xp.sqrt, -0.5: self.rsqrt, -1: self.reciprocal}

    # ---- copies, casts, constants ------------------------------------------------------------------------------

    def clone(self, x: Array) -> Array:
        return self.xp.array(x, order="C")

    def new_zeros(self, x: Array, shape: Dims) -> Array:
        return self.xp.zeros(shape, x.dtype)

    def fill(self, x: Array, value: Array | complex) -> Array:
        out = self.xp.empty(x.shape, x.dtype)
        out[...] = value
        return out

    def zeros_like(self, x: Array) -> Array:
        return self.xp.zeros(x.shape, x.dtype)

    def ones_like(self, x: Array) -> Array:
        return self.xp.ones(x.shape, x.dtype)

    def copy(self, x: Array, src: Array) -> Array:
        out = self.xp.empty(x.shape, x.dtype)
        out[...] = src
        return out

    def cast(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    def cast_discrete(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    def alias(self, x: Array) -> Array:
        return x.view()

    # ---- elementwise, where it is more than the array library's function -------------------------------------------

    def sub(self, x: Array, y: Array) -> Array:
        try:
            return self.xp.subtract(x, y)
        except TypeError:
            raise RuntimeError(
                "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
                "operator instead."
            ) from None

    def neg(self, x: Array) -> Array:
        try:
            return self.xp.negative(x)
        except TypeError:
            raise RuntimeError(
                "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
                "the `~` or `logical_not()` operator instead."
            ) from None

    def pow(self, x: Any, y: Any) -> Array:
        if type(y) in (int, float) and x.dtype.kind == "f" and y in self._roots:
            return self._roots[y](x)
        try:
            return self.xp.power(x, y)
        except ValueError as error:  # a whole number to a negative whole power; a misfit of shapes is an error as well
            if "negative integer powers" not in str(error):
                raise
            if isinstance(y, int):
                raise RuntimeError(
                    "Integers to negative integer powers are not allowed. Convert the base to a floating-point dtype."
                ) from None
            unit = self.xp.where(self.xp.equal(x, -1), 1 - 2 * (y % 2), self.xp.equal(x, 1))  # 1 / x where it is whole
            return self.xp.where(y < 0, unit, self.xp.power(x, self.xp.maximum(y, 0))).astype(y.dtype)

    def div_floor(self, x: Array | float, y: Array | float) -> Array:
        return self.xp.floor_divide(x, y)

    def div_trunc(self, x: Any, y: Any) -> Array:
        if self.xp.result_type(x, y).kind in "iu":
            return self.xp.where((x < 0) != (y < 0), -self.div_floor(abs(x), abs(y)), self.div_floor(x, y))
        return self.xp.trunc(self.xp.true_divide(x, y))

    def sign(self, x: Array) -> Array:
        if x.dtype.kind == "b":
            return self.clone(x)
        if x.dtype.kind != "f":
            return self.xp.sign(x)
        return (x > 0).astype(x.dtype) - (x < 0)  # 0 for NaN, as in torch, hence 0 for the gradient of abs there

    def floor(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.floor(x)

    def ceil(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.ceil(x)

    def trunc(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.trunc(x)

    def round(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.rint(x)

    def rsqrt(self, x: Array) -> Array:
        return 1 / self.xp.sqrt(x)

    def reciprocal(self, x: Array) -> Array:
        return 1 / x

    def sigmoid(self, x: Array) -> Array:
        small = self.xp.exp(-self.xp.abs(x))  # at most 1: neither branch overflows
        return self.xp.where(x >= 0, 1, small) / (1 + small)

    def sigmoid_backward(self, g: Array, out: Array) -> Array:
        return g * (1 - out) * out

    def tanh_backward(self, g: Array, out: Array) -> Array:
        return g * (1 - out * out)

    def relu(self, x: Array) -> Array:
        return self.xp.maximum(x, 0)

    def threshold_backward(self, g: Array, out: Array) -> Array:
        return self.xp.where(out <= 0, g.dtype.type(0), g)  # NaN passes the gradient on, as in torch

    def clamp(self, x: Array, low: Array | float | None, high: Array | float | None) -> Array:
        if low is not None:
            x = self.xp.maximum(x, low)
        return x if high is None else self.xp.minimum(x, high)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return self.xp.where(condition, x, y)

    def masked_fill(self, x: Array, mask: Array, value: Array | complex) -> Array:
        value = value.astype(x.dtype) if hasattr(value, "astype") else x.dtype.type(value)
        return self.xp.where(mask, value, x)

    # ---- reductions ------------------------------------------------------------------------------------------------

    def _wide(self, x: Array) -> Array:
        """`x` in the precision in which it is accumulated: float32 for half, itself otherwise."""
        return x.astype(np.float32) if x.dtype == np.float16 else x

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._wide(x).sum(axis=dim, keepdims=keepdim).astype(x.dtype, copy=False)

    def mean(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        total = self._wide(self.sum(self._wide(x), dim, keepdim))
        count = math.prod(x.shape[d] for d in dim)
        return (total / np.dtype(total.dtype).type(count)).astype(x.dtype, copy=False)

    def prod(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._wide(x).prod(axis=dim, keepdims=keepdim).astype(x.dtype, copy=False)

    def amax(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self.xp.max(x, axis=dim, keepdims=keepdim)

    def amin(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self.xp.min(x, axis=dim, keepdims=keepdim)

    def max_all(self, x: Array) -> Array:
        return self.amax(x, tuple(range(x.ndim)), False)

    def min_all(self, x: Array) -> Array:
        return self.amin(x, tuple(range(x.ndim)), False)

    def any(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self.xp.any(x, axis=dim, keepdims=keepdim)

    def all(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self.xp.all(x, axis=dim, keepdims=keepdim)

    def argmax(self, x: Array, dim: int, keepdim: bool) -> Array:
        return self.xp.argmax(x, axis=dim, keepdims=keepdim)

    def argmin(self, x: Array, dim: int, keepdim: bool) -> Array:
        return self.xp.argmin(x, axis=dim, keepdims=keepdim)

    def max_dim(self, x: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
        return self._at_indices(x, self.argmax(x, dim, True), dim, keepdim)

    def min_dim(self, x: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
        return self._at_indices(x, self.argmin(x, dim, True), dim, keepdim)

    def _at_indices(self, x: Array, indices: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
        values = self.gather(x, dim, indices)
        return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))

    def var(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> Array:
        wide = self._wide(x)
        deviation = wide - self.mean(wide, dim, True)
        count = math.prod(x.shape[d] for d in dim)
        total = self.sum(deviation * deviation, dim, keepdim)
        return (total / total.dtype.type(max(0.0, count - correction))).astype(x.dtype, copy=False)

    def std(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> Array:
        return self.xp.sqrt(self.var(self._wide(x), dim, correction, keepdim)).astype(x.dtype, copy=False)

    def logsumexp(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        wide = self._wide(x)
        if 0 in x.shape:
            return self.xp.log(self.sum(x, dim, keepdim))
        top = self.amax(wide, dim, True)
        top = self.xp.where(self.xp.isfinite(top), top, top.dtype.type(0))
        total = self.xp.log(self.sum(self.xp.exp(wide - top), dim, True)) + top
        return (total if keepdim else total.squeeze(dim)).astype(x.dtype, copy=False)

    def norm(self, x: Array, p: float, dim: Dims, keepdim: bool) -> Array:
        wide = self._wide(self.xp.abs(x))
        if p == 2:
            total = self.xp.sqrt(self.sum(wide * wide, dim, keepdim))
        else:
            total = self.sum(wide**p, dim, keepdim) ** (1 / p)
        return total.astype(x.dtype, copy=False)

    def cumsum(self, x: Array, dim: int) -> Array:
        return self.xp.cumsum(self._wide(x), axis=dim).astype(x.dtype, copy=False)

    # ---- softmax and losses ------------------------------------------------------------------------------------------

    def softmax(self, x: Array, dim: int) -> Array:
        if not x.size:
            return self.clone(x)
        wide = self._wide(x)
        e = self.xp.exp(wide - self.amax(wide, (dim,), True))
        return (e / self.sum(e, (dim,), True)).astype(x.dtype, copy=False)

    def softmax_backward(self, g: Array, out: Array, dim: int) -> Array:
        wide, out = self._wide(g), self._wide(out)
        return (out * (wide - self.sum(wide * out, (dim,), True))).astype(g.dtype, copy=False)

    def log_softmax(self, x: Array, dim: int) -> Array:
        if not x.size:
            return self.clone(x)
        wide = self._wide(x)
        shifted = wide - self.amax(wide, (dim,), True)
        return (shifted - self.xp.log(self.sum(self.xp.exp(shifted), (dim,), True))).astype(x.dtype, copy=False)

    def log_softmax_backward(self, g: Array, out: Array, dim: int) -> Array:
        wide, out = self._wide(g), self._wide(out)
        return (wide - self.xp.exp(out) * self.sum(wide, (dim,), True)).astype(g.dtype, copy=False)

    def binary_cross_entropy(self, input: Array, target: Array) -> Array:
        log, maximum = self.xp.log, self.xp.maximum
        return -(target * maximum(log(input), -100) + (1 - target) * maximum(log(1 - input), -100))

    def binary_cross_entropy_backward(self, g: Array, input: Array, target: Array) -> Array:
        smallest = np.float32(1e-12).item()  # torch's bound, which it holds in single precision
        return g * (input - target) / self.xp.maximum(input * (1 - input), smallest)

    def mse_loss(self, input: Array, target: Array, reduction: str) -> Array:
        difference = self._wide(input) - self._wide(target)
        square = difference * difference
        every = tuple(range(square.ndim))
        if reduction != "none":
            square = self.sum(square, every, False) if reduction == "sum" else self.mean(square, every, False)
        return square.astype(input.dtype, copy=False)

    def mse_loss_backward(self, g: Array, input: Array, target: Array, reduction: str) -> Array:
        scale = 2 / input.size if reduction == "mean" and input.size else 2
        return ((self._wide(input) - self._wide(target)) * (self._wide(g) * scale)).astype(g.dtype, copy=False)

    # ---- linear algebra ------------------------------------------------------------------------------------------------

    def mm(self, x: Array, y: Array) -> Array:
        return self.xp.matmul(x, y)

    # ---- shapes ----------------------------------------------------------------------------------------------------------

    def sum_to(self, x: Array, shape: Dims) -> Array:
        """The sum of `x` over the dimensions along which `shape` broadcasts to it."""
        lead = x.ndim - len(shape)
        kept = tuple(d + lead for d, n in enumerate(shape) if n == 1 and x.shape[d + lead] != 1)
        return self.sum(x, tuple(range(lead)) + kept, False).reshape(shape)

    def view(self, x: Array, shape: Dims) -> Array:
        """`x` with another shape over the same memory; AttributeError where its strides do not allow it."""
        y = x.view()
        y.shape = shape
        return y

    def flip(self, x: Array, dim: Dims) -> Array:
        return self.clone(self.xp.flip(x, dim))

    def cat(self, dim: int, *arrays: Array) -> Array:
        return self.xp.concatenate(arrays, axis=dim)

    def stack(self, dim: int, *arrays: Array) -> Array:
        return self.xp.stack(arrays, axis=dim)

    def split(self, x: Array, sizes: Dims, dim: int) -> tuple[Array, ...]:
        stops = itertools.accumulate(sizes)
        lead = (slice(None),) * dim
        return tuple(x[(*lead, slice(stop - size, stop))] for size, stop in zip(sizes, stops, strict=True))

    def unbind(self, x: Array, dim: int) -> tuple[Array, ...]:
        lead = (slice(None),) * dim
        return tuple(x[(*lead, i, ...)] for i in range(x.shape[dim]))

    def diagonal_mask(self, rows: int, columns: int, offset: int, where: device) -> Array:
        return self.xp.eye(rows, columns, offset, dtype=bool)

    # ---- indexing -----------------------------------------------------------------------------------------------------------

    def slice(self, x: Array, index: tuple[Any, ...]) -> Array:
        """Basic indexing, which gives a view: integers, slices, None and Ellipsis."""
        return x[_with_ellipsis(index)]

    def slice_backward(self, g: Array, shape: Dims, index: tuple[Any, ...]) -> Array:
        out = self.xp.zeros(shape, g.dtype)
        out[_with_ellipsis(index)] = g
        return out

    def index(self, x: Array, index: tuple[Any, ...]) -> Array:
        """Advanced indexing, which gives a copy: some of `index` are arrays of integers or booleans."""
        return x[index]

    def index_backward(self, g: Array, shape: Dims, index: tuple[Any, ...]) -> Array:
        out = self.xp.zeros(shape, g.dtype)
        self.xp.add.at(out, index, g)
        return out

    def index_put(self, x: Array, value: Array | complex, index: tuple[Any, ...]) -> Array:
        out = self.clone(x)
        out[index] = value
        return out

    def gather(self, x: Array, dim: int, index: Array) -> Array:
        return x[self._along(x.shape, dim, index)]

    def gather_backward(self, g: Array, shape: Dims, dim: int, index: Array) -> Array:
        out = self.xp.zeros(shape, g.dtype)
        self.xp.add.at(out, self._along(shape, dim, index), g)
        return out

    def _along(self, shape: Dims, dim: int, index: Array) -> tuple[Array, ...]:
        """Index arrays that select, along `dim`, the places in `index`, and in every other dimension each in turn."""
        grid: Sequence[Array] = [
            self.xp.arange(n).reshape([n if d == k else 1 for k in range(index.ndim)])
            for d, n in enumerate(index.shape)
        ]
        return tuple(index if d == dim else grid[d] for d in range(len(shape)))


def _with_ellipsis(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """A basic index of the same elements that keeps a single element an array."""
    return index if Ellipsis in index else (*index, ...)
