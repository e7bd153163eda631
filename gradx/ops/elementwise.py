"""Elementwise operations. Operands broadcast and are promoted as in torch; integers become the default dtype where the
result is not whole. A rule gives the gradient for the broadcast shape: the engine sums it back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradx import dtypes
from gradx.op import elementwise, renamed
from gradx.ops.compare import eq, ge, logical_and
from gradx.ops.complexes import real
from gradx.ops.constant import zeros_like
from gradx.ops.select import where
from gradx.ops.transfer import cast
from gradx.out import into
from gradx.samples import BINARY, POSITIVE, UNARY, S, T, samples
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Operand, Tensor


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@elementwise(promote="common", name="AddBackward0", input=lambda g: g, other=lambda g: g)
def _add(input: Operand, other: Operand) -> Tensor:
    """The sum, without torch's `alpha`."""


@elementwise(
    promote="common",
    name="AddBackward0",
    kernel=lambda input, other, alpha: input + other * alpha,
    input=lambda g: g,
    other=lambda g, alpha: g * alpha,
)
def _add_scaled(input: Operand, other: Operand, alpha: float) -> Tensor:
    """The sum, with a multiple of `other`."""


_sub_scaled = renamed("add_scaled", "SubBackward0")


def _fitting(alpha: Any, input: Operand, other: Operand) -> Any:
    """`alpha`, a truth value where the sum is one.

    Raises:
        RuntimeError: the sum's dtype has no room for such a multiple.
    """
    kind = dtypes.result_dtype(dtypes.operands((input, other))).kind
    if isinstance(alpha, bool) and kind != "b":
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and kind in "biu":
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, complex) and kind != "c":
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    return bool(alpha) if kind == "b" else alpha


