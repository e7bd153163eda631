"""The functions of `gradx.backends.exact` against mpmath: at most 2 units in the last place of float64, and 1 of float32.

`python tests/test_exact_functions.py` prints the table of the largest errors.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from gradx.backends.exact.namespace import Exact

N = 400  # arguments of each kind
INF, NAN = math.inf, math.nan
exact = Exact(np)


def spread(low: float, high: float, least: int = -60) -> np.ndarray:
    """Uniform between these, and of all magnitudes."""
    random = np.random.default_rng(0)
    sizes = np.exp2(random.uniform(least, math.log2(max(-low, high)), N))
    return np.concatenate([random.uniform(low, high, N), sizes[sizes <= high], -sizes[sizes <= -low]])


HALF_TURNS = np.arange(1, 200) * (math.pi / 4)  # where sine or cosine nearly vanish
WORST = [
    6381956970095103 * 2.0**797,
    5.31937264832654141671e255,
    1e22,
    2.0**1023,
]  # nearest of all to multiples of pi/2
ANGLES = np.concatenate([spread(-10, 10), spread(-1e6, 1e6), spread(0, 2.0**1023), HALF_TURNS, WORST])
POSITIVE = np.concatenate([spread(0, 2, -1074), spread(0, 1.7e308), 1 + np.arange(-20, 20) * 2.0**-52])
ARGUMENTS = {
    "exp": (spread(-745, 709.7),),
    "exp2": (spread(-1074, 1023.9),),
    "expm1": (np.concatenate([spread(-745, 709.7), spread(-2, 2)]),),
    "log": (POSITIVE,),
    "log2": (POSITIVE,),
    "log10": (POSITIVE,),
    "log1p": (np.concatenate([spread(-1 + 2**-53, 2), spread(0, 1.7e308)]),),
    "sin": (ANGLES,),
    "cos": (ANGLES,),
    "tan": (ANGLES,),
    "sinh": (np.concatenate([spread(-710, 710), spread(-2, 2)]),),
    "cosh": (np.concatenate([spread(-710, 710), spread(-2, 2)]),),
    "tanh": (np.concatenate([spread(-25, 25), spread(-2, 2)]),),
    "erf": (np.concatenate([spread(-7, 7), spread(-1, 1, -1000)]),),
    "power": (spread(0, 20, -1000), spread(-40, 40)),
    "hypot": (
        np.concatenate([spread(0, 1e38, -140), spread(0, 1e308, -1074)]),
        np.concatenate([spread(0, 1e38, -140)[::-1], spread(0, 1e300, -1074)[::-1]]),
    ),
}
REFERENCE = {
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "log10": lambda x: mpmath.log(x) / mpmath.log(10),
    "power": lambda x, y: x**y,
}


def errors(name: str, dtype: type) -> np.ndarray:
    """In units of the last place, of the exact function computed in float64 and rounded to `dtype`."""
    arguments = np.broadcast_arrays(*(a[: min(map(len, ARGUMENTS[name]))] for a in ARGUMENTS[name]))
    with np.errstate(all="ignore"):
        arguments = [a.astype(dtype).astype(float) for a in arguments]
        results = getattr(exact, name)(*arguments).astype(dtype)
    limits = np.finfo(dtype)
    function, found = REFERENCE.get(name, getattr(mpmath, name, None)), []
    with mpmath.workprec(1400 if name in ("sin", "cos", "tan") else 300):
        for *values, result in zip(*arguments, results, strict=True):
            if not all(map(math.isfinite, values)) or (values[0] == 0 and name.startswith("log")):
                continue
            true = function(*map(mpmath.mpf, values))
            if abs(true) >= mpmath.mpf(float(limits.max)) * (1 + mpmath.mpf(2) ** -60):
                assert math.isinf(result) or abs(result) == limits.max
                continue
            exponent = max(mpmath.frexp(true)[1] - 1 if true else limits.minexp, limits.minexp)
            found.append(float(abs(mpmath.mpf(float(result)) - true) / mpmath.mpf(2) ** (int(exponent) - limits.nmant)))
    return np.array(found)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 1), (np.float64, 2)])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_error(name, dtype, limit):
    found = errors(name, dtype)
    assert len(found) > N / 2
    assert found.max() <= limit


POINTS = [0.0, -0.0, 5e-324, -5e-324, 1e-310, 1.0, -1.0, 0.5, 2.0, 3.0, -2.0, -3.0, 1e300, -1e300, INF, -INF, NAN]


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name not in ("erf", "power", "hypot")])
def test_special_arguments(name):
    """At zeros, infinities, NaN and the like: what NumPy gives, zeros' signs included."""
    x = np.array(POINTS)
    with np.errstate(all="ignore"):
        ours, theirs = getattr(exact, name)(x), getattr(np, name)(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    assert (np.signbit(ours) == np.signbit(theirs))[~np.isnan(ours)].all()


@pytest.mark.parametrize("name", ["power", "hypot", "maximum", "minimum", "remainder", "floor_divide"])
def test_special_pairs(name):
    x, y = (grid.ravel() for grid in np.meshgrid(POINTS, POINTS))
    with np.errstate(all="ignore"):
        ours, theirs = getattr(exact, name)(x, y), getattr(np, name)(x, y)
        if name == "floor_divide":  # NumPy says NaN of inf // finite; and where x / y overflows, x / y is as good
            kept = np.isfinite(x) & (np.isfinite(x / y) | (y == 0))
            x, y, ours, theirs = x[kept], y[kept], ours[kept], theirs[kept]
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    if name in ("power", "remainder"):
        assert (np.signbit(ours) == np.signbit(theirs))[~np.isnan(ours)].all()


@pytest.mark.parametrize("x", [0.0, -0.0, INF, -INF, NAN, 0.5, -3.0])
def test_erf_of_special_arguments(x):
    result = exact.erf(np.array([x]))[0]
    assert result == pytest.approx(math.erf(x), rel=1e-15, nan_ok=True)
    assert math.isnan(x) or math.copysign(1, result) == math.copysign(1, x)


def test_what_may_differ_between_devices_is_missing():
    with pytest.raises(AttributeError, match="arctan has no form yet that gives the same bits on every device"):
        exact.arctan  # noqa: B018


if __name__ == "__main__":
    print("| function | float32 | float64 |\n| --- | --- | --- |")
    for function in ARGUMENTS:
        print(f"| `{function}` | {errors(function, np.float32).max():.3f} | {errors(function, np.float64).max():.3f} |")
