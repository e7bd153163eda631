"""CUDA kernels for losses over classes: at most three launches forward, one backward.

A target that is no class gives NaN: to raise an error would be to wait for the device.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any, Final

import cupy

from gradx.backends.cuda import kernels as cuda_kernels
from gradx.backends.cuda import slices as cuda_slices
from gradx.backends.cuda.kernels import SHARE
from gradx.backends.cuda.slices import ACCUMULATOR, TYPE, Operands, Slices

_TARGET: Final = {"int64": "long long", "uint8": "unsigned char"}
_SHARES: Final = 256  # of many losses, each summed by one block


def _labelled(input: cupy.ndarray, target: cupy.ndarray) -> Slices:
    """The input's slices along the classes, and the class indices as the second array."""
    if input.flags.c_contiguous and target.flags.c_contiguous:
        return Slices((input, target), input.shape[0], input.shape[1], prod(input.shape[2:]))
    slices = cuda_slices.along((input, cupy.broadcast_to(target[:, None], input.shape)), 1)
    target = target if slices.strides else cupy.ascontiguousarray(target)
    return slices._replace(arrays=(slices.arrays[0], target))


def _constant(weight: cupy.ndarray | None) -> Any:
    """The weights of the classes, or a null pointer."""
    return 0 if weight is None else cupy.ascontiguousarray(weight)


def _of_slices(g: cupy.ndarray) -> tuple[cupy.ndarray, int]:
    """A gradient that is one for each slice, or one for all, and its stride: 1 or 0."""
    return (g, 0) if not any(g.strides) else (cupy.ascontiguousarray(g), 1)


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
    char, kept = ACCUMULATOR[input.dtype.char], (input.shape[0], 1, *input.shape[2:])
    losses, weights = cupy.empty((2, *target.shape), char)
    top, log_sum = cupy.empty((2, *kept), char)
    sums = cupy.empty(2, char)
    if target.size:
        defines = (f"TARGET={_TARGET[target.dtype.name]}", f"SMOOTH={int(smoothing != 0)}")
        slices = _labelled(input, target)
        pointers = (*slices.arrays, _constant(weight), losses, weights, top, log_sum, sums)
        operands = Operands(input.dtype.char, 1, 1)
        cuda_slices.launch("cross_entropy", defines, operands, slices, pointers, (ignored, float(smoothing)))
    return _reduced(losses, weights, sums, input.dtype, reduction), sums, top, log_sum


def soft_cross_entropy(
    input: cupy.ndarray, target: cupy.ndarray, weight: cupy.ndarray | None, labels: Any
) -> tuple[cupy.ndarray, ...]:
    """The loss with class probabilities; for each sample their mass, the largest logit, and the logarithm of the sum of
    exponentials.

    Args:
        input, target: of shape (N, C, ...) and one dtype.
        weight: of shape (C,) and their dtype.
    """
    reduction, _, smoothing = labels
    char, kept = input.dtype.char, (input.shape[0], 1, *input.shape[2:])
    mass, top, log_sum = cupy.empty((3, *kept), ACCUMULATOR[char])
    losses = cupy.empty((input.shape[0], *input.shape[2:]), input.dtype if reduction == "none" else ACCUMULATOR[char])
    if losses.size:
        slices = cuda_slices.along((input, target), 1)
        pointers = (*slices.arrays, _constant(weight), losses, mass, top, log_sum)
        defines = (f"RESULT={TYPE[losses.dtype.char]}",)
        cuda_slices.launch("soft_cross_entropy", defines, Operands(char, 2, 1), slices, pointers, (float(smoothing),))
    if reduction != "none":
        divisor = losses.size if reduction == "mean" else 1
        losses = cuda_kernels.total(losses, tuple(range(losses.ndim)), False, divisor, input.dtype)
    return losses, mass, top, log_sum


def soft_cross_entropy_backward(
    g: cupy.ndarray,
    input: cupy.ndarray,
    target: cupy.ndarray | None,
    weight: cupy.ndarray | None,
    mass: cupy.ndarray | None,
    top: cupy.ndarray,
    log_sum: cupy.ndarray,
    labels: Any,
) -> cupy.ndarray:
    """The gradient of the logits; without `target` and `mass` that of the target. One launch."""
    reduction, _, smoothing = labels
    out = cupy.empty(input.shape, input.dtype)
    if out.size:
        g, g_stride = _of_slices(g)
        slices = cuda_slices.along((input, input if target is None else target), 1)
        pointers = (
            *slices.arrays,
            _constant(weight),
            g,
            top if mass is None else mass,
            top,
            log_sum,
        )
        defines = (f"GRADIENT={TYPE[g.dtype.char]}", f"FOR_TARGET={int(target is None)}")
        factor = 1 / slices.number if reduction == "mean" else 1.0
        operands = Operands(input.dtype.char, 2)
        numbers = (float(smoothing), factor, g_stride)
        cuda_slices.launch("soft_cross_entropy_backward", defines, operands, slices, (*pointers, out), numbers)
    return out


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
    slices = Slices((losses, weights), 1, losses.size, 1)
    operands = Operands(losses.dtype.char, 2)
    cuda_slices.launch("weighted", defines, operands, slices, (losses, weights, loss, total), splits=shares)


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
    out = cupy.empty(input.shape, input.dtype)
    if out.size:
        g, g_stride = _of_slices(g)
        slices = _labelled(input, target)
        switches = {"SMOOTH": smoothing != 0, "MEAN": reduction == "mean", "TARGETS": targets}
        types = (f"TARGET={_TARGET[target.dtype.name]}", f"GRADIENT={TYPE[g.dtype.char]}")
        defines = (*types, *(f"{name}={int(on)}" for name, on in switches.items()))
        pointers = (*slices.arrays, _constant(weight), g, top, log_sum, sums, out)
        numbers = (ignored, float(smoothing), g_stride)
        operands = Operands(input.dtype.char)
        cuda_slices.launch("cross_entropy_backward", defines, operands, slices, pointers, numbers)
    return out


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
