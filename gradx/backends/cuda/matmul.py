"""Matrix products in a stream capture, where CuPy refuses to call cuBLAS: the same calls, made past CuPy.

cuBLAS can be captured (its documentation, "CUDA Graphs Support"): what it needs besides the operands it allocates as part
of the graph.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Any, Final

import cupy
import numpy as np
from cupy._core._routines_linalg import get_compute_type
from cupy.cuda.device import get_cublas_handle

_TYPES: Final = {"e": 2, "f": 0, "d": 1, "F": 4, "D": 5, "E": 14}  # cudaDataType, by dtype.char; E is bfloat16
_TF32: Final = 7  # CuPy's compute type where CUPY_TF32 is set
_PLAIN, _TRANSPOSED = 0, 1  # cublasOperation_t
_DEFAULT_ALGORITHM: Final = -1


@functools.cache
def _cublas() -> Any:
    """CuPy's module, imported at the first product: the library may be missing where none is computed."""
    return importlib.import_module("cupy_backends.cuda.libs.cublas")


@functools.cache
def _library() -> Any:
    """cuBLAS, as CuPy has loaded it: looking a function up in CuPy's module finds it in what that is linked to."""
    return ctypes.CDLL(_cublas().__file__)


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_library(), name)(*arguments)
    if status:
        raise _cublas().CUBLASError(status)


def matmul(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """``cupy.matmul``, in a stream capture too."""
    try:
        return cupy.matmul(a, b)
    except NotImplementedError:
        if not cupy.cuda.get_current_stream().is_capturing():
            raise
        return _captured(a, b)


def _captured(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """The matrix product by one call of ``cublasGemmStridedBatchedEx``, in the current stream."""
    if a.ndim == 1 or b.ndim == 1:
        product = _captured(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
        product = product[..., 0, :] if a.ndim == 1 else product
        return product[..., 0] if b.ndim == 1 else product
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = cupy.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    if not out.size or not a.size:
        out.fill(0)
        return out
    # Row by row, as arrays lie, is column by column for cuBLAS: what it is to compute is out.T = b.T @ a.T.
    left, right = _Operand(b, batch), _Operand(a, batch)
    char = a.dtype.char
    scalar = (ctypes.c_double if char in "dD" else ctypes.c_float) * 2  # a real one reads the first part
    handle = ctypes.c_void_p(get_cublas_handle())
    _call("cublasSetStream_v2", handle, ctypes.c_void_p(cupy.cuda.get_current_stream().ptr))
    _call(
        "cublasGemmStridedBatchedEx",
        handle,
        *(left.operation, right.operation),
        *(out.shape[-1], out.shape[-2], a.shape[-1]),
        ctypes.byref(scalar(1, 0)),
        *left.arguments(),
        *right.arguments(),
        ctypes.byref(scalar(0, 0)),
        *(ctypes.c_void_p(out.data.ptr), _TYPES[char], out.shape[-1]),
        ctypes.c_longlong(out.shape[-1] * out.shape[-2]),
        out.size // (out.shape[-1] * out.shape[-2]),
        _compute_type(a.dtype),
        _DEFAULT_ALGORITHM,
    )
    return out


class _Operand:
    """A stack of matrices as cuBLAS reads it: transposed where it lies so, copied where it lies in no order at all."""

    def __init__(self, x: cupy.ndarray, batch: tuple[int, ...]) -> None:
        if x.ndim > 2:
            x = cupy.broadcast_to(x, (*batch, *x.shape[-2:]))
        transposed = x.ndim == 2 and not x.flags.c_contiguous and x.flags.f_contiguous
        self.operation = _TRANSPOSED if transposed else _PLAIN
        self.array = x if transposed else cupy.ascontiguousarray(x)
        self.leading = x.shape[-2] if transposed else x.shape[-1]
        self.stride = x.shape[-1] * x.shape[-2] if x.ndim > 2 else 0

    def arguments(self) -> tuple[Any, ...]:
        pointer = ctypes.c_void_p(self.array.data.ptr)
        return pointer, _TYPES[self.array.dtype.char], self.leading, ctypes.c_longlong(self.stride)


def _compute_type(dtype: np.dtype[Any]) -> int:
    if dtype.char in "dD":
        return int(_cublas().CUBLAS_COMPUTE_64F)
    if dtype.char == "f" and get_compute_type(dtype) == _TF32:
        return int(_cublas().CUBLAS_COMPUTE_32F_FAST_TF32)
    return int(_cublas().CUBLAS_COMPUTE_32F)
