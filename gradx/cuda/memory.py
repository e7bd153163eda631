"""What the memory of CUDA devices holds. All of CuPy's arrays count, gradx's and others', in multiples of 512 bytes."""

from __future__ import annotations

from typing import Any

from gradx.cuda.devices import DeviceLike, backend, indexed, is_available


def memory_allocated(device: DeviceLike | None = None) -> int:
    """Bytes that arrays occupy on a device (the current one for None); 0 where CUDA is not usable.

    Raises:
        RuntimeError: there is no such device.
    """
    return _count("used", device)


def memory_reserved(device: DeviceLike | None = None) -> int:
    """Bytes that CuPy's pool has taken from a device (the current one for None), for arrays that are and that will be."""
    return _count("reserved", device)


def max_memory_allocated(device: DeviceLike | None = None) -> int:
    """The most bytes that arrays occupied on a device (the current one for None); 0 where CUDA is not usable.

    Counted at each allocation by any thread, since the device was first used by gradx or `reset_peak_memory_stats`.

    Raises:
        RuntimeError: there is no such device, or CuPy's allocator was replaced (`cupy.cuda.set_allocator`).
    """
    return _peaks(device)[0]


def max_memory_reserved(device: DeviceLike | None = None) -> int:
    """The most bytes that CuPy's pool had from a device; otherwise as `max_memory_allocated`."""
    return _peaks(device)[1]


def reset_peak_memory_stats(device: DeviceLike | None = None) -> None:
    """Let the peaks of a device (the current one for None) start from what there is now.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    where = indexed(device)
    with backend().on(where):
        backend().memory.reset_peaks()


def memory_stats(device: DeviceLike | None = None) -> dict[str, Any]:
    """Those of torch's statistics that CuPy's pool knows: bytes allocated and reserved, current and peak."""
    if not is_available():
        return {}
    current, peaks = (memory_allocated(device), memory_reserved(device)), _peaks(device)
    return {
        f"{kind}_bytes.all.{time}": values[i]
        for i, kind in enumerate(("allocated", "reserved"))
        for time, values in (("current", current), ("peak", peaks))
    }


def mem_get_info(device: DeviceLike | None = None) -> tuple[int, int]:
    """Bytes of a device (the current one for None) that the driver has free, and bytes in all.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    return backend().memory_info(indexed(device))


def empty_cache() -> None:
    """Give the driver back the memory that CuPy's pool holds and no array occupies, of all devices."""
    if is_available():
        backend().memory.release()


def _count(what: str, device: DeviceLike | None) -> int:
    if not is_available():
        return 0
    where = indexed(device)
    with backend().on(where):
        return int(getattr(backend().memory, what)())


def _peaks(device: DeviceLike | None) -> tuple[int, int]:
    if not is_available():
        return 0, 0
    where = indexed(device)
    with backend().on(where):
        return backend().memory.highest()
