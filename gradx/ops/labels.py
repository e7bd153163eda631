"""What the losses over classes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradx.modes import is_grad_enabled

if TYPE_CHECKING:
    from gradx.tensor import Tensor


class Labels(NamedTuple):
    """How targets make a loss: its reduction, the index that counts for nothing, the share spread over all classes."""

    reduction: str
    ignore_index: int
    smoothing: float


def require_weight(weight: Tensor | None, classes: int) -> None:
    if weight is None:
        return
    if tuple(weight.shape) != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of "
            f"shape: {list(weight.shape)}"
        )
    if weight.requires_grad and is_grad_enabled():
        raise RuntimeError(
            "the derivative for 'weight' is not implemented. The weights of the classes are constants: detach() them."
        )
