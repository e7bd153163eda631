"""Normalisation: elements less their mean, over their standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.op import elementwise
from gradx.ops.elementwise import rsqrt
from gradx.ops.statistics import _var
from gradx.ops.transfer import cast

if TYPE_CHECKING:
    from gradx.tensor import Tensor, TensorMask


def _scaled(value: Any, weight: Any, variance: Any, eps: float) -> Any:
    scale = rsqrt(variance + eps)
    return value * (scale if weight is None else scale * weight)


def _kernel(input: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Any:
    result = _scaled(input - mean, weight, variance, eps)
    return cast(result if bias is None else result + bias, input.dtype)


@elementwise(
    name="NativeLayerNormBackward0",
    kernel=_kernel,
    input=lambda g, variance, weight, eps: _scaled(g, weight, variance, eps),
    mean=lambda g, variance, weight, eps: -_scaled(g, weight, variance, eps),
    variance=lambda g, input, mean, variance, weight, eps: (
        g * _scaled(input - mean, weight, variance, eps) * (-0.5 / (variance + eps))
    ),
    weight=lambda g, input, mean, variance, eps: g * _scaled(input - mean, None, variance, eps),
    bias=lambda g: g,
)
def _normalized(
    input: Tensor,
    mean: TensorMask,
    variance: TensorMask,
    weight: TensorMask | None,
    bias: TensorMask | None,
    eps: float,
) -> Tensor:
    """`(input - mean) / sqrt(variance + eps) * weight + bias`, in the dtype of `input`."""


def layer_norm(input: Tensor, dim: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`input` normalised over the dimensions `dim`. Halves have their mean and variance in float32."""
    wide = cast(input, dtypes.float32.dtype) if input.array.dtype.char in dtypes.HALVES else input
    variance, mean = _var(wide, dim, 0, True)
    return _normalized(input, mean, variance, weight, bias, eps)
