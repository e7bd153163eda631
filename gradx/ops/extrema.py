"""The largest and the smallest element, and where they are. Elements that tie share the gradient, unless an index is given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gradx import dtypes
from gradx.op import fused, op
from gradx.ops.compare import eq, isnan, logical_and, logical_or
from gradx.ops.constant import zeros_like
from gradx.ops.dims import Dim, Dims, kept_shape, wrap, wrap_all
from gradx.ops.index import gather_backward
from gradx.ops.reduce import REDUCTIONS, over
from gradx.ops.select import maximum, minimum, where
from gradx.ops.shape import reshape
from gradx.ops.transfer import cast_discrete
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@op()
def _ties(input: Tensor, extremum: Tensor, dim: Dims) -> Tensor:
    """How many elements over `dim` equal the extremum there, NaN taken for equal to NaN."""


@fused
def _share(g: Any, input: Any, out: Any, ties: Any) -> Any:
    return where(isnan(out), math.nan, where(eq(input, out), g / ties, 0))


@fused
def _share_with_nan(g: Any, input: Any, out: Any, ties: Any) -> Any:
    return where(logical_or(eq(input, out), logical_and(isnan(input), isnan(out))), g / ties, 0)


def _share_rule(g: Any, input: Any, out: Any, dim: Dims) -> Any:
    """The gradient, in equal shares to the elements that tie for the extremum; NaN where that is NaN, as in torch."""
    shape = tuple(input.shape)
    out = reshape(out, kept_shape(shape, dim))
    return _share(over(g, shape, dim), input, out, _ties(input, out, dim))


def _share_of_all_rule(g: Any, input: Any, out: Any) -> Any:
    """The gradient, in equal shares to the elements that tie for the extremum, NaN among them."""
    every = tuple(range(len(input.shape)))
    return _share_with_nan(over(g, tuple(input.shape), every), input, out, _ties(input, out, every))


@op(name="MaxBackward1", input=_share_of_all_rule)
def _max_all(input: Tensor) -> Tensor:
    """The largest of all elements."""


@op(name="MinBackward1", input=_share_of_all_rule)
def _min_all(input: Tensor) -> Tensor:
    """The smallest of all elements."""


@op(input=_share_rule)
def _amax(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`amax` over wrapped dimensions."""


@op(input=_share_rule)
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
