"""The quantiles of the normal distribution, from exactly rounded operations only: the same bits on every device.

Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988): PPND7, good to 7
digits, for float32, and PPND16 for float64. The logarithm, of which libraries differ in the last bit, is fdlibm's (Sun
Microsystems, 1993; in single precision Cygnus Support's).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Array = Any
Coefficients = tuple[float, ...]  # of a polynomial, the constant first


class Table(NamedTuple):
    """The constants for one precision.

    Attributes:
        centre, tail, far: numerator and denominator of the approximations for |p - 1/2| up to `CENTRE`, and beyond, by
            r = sqrt(-log p) up to `FAR` and above.
        logarithm: of the polynomial in log.
        ln2: the logarithm of 2 as the sum of two numbers, of which the first has few bits.
    """

    centre: tuple[Coefficients, Coefficients]
    tail: tuple[Coefficients, Coefficients]
    far: tuple[Coefficients, Coefficients]
    logarithm: Coefficients
    ln2: tuple[float, float]


CENTRE: Final = 0.425
CENTRE_SQUARED: Final = 0.180625
TAIL: Final = 1.6
FAR: Final = 5.0
ROOT: Final = 0.7071067811865476  # of 1/2

TABLES: Final = {
    "f": Table(
        centre=(
            (3.3871327179e0, 5.0434271938e1, 1.5929113202e2, 5.9109374720e1),
            (1.0, 1.7895169469e1, 7.8757757664e1, 6.7187563600e1),
        ),
        tail=(
            (1.4234372777e0, 2.7568153900e0, 1.3067284816e0, 1.7023821103e-1),
            (1.0, 7.3700164250e-1, 1.2021132975e-1),
        ),
        far=(
            (6.6579051150e0, 3.0812263860e0, 4.2868294337e-1, 1.7337203997e-2),
            (1.0, 2.4197894225e-1, 1.2258202635e-2),
        ),
        logarithm=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
        ln2=(6.9313812256e-01, 9.0580006145e-06),
    ),
    "d": Table(
        centre=(
            (
                3.3871328727963666080e0,
                1.3314166789178437745e2,
                1.9715909503065514427e3,
                1.3731693765509461125e4,
                4.5921953931549871457e4,
                6.7265770927008700853e4,
                3.3430575583588128105e4,
                2.5090809287301226727e3,
            ),
            (
                1.0,
                4.2313330701600911252e1,
                6.8718700749205790830e2,
                5.3941960214247511077e3,
                2.1213794301586595867e4,
                3.9307895800092710610e4,
                2.8729085735721942674e4,
                5.2264952788528545610e3,
            ),
        ),
        tail=(
            (
                1.42343711074968357734e0,
                4.63033784615654529590e0,
                5.76949722146069140550e0,
                3.64784832476320460504e0,
                1.27045825245236838258e0,
                2.41780725177450611770e-1,
                2.27238449892691845833e-2,
                7.74545014278341407640e-4,
            ),
            (
                1.0,
                2.05319162663775882187e0,
                1.67638483018380384940e0,
                6.89767334985100004550e-1,
                1.48103976427480074590e-1,
                1.51986665636164571966e-2,
                5.47593808499534494600e-4,
                1.05075007164441684324e-9,
            ),
        ),
        far=(
            (
                6.65790464350110377720e0,
                5.46378491116411436990e0,
                1.78482653991729133580e0,
                2.96560571828504891230e-1,
                2.65321895265761230930e-2,
                1.24266094738807843860e-3,
                2.71155556874348757815e-5,
                2.01033439929228813265e-7,
            ),
            (
                1.0,
                5.99832206555887937690e-1,
                1.36929880922735805310e-1,
                1.48753612908506148525e-2,
                7.86869131145613259100e-4,
                1.84631831751005468180e-5,
                1.42151175831644588870e-7,
                2.04426310338993978564e-15,
            ),
        ),
        logarithm=(
            6.666666666666735130e-01,
            3.999999999940941908e-01,
            2.857142874366239149e-01,
            2.222219843214978396e-01,
            1.818357216161805012e-01,
            1.531383769920937332e-01,
            1.479819860511658591e-01,
        ),
        ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    ),
}


def quantile(centred: Array, complement: Array) -> Array:
    """The number that a normal one exceeds with probability `complement`; at least 0.

    Args:
        centred: 1/2 - complement, known by itself because the difference has few digits where either is small.
        complement: above 0 and up to 1/2; both of float32, or both of float64.
    """
    table = TABLES[centred.dtype.char]
    rest = np.multiply(centred, centred)
    out: Array = _ratio(table.centre, np.subtract(CENTRE_SQUARED, rest, out=rest))
    out *= centred
    places = np.flatnonzero(centred > centred.dtype.type(CENTRE))
    root = np.sqrt(-_log(complement[places], table))
    out[places] = _ratio(table.tail, root - TAIL)
    beyond = root > FAR
    if beyond.any():
        out[places[beyond]] = _ratio(table.far, root[beyond] - FAR)
    return out


def _polynomial(coefficients: Coefficients, x: Array) -> Array:
    last, *others = coefficients[::-1]
    out = x * last
    for coefficient in others[:-1]:
        out += coefficient
        out *= x
    out += coefficients[0]
    return out


def _ratio(pair: tuple[Coefficients, Coefficients], x: Array) -> Array:
    top = _polynomial(pair[0], x)
    top /= _polynomial(pair[1], x)
    return top


def _log(x: Array, table: Table) -> Array:
    """The natural logarithm of positive numbers that are not subnormal.

    x is 2^k (1 + f) with 1 + f between the roots of 1/2 and 2, and log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 (...)) with
    s = f / (2 + f).
    """
    fraction, exponent = np.frexp(x)
    small = fraction < x.dtype.type(ROOT)
    fraction[small] *= 2
    k = (exponent - small).astype(x.dtype)
    f = fraction - 1
    s = f / (2 + f)
    half = 0.5 * f * f
    square = s * s
    series = square * _polynomial(table.logarithm, square)
    return k * table.ln2[0] - ((half - (s * (half + series) + k * table.ln2[1])) - f)
