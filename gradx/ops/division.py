"""Division: the quotient, as it is or rounded, and the remainder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from gradx.op import elementwise, renamed
from gradx.ops.constant import zeros_like
from gradx.out import into
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Operand, Tensor


@elementwise(
    promote="float",
    name="DivBackward0",
    input=lambda g, other: g / other,
    other=lambda g, input, other: -g * input / (other * other),
)
def _div(input: Operand, other: Operand) -> Tensor:
    """The quotient as it is."""


@elementwise(
    promote="common",
    name="DivBackward2",
    input=lambda g: zeros_like(g),
    other=lambda g: zeros_like(g),
)
def _div_floor(input: Operand, other: Operand) -> Tensor:
    """The quotient rounded down."""


@elementwise(
    promote="common",
    name="DivBackward2",
    input=lambda g: zeros_like(g),
    other=lambda g: zeros_like(g),
)
def _div_trunc(input: Operand, other: Operand) -> Tensor:
    """The quotient rounded towards zero."""


DIVISORS = (S(T(3, 4), T(4, low=0.5)), S(T(2, 1), T(3, low=0.5)), S(T(3), 0.75), S(T(), T(2, low=-3.0, high=-1.0)))


@samples(*DIVISORS, S(T(4), T(3, 4, low=0.5), rounding_mode="floor"), S(T(4), 0.75, rounding_mode="trunc"))
def div(input: Operand, other: Operand, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """`input / other`, elementwise; integers give the default dtype.

    Args:
        rounding_mode: None, or "floor" or "trunc" for the quotient rounded down or towards zero, whose gradient is 0 and
            whose dtype is the operands'.

    Raises:
        RuntimeError: `rounding_mode` is none of these; or whole numbers are divided by zero and rounded.

    >>> import gradx
    >>> gradx.div(gradx.tensor([1, 2]), 4)
    tensor([0.2500, 0.5000])
    """
    if out is not None:
        return into(out, "div", (input, other), lambda: div(input, other, rounding_mode=rounding_mode))  # type: ignore[no-any-return]
    if rounding_mode is None:
        return _div(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return (_div_floor if rounding_mode == "floor" else _div_trunc)(input, other)


def _no_derivative(name: str) -> Callable[[Any], NoReturn]:
    def rule(g: Any) -> NoReturn:
        raise RuntimeError(
            f"derivative for aten::{name} is not implemented. It is 0 wherever there is one: to have that, use "
            "div(..., rounding_mode='floor')."
        )

    return rule


@samples(*DIVISORS, differentiable=False)
@elementwise(
    promote="common", name="NotImplemented", input=_no_derivative("floor_divide"), other=_no_derivative("floor_divide")
)
def floor_divide(input: Operand, other: Operand) -> Tensor:
    """`input / other` rounded down, elementwise. As in torch it has no gradient; `div` with a `rounding_mode` has one.

    >>> import gradx
    >>> gradx.floor_divide(gradx.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """


_floor_divide_in_place = renamed(
    "floor_divide",
    "NotImplemented",
    input=_no_derivative("floor_divide_"),
    other=_no_derivative("floor_divide_"),
)


@samples(*DIVISORS)
@elementwise(
    promote="common",
    name=("RemainderBackward0", "RemainderBackward1"),
    input=lambda g: g,
    other=lambda g, input, other: -g * _div_floor(input, other),
)
def remainder(input: Operand, other: Operand) -> Tensor:
    """What `floor_divide` leaves, elementwise: `input - other * floor(input / other)`, with the sign of `other`.

    >>> import gradx
    >>> gradx.remainder(gradx.tensor([7, -7]), 2)
    tensor([1, 1])
    """
