"""CUDA kernels for losses over classes: at most three launches forward, one backward.

A target that is no class gives NaN: to raise an error would be to wait for the device.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any, Final

import cupy

from gradx.backends.cuda_kernels import ACCUMULATOR, SHARE, TYPE, launch

_TARGET: Final = {"int64": "long long", "uint8": "unsigned char"}
_SHARES: Final = 256  # of many losses, each summed by one block


def cross_entropy(
    input: cupy.ndarray, target: cupy.ndarray, weight: cupy.ndarray | None, labels: Any
) -> tuple[cupy.ndarray, ...]:
    """The loss, the sums of the weights, the largest logits, and the logarithms of the sums of exponentials.

    Args:
        input: of shape (N, C, ...), float16, bfloat16, float32 or float64.
        target: of shape (N, ...), int64 or uint8.
        weight: of shape (C,) and the dtype of `input`.
    """
    reduction, ignored, smoothing = labels
    input, target = cupy.ascontiguousarray(input), cupy.ascontiguousarray(target)
    char, kept = ACCUMULATOR[input.dtype.char], (input.shape[0], 1, *input.shape[2:])
    losses, weights = cupy.empty((2, *target.shape), char)
    top, log_sum = cupy.empty((2, *kept), char)
    sums = cupy.empty(2, char)
    if target.size:
        n, inner = input.shape[1], prod(input.shape[2:])
        defines = (f"TARGET={_TARGET[target.dtype.name]}", f"SMOOTH={int(smoothing != 0)}")
        pointers = (input, target, 0 if weight is None else cupy.ascontiguousarray(weight))
        results = (losses, weights, top, log_sum, sums)
        arguments = (*pointers, *results, target.size, n, inner, ignored, float(smoothing))
        launch("cross_entropy", defines, (input,), n, target.size, inner, arguments)
    return _reduced(losses, weights, sums, input.dtype, reduction), sums, top, log_sum


def nll_loss(
    input: cupy.ndarray, target: cupy.ndarray, weight: cupy.ndarray | None, reduction: str, ignored: int
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """The negative log likelihood, and the sum of the weights, of shape ()."""
    char = ACCUMULATOR[input.dtype.char]
    losses, weights = cupy.empty((2, *target.shape), char)
    sums = cupy.empty(2, char)
    kernel = _picked(input.dtype.char, weight is not None)
    kernel(target, input, input if weight is None else weight, input.shape[1], ignored, losses, weights)
    return _reduced(losses, weights, sums, input.dtype, reduction), sums[0]


def _reduced(
    losses: cupy.ndarray, weights: cupy.ndarray, sums: cupy.ndarray, dtype: Any, reduction: str
) -> cupy.ndarray:
    """The losses reduced, and the sum of their weights in sums[0]; one launch, two for many losses."""
    loss = losses.astype(dtype, copy=False) if reduction == "none" else cupy.empty((), dtype)
    shares = min(_SHARES, -(-losses.size // SHARE))
    if shares > 1:
        parts = cupy.empty((2, shares), losses.dtype)
        _weighted(losses, weights, parts[0], parts[1], False)
        losses, weights = parts
    _weighted(losses, weights, cupy.empty((), dtype) if reduction == "none" else loss, sums[:1], reduction == "mean")
    return loss


def _weighted(losses: cupy.ndarray, weights: cupy.ndarray, loss: cupy.ndarray, total: cupy.ndarray, mean: bool) -> None:
    shares = total.size
    defines = (f"RESULT={TYPE[loss.dtype.char]}", f"MEAN={int(mean)}")
    arguments = (losses, weights, loss, total, losses.size, shares)
    launch("weighted", defines, (losses, weights), -(-losses.size // shares), shares, 1, arguments)


def cross_entropy_backward(
    g: cupy.ndarray,
    input: cupy.ndarray,
    target: cupy.ndarray,
    weight: cupy.ndarray | None,
    sums: cupy.ndarray,
    top: cupy.ndarray,
    log_sum: cupy.ndarray,
    labels: Any,
    targets: bool,
) -> cupy.ndarray:
    """The gradient of the logits; without `targets` the part with the softmax alone. One launch."""
    reduction, ignored, smoothing = labels
    flags = (weight is not None, smoothing != 0, reduction == "mean", targets)
    kernel = _cross_entropy_slope(input.dtype.char, *flags)
    constants = (input if weight is None else weight, sums, input.shape[1], ignored, float(smoothing))
    return kernel(input, target[:, None], g, top, log_sum, *constants)


def nll_loss_backward(
    g: cupy.ndarray,
    total: cupy.ndarray,
    target: cupy.ndarray,
    weight: cupy.ndarray | None,
    shape: tuple[int, ...],
    reduction: str,
    ignored: int,
) -> cupy.ndarray:
    """-g times the weight at the targets, over the sum of the weights for "mean"; zeros elsewhere. One launch."""
    out = cupy.empty(shape, g.dtype)
    kernel = _nll_slope(g.dtype.char, weight is not None, reduction == "mean")
    label = cupy.broadcast_to(target[:, None], shape)
    g = g if reduction != "none" else g[:, None]
    kernel(label, g, g if weight is None else weight, total, shape[1], ignored, out)
    return out


# ---- elementwise, with a look at the class ---------------------------------------------------------------------

_CLASS: Final = """
typedef {wide} Wide;
const Wide nan = __longlong_as_double(0x7ff8000000000000LL);
const bool counts = label != ignored, inside = 0 <= label && label < classes;
const Wide own = !counts ? Wide(0) : !inside ? nan : {weight};
"""


def _class_kernel(name: str, char: str, weighted: bool, inputs: str, outputs: str, body: str) -> Any:
    own = "Wide(weight[label])" if weighted else "Wide(1)"
    head = _CLASS.format(wide=TYPE[ACCUMULATOR[char]], weight=own)
    return cupy.ElementwiseKernel(inputs, outputs, head + body, f"gradx_{name}", reduce_dims=False)


@functools.cache
def _picked(char: str, weighted: bool) -> Any:
    body = """
    ptrdiff_t at[_ind.ndim + 1];
    for (int d = 0; d < _ind.ndim; ++d) at[d + (d > 0)] = _ind.get()[d];
    at[1] = label;
    loss = counts ? inside ? -own * Wide(input[at]) : nan : Wide(0);
    weights = own;
    """
    inputs = "L label, raw T input, raw T weight, int64 classes, int64 ignored"
    return _class_kernel("nll_loss", char, weighted, inputs, "A loss, A weights", body)


@functools.cache
def _nll_slope(char: str, weighted: bool, mean: bool) -> Any:
    body = f"""
    const Wide slope = label == _ind.get()[1] || !inside ? -own * Wide(g) {"/ Wide(total[0])" if mean else ""} : Wide(0);
    out = counts ? slope : Wide(0);
    """
    inputs = "L label, T g, raw T weight, raw A total, int64 classes, int64 ignored"
    return _class_kernel("nll_loss_backward", char, weighted, inputs, "T out", body)


@functools.cache
def _cross_entropy_slope(char: str, weighted: bool, smooth: bool, mean: bool, targets: bool) -> Any:
    soft = "Wide(weight[c]) * share" if weighted else "share"
    body = f"""
    const ptrdiff_t c = _ind.get()[1];
    const Wide hard = own * Wide(1 - smoothing), share = Wide(smoothing / classes);
    Wide slope = exp(Wide(x) - top - log_sum) * (hard {"+ share * sums[1]" if smooth else ""});
    {"if (c == label) slope -= hard;" if targets else ""}
    {f"slope -= {soft};" if targets and smooth else ""}
    out = counts ? slope * Wide(g) {"/ sums[0]" if mean else ""} : Wide(0);
    """
    inputs = (
        "T x, L label, G g, A top, A log_sum, raw T weight, raw A sums, int64 classes, int64 ignored, float64 smoothing"
    )
    return _class_kernel("cross_entropy_backward", char, weighted, inputs, "T out", body)
