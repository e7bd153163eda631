"""The error function, of float64.

Up to 1, erf(x) = x P(x^2); beyond, erf(x) = 1 - erfc(x) with erfc(x) = e^(-x^2) Q(t) / (1 + x) and t = (x - 3) / (x + 3),
which maps all of it to a short interval (Schonfelder, "Chebyshev expansions for the error and related functions", 1978).
P and Q are Chebyshev interpolations, good to 1e-18.
"""

from __future__ import annotations

from typing import Any

from gradx.backends.exact.doubles import Value, exact_product, polynomial, scaled, with_sign
from gradx.backends.exact.exponentials import exp_pair

_P = (
    1.1283791670955126,
    -0.3761263890318375,
    0.11283791670954879,
    -0.026866170645076792,
    0.0052239776248180145,
    -0.000854832698083379,
    0.0001205533111164271,
    -1.4925595266831182e-05,
    1.6461000484121368e-06,
    -1.6350312701054695e-07,
    1.4659775274047436e-08,
    -1.1372848856791674e-09,
    5.957176147748911e-11,
)
_Q = (
    0.7160046047255598,
    -0.2309273330838092,
    0.0990207536794401,
    -0.010235388899007642,
    -0.023803913108667644,
    0.021957764012639727,
    -0.009750689292827209,
    0.0016185691275337273,
    0.0006458142036684311,
    -0.0003672884851474792,
    -2.0551600360390233e-05,
    5.611940430783326e-05,
    -1.5144903559421091e-06,
    -8.99013118124862e-06,
    2.6125743843991013e-07,
    1.588688101244537e-06,
    5.8940028253505896e-08,
    -2.9279944143275216e-07,
    -4.363264629439668e-08,
    4.9594442626788945e-08,
    1.2687685139518107e-08,
    -5.674544612884046e-09,
    -1.5786775243176943e-09,
)


def _tail(xp: Any, x: Value) -> Value:
    """erfc(x) for 0.5 <= x <= 28."""
    high, low = exact_product(x, x)
    mantissa, rest, k = exp_pair(xp, -high, -low)
    return scaled((mantissa + rest) * (polynomial((x - 3) / (x + 3), _Q) / (1 + x)), k)


def erf(xp: Any, x: Value) -> Value:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    size = xp.absolute(x)
    near = x * polynomial(xp.where(size < 1, x * x, 0.0), _P)
    far = with_sign(1 - _tail(xp, xp.where((size >= 1) & (size < 6), size, 1.0)), x)
    ends = xp.where(size >= 6, with_sign(1.0, x), x)  # NaN of NaN
    return xp.where(size < 1, near, xp.where(size < 6, far, ends))


def erfc(xp: Any, x: Value) -> Value:
    """1 - erf(x), exact where it is small."""
    tail = _tail(xp, xp.where((x >= 0.5) & (x < 27.25), x, 1.0))
    ends = xp.where(x >= 27.25, 0.0, x)
    return xp.where(x < 0.5, 1 - erf(xp, x), xp.where(x < 27.25, tail, ends))
