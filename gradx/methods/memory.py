"""A tensor's memory: sharing it with other libraries, without a copy; pinning it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx.backends import Array, backend_of, loaded
from gradx.backends.dlpack import DLDeviceType
from gradx.methods.history import HistoryMethods
from gradx.ops import transfer

if TYPE_CHECKING:
    from typing import Self

_IGNORED_STREAM = -1  # the consumer's word for "do not wait for anything"


class MemoryMethods(HistoryMethods):
    """What others need in order to work on the very memory of a tensor."""

    __slots__ = ()

    def data_ptr(self) -> int:
        """The address of the first element, on the device where it is; 0 where there are no elements."""
        return backend_of(self.array).pointer(self.array)

    def cupy(self) -> Array:
        """The CuPy array of the elements, sharing their memory. Nothing is waited for: both use the current stream.

        Raises:
            RuntimeError: the tensor requires grad.
            TypeError: the tensor is not on a CUDA device.
        """
        if self.requires_grad:
            raise RuntimeError(
                "Can't call cupy() on Tensor that requires grad. Use tensor.detach().cupy() instead. What CuPy computes is "
                "not recorded."
            )
        if not self.is_cuda:
            raise TypeError(
                f"can't convert {self.device} device type tensor to cupy. Use Tensor.cuda() to copy the tensor to device "
                "memory first."
            )
        return self.array

    def pin_memory(self) -> Self:
        """A copy in pinned memory, from which ``to("cuda", non_blocking=True)`` need not be waited for; the tensor itself
        if its memory is pinned. Gradients flow back through it.

        Raises:
            RuntimeError: the tensor is not on the CPU, or CUDA is not usable.
        """
        return transfer.pin_memory(self)  # type: ignore[arg-type, return-value]

    def is_pinned(self) -> bool:
        """Whether the tensor is in pinned host memory, whoever pinned it."""
        return any(backend.is_pinned(self.array) for backend in loaded())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of Numba's protocol, with the current stream, which whoever takes the memory has to wait for.

        Raises:
            AttributeError: the tensor is not on a CUDA device.
            RuntimeError: the tensor requires grad.
        """
        if not self.is_cuda:
            raise AttributeError(
                f"Can't get __cuda_array_interface__ on non-CUDA tensor type: gradx.{self.dtype.title}Tensor If CUDA data is "
                "required use tensor.cuda() to copy tensor to device memory."
            )
        if self.requires_grad:
            raise RuntimeError(
                "Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't required, use "
                "var.detach() to get Variable that doesn't require grad."
            )
        with backend_of(self.array).at(self.array):
            return self.array.__cuda_array_interface__  # type: ignore[no-any-return]

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule over the tensor's memory. Call `from_dlpack` of the library that shall have it, not this.

        Args:
            stream: the consumer's CUDA stream, which is made to wait for the current one: its address, 1 or None for
                the legacy default stream, -1 to leave the order to the consumer. None (or -1) on the CPU.
            max_version: the newest version of DLPack that the consumer knows; None is one before 1.0.
            dl_device: where the memory shall be, (1, 0) for the host; None is where it is.
            copy: whether to copy: always, never, or, for None, if need be.

        Raises:
            BufferError: the tensor requires grad, or cannot be had as asked for.
        """
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if stream is not None and type(stream) is not int:
            raise TypeError("stream must be ``int`` or ``none``")
        backend, array = backend_of(self.array), self.array
        if not self.is_cuda:
            if stream not in (None, _IGNORED_STREAM):
                raise AssertionError("stream should be None on cpu.")
            stream = None
        elif copy and dl_device in (None, array.__dlpack_device__()):  # CuPy copies to the host only
            array, copy = backend.clone(array), None
        options = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        with backend.at(array):
            return array.__dlpack__(**{name: value for name, value in options.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's number of the kind of device, and the index of the device."""
        kind, index = self.array.__dlpack_device__()
        return DLDeviceType.kDLCUDAHost if self.is_pinned() else DLDeviceType(kind), index
