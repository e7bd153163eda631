"""What a tensor turns into: Python numbers, NumPy arrays, other dtypes, other devices."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from gradx import dtypes
from gradx.backends import backend_of
from gradx.device import device as Device
from gradx.methods.memory import MemoryMethods
from gradx.ops import transfer
from gradx.placement import resolve
from gradx.variables import Variable

if TYPE_CHECKING:
    from typing import Self


class ConversionMethods(MemoryMethods):
    """Conversions. Those between dtypes and devices are operations, through which gradients flow."""

    __slots__ = ()

    def item(self) -> Any:
        """The one element as a Python number. On CUDA this waits for the device.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor with {self.array.size} elements cannot be converted to Scalar")
        return self.array.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return backend_of(self.array).to_host(self.array).tolist()

    def numpy(self, *, force: builtins.bool = False) -> np.ndarray[Any, Any]:
        """The NumPy array of the elements, sharing their memory.

        Args:
            force: detach, and copy from another device, instead of raising.

        Raises:
            RuntimeError: the tensor requires grad.
            TypeError: the tensor is not on the CPU.
        """
        if not force and self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead. What NumPy computes is "
                "not recorded."
            )
        if not force and self.device.type != "cpu":
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return backend_of(self.array).to_host(self.array)

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy) if copy else np.asarray(array, dtype=dtype)

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        non_blocking: builtins.bool = False,
        copy: builtins.bool = False,
        **ignored: Any,
    ) -> Self:
        """This tensor with another dtype, on another device, or both; itself if nothing changes and `copy` is off.

        ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``; gradients flow back through it.

        Args:
            non_blocking: leave a copy from pinned memory to a CUDA device to the current stream: the source must not change
                before that is done. A copy from CUDA to the CPU goes to pinned memory, and the elements are there once the
                stream is synchronised. From pageable memory, the source has been read on return, as ever.

        Raises:
            TypeError: an argument is neither dtype nor device nor tensor.
        """
        unknown = set(ignored) - {"memory_format"}
        if unknown:
            raise TypeError(f"to() received an invalid combination of arguments - unexpected {sorted(unknown)}")
        flags = [arg for arg in args if arg is True or arg is False]  # non_blocking, copy
        non_blocking, copy = non_blocking or flags[:1] == [True], copy or flags[1:2] == [True]
        for arg in args:
            if isinstance(arg, Variable):
                dtype, device = dtypes.of_numpy(arg.array.dtype), backend_of(arg.array).device_of(arg.array)
            elif isinstance(arg, (str, Device)) or type(arg) is builtins.int:
                device = arg
            elif type(arg) is not builtins.bool and arg is not None:
                dtype = arg
        tensor: Any = self
        result = tensor if dtype is None else _cast(tensor, dtypes.as_dtype(dtype))
        if device is not None:
            result = transfer.move(result, resolve(device), non_blocking)
        return transfer.clone(result) if copy and result is tensor else result  # type: ignore[return-value]

    def cpu(self) -> Self:
        """This tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: builtins.bool = False) -> Self:
        """This tensor on a CUDA device, the current one unless given."""
        return self.to("cuda" if device is None else device, non_blocking=non_blocking)

    def record_stream(self, stream: Any) -> None:
        """Keep this tensor's memory, once nobody uses it any more, until `stream` has done what it was given by then.

        For a tensor that was made on one stream and is used on another: otherwise its memory may be given out again, on
        the stream where it was made, before the other is done with it.

        Args:
            stream: a `gradx.cuda.Stream`, or CuPy's.

        Raises:
            NotImplementedError: the tensor is on the CPU.
        """
        backend_of(self.array).record_stream(self.array, getattr(stream, "cupy", stream))

    def type_as(self, other: Variable) -> Self:
        """This tensor in the dtype and on the device of `other`."""
        return self.to(other)

    def float(self) -> Self:
        """This tensor as float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """This tensor as float64."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """This tensor as float16."""
        return self.to(dtypes.float16)

    def bfloat16(self) -> Self:
        """This tensor as bfloat16."""
        return self.to(dtypes.bfloat16)

    def int(self) -> Self:
        """This tensor as int32, fractions dropped."""
        return self.to(dtypes.int32)

    def long(self) -> Self:
        """This tensor as int64, fractions dropped."""
        return self.to(dtypes.int64)

    def bool(self) -> Self:
        """This tensor as truth values: where it is not zero."""
        return self.to(dtypes.bool_)


def _cast(tensor: Any, target: dtypes.dtype) -> Any:
    if tensor.dtype is target:
        return tensor
    if target.is_floating_point or target.is_complex:
        return transfer.cast(tensor, target.dtype)
    return transfer.cast_discrete(tensor, target.dtype)
