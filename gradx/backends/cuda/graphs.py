"""CUDA graphs: work that is recorded once, by CUDA's stream capture, and then launched as a whole, again and again.

What is allocated during the capture comes from a pool that belongs to the graph: every launch writes to the same
addresses, so nobody else may be given them.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import cupy

from gradx.backends.cuda.held import let_go

if TYPE_CHECKING:
    from gradx.backends.cuda.devices import Devices

MODES = ("global", "thread_local", "relaxed")  # CUDA's capture modes, by their numbers


class Pool:
    """Memory for graphs, which may share it if they are launched in the order in which they were captured."""

    def __init__(self, devices: Devices) -> None:
        self.cupy = cupy.cuda.MemoryPool()
        self.allocate = devices.memory.counting(self.cupy)
        devices.memory.pools.append(self.cupy)
        weakref.finalize(self, devices.memory.pools.remove, self.cupy).atexit = False


class Capture:
    """Work given to a stream, recorded instead of done.

    Attributes:
        pool: what it allocates comes from here.
        kept: arrays that it uses on several streams.
    """

    def __init__(self, devices: Devices, stream: Any, pool: Pool | None, mode: str) -> None:
        self.pool = Pool(devices) if pool is None else pool
        self.kept: list[Any] = []
        self._stream = stream
        self._stack = ExitStack()
        let_go()
        stream.begin_capture(MODES.index(mode))
        self._stack.enter_context(cupy.cuda.using_allocator(self.pool.allocate))
        devices.captures.append(self)
        self._stack.callback(devices.captures.remove, self)

    def end(self) -> Any:
        """The `cupy.cuda.Graph` of what was recorded."""
        self._stack.close()
        return self._stream.end_capture()
