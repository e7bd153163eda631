"""exp and its relatives, of float64.

Method (Cody & Waite, "Software Manual for the Elementary Functions", 1980): x = k log(2) + r with k whole and |r| <= 0.35,
r as a pair, then exp(x) = 2^k exp(r), and exp(r) by its Taylor series, whose terms from r^14 on are below 2^-57.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradx.backends.exact.doubles import (
    INF,
    Pair,
    Value,
    exact_sum,
    polynomial,
    quick_sum,
    quotient,
    scaled,
    with_sign,
)

_INVERSE_LOG_2 = 1.4426950408889634
_LOG_2_HIGH = 6.93147180369123816490e-01  # of 32 binary digits: k times it is exact
_LOG_2_LOW = 1.90821492927058770002e-10
_SERIES = [1 / math.factorial(n) for n in range(2, 14)]
_LARGEST, _LEAST = 709.782712893384, -745.1332191019412  # beyond, exp is inf, and 0


def _reduced(xp: Any, x: Value, low: Value) -> tuple[Value, Value, Value]:
    """Whole k, and the pair exp(r) - 1, for x + low = k log(2) + r."""
    k = xp.rint(x * _INVERSE_LOG_2)
    high = x - k * _LOG_2_HIGH
    low = k * _LOG_2_LOW - low
    r = high - low
    return k.astype(np.int64), high, r * r * polynomial(r, _SERIES) - low


def exp_pair(xp: Any, x: Value, low: Value = 0.0) -> tuple[Value, Value, Value]:
    """exp(x + low) as a pair between 0.7 and 1.42, and the k for which that times 2^k is meant; |x| <= 1400."""
    k, high, low = _reduced(xp, x, low)
    one, rest = quick_sum(1.0, high)
    return *quick_sum(one, rest + low), k


def _expm1_pair(xp: Any, x: Value) -> Pair:
    """exp(x) - 1 as a pair, for |x| <= 60."""
    k, high, low = _reduced(xp, x, 0.0)
    unit = scaled(1.0, k)
    high, rest = exact_sum(unit - 1, unit * high)
    return quick_sum(high, rest + unit * low)


def _within(xp: Any, x: Value, least: float, largest: float) -> Value:
    """`x` where it is between these, else 0, also for NaN."""
    return xp.where((x >= least) & (x <= largest), x, 0.0)


def _at_ends(xp: Any, x: Value, result: Value, least: float, below: float, largest: float, above: float) -> Value:
    """`result`, but `below` where x < least, `above` where x > largest, and NaN of NaN."""
    result = xp.where(x < least, below, xp.where(x > largest, above, result))
    return xp.where(x == x, result, x)


def exp(xp: Any, x: Value) -> Value:
    """e^x."""
    high, low, k = exp_pair(xp, _within(xp, x, _LEAST, _LARGEST))
    return _at_ends(xp, x, scaled(high + low, k), _LEAST, 0.0, _LARGEST, INF)


def exp2(xp: Any, x: Value) -> Value:
    """2^x."""
    inside = _within(xp, x, -1075.0, 1024.0)
    k = xp.rint(inside)
    high, low, more = exp_pair(xp, (inside - k) * math.log(2))
    return _at_ends(xp, x, scaled(high + low, k.astype(np.int64) + more), -1075.0, 0.0, 1024.0, INF)


def expm1(xp: Any, x: Value) -> Value:
    """e^x - 1, exact near 0."""
    high, low = _expm1_pair(xp, _within(xp, x, -40.0, 60.0))
    middle = xp.where(high == 0, x, high + low)  # -0 of -0
    return xp.where(x < -40, -1.0, xp.where(x <= 60, middle, exp(xp, x)))


def _half_exp(xp: Any, x: Value) -> Value:
    """e^x / 2 for x >= 0, which may be finite where e^x is not."""
    high, low, k = exp_pair(xp, _within(xp, x, 0.0, 711.0))
    return _at_ends(xp, x, scaled(high + low, k - 1), 0.0, 0.5, 711.0, INF)


def sinh(xp: Any, x: Value) -> Value:
    """The hyperbolic sine, (t + t / (t + 1)) / 2 with t = e^|x| - 1."""
    size = xp.absolute(x)
    high, low = _expm1_pair(xp, _within(xp, size, 0.0, 40.0))
    near = 0.5 * (high + (low + high / (high + 1)))
    near = xp.where(size < 1e-8, size, near)
    return xp.where(x == x, with_sign(xp.where(size <= 40, near, _half_exp(xp, size)), x), x)


def cosh(xp: Any, x: Value) -> Value:
    """The hyperbolic cosine, (e^|x| + e^-|x|) / 2."""
    half = _half_exp(xp, xp.absolute(x))
    return half + 0.25 / half


def tanh(xp: Any, x: Value) -> Value:
    """The hyperbolic tangent, t / (t + 2) with t = e^2|x| - 1."""
    size = xp.absolute(x)
    t = _expm1_pair(xp, _within(xp, 2 * size, 0.0, 44.0))
    high, low = exact_sum(t[0], 2.0)
    ratio, rest = quotient(t, (high, low + t[1]))
    near = xp.where(size < 1e-8, size, ratio + rest)
    return xp.where(x == x, with_sign(xp.where(size <= 22, near, 1.0), x), x)
