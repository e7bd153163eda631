"""Cross entropy with class probabilities as target, differentiable in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradx.op import op, renamed
from gradx.ops.constant import ones_like
from gradx.ops.elementwise import exp
from gradx.ops.labels import Labels, require_weight
from gradx.ops.shape import expand, reshape, unsqueeze

if TYPE_CHECKING:
    from gradx.tensor import Tensor, TensorMask

Shape = tuple[int, ...]


def _by_sample(g: Any, labels: Labels) -> Any:
    """The loss's gradient, with the dimension of the classes if there is a loss for each sample."""
    return unsqueeze(g, 1) if labels.reduction == "none" else g


def _softmax(input: Any, top: Any, log_sum: Any) -> Any:
    return exp(input - top - log_sum)


def _slope(weight: Any, shape: Shape, labels: Labels) -> Any:
    """Of the weighted and smoothed distribution, in the target."""
    certain = 1 - labels.smoothing
    return certain if weight is None else reshape(weight, (1, -1) + (1,) * (len(shape) - 2)) * certain


def _share(shape: Shape, labels: Labels) -> float:
    """What each sample's loss counts in the reduced one."""
    return shape[1] / max(1, math.prod(shape)) if labels.reduction == "mean" else 1


def _sum(a: Any, b: Any) -> Any:
    """Of two gradients, each None if nothing arrived."""
    return b if a is None else a if b is None else a + b


def _input_rule(
    grads: Any, input: Any, target: Any, weight: Any, labels: Labels, out1: Any, out2: Any, out3: Any
) -> Any:
    g, _, _, g_log_sum = grads
    slope = None
    if g is not None:
        g = _by_sample(g, labels)
        slope = soft_cross_entropy_backward(g, input, target, weight, out1, out2, out3, labels)
    return _sum(slope, None if g_log_sum is None else g_log_sum * _softmax(input, out2, out3))


def _target_rule(grads: Any, input: Any, weight: Any, labels: Labels, out2: Any, out3: Any) -> Any:
    g, g_mass, _, _ = grads
    slope = None
    if g is not None:
        slope = soft_target_backward(_by_sample(g, labels), input, weight, out2, out3, labels)
    if g_mass is None:
        return slope
    shape = tuple(input.shape)
    return _sum(slope, expand(g_mass * _slope(weight, shape, labels), shape))


@op(promote="common", name="DivBackward1", input=_input_rule, target=_target_rule)
def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: TensorMask | None, labels: Labels
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and what its gradients need: over the classes, whose dimension is kept, the weighted sum of the target, the largest
    logit, and the logarithm of the sum of exponentials of the others' distances to it."""


_soft_cross_entropy_sum = renamed("soft_cross_entropy", "NegBackward0")


@op(
    grad_output=lambda g, grad_output, input, target, weight, mass, top, log_sum, labels: (
        g * soft_cross_entropy_backward(ones_like(grad_output), input, target, weight, mass, top, log_sum, labels)
    ),
    input=lambda g, grad_output, input, mass, top, log_sum, labels: (
        g * (_shared(grad_output, input, labels) * mass * _softmax(input, top, log_sum))
    ),
    target=lambda g, grad_output, input_shape, weight, labels: (
        -g * grad_output * (_slope(weight, input_shape, labels) * _share(input_shape, labels))
    ),
    mass=lambda g, grad_output, input, top, log_sum, labels: (
        g * (_shared(grad_output, input, labels) * _softmax(input, top, log_sum))
    ),
    log_sum=lambda g, grad_output, input, mass, top, log_sum, labels: (
        -g * (_shared(grad_output, input, labels) * mass * _softmax(input, top, log_sum))
    ),
)
def soft_cross_entropy_backward(
    grad_output: Tensor,
    input: Tensor,
    target: Tensor,
    weight: TensorMask | None,
    mass: TensorMask,
    top: TensorMask,
    log_sum: TensorMask,
    labels: Labels,
) -> Tensor:
    """`grad_output` times (mass * softmax - weighted target).

    For the labels' "none" `grad_output` has the shape of the losses with a dimension of length 1 for the classes.
    """


def _shared(grad_output: Any, input: Any, labels: Labels) -> Any:
    return grad_output * _share(tuple(input.shape), labels)


@op(
    grad_output=lambda g, grad_output, input, weight, top, log_sum, labels: (
        g * soft_target_backward(ones_like(grad_output), input, weight, top, log_sum, labels)
    ),
    input=lambda g, grad_output, input_shape, weight, labels: (
        -g * grad_output * (_slope(weight, input_shape, labels) * _share(input_shape, labels))
    ),
    log_sum=lambda g, grad_output, input_shape, weight, labels: (
        g * grad_output * (_slope(weight, input_shape, labels) * _share(input_shape, labels))
    ),
)
def soft_target_backward(
    grad_output: Tensor, input: Tensor, weight: TensorMask | None, top: TensorMask, log_sum: TensorMask, labels: Labels
) -> Tensor:
    """`grad_output` times the negative log softmax, weighted: the slope of the loss in the target."""


def soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """The loss for class probabilities shaped like `input`; "mean" divides by the number of samples.

    Raises:
        RuntimeError: `ignore_index` is that of a class: there are no indices here to be ignored.
    """
    require_weight(weight, input.shape[0 if input.dim() == 1 else 1])
    if ignore_index >= 0:
        raise RuntimeError(
            "ignore_index is not supported for floating point target. The target holds class probabilities: leave "
            "ignore_index out."
        )
    if input.dim() == 1:
        input, target = unsqueeze(input, 0), unsqueeze(target, 0)
        reduction = "sum" if reduction == "none" else reduction  # without dimensions
    operation = _soft_cross_entropy if reduction == "mean" else _soft_cross_entropy_sum
    return operation(input, target, weight, Labels(reduction, -1, label_smoothing))[0]
