"""What a tensor tells of itself: shape, dtype, device, layout."""

from __future__ import annotations

import math
from typing import Any

from gradx import dtypes
from gradx.backends import backend_of
from gradx.device import device
from gradx.size import Size
from gradx.variables import Variable


class DescriptionMethods(Variable):
    """Properties that follow from the array alone."""

    __slots__ = ()

    @property
    def shape(self) -> Size:
        """The length of each dimension."""
        return Size(self.array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of dimension `dim`."""
        return self.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim  # type: ignore[no-any-return]

    ndimension = dim

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim  # type: ignore[no-any-return]

    def numel(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    nelement = numel

    @property
    def dtype(self) -> dtypes.dtype:
        """The type of the elements."""
        return dtypes.of_numpy(self.array.dtype)

    @property
    def device(self) -> device:
        """Where the elements are."""
        return backend_of(self.array).device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        """Whether the elements are on a CUDA device."""
        return self.device.type == "cuda"

    def get_device(self) -> int:
        """The index of the CUDA device, -1 on the CPU."""
        where = self.device
        return -1 if where.index is None else where.index

    @property
    def _base(self) -> Variable | None:
        return None if self._view is None else self._view.base

    def _is_view(self) -> bool:
        return self._view is not None

    def element_size(self) -> int:
        """Bytes per element."""
        return int(self.array.itemsize)

    def stride(self) -> tuple[int, ...]:
        """For each dimension, how many elements apart its neighbours are in memory."""
        array = self.array
        if array.size:
            return tuple(n // array.itemsize for n in array.strides)
        lengths = [max(n, 1) for n in array.shape]  # the array libraries have none to tell where there are no elements
        return tuple(math.prod(lengths[d + 1 :]) for d in range(array.ndim))

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in row-major order without gaps."""
        return bool(self.array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """Whether the elements are real floating-point numbers."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the elements are complex."""
        return self.dtype.is_complex
