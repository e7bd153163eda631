"""Gradients of reductions as NumPy computes them fastest: each writes a block of rows to `out`, without temporaries.

They are the rules of the operations, `gradx.ops.statistics` and `gradx.ops.extrema`, for arrays of one single dtype reduced
along their last dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradx.backends.cpu.tiles import elementwise
from gradx.backends.kernels import Array

Write = Callable[..., None]


def _kept(value: Array, x: Array) -> Array:
    """A reduction's result, or its gradient, with the reduced dimension of `x` at length 1."""
    return value.reshape(*x.shape[:-1], 1)


def extremum_backward(g: Array, x: Array, y: Array, dim: Any, out: Array) -> None:
    """As a rule each row has its extremum once; then its place is all that is written, in zeros."""
    g, y = _kept(g, x), _kept(y, x)
    ties = np.equal(x, y)
    if np.count_nonzero(ties) == y.size and not np.isnan(y).any():
        out.fill(0)
        out.reshape(-1)[np.flatnonzero(ties)] = g.reshape(-1)
        return
    number = np.add.reduce(ties, axis=-1, keepdims=True).astype(g.dtype)
    np.copyto(out, 0 / number)  # NaN where no element is equal to the extremum, since that is NaN
    np.copyto(out, g / number, where=ties)


def logsumexp_backward(g: Array, x: Array, y: Array, dim: Any, out: Array) -> None:
    np.subtract(x, _kept(y, x), out=out)
    np.exp(out, out=out)
    np.multiply(out, _kept(g, x), out=out)


def var_backward(g: Array, x: Array, mean: Array, dim: Any, correction: float, out: Array) -> None:
    np.subtract(x, _kept(mean, x), out=out)
    np.multiply(out, _kept(g, x) * x.dtype.type(_scale(x.shape[-1], correction)), out=out)


def std_backward(g: Array, x: Array, y: Array, mean: Array, dim: Any, correction: float, out: Array) -> None:
    var_backward(_quotient(g, 2 * y), x, mean, dim, correction, out)


def _scale(number: int, correction: float) -> float:
    degrees = number - correction
    return 2 / degrees if degrees > 0 else math.nan


def norm_backward(g: Array, x: Array, y: Array, p: float, dim: Any, out: Array) -> None:
    """For p = 2."""
    np.multiply(x, _kept(_quotient(g, y), x), out=out)


def _quotient(g: Array, y: Array) -> Array:
    """`g / y`, and 0 where `y` is 0: there the gradients of roots are torch's."""
    return np.where(y == 0, g.dtype.type(0), g / y)


def var_of_all_backward(g: Array, x: Array, mean: Array, dim: Any, correction: float) -> Array:
    """The gradient of the variance of all elements."""
    scale = g.reshape(()) * x.dtype.type(_scale(x.size, correction))
    return elementwise(_shifted, (x, mean.reshape(()), scale), _shifted, x.dtype)


def std_of_all_backward(g: Array, x: Array, y: Array, mean: Array, dim: Any, correction: float) -> Array:
    return var_of_all_backward(_quotient(g, 2 * y), x, mean, dim, correction)


def _shifted(x: Array, mean: Any, scale: Any, out: Array | None = None) -> Array:
    z = np.subtract(x, mean, out=out)
    return np.multiply(z, scale, out=out)


# Rules of reductions that are elementwise once the result is known.
POINTWISE = frozenset({"logsumexp", "norm"})

# Rules of reductions of all elements, by operation.
OF_ALL: dict[str, Callable[..., Array]] = {"var": var_of_all_backward, "std": std_of_all_backward}

# By operation, and the arguments of its rule; where these are all gradients, that of the first output is meant.
RULES: dict[tuple[str, tuple[str, ...]], Write] = {
    ("amax", ("g", "input", "out", "dim")): extremum_backward,
    ("amin", ("g", "input", "out", "dim")): extremum_backward,
    ("logsumexp", ("g", "input", "out", "dim")): logsumexp_backward,
    ("var", ("grads", "input", "out1", "dim", "correction")): var_backward,
    ("std", ("grads", "input", "out", "out1", "dim", "correction")): std_backward,
    ("norm", ("g", "input", "out", "p", "dim")): norm_backward,
}
