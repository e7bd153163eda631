"""Activations whose gradient is a kernel of its own: relu, tanh, sigmoid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradx.op import elementwise
from gradx.ops.constant import zeros_like
from gradx.samples import UNARY, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@elementwise(grad_output=lambda g, result: threshold_backward(g, result), result=lambda g: zeros_like(g))
def threshold_backward(grad_output: Tensor, result: Tensor) -> Tensor:
    """The gradient of relu: `grad_output` where relu's `result` is positive."""


@samples(*UNARY)
@elementwise(input=lambda g, out: threshold_backward(g, out))
def relu(input: Tensor) -> Tensor:
    """`max(input, 0)`, elementwise; its gradient at 0 is 0.

    >>> import gradx
    >>> gradx.relu(gradx.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """


@elementwise(
    grad_output=lambda g, result: tanh_backward(g, result),
    result=lambda g, grad_output, result: -2 * g * grad_output * result,
)
def tanh_backward(grad_output: Tensor, result: Tensor) -> Tensor:
    """The gradient of tanh, `grad_output * (1 - result**2)`, as one kernel."""


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, out: tanh_backward(g, out))
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent, elementwise.

    >>> import gradx
    >>> gradx.tanh(gradx.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7616])
    """


@elementwise(
    grad_output=lambda g, result: sigmoid_backward(g, result),
    result=lambda g, grad_output, result: g * grad_output * (1 - 2 * result),
)
def sigmoid_backward(grad_output: Tensor, result: Tensor) -> Tensor:
    """The gradient of sigmoid, `grad_output * (1 - result) * result`, as one kernel."""


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, out: sigmoid_backward(g, out))
def sigmoid(input: Tensor) -> Tensor:
    """`1 / (1 + exp(-input))`, elementwise, without overflow.

    >>> import gradx
    >>> gradx.sigmoid(gradx.tensor([0.0, 2.0]))
    tensor([0.5000, 0.8808])
    """
