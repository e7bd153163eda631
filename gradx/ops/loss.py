"""Losses: mean squared error, negative log likelihood, cross entropy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradx.op import op
from gradx.ops.compare import ne
from gradx.ops.constant import ones_like
from gradx.ops.elementwise import log, mul
from gradx.ops.index import _gather, require_within
from gradx.ops.reduce import _mean, _sum
from gradx.ops.select import clamp, where
from gradx.ops.shape import expand, reshape
from gradx.ops.softmax import log_softmax
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def reduced(values: Tensor, reduction: str) -> Tensor:
    """`values`, their mean or their sum."""
    every = tuple(range(len(values.shape)))
    if reduction == "mean":
        return _mean(values, every, False)
    return _sum(values, every, False) if reduction == "sum" else values


def _check_reduction(reduction: str) -> None:
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
    _check_reduction(reduction)
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


@op(
    grad_output=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    input=_chance_curvature,
    target=lambda g, grad_output, input: -g * grad_output / ((input + 1e-12) * (1 - input + 1e-12)),
)
def binary_cross_entropy_backward(grad_output: Tensor, input: Tensor, target: Tensor) -> Tensor:
    """`grad_output * (input - target) / (input * (1 - input))`, the denominator not below 1e-12."""


@op(
    promote="common",
    input=lambda g, input, target: binary_cross_entropy_backward(g, input, target),
    target=lambda g, input: g * (clamp(log(1 - input), -100.0) - clamp(log(input), -100.0)),
)
def _binary_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """`-(target * log(input) + (1 - target) * log(1 - input))`, the logarithms not below -100."""


LABELS = T(3, low=0, high=4, integer=True)


@samples(
    S(T(3, 4), LABELS),
    S(T(3, 4), LABELS, reduction="sum"),
    S(T(3, 4), LABELS, reduction="none"),
    S(T(3, 4), LABELS, T(4, low=0.5, grad=False)),
    S(T(3, 4), LABELS, ignore_index=1),
    S(T(2, 4, 3), T(2, 3, low=0, high=4, integer=True)),
    S(T(4), T(low=0, high=4, integer=True)),
    oracle="nn.functional.nll_loss",
)
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The negative log likelihood of the target classes, given log probabilities.

    Args:
        input: log probabilities, of shape (N, C), (C,), or (N, C, d1, ...).
        target: the classes, integers from 0 to below C, shaped like `input` without C.
        weight: of each class, of shape (C,).
        ignore_index: targets with this value count for nothing.
        reduction: "mean" divides by the sum of the weights that counted.

    Raises:
        RuntimeError: the target's dtype is not that of an index.
        ValueError: the shapes do not fit, or `reduction` is none of "mean", "sum", "none".
    """
    _check_reduction(reduction)
    if weight is not None and tuple(weight.shape) != (input.shape[-1 if input.dim() == 1 else 1],):
        raise RuntimeError(
            f"weight tensor should be defined either for all {input.shape[-1 if input.dim() == 1 else 1]} classes or no "
            f"classes but got weight tensor of shape: {list(weight.shape)}"
        )
    if target.array.dtype.kind not in "iu":
        raise RuntimeError(
            f"expected scalar type Long but found {target.dtype}. The target holds class indices: cast it to gradx.int64."
        )
    if input.dim() == 1:
        losses, weights = _nll(reshape(input, (1, -1)), reshape(target, (1,)), weight, ignore_index)
        losses, weights = reshape(losses, ()), reshape(weights, ())
    else:
        if input.dim() == 2 and target.dim() != 1:
            raise RuntimeError(
                f"0D or 1D target tensor expected, multi-target not supported. Its shape is {list(target.shape)}."
            )
        if input.shape[0] != target.shape[0] or tuple(input.shape[2:]) != tuple(target.shape[1:]):
            raise ValueError(
                f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})."
            )
        losses, weights = _nll(input, target, weight, ignore_index)
    if reduction == "mean":
        return reduced(losses, "sum") / reduced(weights, "sum")
    return reduced(losses, reduction)


def _nll(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The weighted loss of each target, and each one's weight."""
    counts = ne(target, ignore_index)
    classes = where(counts, target, 0)
    places = classes.array[:, None]
    try:
        require_within(places, input.shape[1], 1)
    except RuntimeError as error:
        raise IndexError(f"Target {str(error).split()[1]} is out of bounds.") from None
    likelihood = reshape(_gather(input, 1, places), target.shape)
    weights = ones_like(likelihood) if weight is None else weight[classes]
    weights = where(counts, weights, 0)
    return where(counts, -mul(likelihood, weights), 0), weights


@samples(
    S(T(3, 4), LABELS),
    S(T(3, 4), LABELS, reduction="sum"),
    S(T(3, 4), LABELS, T(4, low=0.5, grad=False)),
    S(T(3, 4), LABELS, label_smoothing=0.1),
    S(T(3, 4), T(3, 4, low=0.0, high=1.0)),
    S(T(4), T(low=0, high=4, integer=True)),
    S(T(2, 4, 3), T(2, 3, low=0, high=4, integer=True)),
    oracle="nn.functional.cross_entropy",
)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The cross entropy between the softmax of `input` and the target.

    Args:
        input: logits, of shape (N, C), (C,), or (N, C, d1, ...).
        target: class indices shaped like `input` without C, or class probabilities shaped like `input`.
        weight: of each class, of shape (C,).
        ignore_index: class indices with this value count for nothing.
        label_smoothing: the share of the target that is spread evenly over the classes.

    >>> import gradx
    >>> import gradx.nn.functional as F
    >>> F.cross_entropy(gradx.tensor([[0.0, 0.0]]), gradx.tensor([1]))
    tensor(0.6931)
    """
    _check_reduction(reduction)
    dim = 0 if input.dim() == 1 else 1
    logs = log_softmax(input, dim)
    if input.shape == target.shape and target.array.dtype.kind == "f":
        return _soft_cross_entropy(logs, target, weight, reduction, label_smoothing, dim)
    hard = nll_loss(logs, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return hard
    classes = input.shape[dim]
    shape = [classes if d == dim else 1 for d in range(input.dim())]
    weighted = logs if weight is None else logs * reshape(weight, shape)
    counts = ne(target, ignore_index)
    smooth = where(counts, -_sum(weighted, (dim,), False), 0)
    if reduction == "mean":
        per_target = ones_like(smooth) if weight is None else weight[where(counts, target, 0)]
        smooth = reduced(smooth, "sum") / reduced(where(counts, per_target, 0), "sum")
    else:
        smooth = reduced(smooth, reduction)
    return (1 - label_smoothing) * hard + smooth * (label_smoothing / classes)


def _soft_cross_entropy(
    logs: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float, dim: int
) -> Tensor:
    """Cross entropy with class probabilities as target; "mean" divides by the number of targets."""
    classes = logs.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        logs = logs * reshape(weight, [classes if d == dim else 1 for d in range(logs.dim())])
    losses = -_sum(logs * target, (dim,), False)
    return reduced(losses, reduction)
