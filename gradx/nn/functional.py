"""torch.nn.functional's face: the same names and arguments.

>>> import gradx
>>> import gradx.nn.functional as F
>>> F.softmax(gradx.tensor([0.0, 0.0]), dim=0)
tensor([0.5000, 0.5000])
"""

from __future__ import annotations

import warnings
from typing import Any

from gradx import creation, dtypes, random
from gradx.autocasting import adapted, listed
from gradx.backends import backend_of
from gradx.inplace import check_writable, overwrite
from gradx.modes import mode
from gradx.ops import activation, loss, magnitude, matmul, normalization, select, statistics
from gradx.ops import random as random_ops
from gradx.ops import softmax as _softmax
from gradx.ops.activation import elu, leaky_relu, logsigmoid, sigmoid, silu, softplus, tanh
from gradx.ops.classification import cross_entropy, nll_loss
from gradx.ops.loss import mse_loss
from gradx.ops.shape import _t
from gradx.samples import S, T, samples
from gradx.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "gelu",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
]


PAIRS = (S(T(3, 4), T(3, 4)), S(T(3, 4), T(3, 4), reduction="sum"), S(T(3), T(3), reduction="none"))


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


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(input, 0)`, elementwise; with `inplace` written over `input`."""
    return input.relu_() if inplace else activation.relu(input)


@samples(S(T(3, 4), 1), oracle="nn.functional.softmin")
def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The softmax of `-input`."""
    return softmax(-input, dim, _stacklevel, dtype)


@samples(S(T(2, 3), T(4, 3), T(4)), S(T(3), T(4, 3)), S(T(2, 3), T(3)), oracle="nn.functional.linear")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias`.

    Args:
        input: of shape (..., in_features).
        weight: of shape (out_features, in_features).
        bias: of shape (out_features,).
    """
    if mode.autocast is not None:
        input, weight, bias = adapted("linear", (input, weight, bias))
    if matmul.fit_linear(input, weight, bias):
        return matmul._linear(input, weight, bias)  # type: ignore[arg-type]
    transposed = _t(weight, (1, 0)) if weight.ndim == 2 else weight
    if bias is not None and input.ndim == 2 and weight.ndim == 2:
        return matmul.addmm(bias, input, transposed)
    product = matmul.matmul(input, transposed)
    return product if bias is None else product + bias


@samples(*PAIRS, oracle="nn.functional.l1_loss")
@listed
def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`|input - target|`: its mean, its sum, or, for "none", as it is."""
    return loss.reduced(magnitude.abs(input - target), reduction)


@samples(S(T(3, 4)), S(T(3, 4), 1.0, 0), oracle="nn.functional.normalize")
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`input` divided by its p-norm along `dim`, or by `eps` if that is larger."""
    return input / select.clamp(statistics.norm(input, p, dim, True), min=eps)


@samples(S(T(3, 4)), S(T(3, 4), approximate="tanh"), S(T(), approximate="tanh"), oracle="nn.functional.gelu")
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """`input * P(X <= input)` for a standard normal X (Hendrycks and Gimpel, 2016).

    Args:
        approximate: "none" for P by the error function, "tanh" for an approximation by tanh.

    Raises:
        RuntimeError: `approximate` is neither "none" nor "tanh".
    """
    if approximate == "none":
        return activation.gelu(input)
    if approximate != "tanh":
        raise RuntimeError(f"approximate argument must be either none or tanh. It is {approximate!r}.")
    return activation.gelu_tanh(input)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zero with probability `p`, else divided by `1 - p`; `input` itself if not `training`.

    What is zero is drawn on the device of `input`, by the sequence that `manual_seed` starts.

    Raises:
        ValueError: `p` is not from 0 to 1.
        RuntimeError: `input` holds whole numbers.
        NotImplementedError: it holds complex ones.

    >>> import gradx
    >>> _ = gradx.manual_seed(0)
    >>> dropout(gradx.ones(4))
    tensor([0., 2., 2., 2.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    if input.is_complex():
        raise NotImplementedError(f"\"bernoulli_scalar\" not implemented for '{input.dtype.title}'. Drop its parts.")
    if not input.is_floating_point():
        kinds = f"result type {dtypes.get_default_dtype().title} can't be cast to the desired output type {input.dtype.title}"
        raise RuntimeError(f"{kinds}. Dropout is of floating-point numbers.")
    if inplace:
        check_writable(input)
    dropped, _ = random_ops.dropout(input, p, random.default_generator.take(input.numel()))
    if inplace:
        overwrite(input, dropped)
    return input if inplace else dropped


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """For each class index a row of zeros with a one in its place.

    Args:
        tensor: int64 class indices, of any shape.
        num_classes: the length of the rows; -1 for one more than the largest index.

    >>> import gradx
    >>> one_hot(gradx.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor. This one holds {tensor.dtype}."
        )
    if tensor.numel() and tensor.min().item() < 0:
        raise RuntimeError("Class values must be non-negative.")
    classes = int(tensor.max().item()) + 1 if num_classes == -1 else num_classes
    if tensor.numel() and tensor.max().item() >= classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    places = creation.arange(classes, device=tensor.device)
    hot: Tensor = tensor.unsqueeze(-1) == places
    return hot.long()


