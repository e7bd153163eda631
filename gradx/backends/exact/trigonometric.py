"""Sine, cosine and tangent, of float64.

Method (Sun's fdlibm, k_sin.c and k_cos.c, 1993): the angle is reduced to a pair of at most pi/4, then minimax polynomials.
"""

from __future__ import annotations

from typing import Any

from gradx.backends.exact.angles import reduced
from gradx.backends.exact.doubles import INF, NAN, Pair, Value, polynomial, quick_sum, quotient

_SINE = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
_COSINE = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)


def _sine_pair(y: Pair) -> Pair:
    """The sine of an angle of at most pi/4."""
    high, low = y
    z = high * high
    cube = z * high
    bend = polynomial(z, _SINE[1:])
    return quick_sum(high, cube * _SINE[0] - (z * (0.5 * low - cube * bend) - low))


def _cosine_pair(y: Pair) -> Pair:
    """The cosine of an angle of at most pi/4."""
    high, low = y
    z = high * high
    half = 0.5 * z
    one, rest = quick_sum(1.0, -half)
    return quick_sum(one, rest + (z * (z * polynomial(z, _COSINE)) - high * low))


def _finite(xp: Any, x: Value, result: Value) -> Value:
    """`result`, but NaN where x is infinite or NaN."""
    return xp.where(xp.absolute(x) < INF, result, NAN)


def sin(xp: Any, x: Value) -> Value:
    """The sine of an angle in radians."""
    n, y = reduced(xp, x)
    sine, cosine = _sine_pair(y), _cosine_pair(y)
    result = xp.where((n & 1) == 0, sine[0], cosine[0])
    result = xp.where((n & 2) == 0, result, -result)
    return _finite(xp, x, xp.where(xp.absolute(x) < 2.0**-27, x, result))


def cos(xp: Any, x: Value) -> Value:
    """The cosine of an angle in radians."""
    n, y = reduced(xp, x)
    sine, cosine = _sine_pair(y), _cosine_pair(y)
    result = xp.where((n & 1) == 0, cosine[0], sine[0])
    return _finite(xp, x, xp.where(((n + 1) & 2) == 0, result, -result))


def tan(xp: Any, x: Value) -> Value:
    """The tangent of an angle in radians: the quotient of sine and cosine, as pairs."""
    n, y = reduced(xp, x)
    sine, cosine = _sine_pair(y), _cosine_pair(y)
    odd = (n & 1) == 1
    above = xp.where(odd, -cosine[0], sine[0]), xp.where(odd, -cosine[1], sine[1])
    below = xp.where(odd, sine[0], cosine[0]), xp.where(odd, sine[1], cosine[1])
    below = xp.where(below[0] == 0, 1.0, below[0]), below[1]
    high, low = quotient(above, below)
    return _finite(xp, x, xp.where(xp.absolute(x) < 2.0**-27, x, high + low))
