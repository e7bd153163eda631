"""Angles reduced by multiples of pi/2, of float64 of any size.

Up to 10^6 by Cody & Waite, with pi/2 in four parts of which three have 33 binary digits, so that multiples of them are
exact. Beyond by Payne & Hanek ("Radian reduction for trigonometric functions", SIGNUM 1983): of x = M 2^q, the product of
the integer M with those digits of 2/pi that matter, modulo whole turns, in integers.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from gradx.backends.exact.doubles import INF, Pair, Value, bits, exact_sum, possible, product, quick_sum

_TWO_OVER_PI = 6.36619772367581382433e-01
_PARTS = 1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624871116645580e-21, 8.4784276603689e-32
_HALF_PI = 1.5707963267948966, 6.123233995736766e-17
_LARGE = 2.0**20

# 2/pi, 32 binary digits in each number, after 64 digits that are 0.
_DIGITS = np.array(
    [0, 0]
    + [
        int(word, 16)
        for word in """
        A2F9836E 4E441529 FC2757D1 F534DDC0 DB629599 3C439041 FE5163AB DEBBC561 B7246E3A 424DD2E0 06492EEA 09D1921C
        FE1DEB1C B129A73E E88235F5 2EBB4484 E99C7026 B45F7E41 3991D639 835339F4 9C845F8B BDF9283B 1FF897FF DE05980F
        EF2F118B 5A0A6D1F 6D367ECF 27CB09B7 4F463F66 9E5FEA2D 7527BAC7 EBE5F17B 3D0739F7 8A5292EA 6BFB5FB1 1F8D5D08
        56033046 FC7B6BAB F0CFBC20 9AF4361D""".split()
    ],
    np.uint64,
)
_WORD = np.uint64(0xFFFFFFFF)


def reduced(xp: Any, x: Value) -> tuple[Value, Pair]:
    """n modulo 4 (int64) and the pair y for x = n pi/2 + y with |y| <= pi/4; of inf and NaN, those of 0."""
    size = xp.absolute(x)
    large = (size > _LARGE) & (size < INF)
    n, (high, low) = _moderate(xp, xp.where(size <= _LARGE, x, 0.0))
    if possible(large):
        turns, (far, further) = _huge(xp, xp.where(large, size, _LARGE))
        back = x < 0
        turns = xp.where(back, -turns, turns)
        far, further = xp.where(back, -far, far), xp.where(back, -further, further)
        n, high, low = xp.where(large, turns, n), xp.where(large, far, high), xp.where(large, further, low)
    return n & 3, (high, low)


def _moderate(xp: Any, x: Value) -> tuple[Value, Pair]:
    n = xp.rint(x * _TWO_OVER_PI)
    high, low = exact_sum(x - n * _PARTS[0], -(n * _PARTS[1]))
    high, more = exact_sum(high, -(n * _PARTS[2]))
    return n.astype(np.int64), quick_sum(high, low + more - n * _PARTS[3])


def _huge(xp: Any, x: Value) -> tuple[Value, Pair]:
    """For x >= 2^20."""
    b = bits(x)
    mantissa = ((b & ((1 << 52) - 1)) | (1 << 52)).astype(np.uint64)
    offset = (b >> 52) - 1023 - 52 - 2 + 64  # the first digit of 2/pi that gives no multiple of 4 quarters
    words = _product(xp, (mantissa & _WORD, mantissa >> 32), _digits(xp, offset))
    first = (words[0] << 32) | words[1]
    second = (words[2] << 32) | words[3]
    n = (first + (1 << 61)) >> 62
    quarter = ((first << 2) | (second >> 62)).view(np.int64)  # of 2^64ths, from -1/2 to 1/2 quarter
    tail = second << 2
    high = (quarter >> 32).astype(float) * 2.0**-32
    middle = (quarter & 0xFFFFFFFF).astype(float) * 2.0**-64
    low = (tail >> 32).astype(float) * 2.0**-96 + (tail & _WORD).astype(float) * 2.0**-128
    high, rest = quick_sum(high, middle)
    high, rest = quick_sum(high, rest + low)
    return n.astype(np.int64), product((high, rest), _HALF_PI)


def _digits(xp: Any, offset: Value) -> list[Value]:
    """192 digits of 2/pi after the first `offset`, 32 in each number."""
    place, shift = offset >> 5, (offset & 31).astype(np.uint64)
    words = [xp.take(_DIGITS, place + i) for i in range(7)]
    return [((a << shift) | (b >> (32 - shift))) & _WORD for a, b in itertools.pairwise(words)]


def _product(xp: Any, factor: tuple[Value, Value], digits: list[Value]) -> list[Value]:
    """An integer of 64 binary digits, the lower half first, times a fraction, modulo 1; the first four words of it."""
    lower, upper = ([half * digit for digit in digits] for half in factor)
    total, carry = [], None
    for i in range(4, -1, -1):
        column = (lower[i] & _WORD) + (lower[i + 1] >> 32) + (upper[i + 1] & _WORD)
        if i < 4:
            column = column + (upper[i + 2] >> 32)
        if carry is not None:
            column = column + carry
        total.append(column & _WORD)
        carry = column >> 32
    return total[:0:-1]
