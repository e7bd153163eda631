"""Losses that compare two tensors of one shape: mean squared error, binary cross entropy."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from gradx.op import elementwise, op
from gradx.ops.activation import floating, logsigmoid, sigmoid
from gradx.ops.compare import ge, le, lt
from gradx.ops.elementwise import log, square
from gradx.ops.magnitude import abs, sign
from gradx.ops.reduce import mean, sum
from gradx.ops.select import clamp, where
from gradx.ops.shape import expand
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def reduced(values: Tensor, reduction: str) -> Tensor:
    """`values`, their mean or their sum.

    Raises:
        ValueError: `reduction` is none of "mean", "sum", "none".
    """
    check_reduction(reduction)
    if reduction == "mean":
        return mean(values)
    return sum(values) if reduction == "sum" else values


def check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")


def _mse_scale(shape: tuple[int, ...], reduction: str) -> float:
    """2, the slope of a square, over the number of squares for their mean."""
    return 2 / max(1, math.prod(shape)) if reduction == "mean" else 2


@elementwise(
    grad_output=lambda g, input, target, scale: g * ((input - target) * scale),
    input=lambda g, grad_output, scale: g * grad_output * scale,
    target=lambda g, grad_output, scale: -g * grad_output * scale,
)
def mse_loss_backward(grad_output: Tensor, input: Tensor, target: Tensor, scale: float) -> Tensor:
    """`grad_output * (input - target) * scale`."""


@op(
    promote="common",
    input=lambda g, input, target, input_shape, reduction: mse_loss_backward(
        g, input, target, _mse_scale(input_shape, reduction)
    ),
    target=lambda g, input, target, input_shape, reduction: mse_loss_backward(
        g, target, input, _mse_scale(input_shape, reduction)
    ),
)
def _mse_loss(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the squared differences of two tensors of one shape."""


@elementwise(
    promote="common",
    name="MseLossBackward0",
    kernel=lambda input, target: square(floating("mse_loss", input) - target),
    input=lambda g, input, target: mse_loss_backward(g, input, target, 2),
    target=lambda g, input, target: mse_loss_backward(g, target, input, 2),
)
def _squared_difference(input: Tensor, target: Tensor) -> Tensor:
    """`mse_loss` that is not reduced."""


@samples(
    S(T(3, 4), T(3, 4)),
    S(T(3, 4), T(3, 4), reduction="sum"),
    S(T(3), T(3), reduction="none"),
    S(T(), T()),
    oracle="nn.functional.mse_loss",
)
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`(input - target) ** 2`: its mean, its sum, or, for "none", as it is.

    Shapes that differ are broadcast, with torch's warning, since that is rarely meant.

    Raises:
        ValueError: `reduction` is none of "mean", "sum", "none".

    >>> import gradx
    >>> import gradx.nn.functional as F
    >>> F.mse_loss(gradx.tensor([1.0, 2.0]), gradx.tensor([0.0, 4.0]))
    tensor(2.5000)
    """
    check_reduction(reduction)
    if input.array.shape != target.array.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely "
            "lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=2,
        )
        shape = (input - target).shape
        input, target = expand(input, shape), expand(target, shape)
    return _squared_difference(input, target) if reduction == "none" else _mse_loss(input, target, reduction)


def _chance_curvature(g: Any, grad_output: Any, input: Any, target: Any) -> Any:
    """Torch's: a little is added so that it stays finite at the ends."""
    slack = (input + 1e-12) * (1 - input + 1e-12)
    return g * grad_output * (input * input - 2 * input * target + target) / (slack * slack)


_SMALLEST = 9.999999960041972e-13  # torch's bound of 1e-12, which it holds in single precision


@elementwise(
    kernel=lambda grad_output, input, target: (
        grad_output * (input - target) / clamp(input * (1 - input), _SMALLEST, None)
    ),
    grad_output=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    input=_chance_curvature,
    target=lambda g, grad_output, input: -g * grad_output / ((input + 1e-12) * (1 - input + 1e-12)),
)
def binary_cross_entropy_backward(grad_output: Tensor, input: Tensor, target: Tensor) -> Tensor:
    """`grad_output * (input - target) / (input * (1 - input))`, the denominator not below 1e-12."""


def _bounded_log(x: Any) -> Any:
    return clamp(log(x), -100.0, None)


@elementwise(
    promote="common",
    kernel=lambda input, target: (
        (target - 1) * _bounded_log(1 - floating("binary_cross_entropy", input)) - target * _bounded_log(input)
    ),
    input=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    target=lambda g, input: g * (_bounded_log(1 - input) - _bounded_log(input)),
)
def _binary_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """`-(target * log(input) + (1 - target) * log(1 - input))`, the logarithms not below -100."""


@elementwise(
    promote="common",
    kernel=lambda input, target, beta: _smooth(abs(floating("smooth_l1_loss", input) - target), beta),
    input=lambda g, input, target, beta: g * _smooth_slope(input - target, beta),
    target=lambda g, input, target, beta: -g * _smooth_slope(input - target, beta),
)
def _smooth_l1_loss(input: Tensor, target: Tensor, beta: float) -> Tensor:
    """`smooth_l1_loss` that is not reduced."""


def _smooth(size: Any, beta: Any) -> Any:
    return where(lt(size, beta), size * size * (0.5 / beta), size - 0.5 * beta)


def _smooth_slope(difference: Any, beta: Any) -> Any:
    return where(ge(abs(difference), beta), sign(difference), difference / beta)  # NaN of NaN


@elementwise(
    promote="common",
    kernel=lambda input, target, delta: _huber(abs(floating("huber_loss", input) - target), delta),
    input=lambda g, input, target, delta: g * clamp(input - target, -delta, delta),
    target=lambda g, input, target, delta: -g * clamp(input - target, -delta, delta),
)
def _huber_loss(input: Tensor, target: Tensor, delta: float) -> Tensor:
    """`huber_loss` that is not reduced."""


def _huber(size: Any, delta: Any) -> Any:
    return where(le(size, delta), size * size * 0.5, (size - 0.5 * delta) * delta)


def _logits_slope(input: Any, target: Any, pos_weight: Any) -> Any:
    if pos_weight is None:
        return sigmoid(input) - target
    return 1 - target - (1 + target * (pos_weight - 1)) * sigmoid(-input)


def _logits_target_slope(input: Any, pos_weight: Any) -> Any:
    return -input if pos_weight is None else -input - (pos_weight - 1) * logsigmoid(input)


@elementwise(
    promote="common",
    kernel=lambda input, target, pos_weight: (
        (1 - target) * input - (1 if pos_weight is None else 1 + target * (pos_weight - 1)) * logsigmoid(input)
    ),
    input=lambda g, input, target, pos_weight: g * _logits_slope(input, target, pos_weight),
    target=lambda g, input, pos_weight: g * _logits_target_slope(input, pos_weight),
    pos_weight=lambda g, input, target: -g * target * logsigmoid(input),
)
def _binary_cross_entropy_with_logits(input: Tensor, target: Tensor, pos_weight: Tensor | None) -> Tensor:
    """`binary_cross_entropy_with_logits` that is neither weighted nor reduced."""
