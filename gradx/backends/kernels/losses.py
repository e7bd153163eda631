"""Softmax and losses, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradx.backends.kernels.common import Array, Dims
from gradx.backends.kernels.reductions import Reductions


class Losses(Reductions):
    """Kernels of softmax and of losses, and of their gradients."""

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

    def mse_loss(self, input: Array, target: Array, reduction: str) -> Array:
        difference = self._wide(input) - self._wide(target)
        reduced = self.sum if reduction == "sum" else self.mean
        return reduced(difference * difference, tuple(range(input.ndim)), False).astype(input.dtype, copy=False)

    def nll_loss(
        self, input: Array, target: Array, weight: Array | None, reduction: str, ignore_index: int
    ) -> tuple[Array, Array]:
        places, weights = self._targets(input.dtype, target, weight, ignore_index)
        picked = self.gather(input, 1, places[:, None])[:, 0]
        losses = self.xp.where(target != ignore_index, -picked * weights, picked.dtype.type(0))
        every = tuple(range(losses.ndim))
        total = self.sum(self._wide(weights), every, False)
        if reduction == "none":
            return losses, total
        loss = self.sum(self._wide(losses), every, False)
        return (loss / total if reduction == "mean" else loss).astype(input.dtype, copy=False), total

    def nll_loss_backward(
        self,
        g: Array,
        total: Array,
        target: Array,
        weight: Array | None,
        shape: Dims,
        reduction: str,
        ignore_index: int,
    ) -> Array:
        places, weights = self._targets(g.dtype, target, weight, ignore_index)
        scale = -(g / total).astype(g.dtype) if reduction == "mean" else -g
        values = self.xp.where(target != ignore_index, weights * scale, g.dtype.type(0))
        return self.gather_backward(values[:, None], shape, 1, places[:, None])

    def _targets(
        self, dtype: np.dtype[Any], target: Array, weight: Array | None, ignore_index: int
    ) -> tuple[Array, Array]:
        """The class of each target, 0 for those ignored, and its weight, 0 for those ignored."""
        counts = target != ignore_index
        places = self.xp.where(counts, target, 0)
        weights = counts.astype(dtype)
        return places, weights if weight is None else weights * weight[places]
