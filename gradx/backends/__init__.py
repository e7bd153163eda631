"""The registry: from an array, or a device, to the backend that computes there.

An array library registers itself under the entry-point group ``gradx.backends``: the entry point's name is the device
type, its value a subclass of `Backend` that takes no arguments. CuPy's is built in, and imported only when asked for.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gradx.backends.base import LARGE, Backend, Parts, Place
from gradx.backends.cpu.few import CpuBackend
from gradx.backends.expression import Symbol, SymbolicBackend
from gradx.backends.kernels import Array
from gradx.device import device

__all__ = ["LARGE", "Array", "Backend", "Parts", "Place", "backend_for", "backend_of", "is_array"]

_BY_DEVICE: dict[str, Backend] = {"cpu": CpuBackend()}


class _ByType(dict[type, Backend | None]):
    """The backend of each array type seen so far, looked up by one dictionary access."""

    def __missing__(self, array_type: type) -> Backend | None:
        if array_type.__module__.startswith("cupy") and "cuda" not in _BY_DEVICE:
            _load("cuda")
        for backend in _BY_DEVICE.values():
            if issubclass(array_type, backend.array_types):
                return self.setdefault(array_type, backend)
        return None


BY_TYPE = _ByType({np.ndarray: _BY_DEVICE["cpu"], Symbol: SymbolicBackend()})


def backend_of(array: Array) -> Backend:
    """The backend of an array.

    Raises:
        TypeError: `array` is of no registered array library.
    """
    backend = BY_TYPE[type(array)]
    if backend is None:
        raise TypeError(f"expected a Tensor, a NumPy array or a CuPy array, but got {type(array).__name__}")
    return backend


def is_array(value: Any) -> bool:
    """Whether `value` is an array (or array scalar) of a registered library."""
    return BY_TYPE[type(value)] is not None


def backend_for(where: device) -> Backend:
    """The backend of a device.

    Raises:
        RuntimeError: there is no backend for devices of this type.
    """
    return _BY_DEVICE.get(where.type) or _load(where.type)


def _load(device_type: str) -> Backend:
    if device_type == "cuda":
        from gradx.backends.cupy_backend import CupyBackend

        backend: Backend = CupyBackend()
    else:
        import importlib.metadata  # slow to import, and rarely needed

        points = importlib.metadata.entry_points(group="gradx.backends", name=device_type)
        if not points:
            raise RuntimeError(
                f"Expected one of cpu, cuda device type at start of device string: {device_type}. "
                "No backend of that name is registered under the entry-point group 'gradx.backends'."
            )
        backend = next(iter(points)).load()()
    _BY_DEVICE[device_type] = backend
    for seen in [t for t in BY_TYPE if BY_TYPE[t] is None]:
        del BY_TYPE[seen]
    return backend


def loaded() -> list[Backend]:
    """The backends in use so far."""
    return list(_BY_DEVICE.values())


def quiet() -> AbstractContextManager[Any]:
    """Within it, no backend warns of floating-point conditions; see `Backend.quiet`."""
    if len(_BY_DEVICE) == 1:
        return _BY_DEVICE["cpu"].quiet()
    blocks = contextlib.ExitStack()
    for backend in _BY_DEVICE.values():
        blocks.enter_context(backend.quiet())
    return blocks


def needs_order() -> bool:
    """Whether a backend in use has several devices or streams between which work must be put in order."""
    return len(_BY_DEVICE) > 1 and any(backend.needs_order() for backend in _BY_DEVICE.values())
