"""Operations that draw random numbers. None has a gradient with regard to what the numbers are drawn by, which is 0 as in
torch; dropout has one with regard to what it drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradx.backends.kernels.philox import State
from gradx.backends.kernels.random import keep_scale
from gradx.op import op, renamed
from gradx.ops.constant import zeros_like

if TYPE_CHECKING:
    from gradx.tensor import Operand, Tensor, TensorMask


@op(name="BernoulliBackward0", p=lambda g: zeros_like(g))
def bernoulli(p: Tensor, state: State) -> Tensor:
    """1 with the probability that is at its place in `p`, else 0."""


@op(g=lambda g, kept, scale: dropout_backward(g, kept, scale))
def dropout_backward(g: Tensor, kept: TensorMask, scale: float) -> Tensor:
    """`g` times `scale` where `kept`, else 0: the gradient of dropout, and its own."""


@op(name="NativeDropoutBackward0", input=lambda g, out1, p: dropout_backward(g, out1, keep_scale(p)))
def dropout(input: Tensor, p: float, state: State) -> tuple[Tensor, Tensor]:
    """`input` over `1 - p`, or 0 with probability `p`; and where it is kept."""


@op(name="NormalBackward3", mean=lambda g: zeros_like(g), std=lambda g: zeros_like(g))
def shifted(z: Operand, mean: Operand, std: Operand) -> Tensor:
    """Standard normal numbers with another mean and deviation, in the dtype of `z`."""


shifted_by_mean = renamed("shifted", "NormalBackward1")  # a deviation that is a number
shifted_by_std = renamed("shifted", "NormalBackward2")  # a mean that is a number

# What is written over a tensor in place: torch has a name for the node of each.
uniform_copy = renamed("copy", "UniformBackward0")
normal_copy = renamed("copy", "NormalBackward0")
random_copy = renamed("copy", "RandomBackward2")
random_to_copy = renamed("copy", "RandomBackward1")
random_between_copy = renamed("copy", "RandomBackward0")
bernoulli_copy = renamed("copy", "BernoulliBackward2")
bernoulli_tensor_copy = renamed("copy", "BernoulliBackward1")
