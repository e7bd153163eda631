"""Making tensors from data and from constants.

All take torch's keywords: `dtype`, `device` ("cpu", "cuda", "cuda:1", "auto"; None is the default device),
`requires_grad`. `tensor`, `full`, `zeros`, `ones`, `empty`, `rand`, `randn` and `randint` also take
`pin_memory`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradx import dtypes
from gradx.backends import backend_for, backend_of
from gradx.exchange import borrowed
from gradx.ops import transfer
from gradx.ops.shape import flat
from gradx.placement import resolve
from gradx.tensor import Tensor


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of `data`.

    Args:
        data: numbers, nested sequences of them, a NumPy or CuPy array, a tensor, or another library's array: whatever
            has ``__dlpack__`` or ``__cuda_array_interface__``.
        dtype: otherwise the default dtype for Python floats, int64 for ints, and an array's own.
        device: otherwise the default device for Python data and NumPy arrays, and a CuPy array's own.
        requires_grad: record what is computed from it.

    >>> import gradx
    >>> gradx.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    source = data.detach() if isinstance(data, Tensor) else borrowed(data)
    made = as_tensor(data if source is None else source, dtype=dtype, device=device)
    fresh = made if source is None else Tensor(backend_of(made.array).contiguous(made.array))
    return finish(fresh, requires_grad, pin_memory)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory and history where neither dtype nor device changes. See `tensor`.

    >>> import gradx, numpy as np
    >>> a = np.zeros(2)
    >>> t = gradx.as_tensor(a)
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0.], dtype=gradx.float64)
    """
    if isinstance(data, Tensor):
        result = data
    elif (array := borrowed(data)) is not None:
        result = Tensor(array)
        if device is None and backend_of(array).device_type == "cpu":
            device = resolve(None)
    else:
        result = Tensor(_host_array(data, dtype))
        device = resolve(device)
    return result.to(dtype=dtype, device=device)


def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """A CPU tensor over the memory of a NumPy array.

    Raises:
        TypeError: `ndarray` is not a NumPy array, or of a dtype that tensors cannot have.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtypes.of_numpy(ndarray.dtype)
    return Tensor(np.asarray(ndarray))


def _host_array(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """Python data as a NumPy array of torch's dtype for it."""
    if isinstance(data, (list, tuple)):
        _require_even(data, _lengths(data))
        if dtype is None:
            dtype = _dtype_of_tensors(data)
        data = _plain(data)
    try:
        if dtype is not None:
            return np.array(data, dtype=dtypes.as_dtype(dtype).dtype)
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"expected sequence of equal length at each dimension: {error}") from None
    if array.dtype == object:
        if isinstance(data, (list, tuple)) and all(isinstance(item, int) for item in data):
            raise ValueError(f"Overflow when unpacking long long. {data} holds a number beyond int64.")
        raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    if isinstance(data, str):
        raise TypeError("new(): invalid data type 'str'. Tensors hold numbers and truth values only.")
    if array.dtype.kind == "U" and isinstance(data, (list, tuple)):
        raise ValueError("too many dimensions 'str'. Tensors hold numbers and truth values only.")
    if array.dtype == np.float64 and not _holds_numpy(data):
        return array.astype(dtypes.get_default_dtype().dtype)
    return array.astype(dtypes.default_complex().dtype) if array.dtype == np.complex128 else array


def _lengths(data: Any) -> list[int]:
    """The length of each level of nested sequences, going by the first items."""
    lengths = []
    while isinstance(data, (list, tuple)):
        lengths.append(len(data))
        data = data[0] if data else None
    return lengths


def _require_even(data: Any, lengths: list[int], dim: int = 0) -> None:
    """Raise ValueError where a sequence is not as long as the others at its level."""
    if dim == len(lengths):
        return
    if len(data) != lengths[dim]:
        raise ValueError(f"expected sequence of length {lengths[dim]} at dim {dim} (got {len(data)})")
    for item in data:
        if isinstance(item, (list, tuple)):
            _require_even(item, lengths, dim + 1)


def _dtype_of_tensors(data: Any) -> dtypes.dtype | None:
    """The common dtype of nested sequences that hold tensors; None where they hold none."""
    items, found, common = [data], False, None
    for item in items:
        if isinstance(item, (list, tuple)):
            items.extend(item)
            continue
        found = found or isinstance(item, Tensor)
        if isinstance(item, (Tensor, int, float, complex)):
            own = item.dtype if isinstance(item, Tensor) else dtypes.scalar_dtype(item)
            common = own if common is None else dtypes.promote_types(common, own)
    return common if found else None


def _plain(data: Any) -> Any:
    """Nested sequences with their tensors as Python numbers."""
    if isinstance(data, Tensor):
        if data.numel() != 1:
            kind = TypeError if data.array.dtype.kind in "biu" else ValueError
            raise kind("only one element tensors can be converted to Python scalars. Join tensors with gradx.stack.")
        return data.item()
    return [_plain(item) for item in data] if isinstance(data, (list, tuple)) else data


