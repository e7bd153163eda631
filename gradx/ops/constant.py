"""Tensors in the form of another: its shape, its dtype, its device, but none of its elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradx.op import op, renamed

if TYPE_CHECKING:
    from gradx.tensor import Tensor, TensorMask


@op()
def zeros_like(input: Tensor) -> Tensor:
    """Zeros in the shape and dtype of `input`."""


@op()
def ones_like(input: Tensor) -> Tensor:
    """Ones in the shape and dtype of `input`."""


@op()
def new_zeros(input: Tensor, size: tuple[int, ...]) -> Tensor:
    """Zeros of shape `size` in the dtype of `input`, on its device."""


@op(name="CopyBackwards", input=lambda g: zeros_like(g), src=lambda g: g)
def copy(input: Tensor, src: TensorMask) -> Tensor:
    """The elements of `src`, broadcast to the shape of `input` and cast to its dtype."""


@op(name=("FillBackward2", "FillBackward3"), input=lambda g: zeros_like(g), value=lambda g: g)
def fill(input: Tensor, value: TensorMask) -> Tensor:
    """One value, a number or a tensor without dimensions, in the shape and dtype of `input`."""


zero = renamed("fill", "ZeroBackward0")
assign = renamed("fill", "FillBackward3")
