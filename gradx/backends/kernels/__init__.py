"""Every kernel that is more than a function of the array library, written once over NumPy's names.

Kernels take raw arrays of one dtype (Python numbers where an operand may be one), dimensions already wrapped to
0 <= dim < ndim, and return raw arrays. Half-precision sums accumulate in float32. A backend overrides what it does better.
"""

from __future__ import annotations

from gradx.backends.kernels.classification import Classification
from gradx.backends.kernels.common import Array, Dims
from gradx.backends.kernels.complexes import Complexes
from gradx.backends.kernels.elementwise import Elementwise
from gradx.backends.kernels.losses import Losses
from gradx.backends.kernels.random import Random
from gradx.backends.kernels.scaling import Scaling

__all__ = ["Array", "Dims", "Elementwise", "Kernels"]


class Kernels(Elementwise, Losses, Classification, Complexes, Scaling, Random):
    """All kernels, over one array library."""
