"""Constants shaped like an operand, on its device. Nothing flows back through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradx.op import op

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@op()
def zeros_like(input: Tensor) -> Tensor:
    """Zeros in the shape and dtype of `input`."""


@op()
def ones_like(input: Tensor) -> Tensor:
    """Ones in the shape and dtype of `input`."""
