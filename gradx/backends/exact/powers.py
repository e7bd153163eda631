"""Powers and roots, of float64. x^y is e^(y log x), whose exponent is a pair; the special cases are those of C99 (F.10.4.4)."""

from __future__ import annotations

from typing import Any

from gradx.backends.exact.doubles import INF, NAN, Value, bits, exact_product, scaled, with_sign
from gradx.backends.exact.exponentials import exp_pair
from gradx.backends.exact.logarithms import log_pair

_EXPONENTS = 0x7FF << 52


def _magnitude(xp: Any, x: Value, y: Value) -> Value:
    """x^y for finite x > 0 and finite y."""
    high, low = log_pair(xp, x)
    rough = high * y
    inside = (rough > -746) & (rough < 710) & (xp.absolute(y) < 2.0**64)
    steps = xp.where(inside, y, 0.0)
    high, rest = exact_product(high, steps)
    mantissa, more, k = exp_pair(xp, high, rest + low * steps)
    result = scaled(mantissa + more, k)
    return xp.where(inside, result, xp.where(rough == 0, 1.0, xp.where(rough > 0, INF, 0.0)))


def power(xp: Any, x: Value, y: Value) -> Value:
    """x^y."""
    size, steps = xp.absolute(x), xp.absolute(y)
    whole = xp.rint(y) == y
    odd = whole & (xp.rint(0.5 * y) * 2 != y) & (steps < INF)
    usual = (size > 0) & (size < INF) & (steps < INF)
    result = _magnitude(xp, xp.where(usual, size, 1.0), xp.where(usual, y, 1.0))
    ends = xp.where((size > 1) == (y > 0), INF, 0.0)  # where x is 0 or infinite, or y is infinite
    result = xp.where(usual, result, xp.where(size == 1, 1.0, ends))
    result = xp.where((x < 0) & (steps < INF) & (size < INF) & xp.logical_not(whole), NAN, result)
    result = xp.where(odd, with_sign(result, x), result)
    result = xp.where((x == x) & (y == y), result, NAN)
    return xp.where((y == 0) | (x == 1), 1.0, result)


def hypot(xp: Any, x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow: the larger one's power of two is taken out, and the squares are pairs."""
    x, y = xp.absolute(x), xp.absolute(y)
    large, small = xp.where(x >= y, x, y), xp.where(x >= y, y, x)
    usual = (large > 0) & (large < INF) & (small == small)
    b = bits(xp.where(usual, large, 1.0)) & _EXPONENTS
    tiny, huge = b < (523 << 52), b > (1523 << 52)
    factor = xp.where(tiny, 2.0**700, xp.where(huge, 2.0**-700, 1.0))
    a, c = xp.where(usual, large, 1.0) * factor, xp.where(usual, small, 0.0) * factor
    c = xp.where(c < a * 2.0**-60, 0.0, c)
    (p, p_low), (q, q_low) = exact_product(a, a), exact_product(c, c)
    total = p + q
    root = xp.sqrt(total)
    square, square_low = exact_product(root, root)
    lost = ((p - square) + q) + (p_low + q_low - square_low)
    near = (root + 0.5 * lost / root) / factor
    infinite = (x == INF) | (y == INF)
    return xp.where(usual, near, xp.where(infinite, INF, xp.where((x == 0) & (y == 0), 0.0, NAN)))


def rsqrt(xp: Any, x: Value) -> Value:
    """1 / sqrt(x)."""
    return 1 / xp.sqrt(x)
