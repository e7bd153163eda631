"""Functions of float64 that array libraries have, but with zeros' signs, or last digits, that depend on the machine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradx.backends.exact.doubles import Value, with_sign


def maximum(xp: Any, x: Value, y: Value) -> Value:
    """The larger one; `x` where they are equal, and NaN of NaN."""
    return xp.where((x >= y) | (x != x), x, y)


def minimum(xp: Any, x: Value, y: Value) -> Value:
    """The smaller one; `x` where they are equal, and NaN of NaN."""
    return xp.where((x <= y) | (x != x), x, y)


def angle(xp: Any, x: Value) -> Value:
    """pi where x is negative, 0 elsewhere, and NaN of NaN."""
    return xp.where(x < 0, math.pi, xp.where(x == x, 0.0, x))


def remainder(xp: Any, x: Value, y: Value) -> Value:
    """What is left of x / y rounded down, with the sign of y, as in Python. `fmod` is exact by its definition."""
    rest = xp.fmod(x, y)
    with_its_sign = xp.where((rest < 0) == (y < 0), rest, rest + y)
    return xp.where(rest == 0, with_sign(0.0, y), with_its_sign)


def floor_divide(xp: Any, x: Value, y: Value) -> Value:
    """x / y rounded down; x / 0 is infinite, as in torch."""
    ratio = x / y
    rest = xp.fmod(x, y)
    whole = xp.rint((x - rest) / y)
    down = xp.where((rest != 0) & ((rest < 0) != (y < 0)), whole - 1, whole)
    return xp.where(y == 0, ratio, xp.where(down == 0, with_sign(0.0, ratio), down))


def discrete(xp: Any, x: Value, dtype: np.dtype[Any]) -> Value:
    """`x` as truth values, or as whole numbers, rounded towards zero; what an int64 cannot hold, as the least int64."""
    if dtype.kind == "b":
        return x != 0
    held = (x >= -(2.0**63)) & (x < 2.0**63)
    whole = xp.where(held, x, 0.0).astype(np.int64)
    return xp.where(held, whole, np.int64(-(2**63))).astype(dtype)
