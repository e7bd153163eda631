"""Copies and casts, shapes and joins, matrix products, indexing."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradx.backends.kernels.common import Array, Common, Dims
from gradx.device import device


class Layout(Common):
    """Kernels that move elements: copies, shapes, products of matrices, indexing."""

    def clone(self, x: Array) -> Array:
        return self.xp.array(x, order="C" if 0 in x.strides else "K")

    def contiguous(self, x: Array) -> Array:
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
        if x.dtype.kind == "c" and dtype.kind != "c":
            warnings.warn("Casting complex values to real discards the imaginary part", stacklevel=2)
            x = x.real
        return x.astype(dtype)

    def cast_discrete(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    def alias(self, x: Array) -> Array:
        return x.view()

    def mm(self, x: Array, y: Array) -> Array:
        return self.xp.matmul(x, y)

    def mv(self, x: Array, y: Array) -> Array:
        return self.xp.matmul(x, y)

    def addmm(self, x: Array, a: Array, b: Array, beta: float, alpha: float) -> Array:
        product = self.mm(a, b)
        return (x if beta == 1 else beta * x) + (product if alpha == 1 else alpha * product)

    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        return self.addmm(bias, x, weight.T, 1, 1)

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
        try:
            out[index] = value
        except ValueError:
            given, wanted = list(self.xp.shape(value)), list(x[index].shape)
            raise RuntimeError(
                f"shape mismatch: value tensor of shape {given} cannot be broadcast to indexing result of shape {wanted}"
            ) from None
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
