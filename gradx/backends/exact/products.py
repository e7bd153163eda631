"""Products of matrices of float64 that are the same bits whatever order a library adds in.

Each matrix is cut into a sum of parts of so few binary digits that the products of parts, and the sums of those, have room
in 53 digits: they are exact, so that no order, no blocking and no fused multiply-add makes a difference. What is rounded is
the sum of those products, in an order that is ours.

Source: Ozaki, Ogita, Oishi & Rump, "Error-free transformations of matrix multiplication by using fast routines of matrix
multiplication and its applications" (Numerical Algorithms, 2012).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradx.backends.exact.coverage import NoExactForm
from gradx.backends.kernels import Array

_RANGE = 480  # binary digits below the largest element of a row: the products of what is kept are not subnormal


def matmul(xp: Any, x: Array, y: Array) -> Array:
    """`x @ y`, of vectors, matrices or stacks of matrices.

    It takes one product of matrices for each pair of parts; there are two to five parts of usual matrices. How many it takes,
    the host must see: on CUDA it waits for the device.

    Raises:
        NoExactForm: an element is not 0, but below 2^-480 times the largest one of its row of `x`, or column of `y`.
    """
    rows = x[None, :] if x.ndim == 1 else x
    columns = y[:, None] if y.ndim == 1 else y
    depth = rows.shape[-1]
    out = xp.matmul(rows, columns) if depth == 0 or columns.shape[-2] != depth else _product(xp, rows, columns)
    if y.ndim == 1:
        out = out[..., 0]
    return out[..., 0, :] if x.ndim == 1 and y.ndim > 1 else out[..., 0] if x.ndim == 1 else out


def _product(xp: Any, x: Array, y: Array) -> Array:
    digits = (53 - (x.shape[-1] - 1).bit_length()) // 2
    x_parts, x_unit = _parts(xp, x, -1, digits)
    y_parts, y_unit = _parts(xp, y, -2, digits)
    pairs = [(i, j) for i in range(len(x_parts)) for j in range(len(y_parts))]
    total: Any = 0.0  # and no zero stays negative: which sign a sum of zeros has, is the library's choice
    for i, j in sorted(pairs, key=sum, reverse=True):  # small ones first
        total = total + xp.matmul(x_parts[i], y_parts[j])
    total = total * x_unit * y_unit
    if bool(xp.isfinite(x).all()) and bool(xp.isfinite(y).all()):
        return total
    special = xp.matmul(_signs(xp, x), _signs(xp, y))
    return xp.where(xp.isfinite(special), total, special)


def _signs(xp: Any, x: Array) -> Array:
    """-1, 0, 1, or what is not finite: of these, too, sums do not depend on the order."""
    return xp.where(xp.isfinite(x), (x > 0).astype(float) - (x < 0), x)


def _parts(xp: Any, x: Array, axis: int, digits: int) -> tuple[list[Array], Array]:
    """`x` as a sum of parts of so many binary digits, divided by powers of two, one for each slice along `axis`."""
    rest = xp.where(xp.isfinite(x), x, 0.0)
    unit = power_above(xp, xp.max(xp.absolute(rest), axis=axis, keepdims=True))
    rest = rest / unit
    parts, step = [], 2.0 ** (53 - digits)
    while True:
        part = (rest + step) - step
        parts.append(part)
        rest = rest - part
        step *= 2.0**-digits
        if not bool(rest.any()):
            return parts, unit
        if len(parts) * digits >= _RANGE:
            raise NoExactForm("the elements of a row, or column, differ by a factor above 2^480")


def power_above(xp: Any, x: Array) -> Array:
    """A power of two that is at least x >= 0, and 2^-1021 at least; 2^1022 at most."""
    b = (x.view(np.int64) >> 52) + 1
    b = xp.where(b < 2, 2, xp.where(b > 2045, 2045, b))
    return (b << 52).view(np.float64)
