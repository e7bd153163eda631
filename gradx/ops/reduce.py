"""Reductions over any dimensions. Integer sums are int64; half-precision sums accumulate in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradx import dtypes
from gradx.op import op
from gradx.ops.compare import eq, isnan, logical_and, logical_or
from gradx.ops.constant import ones_like, zeros_like
from gradx.ops.dims import Dim, count, kept_shape, wrap, wrap_all
from gradx.ops.elementwise import abs, exp, pow, sign
from gradx.ops.index import gather_backward, narrow
from gradx.ops.join import cat
from gradx.ops.select import where
from gradx.ops.shape import expand, reshape
from gradx.ops.transfer import cast, cast_discrete
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor

Dims = tuple[int, ...]

REDUCTIONS = (
    S(T(3, 4)),
    S(T(3, 4), 1),
    S(T(3, 4), -2, True),
    S(T(2, 3, 4), (0, 2)),
    S(T(2, 3, 4), (0, -1), keepdim=True),
    S(T()),
)


def _over(value: Any, input_shape: Dims, dim: Dims) -> Any:
    """A reduction's result, or its gradient, repeated over the dimensions it came from."""
    return expand(reshape(value, kept_shape(input_shape, dim)), input_shape)


def _as(input: Tensor, dtype: Any) -> Tensor:
    """`input` in the dtype asked for, if one is."""
    if dtype is None:
        return input
    dtype = dtypes.as_dtype(dtype)
    change = cast if dtype.is_floating_point or dtype.is_complex else cast_discrete
    return change(input, dtype.dtype)


def _require_floating(name: str, input: Tensor) -> None:
    if input.array.dtype.kind not in "fc":
        raise RuntimeError(
            f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {dtypes.of_numpy(input.array.dtype).name.capitalize()}"
        )


# ---- sums ------------------------------------------------------------------------------------------------------------


