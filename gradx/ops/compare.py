"""Comparisons and logic, elementwise. Their results are truth values, which have no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradx.op import op
from gradx.samples import BINARY, UNARY, S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Operand, Tensor


@samples(*BINARY, differentiable=False)
@op(promote="common")
def eq(input: Operand, other: Operand) -> Tensor:
    """Where `input == other`.

    >>> import gradx
    >>> gradx.eq(gradx.tensor([1, 2]), 2)
    tensor([False,  True])
    """


@samples(*BINARY, differentiable=False)
@op(promote="common")
def ne(input: Operand, other: Operand) -> Tensor:
    """Where `input != other`."""


@samples(*BINARY, differentiable=False)
@op(promote="common")
def lt(input: Operand, other: Operand) -> Tensor:
    """Where `input < other`."""


@samples(*BINARY, differentiable=False)
@op(promote="common")
def le(input: Operand, other: Operand) -> Tensor:
    """Where `input <= other`."""


@samples(*BINARY, differentiable=False)
@op(promote="common")
def gt(input: Operand, other: Operand) -> Tensor:
    """Where `input > other`."""


@samples(*BINARY, differentiable=False)
@op(promote="common")
def ge(input: Operand, other: Operand) -> Tensor:
    """Where `input >= other`."""


@samples(*BINARY[:3], differentiable=False)
@op(promote="common")
def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Where both elements are true (not zero)."""


@samples(*BINARY[:3], differentiable=False)
@op(promote="common")
def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Where exactly one of the elements is true (not zero)."""


@samples(*BINARY[:3], differentiable=False)
@op(promote="common")
def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Where either element is true (not zero)."""


@samples(*UNARY, differentiable=False)
@op()
def logical_not(input: Tensor) -> Tensor:
    """Where the element is false (zero)."""


WHOLE = T(3, 4, low=0, high=9, integer=True)


@samples(S(WHOLE, WHOLE), S(WHOLE, 6), differentiable=False)
@op(promote="common")
def bitwise_and(input: Operand, other: Operand) -> Tensor:
    """`input & other`, bit by bit, for integers and truth values.

    >>> import gradx
    >>> gradx.bitwise_and(gradx.tensor([6, 5]), 3)
    tensor([2, 1])
    """


@samples(S(WHOLE, WHOLE), S(WHOLE, 6), differentiable=False)
@op(promote="common")
def bitwise_or(input: Operand, other: Operand) -> Tensor:
    """`input | other`, bit by bit, for integers and truth values."""


@samples(S(WHOLE, WHOLE), S(WHOLE, 6), differentiable=False)
@op(promote="common")
def bitwise_xor(input: Operand, other: Operand) -> Tensor:
    """`input ^ other`, bit by bit, for integers and truth values."""


@samples(S(WHOLE), differentiable=False)
@op()
def bitwise_not(input: Tensor) -> Tensor:
    """`~input`: every bit inverted, for integers and truth values."""


@samples(*UNARY, differentiable=False)
@op()
def isnan(input: Tensor) -> Tensor:
    """Where the element is NaN."""


@samples(*UNARY, differentiable=False)
@op()
def isinf(input: Tensor) -> Tensor:
    """Where the element is infinite."""


@samples(*UNARY, differentiable=False)
@op()
def isfinite(input: Tensor) -> Tensor:
    """Where the element is neither NaN nor infinite."""
