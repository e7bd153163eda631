"""Reductions that measure spread and size: variance, standard deviation, logsumexp, norm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.op import op
from gradx.ops.compare import eq
from gradx.ops.complexes import is_complex
from gradx.ops.dims import Dim, Dims, count, wrap_all
from gradx.ops.elementwise import exp, pow
from gradx.ops.extrema import _amax, _amin
from gradx.ops.magnitude import abs, sign
from gradx.ops.reduce import _mean, _sum, converted, over
from gradx.ops.select import where
from gradx.ops.transfer import cast
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def _var_backward(g: Any, input: Any, dim: Dims, correction: float) -> Any:
    shape = tuple(input.shape)
    degrees = count(shape, dim) - correction
    scale = 2 / degrees if degrees > 0 else math.nan
    return over(g, shape, dim) * (scale * (input - _mean(input, dim, True)))


def _std_backward(g: Any, input: Any, out: Any, dim: Dims, correction: float) -> Any:
    spread = where(eq(out, 0), 0, g / (2 * where(eq(out, 0), 1, out)))  # std is 0 where all are equal: gradient 0
    return _var_backward(spread, input, dim, correction)


@op(wirtinger=True, input=lambda g, input, dim, correction: _var_backward(g, input, dim, correction))
def _var(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    """`var` over wrapped dimensions."""


@op(wirtinger=True, input=_std_backward)
def _std(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    """`std` over wrapped dimensions."""


SPREADS = (
    S(T(3, 4)),
    S(T(3, 4), 1),
    S(T(2, 3, 4), (0, 2), keepdim=True),
    S(T(3, 4), 0, correction=0),
    S(T(3, 4), unbiased=False),
)


def _require_spread(input: Tensor) -> None:
    if input.array.dtype.kind not in "fc":
        raise RuntimeError(
            "std and var only support floating point and complex dtypes. Convert the tensor with .to(gradx.float32) first."
        )


def _correction(unbiased: bool | None, correction: float | None) -> float:
    if correction is not None:
        return correction
    return 1 if unbiased is None else int(unbiased)


@samples(*SPREADS)
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over `dim`: squared deviations from the mean, summed and divided by their number - `correction`.

    Args:
        unbiased: True (the default) is `correction=1`, False `correction=0`.

    >>> import gradx
    >>> gradx.var(gradx.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    _require_spread(input)
    return _var(input, wrap_all(dim, len(input.shape)), _correction(unbiased, correction), keepdim)


@samples(*SPREADS)
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The square root of `var`, whose gradient is 0 where all elements are equal."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    _require_spread(input)
    return _std(input, wrap_all(dim, len(input.shape)), _correction(unbiased, correction), keepdim)


def _logsumexp_rule(g: Any, input: Any, out: Any, dim: Dims) -> Any:
    shape = tuple(input.shape)
    total = over(out, shape, dim)
    return over(g, shape, dim) * exp(input - total)


@op(input=_logsumexp_rule)
def _logsumexp(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`logsumexp` over wrapped dimensions."""


@samples(S(T(3, 4), 1), S(T(3, 4), 0, True), S(T(2, 3, 4), (0, 2)), S(T(), 0))
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """`log(sum(exp(input)))` over `dim`, without overflow. Its gradient is the softmax.

    >>> import gradx
    >>> gradx.logsumexp(gradx.tensor([1000.0, 1000.0]), 0)
    tensor(1000.6932)
    """
    if input.array.dtype.kind not in "fc":
        input = cast(input, dtypes.get_default_dtype().dtype)
    return _logsumexp(input, wrap_all(dim, len(input.shape)), keepdim)


def _norm_rule(g: Any, input: Any, out: Any, p: float, dim: Dims) -> Any:
    """Torch's subgradient: 0 where the norm is 0."""
    shape = tuple(input.shape)
    size, g = over(out, shape, dim), over(g, shape, dim)
    zero = eq(size, 0)
    safe = where(zero, 1, size)
    if p == 2:
        return input * where(zero, 0, g / safe)
    if p < 2:
        return _norm_slope(input, p - 1) * where(zero, 0, g * pow(safe, 1 - p))
    return input * pow(abs(input), p - 2) * where(zero, 0, g * pow(safe, 1 - p))


def _norm_slope(input: Any, power: float) -> Any:
    nonzero = where(eq(input, 0), 1, input)
    return where(eq(input, 0), 0, sign(nonzero) * pow(abs(nonzero), power))


@op(name="LinalgVectorNormBackward0", input=_norm_rule)
def _norm(input: Tensor, p: float, dim: Dims, keepdim: bool) -> Tensor:
    """The p-norm for 0 < p < inf over wrapped dimensions."""


@samples(
    S(T(3, 4)), S(T(3, 4), 2, 1), S(T(3, 4), 1, 0, True), S(T(3, 4), 3.0), S(T(3, 4), float("inf"), 1), S(T(2, 3), 1.5)
)
def norm(
    input: Tensor, p: float | str | None = "fro", dim: Dim = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The vector norm `sum(|input| ** p) ** (1 / p)` over `dim`; its gradient at 0 is 0.

    Args:
        p: 2 for "fro" and None; inf and -inf give the largest and smallest magnitude, 0 the number of nonzeros.

    >>> import gradx
    >>> gradx.norm(gradx.tensor([3.0, 4.0]))
    tensor(5.)
    """
    input = converted(input, dtype)
    if input.array.dtype.kind not in "fc":
        raise RuntimeError(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{dtypes.of_numpy(input.array.dtype).title}"
        )
    dims = wrap_all(dim, len(input.shape))
    p = 2 if p in ("fro", None) else p
    if not isinstance(p, (int, float)):
        raise RuntimeError(f"norm(): p = {p!r} is not supported: gradx has vector norms, not the nuclear norm.")
    if p == 0:
        return _sum(abs(sign(input)), dims, keepdim)
    if p == 1:
        return _sum(abs(input), dims, keepdim)
    if math.isinf(p):
        return (_amax if p > 0 else _amin)(abs(input), dims, keepdim)
    return _norm(abs(input) if is_complex(input) else input, p, dims, keepdim)
