"""From the floating-point formats to float64, in which everything is computed, and back, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gradx.backends.exact.doubles import Value, bits, power_of_two
from gradx.backends.kernels import Array
from gradx.dtypes import HALVES, REAL

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


def on_doubles(
    kernel: Callable[..., Any], widened: Callable[[Any], Any], narrowed: Callable[[Array, np.dtype[Any]], Array]
) -> Callable[..., Any]:
    """A kernel over arrays of float64 for arrays of any floating-point dtype, which is rounded to once, at the end.

    Of several results, those after the first are not of half precision, as those that other kernels save are not.
    """

    def run(*args: Any) -> Any:
        dtype = next(arg.dtype for arg in args if is_floating(arg))
        out = kernel(*map(widened, args))
        if type(out) is not tuple:
            return finished(out, dtype)
        wide = np.dtype(np.float32) if dtype.char in HALVES else dtype
        return (finished(out[0], dtype), *(finished(part, wide) for part in out[1:]))

    def finished(out: Any, dtype: np.dtype[Any]) -> Any:
        return narrowed(out, dtype) if is_floating(out) else out

    return run
