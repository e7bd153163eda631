"""Making tensors from data, from constants and from random numbers.

All take torch's keywords: `dtype`, `device` ("cpu", "cuda", "cuda:1", "auto"; None is the default device),
`requires_grad`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradx import dtypes, random
from gradx.backends import backend_for, backend_of, is_array
from gradx.ops.shape import flat
from gradx.ops.transfer import move
from gradx.placement import resolve
from gradx.tensor import Tensor


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`.

    Args:
        data: numbers, nested sequences of them, a NumPy or CuPy array, or a tensor.
        dtype: otherwise the default dtype for Python floats, int64 for ints, and an array's own.
        device: otherwise the default device for Python data and NumPy arrays, and a CuPy array's own.
        requires_grad: record what is computed from it.

    >>> import gradx
    >>> gradx.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    made = as_tensor(data.detach() if isinstance(data, Tensor) else data, dtype=dtype, device=device)
    shared = isinstance(data, Tensor) or is_array(data)
    return _finish(Tensor(backend_of(made.array).copy(made.array)) if shared else made, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory and history where neither dtype nor device changes.

    >>> import gradx, numpy as np
    >>> a = np.zeros(2)
    >>> t = gradx.as_tensor(a)
    >>> a[0] = 1.0
    >>> t
    tensor([1., 0.], dtype=gradx.float64)
    """
    if isinstance(data, Tensor):
        result = data
    elif is_array(data):
        array = backend_of(data).xp.asarray(data)
        dtypes.of_numpy(array.dtype)  # raises for what cannot be a tensor
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
        data = _plain(data)
    if dtype is not None:
        return np.array(data, dtype=dtypes.as_dtype(dtype).dtype)
    try:
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"expected sequence of equal length at each dimension: {error}") from None
    if array.dtype == object:
        raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    if array.dtype == np.float64 and not _holds_numpy(data):
        return array.astype(dtypes.get_default_dtype().dtype)
    return array.astype(dtypes.default_complex().dtype) if array.dtype == np.complex128 else array


def _plain(data: Any) -> Any:
    """Nested sequences with their tensors as Python numbers."""
    if isinstance(data, Tensor):
        return data.detach().tolist()
    return [_plain(item) for item in data] if isinstance(data, (list, tuple)) else data


def _holds_numpy(data: Any) -> bool:
    """Whether the first element of nested sequences is NumPy's, whose dtype then counts."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def _finish(result: Tensor, requires_grad: bool) -> Tensor:
    return result.requires_grad_() if requires_grad else result


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the given shape, every element `fill_value`, whose type gives the dtype unless one is given.

    >>> import gradx
    >>> gradx.full((2,), 3.5)
    tensor([3.5000, 3.5000])
    """
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    chosen = dtypes.scalar_dtype(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    where = resolve(device)
    shape = flat((size,))
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    array = backend_for(where).full(shape, fill_value, chosen.dtype, where)
    return _finish(Tensor(array), requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    >>> import gradx
    >>> gradx.zeros(2)
    tensor([0., 0.])
    """
    return full(flat(size), 0, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones.

    >>> import gradx
    >>> gradx.ones(2)
    tensor([1., 1.])
    """
    return full(flat(size), 1, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose elements are whatever the memory held."""
    where = resolve(device)
    chosen = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return _finish(Tensor(backend_for(where).empty(flat(size), chosen.dtype, where)), requires_grad)


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
    start: float,
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
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, (int, np.integer)) for v in bounds)
    chosen = dtypes.as_dtype(dtype) if dtype is not None else dtypes.int64 if whole else dtypes.get_default_dtype()
    where = resolve(device)
    count = max(0, math.ceil((end - start) / step))
    return _finish(Tensor(backend_for(where).arange(start, step, count, chosen.dtype, where)), requires_grad)


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
    return _from_host(values, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An `n` by `m` matrix (`n` by `n`) with ones on the diagonal and zeros elsewhere.

    >>> import gradx
    >>> gradx.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _from_host(np.eye(n, m), dtype, device, requires_grad)


def rand(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, uniform from 0 to below 1."""
    return _from_host(random.generator().random(flat(size), np.float32), dtype, device, requires_grad)


def randn(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random numbers, normal with mean 0 and variance 1."""
    return _from_host(random.generator().standard_normal(flat(size)), dtype, device, requires_grad)


def randint(
    low: int,
    high: Any,
    size: Sequence[int] | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Random integers from `low` (0 if left out) to below `high`, all as likely."""
    if size is None:
        low, high, size = 0, low, high
    values = random.generator().integers(low, high, flat((size,)))
    return _from_host(values, dtype or dtypes.int64, device, requires_grad)


def randperm(n: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The integers from 0 to below `n` in random order."""
    return _from_host(random.generator().permutation(n), dtype or dtypes.int64, device, False)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return rand(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return randn(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype of an operation on two tensors or numbers, by torch's promotion.

    >>> import gradx
    >>> gradx.result_type(gradx.tensor([1, 2]), 1.0)
    gradx.float32
    """
    operands = [
        dtypes.Operand(x.array.dtype, 2 if x.ndim else 1)
        if isinstance(x, Tensor)
        else dtypes.Operand(dtypes.scalar_dtype(x).dtype, 0)
        for x in (tensor1, tensor2)
    ]
    return dtypes.of_numpy(dtypes.result_dtype(operands))


def _from_host(values: np.ndarray[Any, Any], dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """A tensor from values made on the host; the copy to another device is the point of asking for that device."""
    chosen = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    made = Tensor(np.asarray(values).astype(chosen.dtype, copy=False))
    where = resolve(device)
    return _finish(made if where == made.device else move(made, made.device, where), requires_grad)
