"""softmax and log_softmax, each with a backward kernel of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.modes import mode, uncast
from gradx.op import op
from gradx.ops.elementwise import exp
from gradx.ops.reduce import _sum, along, converted
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def _softmax_jacobian(g: Any, grad_output: Any, result: Any, dim: int) -> Any:
    """The gradient for `result` of softmax_backward: of result * (grad_output - sum(grad_output * result))."""
    inner = _sum(grad_output * result, (dim,), True)
    return g * (grad_output - inner) - grad_output * _sum(g * result, (dim,), True)


@op(
    grad_output=lambda g, result, dim: softmax_backward(g, result, dim),
    result=lambda g, grad_output, result, dim: _softmax_jacobian(g, grad_output, result, dim),
)
def softmax_backward(grad_output: Tensor, result: Tensor, dim: int) -> Tensor:
    """`result * (grad_output - sum(grad_output * result, dim))`: softmax's Jacobian is symmetric."""


@op(input=lambda g, out, dim: softmax_backward(g, out, dim))
def _softmax(input: Tensor, dim: int) -> Tensor:
    """`softmax` along a wrapped dimension."""


@samples(S(T(3, 4), 1), S(T(3, 4), 0), S(T(2, 3, 4), -2), S(T(), 0))
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """`exp(input) / sum(exp(input))` along `dim`, without overflow.

    The results along `dim` sum to 1 whatever the input, so the gradient of their sum is zero: with ones as
    `grad_outputs` the gradients vanish.

    >>> import gradx
    >>> gradx.softmax(gradx.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    if dtype is not None and mode.autocast is not None:  # the dtype that is asked for comes first
        return uncast(softmax, input, dim, dtype)  # type: ignore[no-any-return]
    return along(_softmax, _floating(converted(input, dtype)), dim)


@op(
    grad_output=lambda g, result, dim: g - _sum(g * exp(result), (dim,), True),
    result=lambda g, grad_output, result, dim: -g * exp(result) * _sum(grad_output, (dim,), True),
)
def log_softmax_backward(grad_output: Tensor, result: Tensor, dim: int) -> Tensor:
    """`grad_output - exp(result) * sum(grad_output, dim)`."""


@op(input=lambda g, out, dim: log_softmax_backward(g, out, dim))
def _log_softmax(input: Tensor, dim: int) -> Tensor:
    """`log_softmax` along a wrapped dimension."""


@samples(S(T(3, 4), 1), S(T(3, 4), 0), S(T(2, 3, 4), -2), S(T(), 0))
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """`log(softmax(input))` along `dim`, exact also where the softmax underflows.

    >>> import gradx
    >>> gradx.log_softmax(gradx.tensor([0.0, 0.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    if dtype is not None and mode.autocast is not None:
        return uncast(log_softmax, input, dim, dtype)  # type: ignore[no-any-return]
    return along(_log_softmax, _floating(converted(input, dtype)), dim)


def _floating(input: Tensor) -> Tensor:
    if input.array.dtype.kind in dtypes.INEXACT:
        return input
    raise NotImplementedError(
        f"\"softmax_kernel_impl\" not implemented for '{dtypes.of_numpy(input.array.dtype).name}'. softmax needs floating-"
        "point elements: pass dtype=gradx.float32."
    )
