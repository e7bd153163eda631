"""torch.nn.functional's face: the same names and arguments.

>>> import gradx
>>> import gradx.nn.functional as F
>>> F.softmax(gradx.tensor([0.0, 0.0]), dim=0)
tensor([0.5000, 0.5000])
"""

from __future__ import annotations

import warnings
from typing import Any

from gradx.ops import activation, elementwise, loss, reduce, select
from gradx.ops import softmax as _softmax
from gradx.ops.activation import relu, sigmoid, tanh
from gradx.ops.loss import cross_entropy, mse_loss, nll_loss
from gradx.ops.shape import transpose
from gradx.tensor import Tensor

__all__ = [
    "cross_entropy",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "nll_loss",
    "normalize",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
]


def _implicit_dim(name: str, ndim: int) -> int:
    """Torch's choice, deprecated there too, for a softmax without `dim`."""
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        UserWarning,
        stacklevel=3,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """`gradx.softmax`; without `dim` it warns, as torch does, and takes dimension 0 or 1."""
    return _softmax.softmax(input, _implicit_dim("softmax", input.dim()) if dim is None else dim, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """`gradx.log_softmax`; without `dim` it warns, as torch does, and takes dimension 0 or 1."""
    return _softmax.log_softmax(input, _implicit_dim("log_softmax", input.dim()) if dim is None else dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The softmax of `-input`."""
    return softmax(-input, dim, _stacklevel, dtype)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias`.

    Args:
        input: of shape (..., in_features).
        weight: of shape (out_features, in_features).
        bias: of shape (out_features,).
    """
    product = input @ (transpose(weight, 0, 1) if weight.dim() == 2 else weight)
    return product if bias is None else product + bias


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`input` where positive, `negative_slope * input` elsewhere."""
    return select.where(input > 0, input, input * negative_slope)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """`log(1 + exp(beta * input)) / beta`; `input` itself where `beta * input` exceeds `threshold`."""
    scaled = input * beta
    large = scaled > threshold
    return select.where(large, input, elementwise.log1p(elementwise.exp(select.where(large, 0.0, scaled))) / beta)


def silu(input: Tensor) -> Tensor:
    """`input * sigmoid(input)`."""
    return input * activation.sigmoid(input)


def logsigmoid(input: Tensor) -> Tensor:
    """`log(sigmoid(input))`, without underflow."""
    return select.minimum(input, input * 0) - elementwise.log1p(elementwise.exp(-elementwise.abs(input)))


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`|input - target|`: its mean, its sum, or, for "none", as it is."""
    return loss.reduced(elementwise.abs(input - target), reduction)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`input` divided by its p-norm along `dim`, or by `eps` if that is larger."""
    return input / select.clamp(reduce.norm(input, p, dim, True), min=eps)
