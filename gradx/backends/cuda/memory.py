"""Pinned host memory, and copies between it and a device that the host does not wait for. Imports CuPy.

A copy from or to pinned memory is given to the current stream, and the function returns at once. Neither end may be freed
before the copy is done: memory of CuPy's pools would be given to somebody else. Both are therefore held.
"""

from __future__ import annotations

import math
from typing import Any

import cupy
import numpy as np

from gradx.backends.cuda.held import hold, let_go
from gradx.backends.kernels import Array, Dims

Host = np.ndarray[Any, Any]


def pinned(shape: Dims, dtype: np.dtype[Any]) -> Host:
    """An array in pinned memory of CuPy's pool, its elements whatever was there."""
    let_go()
    memory = cupy.cuda.alloc_pinned_memory(max(1, math.prod(shape) * dtype.itemsize))
    return np.ndarray(shape, dtype, memory)


def is_pinned(array: Host) -> bool:
    """Whether the memory of a host array is pinned: by whom does not matter, the driver is asked."""
    runtime = cupy.cuda.runtime
    return runtime.pointerGetAttributes(array.ctypes.data).type == runtime.memoryTypeHost  # type: ignore[no-any-return]


def upload(array: Host, non_blocking: bool) -> Array:
    """A copy of a host array on the current device. From pageable memory the elements have been read on return."""
    # CuPy stages pageable memory, so that it never needs to wait; pinned memory it reads later, and holds till then.
    return cupy.array(array, blocking=not non_blocking and is_pinned(array))


def download(array: Array) -> Host:
    """A copy of an array of the current device in pinned memory, which has the elements once the stream is done."""
    out = pinned(array.shape, array.dtype)
    send(out, cupy.ascontiguousarray(array))
    return out


def send(destination: Array, source: Array) -> None:
    """Copy between a host array and one on the current device, contiguous, of one shape and dtype. The host waits for a
    copy from or to pageable memory only: the driver sees to that."""
    if not source.size:
        return
    runtime, stream = cupy.cuda.runtime, cupy.cuda.get_current_stream()
    up = isinstance(source, np.ndarray)
    ends = (destination.data.ptr, source.ctypes.data) if up else (destination.ctypes.data, source.data.ptr)
    kind = runtime.memcpyHostToDevice if up else runtime.memcpyDeviceToHost
    runtime.memcpyAsync(*ends, source.nbytes, kind, stream.ptr)  # CuPy's own functions refuse to be captured in a graph
    _hold(destination, source)


def _hold(*arrays: Array) -> None:
    """Keep arrays alive until the current stream has done what it was given so far."""
    stream = cupy.cuda.get_current_stream()
    if stream.is_capturing():  # nothing happens now; a graph's memory is its maker's to keep, and no event may be asked
        return
    hold(stream.record(cupy.cuda.Event(disable_timing=True)), arrays)