@samples(S(T(2, 3, 4), (4,)), S(T(2, 3, 4), (3, 4), T(3, 4), T(3, 4)), oracle="nn.functional.layer_norm")
@listed
def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """`(input - mean) / sqrt(variance + eps) * weight + bias` over the last dimensions (Ba, Kiros and Hinton, 2016).

    Args:
        normalized_shape: the shape of those dimensions, and of `weight` and `bias`.
    """
    shape = tuple(normalized_shape)
    if tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape {['*', *shape]}, but got input of size "
            f"{list(input.shape)}"
        )
    dims = tuple(range(input.dim() - len(shape), input.dim()))
    return normalization.layer_norm(input, dims, weight, bias, eps)


@samples(*PAIRS, S(T(3), T(3), beta=0.5), oracle="nn.functional.smooth_l1_loss")
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """`d**2 / (2 * beta)` where `d = |input - target|` is below `beta`, else `d - beta / 2` (Girshick, 2015).

    Raises:
        RuntimeError: `beta` is negative.
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta. It is {beta}.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return loss.reduced(loss._smooth_l1_loss(input, target, beta), reduction)


@samples(*PAIRS, S(T(3), T(3), delta=0.5), oracle="nn.functional.huber_loss")
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """`d**2 / 2` where `d = |input - target|` is at most `delta`, else `delta * (d - delta / 2)` (Huber, 1964).

    Raises:
        RuntimeError: `delta` is not positive.
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta. It is {delta}.")
    return loss.reduced(loss._huber_loss(input, target, float(delta)), reduction)


CHANCES = T(3, 4, low=0.3, high=0.7)


@samples(
    S(CHANCES, CHANCES),
    S(CHANCES, CHANCES, reduction="sum"),
    S(CHANCES, CHANCES, T(4, low=0.5, grad=False), reduction="none"),
    oracle="nn.functional.binary_cross_entropy",
)
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """`-(target * log(input) + (1 - target) * log(1 - input))`, the logarithms not below -100.

    Raises:
        ValueError: the shapes differ.
        RuntimeError: a probability in `input` is not from 0 to 1. On CUDA that goes unchecked: it would have to wait.
    """
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
            "Please ensure they have the same size."
        )
    if backend_of(input.array).synchronous and not ((input >= 0) & (input <= 1)).all():
        raise RuntimeError("all elements of input should be between 0 and 1. Use binary_cross_entropy_with_logits.")
    losses = loss._binary_cross_entropy(input, target)
    return loss.reduced(losses if weight is None else losses * weight, reduction)


@samples(
    *PAIRS, S(T(3, 4), T(3, 4), T(4, low=0.5, grad=False)), oracle="nn.functional.binary_cross_entropy_with_logits"
)
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of `sigmoid(input)`, without overflow.

    Args:
        pos_weight: of the loss where the target is 1; broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    if input.shape != target.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    losses = loss._binary_cross_entropy_with_logits(input, target, pos_weight)
    return loss.reduced(losses if weight is None else losses * weight, reduction)
