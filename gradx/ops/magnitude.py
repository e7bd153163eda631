"""Size and direction: abs, sign, sgn, angle, of real and of complex numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx.op import elementwise
from gradx.ops.compare import eq
from gradx.ops.complexes import complex, conj, is_complex, real
from gradx.ops.constant import zeros_like
from gradx.ops.elementwise import cos, sin
from gradx.ops.select import where
from gradx.samples import UNARY, S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@samples(*UNARY)
@elementwise(wirtinger=True, input=lambda g, input: g * sgn(input))
def abs(input: Tensor) -> Tensor:
    """The absolute value, elementwise, real also of complex numbers; its gradient at 0 is 0.

    >>> import gradx
    >>> gradx.abs(gradx.tensor([-1.5, 2.0]))
    tensor([1.5000, 2.0000])
    """


@samples(*UNARY)
@elementwise(input=lambda g: zeros_like(g))
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 as each element is negative, zero or positive; its gradient is 0.

    >>> import gradx
    >>> gradx.sign(gradx.tensor([-1.5, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """


def _sgn_rule(g: Any, input: Any, out: Any) -> Any:
    """What of `g` is at right angles to the direction, divided by the size."""
    if not is_complex(input):
        return zeros_like(g)
    size = abs(input)
    zero = eq(size, 0)
    return where(zero, 0, (g - out * real(g * conj(out))) / where(zero, 1, size))


@samples(S(T(3, 4)))
@elementwise(wirtinger=True, input=_sgn_rule)
def sgn(input: Tensor) -> Tensor:
    """`input / |input|`, elementwise, 0 at 0: the sign, and the direction of complex numbers.

    >>> import gradx
    >>> gradx.sgn(gradx.tensor([3 + 4j, 0j]))
    tensor([0.6000+0.8000j, 0.0000+0.0000j])
    """


def _angle_rule(g: Any, input: Any) -> Any:
    if not is_complex(input):
        return zeros_like(g)
    size = abs(input)
    zero = eq(size, 0)
    square = where(zero, 1, size * size)
    return where(zero, 0, input * 1j * (g / square))


@samples(S(T(3, 4)))
@elementwise(promote="float", wirtinger=True, input=_angle_rule)
def angle(input: Tensor) -> Tensor:
    """The angle of complex numbers in radians, from -pi to pi; of real ones 0 or pi, NaN of NaN.

    >>> import gradx
    >>> gradx.angle(gradx.tensor([1j, -1 + 0j]))
    tensor([1.5708, 3.1416])
    """


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers from their size and their angle in radians.

    >>> import gradx
    >>> gradx.polar(gradx.tensor([2.0]), gradx.tensor([0.0]))
    tensor([2.+0.j])
    """
    return complex(abs * cos(angle), abs * sin(angle))
