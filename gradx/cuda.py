"""`torch.cuda`'s face: which CUDA devices there are, what they hold, and waiting for them. Never imports CuPy itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gradx.backends import backend_for
from gradx.backends.cuda_status import Diagnosis, diagnose
from gradx.backends.faults import OutOfMemoryError
from gradx.device import device

if TYPE_CHECKING:
    from gradx.backends.cupy_backend import CupyBackend

__all__ = [
    "Diagnosis",
    "OutOfMemoryError",
    "current_device",
    "device_count",
    "diagnose",
    "is_available",
    "memory_allocated",
    "synchronize",
]

DeviceLike = device | str | int


def is_available() -> bool:
    """Whether tensors can live on a CUDA device. If not, `diagnose` says why, and what to do."""
    return diagnose().usable


def device_count() -> int:
    """The number of CUDA devices; 0 where CUDA is not usable."""
    return _backend().device_count() if is_available() else 0


def current_device() -> int:
    """The index of the device that "cuda" means.

    Raises:
        RuntimeError: CUDA is not usable.
    """
    return _backend().current_device()


def synchronize(device: DeviceLike | None = None) -> None:
    """Wait until a device (the current one for None) has finished all it was given.

    Kernels run asynchronously: without this, a clock on the host times only how fast they are launched.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    backend = _backend()
    backend.synchronize(_device(backend, device))


def memory_allocated(device: DeviceLike | None = None) -> int:
    """Bytes that arrays occupy on a device (the current one for None); 0 where CUDA is not usable.

    All of CuPy's arrays count, gradx's and others'. Each is rounded up to a multiple of 512 bytes.

    Raises:
        RuntimeError: there is no such device.
    """
    if not is_available():
        return 0
    backend = _backend()
    return backend.memory_allocated(_device(backend, device))


def _backend() -> CupyBackend:
    status = diagnose()
    if not status.usable:
        raise RuntimeError(f"CUDA is not usable. {status.cause} {status.fix}")
    return cast("CupyBackend", backend_for(device("cuda")))


def _device(backend: CupyBackend, spec: DeviceLike | None) -> device:
    where = device("cuda" if spec is None else spec)
    if where.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {where}")
    if where.index is not None and where.index >= backend.device_count():
        raise RuntimeError(
            f"CUDA error: invalid device ordinal. {where} was asked for; the number of devices is {backend.device_count()}."
        )
    return where
