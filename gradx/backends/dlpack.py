"""Taking arrays over from other libraries without a copy, by DLPack.

Source: the Python array API standard, "Data interchange mechanisms", and DLPack's C structures. NumPy and CuPy do the
work, and the ordering of streams; what is here finds out which of them to ask.
"""

from __future__ import annotations

import ctypes
import enum
from typing import Any, Final

import numpy as np


class DLDeviceType(enum.IntEnum):
    """DLPack's kinds of devices that gradx can have memory on."""

    kDLCPU = 1
    kDLCUDA = 2
    kDLCUDAHost = 3  # host memory that is pinned
    kDLCUDAManaged = 13


DEVICE_TYPES: Final = {
    DLDeviceType.kDLCPU: "cpu",
    DLDeviceType.kDLCUDAHost: "cpu",
    DLDeviceType.kDLCUDA: "cuda",
    DLDeviceType.kDLCUDAManaged: "cuda",
}

# Where a capsule's structure, by the capsule's name, has its DLDevice: after a pointer to the elements, which a
# structure with a version has after the version, two pointers and flags.
_DEVICE_AT: Final = {b"dltensor": 8, b"dltensor_versioned": 40}

_name = ctypes.pythonapi.PyCapsule_GetName
_name.restype, _name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class Source:
    """What exports memory: an object with ``__dlpack__``, or a capsule that such an object gave.

    Attributes:
        read_only_possible: whether the capsule could say that the memory must not be written to.
    """

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter
        self.read_only_possible = False

    def __dlpack_device__(self) -> tuple[int, int]:
        if hasattr(self.exporter, "__dlpack__"):
            kind, index = self.exporter.__dlpack_device__()
            return int(kind), int(index)
        name = _capsule_name(self.exporter)
        place = ctypes.c_int32 * 2
        kind, index = place.from_address(_pointer(self.exporter, name) + _DEVICE_AT[name])
        return kind, index

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.exporter.__dlpack__(**options) if hasattr(self.exporter, "__dlpack__") else self.exporter
        self.read_only_possible = _capsule_name(capsule) == b"dltensor_versioned"
        return capsule


def _capsule_name(capsule: Any) -> bytes:
    """The name of a capsule that nobody has consumed yet.

    Raises:
        RuntimeError: it is none.
    """
    name: bytes | None = _name(capsule) if type(capsule).__name__ == "PyCapsule" else None
    if name not in _DEVICE_AT:
        raise RuntimeError(
            "from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you might "
            "have already constructed a tensor from it once. Pass the object that owns the memory instead of a capsule."
        )
    return name


class _Writable:
    """The memory of an array, offered for writing too."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        interface = array.__array_interface__
        self.array = array
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def host_array(source: Source) -> np.ndarray[Any, Any]:
    """A NumPy array over the memory of `source`.

    NumPy takes memory for read-only if the capsule is of the old kind, which cannot tell. Torch takes it for writable,
    and so it is here: else an in-place operation would fail for no reason that a user could see.
    """
    array = np.from_dlpack(source)
    return array if array.flags.writeable or source.read_only_possible else np.asarray(_Writable(array))
