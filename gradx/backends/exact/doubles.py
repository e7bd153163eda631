"""Arithmetic on float64 that gives the same bits on every device: what the functions of this package are made of.

Sums, products, quotients and square roots are rounded as IEEE 754 says, on a CPU and on a GPU alike, as long as no compiler
contracts a product and a sum to one operation; comparisons, selections and integers are exact. Some numbers are pairs
(high, low), whose sum is meant, and `low` is a few units in the last place of `high` at most.

All functions take `xp`, NumPy's names over arrays or over symbols (`gradx.backends.expression`).

Sources: Dekker, "A floating-point technique for extending the available precision" (1971); Knuth, TAOCP volume 2, 4.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Value = Any  # float64: an array, a symbol or a number
Pair = tuple[Value, Value]

INF, NAN = float("inf"), float("nan")
_HIGH = ~((1 << 27) - 1)  # the bits of a float64 without the lower half of its fraction
_ABSOLUTE = (1 << 63) - 1
_SIGN = -(1 << 63)


def bits(x: Value) -> Value:
    """The bits of a float64, as an int64."""
    return np.float64(x).view(np.int64) if isinstance(x, float) else x.view(np.int64)


def double(x: Value) -> Value:
    """The float64 of these bits, an int64."""
    return x.view(np.float64)


def possible(condition: Value) -> bool:
    """Whether it may hold for some element; a kernel, which computes for any element, must be ready for it."""
    return not hasattr(condition, "any") or bool(condition.any())


def with_sign(magnitude: Value, sign: Value) -> Value:
    """`magnitude`, which is not negative, with the sign of `sign`, of zeros too."""
    return double((bits(magnitude) & _ABSOLUTE) | (bits(sign) & _SIGN))


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ... (Horner's scheme)."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def power_of_two(k: Value) -> Value:
    """2^k, for whole numbers -1022 <= k <= 1023 (int64)."""
    return double((k + 1023) << 52)


def scaled(x: Value, k: Value) -> Value:
    """x 2^k for |k| <= 2000 and x near 1, rounded once: halfway, nothing overflows and nothing is subnormal."""
    half = k >> 1
    return x * power_of_two(half) * power_of_two(k - half)


# ---- pairs -----------------------------------------------------------------------------------------------------------


def quick_sum(x: Value, y: Value) -> Pair:
    """x + y, exactly, where |x| >= |y| or x is 0."""
    high = x + y
    return high, y - (high - x)


def exact_sum(x: Value, y: Value) -> Pair:
    """x + y, exactly."""
    high = x + y
    other = high - x
    return high, (x - (high - other)) + (y - other)


def halves(x: Value) -> Pair:
    """x as two numbers of 26 and 27 binary digits."""
    high = double(bits(x) & _HIGH)
    return high, x - high


def exact_product(x: Value, y: Value) -> Pair:
    """x y, up to 2^-106 of it, where nothing overflows or is subnormal."""
    high = x * y
    (a, b), (c, d) = halves(x), halves(y)
    return high, ((a * c - high) + a * d + b * c) + b * d


def quotient(x: Pair, y: Pair) -> Pair:
    """x / y."""
    high = x[0] / y[0]
    product, rest = exact_product(high, y[0])
    return high, (((x[0] - product) - rest) + x[1] - high * y[1]) / y[0]


def product(x: Pair, y: Pair) -> Pair:
    """x y."""
    high, low = exact_product(x[0], y[0])
    return quick_sum(high, low + (x[0] * y[1] + x[1] * y[0]))
