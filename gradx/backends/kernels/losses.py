"""Softmax and losses, and their gradients."""

from __future__ import annotations

from gradx.backends.kernels.common import Array
from gradx.backends.kernels.reductions import Reductions


class Losses(Reductions):
    """Kernels of softmax and of losses, and of their gradients."""

    def softmax(self, x: Array, dim: int) -> Array:
        if not x.size:
            return self.clone(x)
        wide = self._wide(x)
        e = self.xp.exp(wide - self.amax(wide, (dim,), True))
        return (e / self.sum(e, (dim,), True)).astype(x.dtype, copy=False)

    def softmax_backward(self, g: Array, y: Array, dim: int) -> Array:
        wide, y = self._wide(g), self._wide(y)
        return (y * (wide - self.sum(wide * y, (dim,), True))).astype(g.dtype, copy=False)

    def log_softmax(self, x: Array, dim: int) -> Array:
        if not x.size:
            return self.clone(x)
        wide = self._wide(x)
        shifted = wide - self.amax(wide, (dim,), True)
        return (shifted - self.xp.log(self.sum(self.xp.exp(shifted), (dim,), True))).astype(x.dtype, copy=False)

    def log_softmax_backward(self, g: Array, y: Array, dim: int) -> Array:
        wide, y = self._wide(g), self._wide(y)
        return (wide - self.xp.exp(y) * self.sum(wide, (dim,), True)).astype(g.dtype, copy=False)

    def mse_loss(self, input: Array, target: Array, reduction: str) -> Array:
        difference = self._wide(input) - self._wide(target)
        reduced = self.sum if reduction == "sum" else self.mean
        return reduced(difference * difference, tuple(range(input.ndim)), False).astype(input.dtype, copy=False)
