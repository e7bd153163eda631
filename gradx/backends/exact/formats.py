"""From the floating-point formats to float64, in which everything is computed, and back, rounded once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gradx.backends.exact.choices import discrete
from gradx.backends.exact.doubles import NAN, Value, bits, power_of_two
from gradx.dtypes import REAL

# Binary digits and least exponent of formats that are not rounded to directly by every library.
FORMATS: Final = {"float16": (11, -14), "bfloat16": (8, -126)}


def is_floating(value: Any) -> bool:
    """Whether `value` is an array of real floating-point numbers."""
    return hasattr(value, "dtype") and value.dtype.kind in REAL


def rounded(xp: Any, x: Value, digits: int, least: int) -> Value:
    """`x` rounded to so many binary digits, halves to even, fewer below the exponent `least`."""
    exponent = ((bits(x) >> 52) & 0x7FF) - 1023
    exponent = xp.where(exponent < least, least, xp.where(exponent > 127, 127, exponent))
    unit = power_of_two(exponent - (digits - 1))
    return xp.rint(x / unit) * unit


def widened(x: Any) -> Any:
    """An array of NumPy's in float64, if it is floating-point."""
    return x.astype(np.float64, copy=False) if is_floating(x) else x


def narrowed(x: Any, dtype: np.dtype[Any]) -> Any:
    """An array of NumPy's in float64 as one of `dtype`. NaN, whose sign and digits are the machine's, is made one."""
    if dtype.name in FORMATS:
        x = rounded(np, x, *FORMATS[dtype.name])
    x = np.asarray(x).astype(dtype, copy=False)
    nan = x != x
    return np.where(nan, dtype.type(NAN), x) if nan.any() else x


# Kernels whose result is of another dtype than the argument, which the second argument is.
CONVERSIONS: Final = {
    "cast": lambda x, dtype: narrowed(widened(x), dtype),
    "cast_discrete": lambda x, dtype: discrete(np, widened(x), dtype),
}
