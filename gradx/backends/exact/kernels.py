"""All kernels, from exact operations on float64: what they give depends on the elements and the shapes alone.

A sum over n terms is a tree whose shape depends on n only: with h the largest power of two below n, the terms from h on are
added to the first ones, and so on with those h. Array libraries choose an order by layout, threads and blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gradx.backends.exact import products
from gradx.backends.exact.coverage import NoExactForm
from gradx.backends.exact.namespace import Exact
from gradx.backends.kernels import Array, Dims, Kernels


class ExactKernels(Kernels):
    """The kernels over float64 arrays.

    Args:
        xp: NumPy's names, of which each is exact.
    """

    def __init__(self, xp: Exact) -> None:
        super().__init__(xp)

    # ---- reductions ----------------------------------------------------------------------------------------------

    def _fold(self, combine: Callable[..., Array], x: Array, dim: Dims, keepdim: bool, empty: float) -> Array:
        """`x` combined over `dim` by the tree; `empty` where there is nothing to combine."""
        kept = [d for d in range(x.ndim) if d not in dim]
        count = math.prod(x.shape[d] for d in dim)
        shape = tuple(1 if d in dim else n for d, n in enumerate(x.shape) if keepdim or d not in dim)
        if count == 0:
            return self.xp.full(shape, empty, x.dtype)
        rows = self.xp.array(x.transpose(*dim, *kept), order="C").reshape(count, -1)  # a copy, written over
        while count > 1:
            half = 1 << ((count - 1).bit_length() - 1)
            first = rows[: count - half]
            first[...] = combine(first, rows[half:count])
            count = half
        return rows[0].reshape(shape)

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._fold(self.xp.add, x, dim, keepdim, 0.0)

    def prod(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return self._fold(self.xp.multiply, x, dim, keepdim, 1.0)

    def amax(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        self._require_some(x, dim, "amax")
        return self._fold(self.xp.maximum, x, dim, keepdim, 0.0)

    def amin(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        self._require_some(x, dim, "amin")
        return self._fold(self.xp.minimum, x, dim, keepdim, 0.0)

    def _require_some(self, x: Array, dim: Dims, name: str) -> None:
        if any(x.shape[d] == 0 for d in dim):
            raise ValueError(f"{name}(): zero-size array has no identity for this reduction operation")

    def argmax(self, x: Array, dim: int, keepdim: bool) -> Array:
        return self._place(x, self.amax(x, (dim,), True), dim, keepdim)

    def argmin(self, x: Array, dim: int, keepdim: bool) -> Array:
        return self._place(x, self.amin(x, (dim,), True), dim, keepdim)

    def _place(self, x: Array, extremum: Array, dim: int, keepdim: bool) -> Array:
        """Where along `dim` the extremum, or NaN, stands first."""
        n = x.shape[dim]
        places = self.xp.arange(n).reshape([n if d == dim else 1 for d in range(x.ndim)])
        found = (x == extremum) | (x != x)
        return self._fold(self.xp.minimum, self.xp.where(found, places, n), (dim,), keepdim, 0)

    def ties(self, x: Array, extremum: Array, dim: Dims) -> Array:
        equal = (x == extremum) | ((x != x) & (extremum != extremum))
        return self.sum(equal.astype(float), dim, True)

    def cumsum(self, x: Array, dim: int) -> Array:
        """In log2(n) steps, each of which adds what stands 1, 2, 4, ... places before (Hillis & Steele, 1986)."""
        total = self.xp.array(self.xp.moveaxis(x, dim, 0), order="C")
        step = 1
        while step < len(total):
            total[step:] = total[step:] + total[:-step]
            step *= 2
        return self.xp.moveaxis(total, 0, dim)

    def norm(self, x: Array, p: float, dim: Dims, keepdim: bool) -> Array:
        size = self.xp.absolute(x)
        if p == 1:
            return self.sum(size, dim, keepdim)
        if p == 2:
            return self.xp.sqrt(self.sum(size * size, dim, keepdim))
        return self.xp.power(self.sum(self.xp.power(size, p), dim, keepdim), 1 / p)

    # ---- products of matrices ------------------------------------------------------------------------------------

    def mm(self, x: Array, y: Array) -> Array:
        return products.matmul(self.xp.library, x, y)

    mv = dot = mm

    # ---- indexing --------------------------------------------------------------------------------------------------

    def index_put(self, x: Array, value: Array | complex, index: tuple[Any, ...]) -> Array:
        """Of several values for one place, which one is kept is the library's choice: so places must differ."""
        out = super().index_put(x, value, index)
        places = any(hasattr(item, "dtype") and item.dtype.kind in "iu" for item in index)
        if places and getattr(value, "size", 1) > 1:
            counts = self.xp.zeros(x.shape)
            self.xp.add.at(counts, index, 1.0)
            if bool((counts > 1).any()):
                raise NoExactForm("values are put at the same place")
        return out

    # ---- sums whose order is the library's, made exact -------------------------------------------------------------

    def index_backward(self, g: Array, shape: Dims, index: tuple[Any, ...]) -> Array:
        return self._scattered(g, shape, index)

    def gather_backward(self, g: Array, shape: Dims, dim: int, index: Array) -> Array:
        if not shape:
            return self._scattered(g.reshape(1), (1,), (index.reshape(1),)).reshape(())
        return self._scattered(g, shape, self._along(shape, dim, index))

    def _scattered(self, g: Array, shape: Dims, index: tuple[Any, ...]) -> Array:
        """Zeros to which `g` is added at `index`, in whatever order: each number is cut into parts so short that the sums
        of parts are exact.

        A part holds 53 - log2(n) binary digits of n numbers, counted from the largest one. How many parts it takes, the
        host must see: on CUDA it waits for the device. Source: Demmel & Nguyen, "Parallel reproducible summation" (2015).
        """
        finite = self.xp.isfinite(g)
        rest = self.xp.where(finite, g, 0.0)
        spread = max(1, (g.size - 1).bit_length())
        top = self.amax(self.xp.absolute(rest), tuple(range(g.ndim)), False) if g.size else self.xp.zeros(())
        down = self.xp.where(top > 2.0**900, 2.0**-120, 1.0)  # room for sums
        rest = rest * down
        unit = products.power_above(self.xp, top * down) * 2.0**spread
        out = self.xp.zeros(shape)
        while bool(rest.any()):
            part = (unit + rest) - unit
            rest = rest - part
            unit = unit * 2.0 ** (spread - 53)
            sums = self.xp.zeros(shape)
            self.xp.add.at(sums, index, part)
            out = out + sums
        others = self.xp.zeros(shape)
        self.xp.add.at(others, index, self.xp.where(finite, 0.0, g))
        return out / down + others
