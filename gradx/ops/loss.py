"""Losses that compare two tensors of one shape: mean squared error, binary cross entropy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradx.op import elementwise, op
from gradx.ops.elementwise import log
from gradx.ops.reduce import mean, sum
from gradx.ops.select import clamp
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


def _mse_slope(g: Any, grad_output: Any, reduction: str) -> Any:
    """The derivative of mse_loss_backward by `input`, applied to `g`."""
    size = 1
    for n in g.shape:
        size *= n
    return 2 * (g * grad_output) / (size if reduction == "mean" else 1)


@op(
    grad_output=lambda g, input, target, reduction: _mse_weighted(g, input, target, reduction),
    input=lambda g, grad_output, reduction: _mse_slope(g, grad_output, reduction),
    target=lambda g, grad_output, reduction: -_mse_slope(g, grad_output, reduction),
)
def mse_loss_backward(grad_output: Tensor, input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """`2 * (input - target) * grad_output`, divided by the number of elements for "mean"."""


def _mse_weighted(g: Any, input: Any, target: Any, reduction: str) -> Any:
    return _mse_slope(g, input - target, reduction)  # the engine sums it to the shape of grad_output


@op(
    promote="common",
    input=lambda g, input, target, reduction: mse_loss_backward(g, input, target, reduction),
    target=lambda g, input, target, reduction: mse_loss_backward(g, target, input, reduction),
)
def _mse_loss(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    """`mse_loss` of two tensors of one shape."""


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
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely "
            "lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=2,
        )
        shape = (input - target).shape
        input, target = expand(input, shape), expand(target, shape)
    return _mse_loss(input, target, reduction)


def _chance_curvature(g: Any, grad_output: Any, input: Any, target: Any) -> Any:
    """Torch's: a little is added so that it stays finite at the ends."""
    slack = (input + 1e-12) * (1 - input + 1e-12)
    return g * grad_output * (input * input - 2 * input * target + target) / (slack * slack)


@elementwise(
    grad_output=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    input=_chance_curvature,
    target=lambda g, grad_output, input: -g * grad_output / ((input + 1e-12) * (1 - input + 1e-12)),
)
def binary_cross_entropy_backward(grad_output: Tensor, input: Tensor, target: Tensor) -> Tensor:
    """`grad_output * (input - target) / (input * (1 - input))`, the denominator not below 1e-12."""


@elementwise(
    promote="common",
    input=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    target=lambda g, input: g * (clamp(log(1 - input), -100.0) - clamp(log(input), -100.0)),
)
def _binary_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """`-(target * log(input) + (1 - target) * log(1 - input))`, the logarithms not below -100."""