@samples(*BINARY, S(T(3), T(3), alpha=2))
def add(input: Operand, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """`input + alpha * other`, elementwise.

    >>> import gradx
    >>> gradx.add(gradx.tensor([1.0, 2.0]), 10)
    tensor([11., 12.])
    """
    if out is not None:
        return into(out, "add", (input, other), lambda: add(input, other, alpha=alpha))  # type: ignore[no-any-return]
    if alpha == 1:
        return _add(input, other)
    return _add_scaled(input, other, _fitting(alpha, input, other))


@elementwise(
    promote="common",
    name="SubBackward0",
    no_bools="Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use "
    "the `~` or `logical_not()` operator instead.",
    input=lambda g: g,
    other=lambda g: -g,
)
def _sub(input: Operand, other: Operand) -> Tensor:
    """The difference, without torch's `alpha`."""


@samples(*BINARY, S(T(3), T(3), alpha=2))
def sub(input: Operand, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """`input - alpha * other`, elementwise.

    >>> import gradx
    >>> gradx.sub(gradx.tensor([1.0, 2.0]), gradx.tensor([0.5, 0.5]))
    tensor([0.5000, 1.5000])
    """
    if out is not None:
        return into(out, "sub", (input, other), lambda: sub(input, other, alpha=alpha))  # type: ignore[no-any-return]
    if alpha == 1 or any(operand.dtype.kind == "b" for operand in dtypes.operands((input, other))):
        return _sub(input, other)  # which raises for truth values
    return _sub_scaled(input, other, -_fitting(alpha, input, other))  # type: ignore[no-any-return]


@samples(*BINARY)
@elementwise(promote="common", input=lambda g, other: g * other, other=lambda g, input: g * input)
def mul(input: Operand, other: Operand) -> Tensor:
    """`input * other`, elementwise.

    >>> import gradx
    >>> gradx.mul(gradx.tensor([1.0, 2.0]), gradx.tensor([[3.0], [4.0]]))
    tensor([[3., 6.],
            [4., 8.]])
    """


def _pow_exponent(g: Any, input: Any, exponent: Any, out: Any) -> Any:
    """g * out * log(input), and 0 where 0 is raised to a power that is not negative."""
    if isinstance(input, (int, float, complex)):
        input = zeros_like(exponent) + input
    constant = logical_and(eq(input, 0), ge(real(exponent), 0))
    return g * where(constant, 0, out * log(where(constant, 1, input)))


@elementwise(
    name="PowBackward0",
    input=lambda g, input, exponent: (
        zeros_like(g) if exponent == 0 else g * (exponent * _pow_scalar(input, exponent - 1))
    ),
)
def _pow_scalar(input: Tensor, exponent: complex) -> Tensor:
    """`pow` to a number, for an `input` of the result's dtype."""


@elementwise(
    promote="common",
    name=("PowBackward2", "PowBackward1"),
    input=lambda g, input, exponent: where(eq(exponent, 0), 0, g * (exponent * _pow(input, exponent - 1))),
    exponent=_pow_exponent,
)
def _pow(input: Operand, exponent: Tensor) -> Tensor:
    """`pow` to the elements of a tensor."""


@samples(
    S(T(3, 4, low=0.2), T(4)),
    S(T(3, 4), 2),
    S(T(3, 4), 3.0),
    S(T(3, 4, low=0.2), -0.5),
    S(T(3), 0),
    S(2.0, T(3)),
    S(T(2, 3, low=0.2), T()),
)
def pow(input: Operand, exponent: Operand, *, out: Tensor | None = None) -> Tensor:
    """`input ** exponent`, elementwise.

    The gradient for the base is 0 where the exponent is 0, and that for the exponent is 0 where the base is 0 and the
    exponent is not negative, as in torch.

    >>> import gradx
    >>> gradx.pow(gradx.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if out is not None:
        return into(out, "pow", (input, exponent), lambda: pow(input, exponent))  # type: ignore[no-any-return]
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    if not isinstance(exponent, (int, float, complex)):
        return _pow(input, exponent)
    base: Any = input
    if isinstance(base, Variable):
        common = dtypes.result_dtype(dtypes.operands((base, exponent)))
        base = cast(base, common) if base.array.dtype != common else base  # type: ignore[arg-type]
    return _pow_scalar(base, exponent)


@samples(*UNARY)
@elementwise(input=lambda g: -g)
def neg(input: Tensor) -> Tensor:
    """`-input`, elementwise.

    >>> import gradx
    >>> gradx.neg(gradx.tensor([1.0, -2.0]))
    tensor([-1.,  2.])
    """


@samples(S(T(3, 4, low=0.3)), S(T(2, low=-3.0, high=-1.0)))
@elementwise(promote="float", input=lambda g, out: -g * (out * out))
def reciprocal(input: Tensor) -> Tensor:
    """`1 / input`, elementwise.

    >>> import gradx
    >>> gradx.reciprocal(gradx.tensor([2.0, 4.0]))
    tensor([0.5000, 0.2500])
    """


@samples(*UNARY)
@elementwise(input=lambda g: zeros_like(g))
def floor(input: Tensor) -> Tensor:
    """The largest whole number not above each element; its gradient is 0."""


@samples(*UNARY)
@elementwise(input=lambda g: zeros_like(g))
def ceil(input: Tensor) -> Tensor:
    """The smallest whole number not below each element; its gradient is 0."""


@elementwise(name="RoundBackward0", input=lambda g: zeros_like(g))
def _round(input: Tensor, decimals: int) -> Tensor:
    """`round` with a number of decimals."""


_round_decimals = renamed("round", "RoundBackward1")


@samples(*UNARY, S(T(3, 4), decimals=1), S(T(3), decimals=-1))
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Each element rounded to the nearest whole number, or to `decimals` places, halves to even; its gradient is 0.

    >>> import gradx
    >>> gradx.round(gradx.tensor([0.5, 1.25]), decimals=1)
    tensor([0.5000, 1.2000])
    """
    return _round(input, 0) if decimals == 0 else _round_decimals(input, decimals)


@samples(*UNARY)
@elementwise(input=lambda g: zeros_like(g))
def trunc(input: Tensor) -> Tensor:
    """Each element without its fraction; its gradient is 0."""


# ---- exponentials, logarithms, roots ------------------------------------------------------------------------------------


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, out: g * out)
def exp(input: Tensor) -> Tensor:
    """e to the power of each element.

    >>> import gradx
    >>> gradx.exp(gradx.tensor([0.0, 1.0]))
    tensor([1.0000, 2.7183])
    """


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, out: g * (out + 1))
def expm1(input: Tensor) -> Tensor:
    """`exp(input) - 1`, exact near 0.

    >>> import gradx
    >>> gradx.expm1(gradx.tensor([1e-10]))
    tensor([1.0000e-10])
    """


