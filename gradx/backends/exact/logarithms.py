"""Logarithms, of float64.

Method (Sun's fdlibm, e_log.c, 1993): x = 2^k m with sqrt(1/2) <= m < sqrt(2), f = m - 1, s = f / (2 + f); then
log(m) = f - (f^2/2 - s (f^2/2 + R)), where R is a minimax polynomial in s^2.
"""

from __future__ import annotations

from typing import Any

from gradx.backends.exact.doubles import (
    INF,
    NAN,
    Pair,
    Value,
    bits,
    double,
    exact_sum,
    halves,
    polynomial,
    product,
    quick_sum,
    quotient,
)

_LOG_2_HIGH, _LOG_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_R = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
# 1 / log(2), 1 / log(10) and log10(2): first parts of few digits, so that products with halves are exact.
_BASE_2 = 1.44269504072144627571e00, 1.67517131648865118353e-10
_BASE_10 = 4.34294481878168880939e-01, 2.50829467116452752298e-11
_LOG10_2 = 3.01029995663611771306e-01, 3.69423907715893078616e-13
_SQRT_HALF = 0x3FE6A09E << 32  # its leading bits


def _split(xp: Any, x: Value) -> tuple[Value, Value]:
    """Whole k (as a float64) and m for a positive, finite x."""
    small = x < 2.0**-1022
    b = bits(xp.where(small, x * 2.0**54, x))
    k = (b - _SQRT_HALF) >> 52
    return k.astype(float) - xp.where(small, 54.0, 0.0), double(b - (k << 52))


def _parts(f: Value) -> tuple[Value, Value]:
    """f^2/2, and s (f^2/2 + R)."""
    s, half = f / (2.0 + f), 0.5 * f * f
    z = s * s
    return half, s * (half + z * polynomial(z, _R))


def _inside(xp: Any, x: Value) -> Value:
    """`x` where it is positive and finite, else 1."""
    return xp.where((x > 0) & (x < INF), x, 1.0)


def _at_ends(xp: Any, x: Value, result: Value) -> Value:
    """`result`, but -inf at 0, NaN below, and inf at inf."""
    return xp.where((x > 0) & (x < INF), result, xp.where(x == 0, -INF, xp.where(x > 0, x, NAN)))


def log(xp: Any, x: Value) -> Value:
    """The natural logarithm."""
    k, m = _split(xp, _inside(xp, x))
    f = m - 1
    half, rest = _parts(f)
    return _at_ends(xp, x, k * _LOG_2_HIGH - ((half - (rest + k * _LOG_2_LOW)) - f))


def log1p(xp: Any, x: Value) -> Value:
    """log(1 + x), exact near 0: what is lost in u = 1 + x is put back, divided by u."""
    inside = xp.where((x > -1) & (x < INF), x, 0.0)
    u = 1 + inside
    lost = xp.where(u < 2, inside - (u - 1), 1 - (u - inside)) / u
    k, m = _split(xp, u)
    f = m - 1
    half, rest = _parts(f)
    near = k * _LOG_2_HIGH - ((half - (rest + (k * _LOG_2_LOW + lost))) - f)
    near = xp.where(xp.absolute(x) < 2.0**-54, x, near)
    return xp.where((x > -1) & (x < INF), near, xp.where(x == -1, -INF, xp.where(x > 0, x, NAN)))


def _to_base(xp: Any, x: Value, base: Pair, unit: Pair) -> Value:
    """log(x) times the pair `base`, where `unit` is the pair log(2) times `base`."""
    k, m = _split(xp, _inside(xp, x))
    f = m - 1
    half, rest = _parts(f)
    high, _ = halves(f - half)
    low = ((f - high) - half) + rest
    sum_high, lost = exact_sum(k * unit[0], high * base[0])
    low = k * unit[1] + ((low + high) * base[1] + low * base[0]) + lost
    return _at_ends(xp, x, sum_high + low)


def log2(xp: Any, x: Value) -> Value:
    """The logarithm to base 2."""
    return _to_base(xp, x, _BASE_2, (1.0, 0.0))


def log10(xp: Any, x: Value) -> Value:
    """The logarithm to base 10."""
    return _to_base(xp, x, _BASE_10, _LOG10_2)


# ---- as a pair -------------------------------------------------------------------------------------------------------

_THIRD = 1 / 3, 1.850371707708594e-17
_FIFTH_ON = [1 / n for n in range(5, 27, 2)]


def log_pair(xp: Any, x: Value) -> Pair:
    """log(x) for positive, finite x as a pair, good to 2^-62 of it: 2 (s + s z/3 + s z^2/5 + ...) with z = s^2."""
    k, m = _split(xp, x)
    f = m - 1
    s = quick_sum(*quotient((f, 0.0 * f), exact_sum(2.0, f)))
    z = product(s, s)
    third, lost = quick_sum(_THIRD[0], z[0] * polynomial(z[0], _FIFTH_ON))
    bend = product(s, product(z, (third, lost + _THIRD[1])))
    high, low = exact_sum(k * _LOG_2_HIGH, 2 * s[0])
    high, more = exact_sum(high, 2 * bend[0])
    return quick_sum(high, low + more + (k * _LOG_2_LOW + 2 * (s[1] + bend[1])))
