"""Reductions that measure spread and size: variance, standard deviation, logsumexp, norm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.autocasting import listed
from gradx.op import fused, op
from gradx.ops.compare import eq
from gradx.ops.complexes import is_complex
from gradx.ops.dims import Dim, Dims, count, wrap_all
from gradx.ops.elementwise import exp, pow
from gradx.ops.extrema import _amax, _amin
from gradx.ops.magnitude import abs, sign
from gradx.ops.reduce import _sum, converted, over
from gradx.ops.select import where
from gradx.ops.transfer import cast
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@fused
def _var_slope(g: Any, input: Any, mean: Any, scale: Any) -> Any:
    return g * (scale * (input - mean))


@fused
def _std_slope(g: Any, input: Any, mean: Any, out: Any, scale: Any) -> Any:
    flat = eq(out, 0)  # all elements are equal: gradient 0
    return where(flat, 0, g / (2 * where(flat, 1, out))) * (scale * (input - mean))


def _scale(shape: Dims, dim: Dims, correction: float) -> float:
    degrees = count(shape, dim) - correction
    return 2 / degrees if degrees > 0 else math.nan if degrees else math.inf


def _var_rule(grads: Any, input: Any, out1: Any, dim: Dims, correction: float) -> Any:
    g, g_mean = grads
    shape = tuple(input.shape)
    mean = over(out1, shape, dim)
    slope = g if g is None else _var_slope(over(g, shape, dim), input, mean, _scale(shape, dim, correction))
    return _with_mean(slope, g_mean, shape, dim)


def _std_rule(grads: Any, input: Any, out: Any, out1: Any, dim: Dims, correction: float) -> Any:
    g, g_mean = grads
    shape = tuple(input.shape)
    out, mean = over(out, shape, dim), over(out1, shape, dim)
    slope = g if g is None else _std_slope(over(g, shape, dim), input, mean, out, _scale(shape, dim, correction))
    return _with_mean(slope, g_mean, shape, dim)


def _with_mean(slope: Any, g_mean: Any, shape: Dims, dim: Dims) -> Any:
    """A gradient, and what comes by way of the mean: there is some only in second derivatives."""
    if g_mean is None:
        return slope
    share = over(g_mean, shape, dim) / count(shape, dim)
    return share if slope is None else slope + share


@op(wirtinger=True, input=_var_rule)
def _var(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> tuple[Tensor, Tensor]:
    """`var` over wrapped dimensions, and the mean, which its gradient needs."""


@op(wirtinger=True, input=_std_rule)
def _std(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> tuple[Tensor, Tensor]:
    """`std` over wrapped dimensions, and the mean, which its gradient needs."""


SPREADS = (
    S(T(3, 4)),
    S(T(3, 4), 1),
    S(T(2, 3, 4), (0, 2), keepdim=True),
    S(T(3, 4), 0, correction=0),
    S(T(3, 4), unbiased=False),
)


def _require_spread(input: Tensor) -> None:
    if input.array.dtype.kind not in dtypes.INEXACT:
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
    return _var(input, wrap_all(dim, len(input.shape)), _correction(unbiased, correction), keepdim)[0]


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
    return _std(input, wrap_all(dim, len(input.shape)), _correction(unbiased, correction), keepdim)[0]


@fused
def _logsumexp_slope(g: Any, input: Any, out: Any) -> Any:
    return g * exp(input - out)


def _logsumexp_rule(g: Any, input: Any, out: Any, dim: Dims) -> Any:
    shape = tuple(input.shape)
    return _logsumexp_slope(over(g, shape, dim), input, over(out, shape, dim))


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
    if input.array.dtype.kind not in dtypes.INEXACT:
        input = cast(input, dtypes.get_default_dtype().dtype)
    return _logsumexp(input, wrap_all(dim, len(input.shape)), keepdim)


@fused
def _norm_slope_2(g: Any, input: Any, size: Any) -> Any:
    zero = eq(size, 0)
    return input * where(zero, 0, g / where(zero, 1, size))


@fused
def _norm_slope(g: Any, input: Any, size: Any, p: Any) -> Any:
    """For p other than 2: below, the slope at 0 would be infinite, and is 0."""
    zero, nothing = eq(size, 0), eq(input, 0)
    share = pow(abs(where(nothing, 1, input)) / where(zero, 1, size), p - 1)
    return where(nothing, 0, where(zero, 0, g * (sign(input) * share)))


def _norm_rule(g: Any, input: Any, out: Any, p: float, dim: Dims) -> Any:
    """Torch's subgradient: 0 where the norm is 0."""
    shape = tuple(input.shape)
    g, size = over(g, shape, dim), over(out, shape, dim)
    return _norm_slope_2(g, input, size) if p == 2 else _norm_slope(g, input, size, p)


@op(name="LinalgVectorNormBackward0", input=_norm_rule)
def _norm(input: Tensor, p: float, dim: Dims, keepdim: bool) -> Tensor:
    """The p-norm for 0 < p < inf over wrapped dimensions."""


@samples(
    S(T(3, 4)), S(T(3, 4), 2, 1), S(T(3, 4), 1, 0, True), S(T(3, 4), 3.0), S(T(3, 4), float("inf"), 1), S(T(2, 3), 1.5)
)
@listed
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
    if input.array.dtype.kind not in dtypes.INEXACT:
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
