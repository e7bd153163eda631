"""Which CUDA devices there are, which is the current one, and waiting for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gradx.backends import backend_for
from gradx.backends.cuda.status import diagnose
from gradx.device import device as Device

if TYPE_CHECKING:
    from gradx.backends.cupy_backend import CupyBackend

DeviceLike = Device | str | int


def backend() -> CupyBackend:
    """The backend of CUDA devices.

    Raises:
        RuntimeError: CUDA is not usable.
    """
    status = diagnose()
    if not status.usable:
        raise RuntimeError(f"CUDA is not usable. {status.cause} {status.fix}")
    return cast("CupyBackend", backend_for(Device("cuda")))


def indexed(spec: DeviceLike | None) -> Device:
    """The CUDA device that is meant, with its index; the current one for None and for "cuda".

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
        ValueError: it is no CUDA device.
    """
    where = Device("cuda" if spec is None else spec)
    if where.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {where}")
    cuda = backend()
    if where.index is None:
        return Device("cuda", cuda.current_device())
    if where.index >= cuda.device_count():
        raise RuntimeError(
            f"CUDA error: invalid device ordinal. {where} was asked for; the number of devices is {cuda.device_count()}."
        )
    return where


def is_available() -> bool:
    """Whether tensors can live on a CUDA device. If not, `diagnose` says why, and what to do."""
    return diagnose().usable


def device_count() -> int:
    """The number of CUDA devices; 0 where CUDA is not usable."""
    return backend().device_count() if is_available() else 0


def current_device() -> int:
    """The index of the device that "cuda" means.

    Raises:
        RuntimeError: CUDA is not usable.
    """
    return backend().current_device()


def set_device(device: DeviceLike) -> None:
    """Make a device the one that "cuda" means, for this thread. A negative index changes nothing.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    if not _negative(device):
        backend().set_device(indexed(device))


class device:
    """Within it, a device is the one that "cuda" means: ``with gradx.cuda.device(1):``.

    Args:
        device: an index, a name, a `gradx.device`; None or a negative index changes nothing.
    """

    def __init__(self, device: DeviceLike | None) -> None:
        self._where = None if device is None or _negative(device) else indexed(device)
        self._before: list[int] = []

    def __enter__(self) -> None:
        if self._where is not None:
            self._before.append(current_device())
            set_device(self._where)

    def __exit__(self, *exception: object) -> None:
        if self._where is not None:
            set_device(self._before.pop())


class device_of(device):
    """Within it, the device of a tensor is the one that "cuda" means. For a tensor on the CPU, nothing changes."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.device if obj.is_cuda else None)


def synchronize(device: DeviceLike | None = None) -> None:
    """Wait until a device (the current one for None) has finished all it was given, on all its streams.

    Kernels run asynchronously: without this, a clock on the host times only how fast they are launched.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    where = indexed(device)
    backend().synchronize(where)


class DeviceProperties(SimpleNamespace):
    """What a device is: `name`, `major`, `minor`, `total_memory` (bytes), `multi_processor_count` and others."""


_PROPERTIES = {
    "major": "major",
    "minor": "minor",
    "total_memory": "totalGlobalMem",
    "multi_processor_count": "multiProcessorCount",
    "warp_size": "warpSize",
    "regs_per_multiprocessor": "regsPerMultiprocessor",
    "max_threads_per_block": "maxThreadsPerBlock",
    "max_threads_per_multi_processor": "maxThreadsPerMultiProcessor",
    "shared_memory_per_block": "sharedMemPerBlock",
    "shared_memory_per_block_optin": "sharedMemPerBlockOptin",
    "shared_memory_per_multiprocessor": "sharedMemPerMultiprocessor",
    "L2_cache_size": "l2CacheSize",
    "memory_bus_width": "memoryBusWidth",
    "memory_clock_rate": "memoryClockRate",
    "clock_rate": "clockRate",
    "is_integrated": "integrated",
    "is_multi_gpu_board": "isMultiGpuBoard",
    "pci_bus_id": "pciBusID",
    "pci_device_id": "pciDeviceID",
    "pci_domain_id": "pciDomainID",
}  # torch's names, and CUDA's


def get_device_properties(device: DeviceLike | None = None) -> DeviceProperties:
    """What a device (the current one for None) is: by torch's names, in CUDA's units.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    where = indexed(device)
    given = backend().properties(where)
    known = {name: given[theirs] for name, theirs in _PROPERTIES.items() if theirs in given}
    return DeviceProperties(name=given["name"].decode(), **known)


def get_device_name(device: DeviceLike | None = None) -> str:
    """The name of a device (the current one for None)."""
    return str(get_device_properties(device).name)


def get_device_capability(device: DeviceLike | None = None) -> tuple[int, int]:
    """The compute capability of a device (the current one for None), major and minor."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def _negative(spec: Any) -> bool:
    return isinstance(spec, int) and spec < 0
