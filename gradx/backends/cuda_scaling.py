"""CUDA kernels of GradScaler: one launch each, and nothing that waits for the device.

Imported by the CuPy backend only, since it imports CuPy. As torch's ``_amp_foreach_non_finite_check_and_unscale_`` and
``_amp_update_scale_``, but for one gradient at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import cupy


@functools.cache
def _unscale_kernel(wide: str) -> Any:
    body = f"const {wide} value = g; if (!isfinite(value)) found_inf[0] = 1; g = value * inv_scale[0]"
    return cupy.ElementwiseKernel("raw float32 inv_scale", "T g, raw float32 found_inf", body, f"gradx_unscale_{wide}")


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


def unscale(g: cupy.ndarray, found_inf: cupy.ndarray, inv_scale: cupy.ndarray) -> None:
    """Multiply `g` by `inv_scale` in place; set `found_inf` to 1 if an element of `g` was inf or NaN."""
    _unscale_kernel("double" if g.dtype.char == "d" else "float")(inv_scale, g, found_inf)


def update_scale(
    scale: cupy.ndarray, tracker: cupy.ndarray, found_inf: cupy.ndarray, growth: float, backoff: float, interval: int
) -> None:
    """Lower or raise `scale`, in place: see `gradx.backends.kernels.scaling`."""
    _update_scale_kernel()(found_inf, growth, backoff, interval, scale, tracker)
