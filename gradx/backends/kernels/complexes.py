"""Complex numbers: made from their parts, and taken apart into views."""

from __future__ import annotations

import numpy as np

from gradx.backends.kernels.common import Array, Common


class Complexes(Common):
    """Kernels between real and complex arrays."""

    def complex(self, real: Array, imag: Array) -> Array:
        out = self.xp.empty(self.xp.broadcast(real, imag).shape, self.xp.result_type(real.dtype, np.complex64))
        out.real, out.imag = real, imag
        return out

    def real(self, x: Array) -> Array:
        return x.real

    def imag(self, x: Array) -> Array:
        return x.imag

    def view_as_real(self, x: Array) -> Array:
        return x[..., None].view(x.real.dtype)

    def view_as_complex(self, x: Array) -> Array:
        return x.view(self.xp.result_type(x.dtype, np.complex64))[..., 0]
