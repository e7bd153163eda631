"""Elementwise kernels, with torch's results and errors where the array libraries have others."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradx.backends.kernels.common import Array
from gradx.backends.kernels.layout import Layout
from gradx.dtypes import REAL


class Elementwise(Layout):
    """Elementwise kernels that are more than the array library's function."""

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)
        # Powers that are quicker, and as exact as torch's, by other means.
        self._powers = {1: xp.positive, 2: xp.square, 3: self.cube, -1: self.reciprocal, 0.5: xp.sqrt, -0.5: self.rsqrt}

    def sub(self, x: Array, y: Array) -> Array:
        try:
            return self.xp.subtract(x, y)
        except TypeError:
            raise RuntimeError(
                "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
                "operator instead."
            ) from None

    def neg(self, x: Array) -> Array:
        try:
            return self.xp.negative(x)
        except TypeError:
            raise RuntimeError(
                "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
                "the `~` or `logical_not()` operator instead."
            ) from None

    def pow_scalar(self, x: Array, exponent: Any) -> Array:
        if x.dtype.kind in REAL and exponent in self._powers:
            return self._powers[exponent](x)
        return self.pow(x, exponent)

    def cube(self, x: Array) -> Array:
        return x * x * x

    def pow(self, x: Array | Any, y: Array | Any) -> Array:
        if _truth(x) and _truth(y):
            if not isinstance(y, bool) or isinstance(x, bool):
                raise NotImplementedError("\"pow\" not implemented for 'Bool'. Convert the base to integers first.")
            return self.xp.logical_or(x, self.xp.logical_not(y))
        if isinstance(y, int) and y < 0 and x.dtype.kind in "biu":
            raise RuntimeError(
                "Integers to negative integer powers are not allowed. Convert the base to a floating-point dtype."
            )
        try:
            return self.xp.power(x, y)
        except ValueError as error:  # a whole number to a negative whole power; a misfit of shapes is an error as well
            if "negative integer powers" not in str(error):
                raise
            unit = self.xp.where(self.xp.equal(x, -1), 1 - 2 * (y % 2), self.xp.equal(x, 1))  # 1 / x where it is whole
            return self.xp.where(y < 0, unit, self.xp.power(x, self.xp.maximum(y, 0))).astype(y.dtype)

    def floor_divide(self, x: Array | float, y: Array | float) -> Array:
        return self.xp.floor_divide(x, y)

    def div_floor(self, x: Array | float, y: Array | float) -> Array:
        return self.floor_divide(x, y)

    def remainder(self, x: Array | float, y: Array | float) -> Array:
        return self.xp.remainder(x, y)

    def div_trunc(self, x: Array | Any, y: Array | Any) -> Array:
        if self.xp.result_type(x, y).kind in "iu":
            return self.xp.where((x < 0) != (y < 0), -self.div_floor(abs(x), abs(y)), self.div_floor(x, y))
        return self.xp.trunc(self.xp.true_divide(x, y))

    def sign(self, x: Array) -> Array:
        if x.dtype.kind == "b":
            return self.clone(x)
        if x.dtype.kind == "c":
            raise NotImplementedError(
                "Unlike NumPy, gradx.sign is not intended to support complex numbers. Please use gradx.sgn instead."
            )
        if x.dtype.kind not in REAL:
            return self.xp.sign(x)
        return (x > 0).astype(x.dtype) - (x < 0)  # 0 for NaN, as in torch, hence 0 for the gradient of abs there

    def sgn(self, x: Array) -> Array:
        if x.dtype.kind != "c":
            return self.sign(x)
        size = self.xp.abs(x)
        return self.xp.where(size == 0, 0, x / self.xp.where(size == 0, 1, size))

    def floor(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.floor(x)

    def ceil(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.ceil(x)

    def trunc(self, x: Array) -> Array:
        return self.clone(x) if x.dtype.kind in "iu" else self.xp.trunc(x)

    def round(self, x: Array, decimals: int) -> Array:
        if x.dtype.kind in "iu":
            return self.clone(x)
        if decimals == 0:
            return self.xp.rint(x)
        scale = x.dtype.type(10 ** abs(decimals))
        return self.xp.rint(x * scale) / scale if decimals > 0 else self.xp.rint(x / scale) * scale

    def rsqrt(self, x: Array) -> Array:
        return 1 / self.xp.sqrt(x)

    def reciprocal(self, x: Array) -> Array:
        return 1 / x

    def sigmoid(self, x: Array) -> Array:
        if x.dtype.kind == "c":
            return 1 / (1 + self.xp.exp(-x))
        small = self.xp.exp(-self.xp.abs(x))  # at most 1: neither branch overflows
        return self.xp.where(x >= 0, 1, small) / (1 + small)

    def erf(self, x: Array) -> Array:
        from gradx.backends.exact import error_function

        return error_function.erf(self.xp, x.astype(np.float64)).astype(x.dtype)

    def sigmoid_backward(self, g: Array, out: Array) -> Array:
        return g * (1 - out) * out

    def tanh_backward(self, g: Array, out: Array) -> Array:
        return g * (1 - out * out)

    def mse_loss_backward(self, g: Array, input: Array, target: Array, scale: float) -> Array:
        difference = self._wide(input) - self._wide(target)
        return (difference * (self._wide(g) * scale)).astype(g.dtype, copy=False)

    def relu(self, x: Array) -> Array:
        return self.xp.maximum(x, 0)

    def threshold_backward(self, g: Array, out: Array) -> Array:
        return self.xp.where(out <= 0, g.dtype.type(0), g)  # NaN passes the gradient on, as in torch

    def clamp(self, x: Array, low: Array | float | None, high: Array | float | None) -> Array:
        if low is not None:
            x = self.xp.maximum(x, low)
        return x if high is None else self.xp.minimum(x, high)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return self.xp.where(condition, x, y)

    def masked_fill(self, x: Array, mask: Array, value: Array | Any) -> Array:
        value = value.astype(x.dtype, copy=False) if hasattr(value, "astype") else x.dtype.type(value)
        return self.xp.where(mask, value, x)


def _truth(x: Any) -> bool:
    """Whether an array holds, or a number is, truth values."""
    return x.dtype.kind == "b" if hasattr(x, "dtype") else isinstance(x, bool)