def _holds_numpy(data: Any) -> bool:
    """Whether the first element of nested sequences is NumPy's, whose dtype then counts."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def finish(result: Tensor, requires_grad: bool, pin_memory: bool = False) -> Tensor:
    if requires_grad and result.array.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError(
            "Only Tensors of floating point and complex dtype can require gradients. This one would hold "
            f"{result.dtype}: ask for a floating-point dtype."
        )
    if pin_memory:
        result = _pinned(result)
    return result.requires_grad_() if requires_grad else result


def _pinned(result: Tensor) -> Tensor:
    if result.is_cuda:
        raise RuntimeError("Only dense CPU tensors can be pinned. Leave out pin_memory for tensors on a GPU.")
    missing = "no pinned memory allocator is available on this system."
    return transfer.pin_memory(result, f"pin_memory=True requires a CUDA or other accelerator backend; {missing}")


def shape_of(name: str, sizes: tuple[Any, ...], size: Any) -> tuple[int, ...]:
    """The shape in `name(2, 3)`, `name((2, 3))` and `name(size=(2, 3))` alike."""
    if size is None and not sizes:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    try:
        shape = flat(sizes if size is None else (size,))
    except (AttributeError, ValueError, TypeError):
        raise TypeError(
            f"{name}(): argument 'size' (position 1) must be tuple of ints, not {sizes or size!r}"
        ) from None
    if min(shape, default=0) < 0 and name == "zeros":
        raise RuntimeError("zeros: Dimension size must be non-negative.")
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of the given shape, every element `fill_value`, whose type gives the dtype unless one is given.

    >>> import gradx
    >>> gradx.full((2,), 3.5)
    tensor([3.5000, 3.5000])
    """
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    if isinstance(fill_value, np.generic):
        fill_value = fill_value.item()
    if not isinstance(fill_value, (int, float, complex)):
        kind = type(fill_value).__name__
        raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {kind}")
    chosen = dtypes.scalar_dtype(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    where = resolve(device)
    shape = shape_of("full", (), size)
    array = backend_for(where).full(shape, fill_value, chosen.dtype, where)
    return finish(Tensor(array), requires_grad, pin_memory)


def zeros(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    >>> import gradx
    >>> gradx.zeros(2)
    tensor([0., 0.])
    """
    chosen = dtype or dtypes.get_default_dtype()
    shape = shape_of("zeros", sizes, size)
    return full(shape, 0, dtype=chosen, device=device, requires_grad=requires_grad, pin_memory=pin_memory)


def ones(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of ones.

    >>> import gradx
    >>> gradx.ones(2)
    tensor([1., 1.])
    """
    chosen = dtype or dtypes.get_default_dtype()
    shape = shape_of("ones", sizes, size)
    return full(shape, 1, dtype=chosen, device=device, requires_grad=requires_grad, pin_memory=pin_memory)


def empty(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor whose elements are whatever the memory held."""
    where = resolve(device)
    chosen = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    array = backend_for(where).empty(shape_of("empty", sizes, size), chosen.dtype, where)
    return finish(Tensor(array), requires_grad, pin_memory)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`full` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return full(
        input.shape, fill_value, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape of `input`, and in its dtype and on its device unless others are given."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape of `input`, and in its dtype and on its device unless others are given."""
    return full_like(input, 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`empty` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return empty(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def arange(
    start: float = 0,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` (0 if only one bound is given) up to but not including `end`, `step` apart.

    Integers give int64, anything else the default dtype.

    >>> import gradx
    >>> gradx.arange(1, 4)
    tensor([1, 2, 3])
    """
    if end is None:
        start, end = 0, start
    bounds = [v.item() if isinstance(v, Tensor) else v for v in (start, end, step)]
    start, end, step = bounds
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}. Both bounds must be finite.")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, (int, np.integer)) for v in bounds)
    chosen = dtypes.as_dtype(dtype) if dtype is not None else dtypes.int64 if whole else dtypes.get_default_dtype()
    where = resolve(device)
    count = max(0, math.ceil((end - start) / step))
    return finish(Tensor(backend_for(where).arange(start, step, count, chosen.dtype, where)), requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced.

    >>> import gradx
    >>> gradx.linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    values = np.linspace(float(start), float(end), int(steps))
    return from_host(values, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An `n` by `m` matrix (`n` by `n`) with ones on the diagonal and zeros elsewhere.

    >>> import gradx
    >>> gradx.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    for name, length in (("n", n), ("m", 0 if m is None else m)):
        if length < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {length}")
    return from_host(np.eye(n, m), dtype, device, requires_grad)


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype of an operation on two tensors or numbers, by torch's promotion.

    >>> import gradx
    >>> gradx.result_type(gradx.tensor([1, 2]), 1.0)
    gradx.float32
    """
    return dtypes.of_numpy(dtypes.result_dtype(dtypes.operands((tensor1, tensor2))))


def from_host(
    values: np.ndarray[Any, Any], dtype: Any, device: Any, requires_grad: bool, pin_memory: bool = False
) -> Tensor:
    """A tensor from values made on the host; the copy to another device is the point of asking for that device."""
    chosen = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    made = Tensor(np.asarray(values).astype(chosen.dtype, copy=False))
    where = resolve(device)
    return finish(transfer.move(made, where), requires_grad, pin_memory)