@op(name="SumBackward1", input=lambda g, input_shape, dim: _over(g, input_shape, dim))
def _sum(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`sum` over wrapped dimensions."""


@samples(*REDUCTIONS, S(T(0, 3)))
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim`, an int or several; over all elements for None.

    Args:
        keepdim: keep the reduced dimensions, with length 1.
        dtype: convert the elements first. Integers and truth values give int64 otherwise.

    >>> import gradx
    >>> gradx.sum(gradx.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([4., 6.])
    """
    return _sum(_as(input, dtype), wrap_all(dim, len(input.shape)), keepdim)


@op(name="MeanBackward1", input=lambda g, input_shape, dim: _over(g / count(input_shape, dim), input_shape, dim))
def _mean(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`mean` over wrapped dimensions."""


@samples(*REDUCTIONS)
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim`, an int or several; over all elements for None. NaN for no elements.

    Raises:
        RuntimeError: the elements are integers.

    >>> import gradx
    >>> gradx.mean(gradx.tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    input = _as(input, dtype)
    _require_floating("mean", input)
    return _mean(input, wrap_all(dim, len(input.shape)), keepdim)


def _others(x: Any, dim: int) -> Any:
    """For each element along `dim` the product of all others, by multiplications only: exact also at zeros, and so are
    all its derivatives. Neighbours are paired, the pairs' others found, and each multiplied by its partner."""
    n = x.shape[dim]
    if n < 2:
        return ones_like(x)
    half = n // 2
    left, right = narrow(x, dim, 0, half), narrow(x, dim, half, half)
    rest = [narrow(x, dim, n - 1, 1)] if n % 2 else []
    others = _others(cat([left * right, *rest], dim), dim)
    pairs = narrow(others, dim, 0, half)
    return cat([pairs * right, pairs * left, *([narrow(others, dim, half, 1)] if rest else [])], dim)


def _prod_rule(g: Any, input: Any, dim: Dims) -> Any:
    shape = tuple(input.shape)
    if len(dim) == 1:
        return _over(g, shape, dim) * _others(input, dim[0])
    return _over(g, shape, dim) * reshape(_others(reshape(input, (-1,)), 0), shape)  # one dimension or all


@op(name="ProdBackward1", input=_prod_rule)
def _prod(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`prod` over one wrapped dimension or all."""


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(5, 2), 0, True), S(T()))
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over `dim`; over all elements for None. Its gradients are exact where elements are zero.

    >>> import gradx
    >>> gradx.prod(gradx.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    input = _as(input, dtype)
    if input.array.dtype.kind in "biu":
        input = cast_discrete(input, dtypes.int64.dtype)
    return _prod(input, wrap_all(dim, len(input.shape)), keepdim)


@op(input=lambda g, dim: flip_cumsum(g, dim))
def _cumsum(input: Tensor, dim: int) -> Tensor:
    """`cumsum` along a wrapped dimension."""


def flip_cumsum(g: Any, dim: int) -> Any:
    """The sum of each element and all after it: the transpose of cumsum."""
    from gradx.ops.shape import flip

    return flip(_cumsum(flip(g, dim), dim), dim)


@samples(S(T(3, 4), 0), S(T(3, 4), 1), S(T(), 0))
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The sum of each element and all before it along `dim`.

    >>> import gradx
    >>> gradx.cumsum(gradx.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    input = _as(input, dtype)
    return along(_cumsum, _as(input, dtypes.int64) if input.array.dtype.kind in "biu" else input, dim)


def along(operation: Callable[..., Tensor], input: Tensor, dim: int) -> Tensor:
    """An operation along one dimension, which a tensor without dimensions is given."""
    dim = wrap(dim, len(input.shape))
    return operation(input, dim) if input.shape else reshape(operation(reshape(input, (1,)), 0), ())


# ---- extrema ----------------------------------------------------------------------------------------------------------


def _extremum_rule(g: Any, input: Any, out: Any, dim: Dims) -> Any:
    """The gradient, in equal shares to the elements that tie for the extremum; NaN where that is NaN, as in torch."""
    shape = tuple(input.shape)
    ties = eq(input, _over(out, shape, dim))
    return where(ties, _over(g, shape, dim), 0) / _over(_sum(ties, dim, False), shape, dim)


def _extremum_of_all_rule(g: Any, input: Any, out: Any) -> Any:
    """The gradient, in equal shares to the elements that tie for the extremum, NaN among them."""
    ties = logical_or(eq(input, out), logical_and(isnan(input), isnan(out)))
    return where(ties, g / _sum(ties, tuple(range(len(input.shape))), False), 0)


@op(name="MaxBackward1", input=_extremum_of_all_rule)
def _max_all(input: Tensor) -> Tensor:
    """The largest of all elements."""


@op(name="MinBackward1", input=_extremum_of_all_rule)
def _min_all(input: Tensor) -> Tensor:
    """The smallest of all elements."""


@op(input=_extremum_rule)
def _amax(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`amax` over wrapped dimensions."""


@op(input=_extremum_rule)
def _amin(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`amin` over wrapped dimensions."""


def _require_elements(name: str, input: Tensor, dim: Dims, given: bool) -> None:
    if 0 in input.shape and not given:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the "
            "'dim' argument."
        )
    for d in dim:
        if input.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


@samples(*REDUCTIONS)
def amax(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The largest element over `dim`, an int or several; over all for (). Elements that tie share the gradient.

    >>> import gradx
    >>> gradx.amax(gradx.tensor([[1.0, 5.0], [3.0, 2.0]]), dim=1)
    tensor([5., 3.])
    """
    dims = wrap_all(dim, len(input.shape))
    _require_elements("amax", input, dims, dim != ())
    return _amax(input, dims, keepdim)


@samples(*REDUCTIONS)
def amin(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`, an int or several; over all for (). Elements that tie share the gradient."""
    dims = wrap_all(dim, len(input.shape))
    _require_elements("amin", input, dims, dim != ())
    return _amin(input, dims, keepdim)


class Extremum(NamedTuple):
    """What `max` and `min` along a dimension return: the values, and the index at which each was found."""

    values: Any
    indices: Any


def _picked_rule(g: Any, input_shape: Dims, dim: int, keepdim: bool, out1: Any) -> Any:
    indices = getattr(out1, "array", out1)
    if not keepdim:
        kept = kept_shape(input_shape, (dim,))
        g, indices = reshape(g, kept), indices.reshape(kept)
    return gather_backward(g, input_shape, dim, indices)


@op(name="MaxBackward0", input=_picked_rule)
def _max_dim(input: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The largest elements along a wrapped dimension, and where they are."""


@op(name="MinBackward0", input=_picked_rule)
def _min_dim(input: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The smallest elements along a wrapped dimension, and where they are."""


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(2, 3, 4), -2, True), S(T(3), T(3)))
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with `dim` the pair (values, indices) along it; with a tensor as second argument `maximum`.

    Over all elements those that tie share the gradient; along a dimension the one at the returned index gets it.

    >>> import gradx
    >>> values, indices = gradx.max(gradx.tensor([[1.0, 5.0], [3.0, 2.0]]), 1)
    >>> values, indices
    (tensor([5., 3.]), tensor([1, 0]))
    """
    return _extremum("max", _max_all, _max_dim, input, dim, keepdim)


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(2, 3, 4), -2, True), S(T(3), T(3)))
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with `dim` the pair (values, indices) along it; with a tensor as second argument `minimum`."""
    return _extremum("min", _min_all, _min_dim, input, dim, keepdim)


def _extremum(name: str, over_all: Any, along: Any, input: Tensor, dim: Any, keepdim: bool) -> Any:
    if dim is None:
        if 0 in input.shape:
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        return over_all(input)
    if not isinstance(dim, int):
        from gradx.ops.select import maximum, minimum

        return (maximum if name == "max" else minimum)(input, dim)
    dim = wrap(dim, len(input.shape))
    if not input.shape:
        return Extremum(reshape(input, ()), cast_discrete(zeros_like(input), dtypes.int64.dtype))
    _require_elements(name, input, (dim,), True)
    return Extremum(*along(input, dim, keepdim))


@op()
def _argmax(input: Tensor, dim: int, keepdim: bool) -> Tensor:
    """`argmax` along a wrapped dimension."""


@op()
def _argmin(input: Tensor, dim: int, keepdim: bool) -> Tensor:
    """`argmin` along a wrapped dimension."""


def _require_place(name: str, input: Tensor, dim: int | None) -> None:
    """Raise IndexError where there is no element whose index could be given."""
    shape = tuple(input.shape)
    if dim is None and 0 in shape:
        raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
    if dim is not None and shape and shape[wrap(dim, len(shape))] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {wrap(dim, len(shape))} to have non-zero size.")


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(3, 4), 0, True), differentiable=False)
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest element along `dim`; in the flattened tensor for None. int64, without gradient.

    >>> import gradx
    >>> gradx.argmax(gradx.tensor([1.0, 5.0, 3.0]))
    tensor(1)
    """
    _require_place("argmax", input, dim)
    if dim is None:
        return _argmax(reshape(input, (-1,)), 0, False)
    return _argmax(input, wrap(dim, len(input.shape)), keepdim)


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(3, 4), 0, True), differentiable=False)
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest element along `dim`; in the flattened tensor for None. int64, without gradient."""
    _require_place("argmin", input, dim)
    if dim is None:
        return _argmin(reshape(input, (-1,)), 0, False)
    return _argmin(input, wrap(dim, len(input.shape)), keepdim)


@op()
def _any(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`any` over wrapped dimensions."""


@op()
def _all(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`all` over wrapped dimensions."""


@samples(S(T(3, 4)), S(T(3, 4), 1), differentiable=False)
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether some element over `dim` is true (not zero)."""
    return _truth(_any(input, wrap_all(dim, len(input.shape)), keepdim), input)


@samples(S(T(3, 4)), S(T(3, 4), 1), differentiable=False)
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` is true (not zero)."""
    return _truth(_all(input, wrap_all(dim, len(input.shape)), keepdim), input)


def _truth(result: Tensor, input: Tensor) -> Tensor:
    """As in torch, truth values of bytes are bytes."""
    return cast_discrete(result, input.array.dtype) if input.array.dtype.name == "uint8" else result


# ---- spread and size ---------------------------------------------------------------------------------------------------


def _var_backward(g: Any, input: Any, dim: Dims, correction: float) -> Any:
    shape = tuple(input.shape)
    degrees = count(shape, dim) - correction
    scale = 2 / degrees if degrees > 0 else math.nan if degrees == 0 else 0 * math.inf
    return _over(g, shape, dim) * (scale * (input - _mean(input, dim, True)))


def _std_backward(g: Any, input: Any, out: Any, dim: Dims, correction: float) -> Any:
    spread = where(eq(out, 0), 0, g / (2 * where(eq(out, 0), 1, out)))  # std is 0 where all are equal: gradient 0
    return _var_backward(spread, input, dim, correction)


@op(input=lambda g, input, dim, correction: _var_backward(g, input, dim, correction))
def _var(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    """`var` over wrapped dimensions."""


@op(input=_std_backward)
def _std(input: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    """`std` over wrapped dimensions."""


SPREADS = (
    S(T(3, 4)),
    S(T(3, 4), 1),
    S(T(2, 3, 4), (0, 2), keepdim=True),
    S(T(3, 4), 0, correction=0),
    S(T(3, 4), unbiased=False),
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
    _require_floating("var", input)
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
    _require_floating("std", input)
    return _std(input, wrap_all(dim, len(input.shape)), _correction(unbiased, correction), keepdim)


def _logsumexp_rule(g: Any, input: Any, out: Any, dim: Dims) -> Any:
    shape = tuple(input.shape)
    total = _over(out, shape, dim)
    return _over(g, shape, dim) * exp(input - total)


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
    size, g = _over(out, shape, dim), _over(g, shape, dim)
    zero = eq(size, 0)
    safe = where(zero, 1, size)
    if p == 2:
        return input * where(zero, 0, g / safe)
    if p < 1:
        return _norm_slope(input, p - 1) * where(zero, 0, g * pow(safe, 1 - p))
    if p < 2:
        nonzero = where(eq(input, 0), 1, input)
        slope = where(eq(input, 0), 0, sign(nonzero) * pow(abs(nonzero), p - 1))
        return slope * where(zero, 0, g * pow(safe, 1 - p))
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
    input = _as(input, dtype)
    _require_floating("linalg.vector_norm", input)
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
    return _norm(input, p, dims, keepdim)
