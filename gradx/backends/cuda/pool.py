"""The memory of CUDA devices: how much is in use, and was at most.

CuPy's memory pool knows what is in use now. For the peak, the pool is asked after each allocation, which costs a
fraction of a microsecond: that is all that happens here to an allocation.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import cupy
from cupy.cuda.device import get_device_id

from gradx.backends.cuda.held import held, let_go

Allocator = Callable[[int], Any]
_PLUGGABLE: Final = (
    "CUDAPluggableAllocator does not yet support getDeviceStats. CuPy's allocator has been replaced by another "
    "(cupy.cuda.set_allocator), past which gradx cannot see: ask that one for its peak, or keep CuPy's default."
)


class Peaks(NamedTuple):
    """The highest numbers of bytes since the last reset."""

    used: int
    reserved: int


class Memory:
    """The memory of all devices.

    Attributes:
        pools: CuPy's default one, and those of the CUDA graphs.
        peaks: for each device, the most bytes that arrays occupied, and that the pools had from the driver.
    """

    def __init__(self, devices: int) -> None:
        default = cupy.get_default_memory_pool()
        self.pools: list[Any] = [default]
        self.peaks: list[Peaks] = [Peaks(0, 0)] * devices
        self._counting: weakref.WeakSet[Allocator] = weakref.WeakSet()
        self._raising = threading.Lock()  # of a peak, which several threads may do at once
        if cupy.cuda.get_allocator() == default.malloc:  # an allocator of the user's stays
            cupy.cuda.set_allocator(self.counting(default))

    def counting(self, pool: Any) -> Allocator:
        """The allocator of a pool, which follows the peaks."""
        malloc, used_bytes, total_bytes = pool.malloc, pool.used_bytes, pool.total_bytes
        pools, peaks = self.pools, self.peaks

        def allocate(size: int) -> Any:
            if held:
                let_go()
            memory = malloc(size)
            most = peaks[memory.device_id]
            used, reserved = (used_bytes(), total_bytes()) if len(pools) == 1 else (self.used(), self.reserved())
            if used > most.used or reserved > most.reserved:
                with self._raising:
                    most = peaks[memory.device_id]
                    peaks[memory.device_id] = Peaks(max(used, most.used), max(reserved, most.reserved))
            return memory

        self._counting.add(allocate)
        return allocate

    def used(self) -> int:
        """Bytes of the current device that arrays occupy, in all pools."""
        return sum(pool.used_bytes() for pool in self._all())

    def reserved(self) -> int:
        """Bytes of the current device that the pools have taken from the driver."""
        return sum(pool.total_bytes() for pool in self._all())

    def highest(self) -> Peaks:
        """The peaks of the current device.

        Raises:
            RuntimeError: allocations do not pass by here.
        """
        if cupy.cuda.get_allocator() not in self._counting:
            raise RuntimeError(_PLUGGABLE)
        device: int = get_device_id()
        return self.peaks[device]

    def reset_peaks(self) -> None:
        """Let the peaks of the current device start from what there is now."""
        self.peaks[get_device_id()] = Peaks(self.used(), self.reserved())

    def release(self) -> None:
        """Give the driver back what no array occupies."""
        let_go()
        for index in range(len(self.peaks)):
            with cupy.cuda.Device(index):
                self.pools[0].free_all_blocks()

    def _all(self) -> list[Any]:
        """The pools, with that of the user's allocator if it is one."""
        own = getattr(cupy.cuda.get_allocator(), "__self__", None)
        return [*self.pools, own] if isinstance(own, cupy.cuda.MemoryPool) and own not in self.pools else self.pools
