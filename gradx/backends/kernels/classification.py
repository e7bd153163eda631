"""Losses over classes, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradx.backends.kernels.common import Array, Dims
from gradx.backends.kernels.reductions import Reductions


class Classification(Reductions):
    """Kernels of losses whose target is a class for each sample. The classes are dimension 1."""

    def cross_entropy(
        self, input: Array, target: Array, weight: Array | None, labels: Any
    ) -> tuple[Array, Array, Array, Array]:
        reduction, ignore_index, smoothing = labels
        wide = self._wide(input)
        places, weights = (a[:, None] for a in self._targets(wide.dtype, target, weight, ignore_index))
        top = self.amax(wide, (1,), True)
        log_sum = self.xp.log(self.sum(self.xp.exp(wide - top), (1,), True))
        losses = weights * (log_sum - (self.gather(wide, 1, places) - top)) * (1 - smoothing)
        if smoothing:
            spread = (log_sum - (wide - top)) * (1 if weight is None else self._by_class(weight, wide))
            losses = losses + self.sum(spread, (1,), True) * (smoothing / input.shape[1])
        losses = self.xp.where(target != ignore_index, losses[:, 0], wide.dtype.type(0))
        every = tuple(range(target.ndim))
        total = self.sum(weights[:, 0], every, False)
        by_class = wide.dtype.type(input.shape[1]) if weight is None else self.sum(self._wide(weight), (0,), False)
        if reduction != "none":
            losses = self.sum(losses, every, False)
        loss = losses / total if reduction == "mean" else losses
        sums = self.xp.stack([total, self.xp.asarray(by_class, total.dtype)])
        return self.xp.asarray(loss.astype(input.dtype, copy=False)), sums, top, log_sum

    def cross_entropy_backward(
        self,
        g: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        sums: Array,
        top: Array,
        log_sum: Array,
        labels: Any,
        targets: bool,
    ) -> Array:
        reduction, ignore_index, smoothing = labels
        wide = self._wide(input)
        places, weights = (a[:, None] for a in self._targets(wide.dtype, target, weight, ignore_index))
        hard = weights * wide.dtype.type(1 - smoothing)
        counts = (target != ignore_index)[:, None]
        soft: Any = 0
        if smoothing:
            share = wide.dtype.type(smoothing / input.shape[1])
            soft = share if weight is None else share * self._by_class(weight, wide)
        slope = self.xp.exp(wide - top - log_sum) * (hard + share * sums[1] if smoothing else hard)
        if targets:
            slope = slope - soft
            at = self._along(slope.shape, 1, places)
            slope[at] = slope[at] - hard
        scale = self._wide(g) / sums[0] if reduction == "mean" else self._wide(g)
        return self.xp.where(counts, slope * scale, wide.dtype.type(0)).astype(input.dtype, copy=False)

    def soft_cross_entropy(
        self, input: Array, target: Array, weight: Array | None, labels: Any
    ) -> tuple[Array, Array, Array, Array]:
        wide = self._wide(input)
        top = self.amax(wide, (1,), True)
        log_sum = self.xp.log(self.sum(self.xp.exp(wide - top), (1,), True))
        chances = self._smooth(target, weight, labels.smoothing)
        losses = self.sum(chances * (log_sum - (wide - top)), (1,), False)
        if labels.reduction != "none":
            reduced = self.mean if labels.reduction == "mean" else self.sum
            losses = reduced(losses, tuple(range(losses.ndim)), False)
        loss = self.xp.asarray(losses.astype(input.dtype, copy=False))
        return loss, self.sum(chances, (1,), True), top, log_sum

    def soft_cross_entropy_backward(
        self,
        g: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        mass: Array,
        top: Array,
        log_sum: Array,
        labels: Any,
    ) -> Array:
        slope = self.xp.exp(self._wide(input) - top - log_sum) * mass - self._smooth(target, weight, labels.smoothing)
        return (slope * self._shared(g, input, labels.reduction)).astype(input.dtype, copy=False)

    def soft_target_backward(
        self, g: Array, input: Array, weight: Array | None, top: Array, log_sum: Array, labels: Any
    ) -> Array:
        slope = (log_sum - (self._wide(input) - top)) * top.dtype.type(1 - labels.smoothing)
        if weight is not None:
            slope = slope * self._by_class(weight, slope)
        return (slope * self._shared(g, input, labels.reduction)).astype(input.dtype, copy=False)

    def _smooth(self, target: Array, weight: Array | None, smoothing: float) -> Array:
        """Class probabilities, a share of which is spread evenly over the classes, weighted."""
        chances = self._wide(target)
        if smoothing:
            kind = chances.dtype.type
            chances = chances * kind(1 - smoothing) + kind(smoothing / target.shape[1])
        return chances if weight is None else chances * self._by_class(weight, chances)

    def _shared(self, g: Array, input: Array, reduction: str) -> Array:
        """The gradient of each sample's loss, from that of the reduced loss."""
        wide = self._wide(g)
        return wide * wide.dtype.type(input.shape[1] / input.size) if reduction == "mean" and input.size else wide

    def _by_class(self, weight: Array, like: Array) -> Array:
        return weight.astype(like.dtype).reshape((1, -1) + (1,) * (like.ndim - 2))

    def nll_loss(
        self, input: Array, target: Array, weight: Array | None, reduction: str, ignore_index: int
    ) -> tuple[Array, Array]:
        places, weights = self._targets(input.dtype, target, weight, ignore_index)
        picked = self.gather(input, 1, places[:, None])[:, 0]
        losses = self.xp.where(target != ignore_index, -picked * weights, picked.dtype.type(0))
        every = tuple(range(losses.ndim))
        total = self.sum(self._wide(weights), every, False)
        if reduction == "none":
            return losses.astype(input.dtype, copy=False), total
        loss = self.sum(self._wide(losses), every, False)
        loss = (loss / total if reduction == "mean" else loss).astype(input.dtype, copy=False)
        return self.xp.asarray(loss), total

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
        values = self.xp.where(target != ignore_index, weights * scale, g.dtype.type(0)).astype(g.dtype, copy=False)
        return self.gather_backward(values[:, None], shape, 1, places[:, None])

    def _targets(
        self, dtype: np.dtype[Any], target: Array, weight: Array | None, ignore_index: int
    ) -> tuple[Array, Array]:
        """The class of each target, 0 for those ignored, and its weight, 0 for those ignored."""
        counts = target != ignore_index
        places = self.xp.where(counts, target, 0)
        weights = counts.astype(dtype)
        return places, weights if weight is None else weights * weight[places]
