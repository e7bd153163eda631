"""Choosing between values: where, maximum, minimum, clamp. At ties and kinks the gradient is torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.op import elementwise
from gradx.ops.compare import eq, ge, gt, le, logical_and, logical_or, lt
from gradx.ops.transfer import cast
from gradx.samples import TENSORS, Mask, S, T, samples
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Operand, Tensor, TensorMask


@elementwise(
    promote="common",
    name="WhereBackward0",
    input=lambda g, condition: where(condition, g, 0),
    other=lambda g, condition: where(condition, 0, g),
)
def _where(condition: TensorMask, input: Operand, other: Operand) -> Tensor:
    """`where` with at least one array among its values."""


@samples(S(Mask(3, 4), T(3, 4), T(3, 4)), S(Mask(3, 1), T(4), T()), S(Mask(3), T(3), 0.0), S(Mask(3), 1.5, T(3)))
def where(condition: TensorMask, input: Operand, other: Operand) -> Tensor:
    """`input` where `condition` holds, `other` elsewhere; all three broadcast.

    Args:
        condition: truth values.

    >>> import gradx
    >>> gradx.where(gradx.tensor([True, False]), gradx.tensor([1.0, 2.0]), 0)
    tensor([1., 0.])
    """
    result: Tensor = _where(condition, input, other)
    if isinstance(condition, Variable) and isinstance(input, (int, float)) and isinstance(other, (int, float)):
        common = dtypes.result_dtype([dtypes.Operand(dtypes.scalar_dtype(v).dtype, 0) for v in (input, other)])
        return cast(result, common)
    return result


@elementwise(
    name=("MaskedFillBackward0", "MaskedFillBackward1"),
    input=lambda g, mask: where(mask, 0, g),
    value=lambda g, mask: where(mask, g, 0),
)
def _masked_fill(input: Tensor, mask: TensorMask, value: TensorMask) -> Tensor:
    """`masked_fill` with a value of any dtype."""


@samples(S(T(3, 4), Mask(3, 4), 0.5), S(T(3, 4), Mask(4), T()), S(T(4), Mask(3, 1), -1), S(T(), Mask(), 2.0))
def masked_fill(input: Tensor, mask: TensorMask, value: Operand) -> Tensor:
    """`input` with `value`, a number or a tensor without dimensions, where `mask` holds, in the dtype of `input`.

    Raises:
        RuntimeError: `mask` holds no truth values, or `value` has dimensions.

    >>> import gradx
    >>> gradx.masked_fill(gradx.tensor([1.0, 2.0]), gradx.tensor([True, False]), 9)
    tensor([9., 2.])
    """
    if isinstance(mask, Variable) and mask.array.dtype.kind != "b":
        found = dtypes.of_numpy(mask.array.dtype).type_name
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {found}")
    if isinstance(value, Variable) and value.array.ndim:
        raise RuntimeError(
            f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {value.array.ndim} dimension(s)."
        )
    return _masked_fill(input, mask, value)  # type: ignore[arg-type]


@samples(*TENSORS)
@elementwise(
    promote="common",
    input=lambda g, input, other: where(lt(input, other), 0, where(eq(input, other), g / 2, g)),
    other=lambda g, input, other: where(gt(input, other), 0, where(eq(input, other), g / 2, g)),
)
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements, NaN if either is; where they are equal, each gets half of the gradient.

    >>> import gradx
    >>> gradx.maximum(gradx.tensor([1.0, 5.0]), gradx.tensor([3.0, 2.0]))
    tensor([3., 5.])
    """


@samples(*TENSORS)
@elementwise(
    promote="common",
    input=lambda g, input, other: where(gt(input, other), 0, where(eq(input, other), g / 2, g)),
    other=lambda g, input, other: where(lt(input, other), 0, where(eq(input, other), g / 2, g)),
)
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements, NaN if either is; where they are equal, each gets half of the gradient.

    >>> import gradx
    >>> gradx.minimum(gradx.tensor([1.0, 5.0]), gradx.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """


def _inside(input: Any, min: Any, max: Any) -> Any:
    """Where clamp leaves `input` alone, the bounds included."""
    if min is None:
        return le(input, max)
    return ge(input, min) if max is None else logical_and(ge(input, min), le(input, max))


@elementwise(
    promote="common",
    name=("ClampBackward1", "ClampBackward0"),
    input=lambda g, input, min, max: where(_inside(input, min, max), g, 0),
    min=lambda g, input, min, max: where(
        lt(input, min) if max is None else logical_and(lt(input, min), lt(min, max)), g, 0
    ),
    max=lambda g, input, min, max: where(
        gt(input, max) if min is None else logical_or(gt(input, max), lt(max, min)), g, 0
    ),
)
def _clamp(input: Tensor, min: Operand | None, max: Operand | None) -> Tensor:
    """`clamp` with at least one bound."""


@samples(S(T(3, 4), -0.5, 0.5), S(T(3, 4), min=-0.5), S(T(3, 4), max=0.7), S(T(3, 4), T(4, high=0.0), T(4, low=0.0)))
def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """`input` limited to `min <= input <= max`, elementwise; on the bounds the gradient passes, as in torch.

    Raises:
        RuntimeError: neither bound is given.

    >>> import gradx
    >>> gradx.clamp(gradx.tensor([-1.0, 0.2, 3.0]), 0, 1)
    tensor([0.0000, 0.2000, 1.0000])
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    return _clamp(input, min, max)
