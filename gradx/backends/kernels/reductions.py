"""Reductions. Half precision is accumulated in float32."""

from __future__ import annotations

import math

import numpy as np

from gradx.backends.kernels.common import Array, Dims
from gradx.backends.kernels.layout import Layout
from gradx.dtypes import REAL


class Reductions(Layout):
    """Kernels over one dimension or several."""

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

    def ties(self, x: Array, extremum: Array, dim: Dims) -> Array:
        """How many elements over `dim` equal the extremum there, NaN taken for equal to NaN; keeps the dimensions."""
        equal = self.xp.equal(x, extremum)
        if x.dtype.kind in REAL:
            equal |= self.xp.isnan(x) & self.xp.isnan(extremum)
        return self.xp.sum(equal, axis=dim, keepdims=True).astype(
            self._wide(extremum).dtype
        )  # more than a half may hold

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

    def var(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> tuple[Array, Array]:
        """The variance, and the mean in the precision of accumulation.

        Of the distances to the first element, so that it is exactly 0 where all are equal: the gradient of std hangs on it.
        """
        wide = self._wide(x)
        count = math.prod(x.shape[d] for d in dim)
        first = wide[tuple([slice(0, 1 if d in dim else None) for d in range(x.ndim)])] if count else wide.dtype.type(0)
        first = self.xp.where(self.xp.isfinite(first), first, wide.dtype.type(0))
        distance = wide - first
        centre = self.mean(distance, dim, True)
        deviation, mean = distance - centre, centre + first
        square = (deviation * deviation.conj()).real if x.dtype.kind == "c" else deviation * deviation
        total = self.sum(square, dim, keepdim)
        spread = (total / total.dtype.type(max(0.0, count - correction))).astype(x.real.dtype, copy=False)
        return self.xp.asarray(spread), mean if keepdim else mean.squeeze(dim)

    def std(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> tuple[Array, Array]:
        """The standard deviation, and the mean in the precision of accumulation."""
        spread, mean = self.var(self._wide(x), dim, correction, keepdim)
        return self.xp.asarray(self.xp.sqrt(spread).astype(x.real.dtype, copy=False)), mean

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

    def sum_to(self, x: Array, shape: Dims) -> Array:
        """The sum of `x` over the dimensions along which `shape` broadcasts to it."""
        lead = x.ndim - len(shape)
        kept = tuple(d + lead for d, n in enumerate(shape) if n == 1 and x.shape[d + lead] != 1)
        return self.sum(x, tuple(range(lead)) + kept, False).reshape(shape)
