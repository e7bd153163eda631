"""What all kernels share."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradx.dtypes import HALVES

Array = Any  # numpy.ndarray, cupy.ndarray: the two share their methods, not a base class
Dims = tuple[int, ...]


class Common:
    """The array library `xp`, and the precision in which to accumulate."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def _wide(self, x: Array) -> Array:
        """`x` in the precision in which it is accumulated: float32 for halves, itself otherwise."""
        return x.astype(np.float32) if x.dtype.char in HALVES else x

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        """`x` where `condition` holds, else `y`."""
        return self.xp.where(condition, x, y)
