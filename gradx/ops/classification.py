"""Losses over classes: negative log likelihood and cross entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx.autocasting import listed
from gradx.backends import backend_of
from gradx.dtypes import REAL
from gradx.op import op, renamed
from gradx.ops.class_probabilities import soft_cross_entropy
from gradx.ops.constant import ones_like
from gradx.ops.elementwise import exp
from gradx.ops.labels import Labels, require_weight
from gradx.ops.loss import check_reduction
from gradx.ops.shape import unsqueeze
from gradx.ops.softmax import log_softmax
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor, TensorMask

Shape = tuple[int, ...]


LABELS = T(3, low=0, high=4, integer=True)


def _nll_rule(
    g: Any, input_shape: Shape, target: Any, weight: Any, reduction: str, ignore_index: int, out1: Any
) -> Any:
    return nll_loss_backward(g, out1, target, weight, input_shape, reduction, ignore_index)


@op(input=_nll_rule)
def _nll_loss(
    input: Tensor, target: TensorMask, weight: TensorMask | None, reduction: str, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """The loss, and the sum of the weights that counted."""


_nll_loss_2d = renamed("nll_loss", "NllLoss2DBackward0")


@op(
    grad_output=lambda g, target, weight, reduction, ignore_index: _nll_loss(
        g, target, weight, reduction, ignore_index
    )[0]
)
def nll_loss_backward(
    grad_output: Tensor,
    total: TensorMask,
    target: TensorMask,
    weight: TensorMask | None,
    shape: Shape,
    reduction: str,
    ignore_index: int,
) -> Tensor:
    """The transpose of `nll_loss`, which is linear: `-grad_output * weight` at the targets, zeros elsewhere."""


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
    check_reduction(reduction)
    input, target, reduction = _checked(input, target, weight, ignore_index, reduction)
    operation = _nll_loss if input.dim() == 2 else _nll_loss_2d
    loss, _ = operation(input, target, weight, reduction, ignore_index)
    return loss


def _checked(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> tuple[Tensor, Tensor, str]:
    """`input` of shape (N, C, ...), its targets and how to reduce; torch's errors for what does not fit."""
    shape, targets = input.array.shape, target.array.shape
    if not shape:
        raise ValueError("Expected 1 or more dimensions (got 0). The scores of the classes are along one of them.")
    classes = shape[-1 if len(shape) == 1 else 1]
    require_weight(weight, classes)
    if (target.array.dtype.kind, target.array.dtype.itemsize) not in (("i", 8), ("u", 1)):
        raise RuntimeError(
            f"expected target dtype to be Long or Byte, but got {target.dtype.title}. The target holds class indices: cast it "
            "to gradx.int64."
        )
    if len(shape) == 1:
        input, target = unsqueeze(input, 0), unsqueeze(target, 0)
        shape, targets = (1, *shape), (1, *targets)
        reduction = "sum" if reduction == "none" else reduction  # without dimensions
    if len(shape) == 2 and len(targets) != 1:
        raise RuntimeError(
            f"0D or 1D target tensor expected, multi-target not supported. Its shape is {list(target.shape)}."
        )
    if shape[0] != targets[0]:
        raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size ({targets[0]}).")
    if shape[2:] != targets[1:]:
        expected = [shape[0], *shape[2:]]
        raise RuntimeError(
            f"Expected target size {expected}, got {list(targets)}. It is the input's without the classes."
        )
    _require_classes(target.array, classes, ignore_index)
    return input, target, reduction


def _require_chances(target: Tensor) -> None:
    if target.array.dtype.kind not in REAL:
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {target.dtype.title}. A target of the "
            "input's shape holds probabilities; one of class indices has no dimension for the classes."
        )


def _require_classes(target: Any, classes: int, ignore_index: int) -> None:
    """Raise IndexError for targets that are no class. On CUDA, where to look is to wait, they give NaN."""
    if target.size and backend_of(target).synchronous:
        flat = target.ravel()
        if flat.item(flat.argmin()) >= 0 and flat.item(flat.argmax()) < classes:
            return
        wrong = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
        if wrong.size:
            raise IndexError(f"Target {wrong[0]} is out of bounds.")


def _cross_entropy_rule(
    grads: Any, input: Any, target: Any, weight: Any, labels: Labels, out1: Any, out2: Any, out3: Any
) -> Any:
    g, _, _, g_log_sum = grads
    slope = None
    if g is not None:
        g = unsqueeze(g, 1) if labels.reduction == "none" else g
        slope = cross_entropy_backward(g, input, target, weight, out1, out2, out3, labels, True)
    if g_log_sum is None:  # it comes in second derivatives only
        return slope
    softmax = exp(input - out2 - out3)
    return g_log_sum * softmax if slope is None else slope + g_log_sum * softmax


@op(name="NllLossBackward0", input=_cross_entropy_rule)
def _cross_entropy(
    input: Tensor, target: TensorMask, weight: TensorMask | None, labels: Labels
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and what its gradient needs: the sums of the weights that counted and of all classes'; over the classes, whose dimension is
    kept, the largest logit, and the logarithm of the sum of exponentials of the others' distances to it."""


_cross_entropy_2d = renamed("cross_entropy", "NllLoss2DBackward0")


@op(
    grad_output=lambda g, grad_output, input, target, weight, sums, top, log_sum, labels, targets: (
        g * cross_entropy_backward(ones_like(grad_output), input, target, weight, sums, top, log_sum, labels, targets)
    ),
    input=lambda g, grad_output, input, target, weight, sums, top, log_sum, labels: (
        g * cross_entropy_backward(grad_output, input, target, weight, sums, top, log_sum, labels, False)
    ),
    log_sum=lambda g, grad_output, input, target, weight, sums, top, log_sum, labels: (
        -g * cross_entropy_backward(grad_output, input, target, weight, sums, top, log_sum, labels, False)
    ),
)
def cross_entropy_backward(
    grad_output: Tensor,
    input: Tensor,
    target: TensorMask,
    weight: TensorMask | None,
    sums: TensorMask,
    top: TensorMask,
    log_sum: TensorMask,
    labels: Labels,
    targets: bool,
) -> Tensor:
    """`grad_output` times (softmax - target distribution), weighted; without `targets` the part with the softmax alone.

    For the labels' "none" `grad_output` has the shape of the losses with a dimension of length 1 for the classes.
    """


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
@listed
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
    check_reduction(reduction)
    if label_smoothing > 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    label_smoothing = max(label_smoothing, 0.0)  # as torch does
    if input.array.shape == target.array.shape:
        _require_chances(target)
    if input.array.shape == target.array.shape and input.array.dtype.kind in REAL:
        return soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    if input.array.dtype.kind not in REAL:
        logs = log_softmax(input, 0 if input.ndim == 1 else 1)
        return nll_loss(logs, target, weight, ignore_index, reduction)  # which raises
    input, target, reduction = _checked(input, target, weight, ignore_index, reduction)
    operation = _cross_entropy if input.ndim == 2 else _cross_entropy_2d
    return operation(input, target, weight, Labels(reduction, ignore_index, label_smoothing))[0]
