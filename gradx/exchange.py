"""Tensors over the memory of other libraries' arrays, by DLPack."""

from __future__ import annotations

from typing import Any

from gradx import dtypes
from gradx.backends import Array, backend_for, backend_of, is_array
from gradx.backends.dlpack import DEVICE_TYPES, DLDeviceType, Source
from gradx.device import device as Device
from gradx.ops.transfer import clone, move
from gradx.placement import resolve
from gradx.tensor import Tensor


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of another library's array: of NumPy, CuPy, torch, JAX, and whatever else has DLPack.

    What is written through one shows in the other. On CUDA, the current stream waits for what the other library has
    given to its own.

    Args:
        ext_tensor: an object with ``__dlpack__``, or a capsule, which can be used once.
        device: where the tensor shall be; None is where the memory is.
        copy: whether to copy: always, never, or, for None, only to another device.

    Raises:
        BufferError: the other library does not export it (torch: of tensors that require grad).
        RuntimeError: the capsule has been used, or the memory is on a device that gradx has not.
        ValueError: it would have to be copied, and `copy` forbids it.

    >>> import gradx, numpy as np
    >>> a = np.zeros(2)
    >>> t = gradx.from_dlpack(a)
    >>> t[0] = 1.0
    >>> a
    array([1., 0.])
    """
    made = Tensor(imported(ext_tensor))
    target = made.device if device is None else resolve(device)
    if target != made.device:
        if copy is False:
            raise ValueError(
                f"cannot move DLPack tensor from device {made.device} to {target} without copying. Set copy=None or copy=True."
            )
        return move(made, target)
    return clone(made) if copy else made


def imported(exporter: Any) -> Array:
    """An array over the memory that `exporter` exports, of the library that gradx uses on its device."""
    source = Source(exporter)
    kind, _ = source.__dlpack_device__()
    if kind not in tuple(DEVICE_TYPES):
        raise RuntimeError(
            f"Unsupported device_type: {kind}. gradx takes memory on the CPU and on CUDA devices: copy the array there first."
        )
    array = backend_for(Device(DEVICE_TYPES[DLDeviceType(kind)])).from_dlpack(source)
    dtypes.of_numpy(array.dtype)  # raises for what cannot be a tensor
    return array


def borrowed(data: Any) -> Array | None:
    """An array over the memory of `data`, whatever library it is of; None where there is none to share."""
    if is_array(data):
        array = backend_of(data).plain(data)
        dtypes.of_numpy(array.dtype)
        return array
    if hasattr(data, "__dlpack__"):
        return imported(data)
    if hasattr(data, "__cuda_array_interface__"):
        return borrowed(backend_for(Device("cuda")).from_interface(data))
    return None


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule over a tensor's memory, for libraries that take no objects. It can be used once.

    Raises:
        BufferError: the tensor requires grad.
        TypeError: `tensor` is none.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"_to_dlpack(): argument 'data' (position 1) must be Tensor, not {type(tensor).__name__}")
    return tensor.__dlpack__()
