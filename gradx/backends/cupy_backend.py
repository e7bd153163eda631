"""CUDA: CuPy's arrays, computed by CuPy's kernels and by the fused ones of `gradx.backends.cuda.kernels`.

Nothing here copies between host and device but `from_host` and `to_host`, and nothing synchronises but those and
`synchronize`, with one exception: a boolean mask as an index, since the shape of the result depends on its elements.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np
from cupy.cuda.device import get_device_id

from gradx.backends import first_use
from gradx.backends.base import ALIASES, Rule, misfit
from gradx.backends.cuda import classes, exact, faults, fusion, kernels, matmul, memory, random, scaling, slices
from gradx.backends.cuda.devices import Devices, look_for_streams
from gradx.backends.expression import SymbolicBackend, parameters_of
from gradx.backends.kernels import Array, Dims, Elementwise
from gradx.backends.kernels.philox import State
from gradx.device import device
from gradx.dtypes import uses_bfloat16
from gradx.streams import seen

_SYMBOLS = SymbolicBackend()
_WAITING = frozenset({"move", "index", "index_put"})  # kernels that may wait for work given to the device before


def _fused(x: Array) -> bool:
    """Whether the fused kernels take arrays of this dtype."""
    return x.dtype.char in slices.DTYPES


def _like(weight: Array | None, x: Array) -> Array | None:
    return None if weight is None else weight.astype(x.dtype, copy=False)


class CupyBackend(Devices):
    """CUDA devices. Arrays are made on the device asked for; kernels run where their arrays are."""

    array_types = (cupy.ndarray,)

    def __init__(self) -> None:
        super().__init__(cupy)

    def kernel(self, name: str) -> Callable[..., Array]:
        function = super().kernel(name)
        ufunc = isinstance(getattr(cupy, ALIASES.get(name, name), None), cupy.ufunc)
        if name in vars(Elementwise) or (
            ufunc and uses_bfloat16()
        ):  # of which CuPy gives float32 where a number is among them
            symbolic = _SYMBOLS.kernel(name)
            function = fusion.Fused(function, name, parameters_of(inspect.signature(symbolic)), symbolic)
        return self._guarded(name, function)

    def fuse(self, function: Callable[..., Array], name: str, static: frozenset[int]) -> Callable[..., Array]:
        return self._guarded(name, fusion.Fused(super().fuse(function, name, static), name, static, function))

    def exact_kernel(self, name: str, expression: Rule | None, static: frozenset[int]) -> Rule | None:
        kernel = self.exact_dropout() if name == "dropout" else exact.kernel(name, expression, static)
        return self._guarded(name, kernel)

    def _guarded(self, name: str, function: Callable[..., Array]) -> Callable[..., Array]:
        """The kernel `name`; where there are several devices, it runs on that of its arrays.

        Raises (the kernel):
            RuntimeError: the arrays live on different devices, or their shapes do not broadcast; CUDA fails, for the
                reasons in `gradx.backends.cuda.faults`.
        """
        several, run = self.several_devices, function

        def first(*args: Any) -> Array:
            nonlocal run
            run = function
            return first_use.timed(function, args)

        if name not in _WAITING:
            run = first

        def kernel(*args: Any) -> Array:
            try:
                if not several:
                    if not seen.other:
                        look_for_streams()
                    return run(*args)
                with self.at(self._of_one_device(name, args)):
                    if not seen.other:
                        look_for_streams()
                    return run(*args)
            except ValueError as error:
                if "broadcast" not in str(error):
                    raise
                raise RuntimeError(misfit(args)) from None
            except faults.FAULTS as fault:
                raise faults.explain(fault, name) from None

        return kernel

    def _of_one_device(self, name: str, args: tuple[Any, ...]) -> Array | None:
        """One of the arrays among the arguments, which all live on one device."""
        arrays = [arg for arg in args if isinstance(arg, cupy.ndarray)]
        if len({array.data.device_id for array in arrays}) > 1:
            places = sorted({str(self.device_of(array)) for array in arrays})
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{' and '.join(places)}! gradx never copies between devices by itself: move one operand of {name} "
                "with .to(device)."
            )
        return arrays[0] if arrays else None

    # ---- copies --------------------------------------------------------------------------------------------

    def from_host(self, array: np.ndarray[Any, Any], where: device, non_blocking: bool = False) -> Array:
        with self.on(where):
            return memory.upload(array, non_blocking)

    def to_host(self, array: Array, non_blocking: bool = False) -> np.ndarray[Any, Any]:
        with self.on(self.device_of(array)):
            return memory.download(array) if non_blocking else array.get()

    def send(self, destination: Array, source: Array) -> None:
        with self.at(source if isinstance(destination, np.ndarray) else destination):
            memory.send(destination, source)

    def pinned(self, shape: Dims, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        return memory.pinned(shape, dtype)

    def is_pinned(self, array: Array) -> bool:
        return isinstance(array, np.ndarray) and memory.is_pinned(array)

    def from_interface(self, owner: Any) -> Array:
        pointer = owner.__cuda_array_interface__["data"][0]
        where = cupy.cuda.runtime.pointerGetAttributes(pointer).device if pointer else get_device_id()
        with cupy.cuda.Device(where):  # on another, it would be copied
            return cupy.asarray(owner)

    def pointer(self, array: Array) -> int:
        return array.data.ptr  # type: ignore[no-any-return]

    def to_device(self, array: Array, where: device) -> Array:
        """A copy on another device, in order with what both devices' current streams have been given."""
        with self.at(array):
            source = cupy.ascontiguousarray(array)
            here = cupy.cuda.get_current_stream()
            ready = here.record()
        with self.on(where):
            there = cupy.cuda.get_current_stream()
            there.wait_event(ready)
            target = cupy.empty(source.shape, source.dtype)
            target.data.copy_from_device_async(source.data, source.nbytes)
            copied = there.record()
        with self.at(array):
            here.wait_event(copied)  # the source's memory may be used again only then
        return target

    def clone(self, x: Array) -> Array:
        with self.on(self.device_of(x)):
            return super().clone(x)

    def contiguous(self, x: Array) -> Array:
        with self.on(self.device_of(x)):
            return super().contiguous(x)

    def write(self, destination: Array, source: Array) -> None:
        with self.at(destination):
            super().write(destination, source)

    def add_into(self, destination: Array, source: Array) -> None:
        with self.at(destination):
            super().add_into(destination, source)

    # ---- creation ------------------------------------------------------------------------------------------

    def full(self, shape: Dims, value: complex, dtype: np.dtype[Any], where: device) -> Array:
        with self.on(where):
            return super().full(shape, value, dtype, where)

    def empty(self, shape: Dims, dtype: np.dtype[Any], where: device) -> Array:
        with self.on(where):
            return super().empty(shape, dtype, where)

    def arange(self, start: float, step: float, count: int, dtype: np.dtype[Any], where: device) -> Array:
        with self.on(where):
            return super().arange(start, step, count, dtype, where)

    def diagonal_mask(self, rows: int, columns: int, offset: int, where: device) -> Array:
        with self.on(where):
            return super().diagonal_mask(rows, columns, offset, where)

    # ---- reductions ------------------------------------------------------------------------------------------

    def sum(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        if _fused(x):
            return kernels.total(x, dim, keepdim)
        return x.sum(axis=dim, keepdims=keepdim, dtype=x.dtype if x.dtype.kind == "c" else np.int64)

    def mean(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        if _fused(x):
            return kernels.total(x, dim, keepdim, divisor=math.prod(x.shape[d] for d in dim))
        return super().mean(x, dim, keepdim)

    def var(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> tuple[Array, Array]:
        if _fused(x):
            return kernels.var(x, dim, correction, keepdim)
        return super().var(x, dim, correction, keepdim)

    def std(self, x: Array, dim: Dims, correction: float, keepdim: bool) -> tuple[Array, Array]:
        if _fused(x):
            return kernels.var(x, dim, correction, keepdim, root=True)
        return super().std(x, dim, correction, keepdim)

    def ties(self, x: Array, extremum: Array, dim: Dims) -> Array:
        return kernels.ties(x, extremum, dim) if _fused(x) else super().ties(x, extremum, dim)

    def logsumexp(self, x: Array, dim: Dims, keepdim: bool) -> Array:
        return kernels.logsumexp(x, dim, keepdim) if _fused(x) else super().logsumexp(x, dim, keepdim)

    def norm(self, x: Array, p: float, dim: Dims, keepdim: bool) -> Array:
        return kernels.norm(x, p, dim, keepdim) if _fused(x) else super().norm(x, p, dim, keepdim)

    # ---- softmax and losses ----------------------------------------------------------------------------------

    def softmax(self, x: Array, dim: int) -> Array:
        return kernels.softmax(x, dim)

    def softmax_backward(self, g: Array, y: Array, dim: int) -> Array:
        return kernels.softmax_backward(g, y, dim)

    def log_softmax(self, x: Array, dim: int) -> Array:
        return kernels.log_softmax(x, dim)

    def log_softmax_backward(self, g: Array, y: Array, dim: int) -> Array:
        return kernels.log_softmax_backward(g, y, dim)

    def mse_loss(self, input: Array, target: Array, reduction: str) -> Array:
        return kernels.mse_loss(input, target, input.size if reduction == "mean" else 1)

    def nll_loss(
        self, input: Array, target: Array, weight: Array | None, reduction: str, ignore_index: int
    ) -> tuple[Array, Array]:
        return classes.nll_loss(input, target, _like(weight, input), reduction, ignore_index)

    def nll_loss_backward(
        self,
        g: Array,
        total: Array,
        target: Array,
        weight: Array | None,
        shape: Dims,
        reduction: str,
        ignore_index: int,
    ) -> Array:
        return classes.nll_loss_backward(g, total, target, _like(weight, g), shape, reduction, ignore_index)

    def cross_entropy(
        self, input: Array, target: Array, weight: Array | None, labels: Any
    ) -> tuple[Array, Array, Array, Array]:
        return classes.cross_entropy(input, target, _like(weight, input), labels)

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
        weight = _like(weight, input)
        return classes.cross_entropy_backward(g, input, target, weight, sums, top, log_sum, labels, targets)

    def soft_cross_entropy(
        self, input: Array, target: Array, weight: Array | None, labels: Any
    ) -> tuple[Array, Array, Array, Array]:
        return classes.soft_cross_entropy(input, target, _like(weight, input), labels)

    def soft_cross_entropy_backward(
        self,
        g: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        mass: Array,
        top: Array,
        log_sum: Array,
        labels: Any,
    ) -> Array:
        weight = _like(weight, input)
        return classes.soft_cross_entropy_backward(g, input, target, weight, mass, top, log_sum, labels)

    def soft_target_backward(
        self, g: Array, input: Array, weight: Array | None, top: Array, log_sum: Array, labels: Any
    ) -> Array:
        weight = _like(weight, input)
        return classes.soft_cross_entropy_backward(g, input, None, weight, None, top, log_sum, labels)

    # ---- products of matrices --------------------------------------------------------------------------------

    def mm(self, x: Array, y: Array) -> Array:
        if x.dtype.kind == "V" and max(x.ndim, y.ndim) > 2:  # of which CuPy knows no stacks
            x, y = self._wide(x), self._wide(y)
        return matmul.matmul(x, y)

    def mv(self, x: Array, y: Array) -> Array:
        return matmul.matmul(x, y)

    dot = mv

    # ---- gradient scaling ------------------------------------------------------------------------------------

    def unscale(self, found_inf: Array, scale: Array, *gradients: Array) -> None:
        scaling.unscale(found_inf, scale, [g for g in gradients if scaling.takes(g)])
        others = [g for g in gradients if not scaling.takes(g)]
        if others:
            super().unscale(found_inf, scale, *others)

    def update_scale(
        self, scale: Array, tracker: Array, found_inf: Array, growth: float, backoff: float, interval: int
    ) -> None:
        scaling.update_scale(scale, tracker, found_inf, growth, backoff, interval)

    # ---- random numbers --------------------------------------------------------------------------------------

    def uniform(self, shape: Dims, low: float, high: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        with self.drawing(where):
            return random.uniform(shape, low, high, dtype, state)

    def normal(self, shape: Dims, mean: float, std: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        with self.drawing(where):
            return random.normal(shape, mean, std, dtype, state)

    def integers(self, shape: Dims, low: int, count: int, dtype: np.dtype[Any], state: State, where: device) -> Array:
        with self.drawing(where):
            return random.integers(shape, low, count, dtype, state)

    def events(self, shape: Dims, p: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        with self.drawing(where):
            return random.events(shape, p, dtype, state)

    def bernoulli(self, p: Array, state: State) -> Array:
        with self.drawing(self.device_of(p)):
            return random.bernoulli(p, state)

    def dropout(self, x: Array, p: float, state: State) -> tuple[Array, Array]:
        with self.drawing(self.device_of(x)):
            return random.dropout(x, p, state)

    def dropout_backward(self, g: Array, kept: Array, scale: float) -> Array:
        return random.dropout_backward(g, kept, scale)

    # ---- shapes ----------------------------------------------------------------------------------------------

    def cat(self, dim: int, *arrays: Array) -> Array:
        """One launch an array: CuPy's own, for many arrays, copies a table of pointers to the device."""
        shape = list(arrays[0].shape)
        shape[dim] = sum(array.shape[dim] for array in arrays)
        out = cupy.empty(tuple(shape), arrays[0].dtype)
        before, start = (slice(None),) * dim, 0
        for array in arrays:
            out[(*before, slice(start, start + array.shape[dim]))] = array
            start += array.shape[dim]
        return out

    def stack(self, dim: int, *arrays: Array) -> Array:
        return self.cat(dim, *(cupy.expand_dims(array, dim) for array in arrays))

    # ---- indexing --------------------------------------------------------------------------------------------

    def index_backward(self, g: Array, shape: Dims, index: tuple[Any, ...]) -> Array:
        wide = self._wide(g)
        out = cupy.zeros(shape, wide.dtype)
        if wide.dtype.kind == "c":  # CUDA has no atomic addition of complex numbers
            cupy.add.at(out.real, index, wide.real)
            cupy.add.at(out.imag, index, wide.imag)
        else:
            cupy.add.at(out, index, wide)
        return out.astype(g.dtype, copy=False)

    def gather(self, x: Array, dim: int, index: Array) -> Array:
        return kernels.gather(x, dim, index)

    def gather_backward(self, g: Array, shape: Dims, dim: int, index: Array) -> Array:
        if g.dtype.kind == "c":
            return super().gather_backward(g, shape, dim, index)
        wide = self._wide(g)
        return kernels.scatter_add(wide, shape, dim, index).astype(g.dtype, copy=False)