@samples(*POSITIVE)
@elementwise(promote="float", input=lambda g, input: g / input)
def log(input: Tensor) -> Tensor:
    """The natural logarithm, elementwise: -inf at 0, NaN below.

    >>> import gradx
    >>> gradx.log(gradx.tensor([1.0, 2.0]))
    tensor([0.0000, 0.6931])
    """


@samples(*POSITIVE)
@elementwise(promote="float", input=lambda g, input: g / (input * math.log(2)))
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2, elementwise.

    >>> import gradx
    >>> gradx.log2(gradx.tensor([8.0]))
    tensor([3.])
    """


@samples(*POSITIVE)
@elementwise(promote="float", input=lambda g, input: g / (input * math.log(10)))
def log10(input: Tensor) -> Tensor:
    """The logarithm to base 10, elementwise.

    >>> import gradx
    >>> gradx.log10(gradx.tensor([0.5, 50.0]))
    tensor([-0.3010,  1.6990])
    """


@samples(S(T(3, 4, low=-0.8)), S(T(low=-0.8)))
@elementwise(promote="float", name="Log1PBackward0", input=lambda g, input: g / (input + 1))
def log1p(input: Tensor) -> Tensor:
    """`log(1 + input)`, exact near 0.

    >>> import gradx
    >>> gradx.log1p(gradx.tensor([1e-10]))
    tensor([1.0000e-10])
    """


@samples(*POSITIVE)
@elementwise(promote="float", input=lambda g, out: g / (2 * out))
def sqrt(input: Tensor) -> Tensor:
    """The square root, elementwise; its gradient at 0 is inf.

    >>> import gradx
    >>> gradx.sqrt(gradx.tensor([4.0, 2.0]))
    tensor([2.0000, 1.4142])
    """


@samples(*POSITIVE)
@elementwise(promote="float", input=lambda g, out: -0.5 * g * (out * out * out))
def rsqrt(input: Tensor) -> Tensor:
    """`1 / sqrt(input)`, elementwise.

    >>> import gradx
    >>> gradx.rsqrt(gradx.tensor([4.0]))
    tensor([0.5000])
    """


@samples(*UNARY)
@elementwise(name="PowBackward0", input=lambda g, input: g * (2 * input))
def square(input: Tensor) -> Tensor:
    """`input * input`, elementwise.

    >>> import gradx
    >>> gradx.square(gradx.tensor([-3.0]))
    tensor([9.])
    """


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, input: g * exp(-(input * input)) * (2 / math.sqrt(math.pi)))
def erf(input: Tensor) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to each element.

    >>> import gradx
    >>> gradx.erf(gradx.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8427])
    """


# ---- trigonometric and hyperbolic ------------------------------------------------------------------------------------------


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, input: g * cos(input))
def sin(input: Tensor) -> Tensor:
    """The sine of each element, in radians.

    >>> import gradx
    >>> gradx.sin(gradx.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8415])
    """


@samples(*UNARY)
@elementwise(promote="float", input=lambda g, input: -g * sin(input))
def cos(input: Tensor) -> Tensor:
    """The cosine of each element, in radians.

    >>> import gradx
    >>> gradx.cos(gradx.tensor([0.0, 1.0]))
    tensor([1.0000, 0.5403])
    """


@samples(S(T(3, 4, low=-1.2, high=1.2)))
@elementwise(promote="float", input=lambda g, out: g * (1 + out * out))
def tan(input: Tensor) -> Tensor:
    """The tangent of each element, in radians."""
