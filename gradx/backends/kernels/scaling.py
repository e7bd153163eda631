"""What gradient scaling does to gradients and to the scale. In place, and without looking at an element on the host."""

from __future__ import annotations

import numpy as np

from gradx.backends.kernels.common import Array, Common


class Scaling(Common):
    """Kernels of GradScaler."""

    def unscale(self, found_inf: Array, scale: Array, *gradients: Array) -> None:
        """Divide `gradients` by `scale`; set `found_inf` to 1 if an element was inf or NaN."""
        inverse = (1 / scale.astype(np.float64)).astype(scale.dtype)
        for g in gradients:
            self.xp.maximum(found_inf, ~self.xp.isfinite(g).all(), out=found_inf)
            self.xp.multiply(g, inverse, out=g)

    def update_scale(
        self, scale: Array, tracker: Array, found_inf: Array, growth: float, backoff: float, interval: int
    ) -> None:
        """Multiply `scale` by `backoff` where `found_inf`, and by `growth` after `interval` calls without; those are
        counted in `tracker`. The scale never becomes inf."""
        where = self.xp.where
        found, count = found_inf > 0, tracker + 1
        grown = (scale * np.float64(growth)).astype(scale.dtype)
        grows = ~found & (count == interval)
        scale[...] = where(found, scale * np.float64(backoff), where(grows & self.xp.isfinite(grown), grown, scale))
        tracker[...] = where(found | grows, 0, count)
