"""`torch.cuda`'s face: devices, streams, events, memory and graphs. Never imports CuPy itself."""

from __future__ import annotations

from gradx.backends.cuda.status import Diagnosis, diagnose
from gradx.backends.faults import OutOfMemoryError
from gradx.cuda.devices import (
    current_device,
    device,
    device_count,
    device_of,
    get_device_capability,
    get_device_name,
    get_device_properties,
    is_available,
    set_device,
    synchronize,
)
from gradx.cuda.graphed import make_graphed_callables
from gradx.cuda.graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing
from gradx.cuda.memory import (
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    reset_peak_memory_stats,
)
from gradx.cuda.random import (
    get_rng_state,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
)
from gradx.cuda.streams import Event, ExternalStream, Stream, current_stream, default_stream, set_stream, stream

__all__ = [
    "CUDAGraph",
    "Diagnosis",
    "Event",
    "ExternalStream",
    "OutOfMemoryError",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "diagnose",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "graph",
    "graph_pool_handle",
    "initial_seed",
    "is_available",
    "is_current_stream_capturing",
    "make_graphed_callables",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_rng_state",
    "set_stream",
    "stream",
    "synchronize",
]
