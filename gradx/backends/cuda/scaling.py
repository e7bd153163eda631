"""CUDA kernels of GradScaler, which wait for nothing. Imported by the CuPy backend only, since it imports CuPy.

As torch's ``_amp_foreach_non_finite_check_and_unscale_`` and ``_amp_update_scale_``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import cupy
import numpy as np

_TYPE: Final = {"f": "float", "d": "double"}  # by dtype.char
_BATCH: Final = 128  # gradients in a launch: what is known of them goes along as one argument, of at most 4 KB
_THREADS: Final = 256
_MAX_BLOCKS: Final = 1024  # for one gradient

_ARGUMENT: Final = np.dtype([("data", np.uint64, _BATCH), ("size", np.int64, _BATCH)])

_UNSCALE: Final = """
struct Gradients { ELEMENT* data[BATCH]; long long size[BATCH]; };

extern "C" __global__ void gradx_unscale(Gradients gradients, const float* scale, float* found_inf) {
    ELEMENT* const g = gradients.data[blockIdx.y];
    const long long size = gradients.size[blockIdx.y], step = (long long)gridDim.x * blockDim.x;
    const float inverse = 1 / (double)*scale;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
        const ELEMENT value = g[i];
        if (!isfinite(value)) *found_inf = 1;
        g[i] = value * inverse;
    }
}
"""


@functools.cache
def _unscale_kernel(char: str) -> Any:
    return cupy.RawKernel(_UNSCALE, "gradx_unscale", options=(f"-DELEMENT={_TYPE[char]}", f"-DBATCH={_BATCH}"))


def takes(g: cupy.ndarray) -> bool:
    """Whether `unscale` takes a gradient: of float32 or float64, without gaps in memory."""
    return g.dtype.char in _TYPE and (g.flags.c_contiguous or g.flags.f_contiguous)


def unscale(found_inf: cupy.ndarray, scale: cupy.ndarray, gradients: Sequence[cupy.ndarray]) -> None:
    """Divide gradients by `scale`, in place; set `found_inf` to 1 if one was inf or NaN. A launch for 128 of one dtype."""
    for char in _TYPE:
        alike = [g for g in gradients if g.dtype.char == char and g.size]
        for start in range(0, len(alike), _BATCH):
            batch = alike[start : start + _BATCH]
            known = np.zeros((), _ARGUMENT)
            known["data"][: len(batch)] = [g.data.ptr for g in batch]
            known["size"][: len(batch)] = [g.size for g in batch]
            blocks = min(-(-max(g.size for g in batch) // _THREADS), _MAX_BLOCKS)
            _unscale_kernel(char)((blocks, len(batch)), (_THREADS,), (known, scale, found_inf))


@functools.cache
def _update_scale_kernel() -> Any:
    body = """
    const float grown = scale * growth;
    const int count = found_inf > 0 ? 0 : tracker + 1;
    if (found_inf > 0) scale = scale * backoff;
    else if (count == interval && isfinite(grown)) scale = grown;
    tracker = count == interval ? 0 : count;
    """
    inputs = "float32 found_inf, float64 growth, float64 backoff, int32 interval"
    return cupy.ElementwiseKernel(inputs, "float32 scale, int32 tracker", body, "gradx_update_scale")


def update_scale(
    scale: cupy.ndarray, tracker: cupy.ndarray, found_inf: cupy.ndarray, growth: float, backoff: float, interval: int
) -> None:
    """Lower or raise `scale`, in place, in one launch: see `gradx.backends.kernels.scaling`."""
    _update_scale_kernel()(found_inf, growth, backoff, interval, scale, tracker)
