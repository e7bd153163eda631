"""Kernels for few elements on the CPU, where what counts is the number of calls of NumPy and the price of each.

NumPy's reductions take 0.6 us to start, broadcasting 0.5 us, Python numbers as operands 0.2 us; products of matrices, index
searches and operands without dimensions do without. Large arrays, half precision and complex numbers go to the others.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradx.backends.kernels import Array, Dims
from gradx.backends.numpy_backend import NumpyBackend

_maximum: Any = np.maximum.reduce
_FEW = 1024  # elements
_TERMS = 256  # that are summed at once: few enough for the last digit, whatever their order


@functools.lru_cache(4096)
def _number(value: float, dtype: np.dtype[Any]) -> Array:
    """An array without dimensions, which as an operand costs less than a Python number."""
    return np.array(value, dtype)


@functools.lru_cache(4096)
def _ones(shape: Dims, dtype: np.dtype[Any]) -> Array:
    return np.ones(shape, dtype)


def _few(x: Array) -> bool:
    """Whether an array holds at least one and not many real numbers of full precision."""
    return 0 < x.size <= _FEW and x.dtype.char in "fd"


def _rows(x: Array, dim: int) -> bool:
    """Whether `dim` is the last dimension of a vector or matrix of few elements."""
    return dim == x.ndim - 1 and dim < 2 and _few(x) and x.shape[dim] <= _TERMS


def _largest(x: Array) -> Array:
    """The largest element of a vector, or, kept as a column, of each row of a matrix."""
    return np.asarray(x[x.argmax()]) if x.ndim == 1 else _maximum(x, 1, None, None, True)


def _total(x: Array) -> Array:
    """The sum of a vector, or, kept as a column, of each row of a matrix."""
    if x.ndim == 1:
        return np.asarray(x.dot(_ones(x.shape, x.dtype)))
    return x.dot(_ones((x.shape[1], 1), x.dtype))


@functools.lru_cache(4096)
def _starts(rows: int, columns: int) -> Array:
    """Where in a matrix that lies in one row the former rows start."""
    return np.arange(0, rows * columns, columns)


@functools.lru_cache(4096)
def _pair(x: float, y: float, dtype: np.dtype[Any]) -> Array:
    return np.array([x, y], dtype)


def _plain(input: Array, target: Array, weight: Array | None, labels: Any) -> bool:
    """Whether a cross entropy is that of a few samples which all count alike."""
    return (
        weight is None
        and not labels.smoothing
        and labels.reduction != "none"
        and labels.ignore_index < 0
        and input.ndim == 2
        and _rows(input, 1)
        and len(target) <= _TERMS
        and target.item(target.argmin()) >= 0
    )


class CpuBackend(NumpyBackend):
    """NumPy's kernels, but for few elements those here."""

    def ones_like(self, x: Array) -> Array:
        return np.array(1, x.dtype) if x.ndim == 0 else super().ones_like(x)

    def expand(self, x: Array, shape: Dims) -> Array:
        return np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape)) if x.ndim == 0 else super().expand(x, shape)

    def permute(self, x: Array, dims: Dims) -> Array:
        return x.transpose(dims)

    def mm(self, x: Array, y: Array) -> Array:
        return x.dot(y) if x.ndim == y.ndim == 2 and x.size <= _FEW else super().mm(x, y)

    def addmm(self, x: Array, a: Array, b: Array, beta: float, alpha: float) -> Array:
        if beta == alpha == 1 and x.ndim < 2 and a.size <= _FEW:
            product = a.dot(b)
            return np.add(product, x, product)
        return super().addmm(x, a, b, beta, alpha)

    def relu(self, x: Array) -> Array:
        return np.maximum(x, _number(0, x.dtype))

    def threshold_backward(self, g: Array, out: Array) -> Array:
        if not _few(g) or out.shape != g.shape:
            return super().threshold_backward(g, out)
        passed, zero = g.copy(), _number(0, g.dtype)
        np.putmask(passed, out <= zero, zero)  # NaN passes the gradient on, as in torch
        return passed

    def tanh_backward(self, g: Array, out: Array) -> Array:
        if g.shape != out.shape or g.dtype is not out.dtype:
            return super().tanh_backward(g, out)
        slope = np.asarray(out * out)
        np.subtract(_number(1, out.dtype), slope, slope)
        return np.multiply(slope, g, slope)

    def sigmoid_backward(self, g: Array, out: Array) -> Array:
        if g.shape != out.shape or g.dtype is not out.dtype:
            return super().sigmoid_backward(g, out)
        slope = np.asarray(_number(1, out.dtype) - out)
        np.multiply(slope, out, slope)
        return np.multiply(slope, g, slope)

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        if x.ndim == len(dim) == 1 and not keepdim and _few(x) and x.size <= _TERMS:
            return _total(x)
        if x.ndim == 2 and len(dim) == 1 and _few(x) and x.shape[dim[0]] <= _TERMS:
            if dim[0]:
                return _total(x) if keepdim else x.dot(_ones((x.shape[1],), x.dtype))
            return _ones((1, x.shape[0]) if keepdim else (x.shape[0],), x.dtype).dot(x)
        return super().sum(x, dim, keepdim)

    def sum_to(self, x: Array, shape: Dims) -> Array:
        if x.ndim == 2 and shape == x.shape[1:] and _few(x) and x.shape[0] <= _TERMS:
            return _ones((x.shape[0],), x.dtype).dot(x)
        return super().sum_to(x, shape)

    def softmax(self, x: Array, dim: int, out: Array | None = None) -> Array:
        if out is not None or not _rows(x, dim):
            return super().softmax(x, dim, out)
        e = x - _largest(x)
        np.exp(e, e)
        e /= _total(e)
        return e

    def softmax_backward(self, g: Array, y: Array, dim: int, out: Array | None = None) -> Array:
        if out is not None or not _rows(y, dim) or g.dtype != y.dtype or g.shape != y.shape:
            return super().softmax_backward(g, y, dim, out)
        inner = np.asarray(g.dot(y)) if dim == 0 else _total(g * y)
        difference = g - inner
        difference *= y
        return difference

    def log_softmax(self, x: Array, dim: int, out: Array | None = None) -> Array:
        if out is not None or not _rows(x, dim):
            return super().log_softmax(x, dim, out)
        shifted = x - _largest(x)
        total = _total(np.exp(shifted))
        shifted -= np.log(total)
        return shifted

    def log_softmax_backward(self, g: Array, y: Array, dim: int, out: Array | None = None) -> Array:
        if out is not None or not _rows(y, dim) or g.dtype != y.dtype or g.shape != y.shape:
            return super().log_softmax_backward(g, y, dim, out)
        part = np.exp(y)
        part *= _total(g)
        return np.subtract(g, part, part)

    def mse_loss(self, input: Array, target: Array, reduction: str) -> Array:
        difference = input - target
        if reduction == "none" or not _few(difference) or difference.dtype != input.dtype:
            return super().mse_loss(input, target, reduction)
        flat = difference.ravel()
        total = np.asarray(flat.dot(flat))
        if reduction == "mean":
            total /= _number(flat.size, total.dtype)
        return total

    def mse_loss_backward(self, g: Array, input: Array, target: Array, scale: float) -> Array:
        difference = input - target
        if g.ndim or not _few(difference) or difference.dtype != g.dtype:
            return super().mse_loss_backward(g, input, target, scale)
        difference *= g * _number(scale, g.dtype)
        return difference

    def cross_entropy(
        self, input: Array, target: Array, weight: Array | None, labels: Any
    ) -> tuple[Array, Array, Array, Array]:
        if not _plain(input, target, weight, labels):
            return super().cross_entropy(input, target, weight, labels)
        rows, classes = input.shape
        top = _largest(input)
        shifted = input - top
        picked = shifted.ravel().take(target + _starts(rows, classes))
        log_sum = np.log(_total(np.exp(shifted)))
        loss = np.asarray(_total(log_sum.ravel()) - _total(picked))
        if labels.reduction == "mean":
            loss /= _number(rows, loss.dtype)
        return loss, _pair(rows, classes, input.dtype), top, log_sum

    def cross_entropy_backward(
        self,
        g: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        sums: Array,
        top: Array,
        log_sum: Array,
        labels: Any,
        targets: bool,
    ) -> Array:
        if not _plain(input, target, weight, labels) or g.ndim or g.dtype is not input.dtype:
            return super().cross_entropy_backward(g, input, target, weight, sums, top, log_sum, labels, targets)
        slope = np.subtract(input, top + log_sum, order="C")
        np.exp(slope, slope)
        if targets:
            flat, places = slope.ravel(), target + _starts(*input.shape)
            flat.put(places, flat.take(places) - _number(1, slope.dtype))
        slope *= g / _number(len(target), g.dtype) if labels.reduction == "mean" else g
        return slope
