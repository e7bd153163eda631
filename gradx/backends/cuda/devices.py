"""CUDA devices and streams: where kernels run, and in which order.

Kernels go to CuPy's current device and, on it, to CuPy's current stream, both of this thread.
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import cupy
from cupy.cuda import get_current_stream
from cupy.cuda.device import get_device_id
from cupy_backends.cuda.stream import get_default_stream_ptr

from gradx.backends.base import Backend
from gradx.backends.cuda import faults as cuda_faults
from gradx.backends.cuda.graphs import Capture, Pool
from gradx.backends.cuda.held import hold
from gradx.backends.cuda.pool import Memory
from gradx.backends.kernels import Array
from gradx.device import device
from gradx.streams import seen

_DEFAULT: Final = (0, cupy.cuda.runtime.streamLegacy, cupy.cuda.runtime.streamPerThread)  # handles of default streams
_STREAMS: Final = 32  # for each device and priority, as in torch


def look_for_streams(device: int = -1) -> None:
    """Set `gradx.streams.seen.other` if the current stream of a device, the current one for -1, is not the default one."""
    if get_current_stream(device).ptr not in _DEFAULT:
        seen.other = True


class Devices(Backend):
    """The CUDA devices, each with its streams and its memory."""

    device_type = "cuda"

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)
        self._devices = [device("cuda", i) for i in range(cupy.cuda.runtime.getDeviceCount())]
        self.memory = Memory(len(self._devices))
        self.captures: list[Capture] = []  # those under way
        self._streams: dict[tuple[int | None, int], deque[Any]] = {}

    # ---- devices --------------------------------------------------------------------------------------------

    @property
    def several_devices(self) -> bool:
        """Whether there is a choice of device, so that kernels must be told where to run."""
        return len(self._devices) > 1

    def needs_order(self) -> bool:
        self.notice()
        return seen.other or self.several_devices

    def device_of(self, array: Array) -> device:
        index: int = array.data.device_id
        return self._devices[index]

    def at(self, array: Array | None) -> AbstractContextManager[Any]:
        """Within it, the device of `array` is the current one."""
        if array is None or array.data.device_id == get_device_id():
            return nullcontext()
        return cuda_faults.Explained(cupy.cuda.Device(array.data.device_id))

    def quiet(self) -> AbstractContextManager[Any]:
        """CUDA has no floating-point warnings, but gradient rules may find no memory."""
        return cuda_faults.Explained()

    def on(self, where: device) -> AbstractContextManager[Any]:
        """Within it, `where` is the current device; the one that is, where `where` has no index."""
        elsewhere = where.index is not None and where.index != get_device_id()
        return cuda_faults.Explained(cupy.cuda.Device(where.index) if elsewhere else None, "making a tensor")

    def device_count(self) -> int:
        """The number of CUDA devices."""
        return len(self._devices)

    def current_device(self) -> int:
        """The index of the device on which arrays are made when none is named."""
        return get_device_id()  # type: ignore[no-any-return]

    def set_device(self, where: device) -> None:
        """Make `where` this thread's current device."""
        cupy.cuda.Device(where.index).use()

    def synchronize(self, where: device) -> None:
        """Wait until `where` has finished all work given to it."""
        with self.on(where):
            cupy.cuda.runtime.deviceSynchronize()

    def properties(self, where: device) -> dict[str, Any]:
        """What CUDA's ``cudaGetDeviceProperties`` says, by its names."""
        return cupy.cuda.runtime.getDeviceProperties(where.index)  # type: ignore[no-any-return]

    # ---- memory and graphs ----------------------------------------------------------------------------------

    def memory_info(self, where: device) -> tuple[int, int]:
        """Bytes that the driver has free, and bytes in all."""
        with self.on(where):
            return cupy.cuda.runtime.memGetInfo()  # type: ignore[no-any-return]

    def graph_pool(self) -> Pool:
        """Memory for CUDA graphs."""
        return Pool(self)

    def begin_capture(self, stream: Any, pool: Pool | None, mode: str) -> Capture:
        """Record what `stream` is given from now on."""
        return Capture(self, stream, pool, mode)

    def drawing(self, where: device) -> AbstractContextManager[Any]:
        """Within it, random numbers are drawn on `where`.

        Raises:
            RuntimeError: work is recorded for a graph: the place in the sequence would be recorded with it.
        """
        if self.captures and get_current_stream(where.index).is_capturing():
            raise RuntimeError(
                "Random numbers cannot be drawn while capturing: every replay would draw the same ones. Draw them into a "
                "tensor before each replay: x.copy_(gradx.randn_like(x))"
            )
        return self.on(where)

    # ---- streams, as CuPy's objects -------------------------------------------------------------------------

    def notice(self) -> None:
        for index in range(len(self._devices)):
            look_for_streams(index)

    def stream_on(self, where: device) -> Any:
        stream = get_current_stream(where.index)
        return None if stream.ptr in _DEFAULT else stream

    def within(self, array: Array, stream: Any) -> AbstractContextManager[Any]:
        stream = self.default_stream() if stream is None else stream
        return self.at(array) if get_current_stream(array.data.device_id) == stream else _Within(array, stream)

    def wait_stream(self, where: device, stream: Any, other: Any) -> None:
        with self.on(where):
            (stream or self.default_stream()).wait_event(_record(other or self.default_stream()))

    def keep(self, used: Any, where: device) -> None:
        with self.on(where):
            self._keep(used, get_current_stream())

    def record_stream(self, array: Array, stream: Any) -> None:
        owner = array if array.base is None else array.base
        weakref.finalize(owner, self._keep_memory, owner.data.mem, stream).atexit = False

    def _keep_memory(self, memory: Any, stream: Any) -> None:
        with cupy.cuda.Device(memory.device_id):
            self._keep(memory, stream)

    def _keep(self, used: Any, stream: Any) -> None:
        """Keep `used` until `stream`, of the current device, has done what it was given so far."""
        if not stream.is_capturing():
            hold(_record(stream), used)
        for capture in self.captures:  # what is captured is done at each replay
            capture.kept.append(used)

    def default_stream(self) -> Any:
        """The stream of all work that is given to no other. Each device has one; CuPy has one name for all."""
        return cupy.cuda.Stream.ptds if get_default_stream_ptr() == cupy.cuda.Stream.ptds.ptr else cupy.cuda.Stream.null

    def current_stream(self, where: device) -> Any:
        """The stream that kernels on `where` are given to."""
        return get_current_stream(where.index)

    def set_stream(self, stream: Any, where: device) -> None:
        """Make `where` the current device, and `stream` the one that kernels there are given to."""
        self.set_device(where)
        stream.use()
        self.notice()

    def new_stream(self, where: device, priority: int) -> Any:
        """One of a few streams that do not wait for the default one; they are there as long as the process, so that the
        handle that memory in the pool belongs to never becomes another stream's."""
        pool = self._streams.setdefault((where.index, priority), deque())
        if len(pool) < _STREAMS:
            with self.on(where):
                pool.append(cupy.cuda.Stream(non_blocking=True, priority=priority))
        else:
            pool.rotate(-1)
        return pool[-1]

    def external_stream(self, handle: int) -> Any:
        """The stream that somebody else has made, who must keep it."""
        return cupy.cuda.Stream.from_external(_Handle(handle))

    def new_event(self, where: device, timing: bool, blocking: bool, interprocess: bool) -> Any:
        """An event for the streams of `where`."""
        with self.on(where):
            return cupy.cuda.Event(blocking, not timing, interprocess)

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two events."""
        return cupy.cuda.get_elapsed_time(start, end)  # type: ignore[no-any-return]


def _record(stream: Any) -> Any:
    """An event in `stream`, of the current device: it happens when the stream has done what it was given so far."""
    return stream.record(cupy.cuda.Event(disable_timing=True))


class _Within:
    """Within it, the device of an array is the current one, and a stream of that device the current stream."""

    def __init__(self, array: Array, stream: Any) -> None:
        self._device = cupy.cuda.Device(array.data.device_id)
        self._stream = stream

    def __enter__(self) -> None:
        self._device.__enter__()
        self._before = get_current_stream()
        self._stream.use()

    def __exit__(self, *exception: object) -> None:
        self._before.use()
        self._device.__exit__(*exception)


class _Handle:
    """A stream's handle, as CUDA's stream protocol gives it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle
