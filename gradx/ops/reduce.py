"""Reductions over any dimensions. Integer sums are int64; half-precision sums accumulate in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.modes import mode, uncast
from gradx.op import op, renamed
from gradx.ops.constant import ones_like
from gradx.ops.dims import Dim, Dims, count, kept_shape, wrap, wrap_all
from gradx.ops.index import narrow
from gradx.ops.join import cat
from gradx.ops.shape import _expand, flip, reshape
from gradx.ops.transfer import cast, cast_discrete
from gradx.out import into
from gradx.samples import S, T, samples
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor

REDUCTIONS = (
    S(T(3, 4)),
    S(T(3, 4), 1),
    S(T(3, 4), -2, True),
    S(T(2, 3, 4), (0, 2)),
    S(T(2, 3, 4), (0, -1), keepdim=True),
    S(T()),
)


def over(value: Any, input_shape: Dims, dim: Dims) -> Any:
    """A reduction's result, or its gradient, repeated over the dimensions it came from."""
    if 0 < value.ndim < len(input_shape):
        value = reshape(value, kept_shape(input_shape, dim))
    return _expand(value, input_shape)


def converted(input: Tensor, dtype: Any, name: str = "sum") -> Tensor:
    """`input` in the dtype asked for, if one is.

    Raises:
        TypeError: `input`, an argument of the function `name`, is no tensor.
    """
    if not isinstance(input, Variable) and not hasattr(input, "shape"):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if dtype is None:
        return input
    dtype = dtypes.as_dtype(dtype)
    change = cast if dtype.is_floating_point or dtype.is_complex else cast_discrete
    return change(input, dtype.dtype)


def require_floating(name: str, input: Tensor) -> None:
    if input.array.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError(
            f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {dtypes.of_numpy(input.array.dtype).name.capitalize()}"
        )


# ---- sums ------------------------------------------------------------------------------------------------------------


@op(name="SumBackward1", input=lambda g, input_shape, dim: over(g, input_shape, dim))
def _sum(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`sum` over wrapped dimensions."""


_sum_all = renamed("sum", "SumBackward0")


@samples(*REDUCTIONS, S(T(0, 3)))
def sum(
    input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None, out: Tensor | None = None
) -> Tensor:
    """The sum over `dim`, an int or several; over all elements for None.

    Args:
        keepdim: keep the reduced dimensions, with length 1.
        dtype: convert the elements first. Integers and truth values give int64 otherwise.

    >>> import gradx
    >>> gradx.sum(gradx.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([4., 6.])
    """
    if out is not None:
        return into(out, "sum", (input,), lambda: sum(input, dim, keepdim, dtype=dtype))  # type: ignore[no-any-return]
    if dtype is not None and mode.autocast is not None:  # the dtype that is asked for comes first
        return uncast(sum, input, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    return (_sum_all if dim is None else _sum)(converted(input, dtype), wrap_all(dim, input.ndim), keepdim)


@op(name="MeanBackward1", input=lambda g, input_shape, dim: over(g / count(input_shape, dim), input_shape, dim))
def _mean(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`mean` over wrapped dimensions."""


_mean_all = renamed("mean", "MeanBackward0")


@samples(*REDUCTIONS)
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim`, an int or several; over all elements for None. NaN for no elements.

    Raises:
        RuntimeError: the elements are integers.

    >>> import gradx
    >>> gradx.mean(gradx.tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    input = converted(input, dtype, "mean")
    require_floating("mean", input)
    return (_mean_all if dim is None else _mean)(input, wrap_all(dim, input.ndim), keepdim)


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
        return over(g, shape, dim) * _others(input, dim[0])
    return over(g, shape, dim) * reshape(_others(reshape(input, (-1,)), 0), shape)  # one dimension or all


@op(name="ProdBackward1", input=_prod_rule)
def _prod(input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """`prod` over one wrapped dimension or all."""


_prod_all = renamed("prod", "ProdBackward0")


@samples(S(T(3, 4)), S(T(3, 4), 1), S(T(5, 2), 0, True), S(T()))
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over `dim`; over all elements for None. Its gradients are exact where elements are zero.

    >>> import gradx
    >>> gradx.prod(gradx.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    if dtype is not None and mode.autocast is not None:
        return uncast(prod, input, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    input = converted(input, dtype, "prod")
    if input.array.dtype.kind in "biu":
        input = cast_discrete(input, dtypes.int64.dtype)
    return (_prod_all if dim is None else _prod)(input, wrap_all(dim, len(input.shape)), keepdim)


@op(input=lambda g, dim: _reverse_cumsum(g, dim))
def _cumsum(input: Tensor, dim: int) -> Tensor:
    """`cumsum` along a wrapped dimension."""


def _reverse_cumsum(g: Any, dim: int) -> Any:
    """The sum of each element and all after it: the transpose of cumsum."""
    return flip(_cumsum(flip(g, dim), dim), dim)


@samples(S(T(3, 4), 0), S(T(3, 4), 1), S(T(), 0))
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The sum of each element and all before it along `dim`.

    >>> import gradx
    >>> gradx.cumsum(gradx.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    if dtype is not None and mode.autocast is not None:
        return uncast(cumsum, input, dim, dtype=dtype)  # type: ignore[no-any-return]
    input = converted(input, dtype, "cumsum")
    return along(_cumsum, converted(input, dtypes.int64) if input.array.dtype.kind in "biu" else input, dim)


def along(operation: Callable[..., Tensor], input: Tensor, dim: int) -> Tensor:
    """An operation along one dimension, which a tensor without dimensions is given."""
    ndim = input.ndim
    dim = wrap(dim, ndim)
    return operation(input, dim) if ndim else reshape(operation(reshape(input, (1,)), 0), ())


# ---- truth ------------------------------------------------------------------------------------------


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
