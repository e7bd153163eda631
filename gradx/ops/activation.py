"""Activations, elementwise: relu and its relatives, sigmoid and its relatives, tanh."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradx.op import elementwise
from gradx.ops.compare import gt
from gradx.ops.constant import zeros_like
from gradx.ops.elementwise import erf, exp, expm1, log1p
from gradx.ops.magnitude import abs
from gradx.ops.select import clamp, where
from gradx.samples import UNARY, S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def floating(name: str, input: Any) -> Any:
    """`input`, an array, for a function that torch has of floating-point numbers only.

    Raises:
        NotImplementedError: it holds integers or truth values.
    """
    if input.dtype.kind in "biu":
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{input.dtype.name}'. Convert the tensor with .to(dtype) first."
        )
    return input


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


@samples(*UNARY, S(T(3), 0.2), oracle="nn.functional.leaky_relu")
@elementwise(
    kernel=lambda input, negative_slope: where(gt(floating("leaky_relu", input), 0), input, input * negative_slope),
    input=lambda g, input, negative_slope: where(gt(input, 0), g, g * negative_slope),
)
def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`input` where positive, `negative_slope * input` elsewhere."""


@samples(*UNARY, S(T(3), 0.5), oracle="nn.functional.elu")
@elementwise(
    kernel=lambda input, alpha: where(gt(floating("elu", input), 0), input, expm1(clamp(input, None, 0)) * alpha),
    input=lambda g, input, alpha: where(gt(input, 0), g, g * (exp(clamp(input, None, 0)) * alpha)),
)
def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`input` where positive, `alpha * (exp(input) - 1)` elsewhere."""


@samples(*UNARY, S(T(3), 2.0, 1.0), oracle="nn.functional.softplus")
@elementwise(
    kernel=lambda input, beta, threshold: where(
        gt(floating("softplus", input) * beta, threshold),
        input,
        log1p(exp(clamp(input * beta, None, threshold))) / beta,
    ),
    input=lambda g, input, beta, threshold: where(gt(input * beta, threshold), g, g * sigmoid(input * beta)),
)
def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """`log(1 + exp(beta * input)) / beta`; `input` itself where `beta * input` exceeds `threshold`."""


@samples(*UNARY, oracle="nn.functional.silu")
@elementwise(
    kernel=lambda input: floating("silu", input) * sigmoid(input),
    input=lambda g, input: g * sigmoid(input) * (1 + input * sigmoid(-input)),
)
def silu(input: Tensor) -> Tensor:
    """`input * sigmoid(input)`."""


@samples(*UNARY, oracle="nn.functional.logsigmoid")
@elementwise(
    name="LogSigmoidBackward0",
    kernel=lambda input: clamp(floating("logsigmoid", input), None, 0) - log1p(exp(-abs(input))),
    input=lambda g, input: g * sigmoid(-input),
)
def logsigmoid(input: Tensor) -> Tensor:
    """`log(sigmoid(input))`, without underflow."""


_GELU = math.sqrt(2 / math.pi)
_FLAT = 10.0  # where tanh is 1 in every precision


def _gelu_tanh(input: Any) -> Any:
    input = clamp(input, -_FLAT, _FLAT)
    return tanh(input * (_GELU + _GELU * 0.044715 * (input * input)))


def _gelu_rule(g: Any, input: Any) -> Any:
    bend = _gelu_tanh(input)
    input = clamp(input, -_FLAT, _FLAT)  # beyond, the slope is 0 or 1, and the square may overflow
    slope = input * (1 - bend * bend) * (_GELU + 3 * _GELU * 0.044715 * (input * input))
    return g * (0.5 * (1 + bend + slope))


def _normal(input: Any) -> Any:
    """The probability that a standard normal variable is at most `input`."""
    return 0.5 * (1 + erf(input * math.sqrt(0.5)))


@elementwise(
    kernel=lambda input: input * _normal(input),
    input=lambda g, input: g * (_normal(input) + input * exp(input * input * -0.5) * math.sqrt(0.5 / math.pi)),
)
def gelu(input: Tensor) -> Tensor:
    """`gelu` by the error function."""


@elementwise(
    name="GeluBackward0",
    kernel=lambda input: 0.5 * floating("gelu", input) * (1 + _gelu_tanh(input)),
    input=_gelu_rule,
)
def gelu_tanh(input: Tensor) -> Tensor:
    """`gelu` by the formula with tanh."""
