"""Tensors of random numbers. They are drawn on the host, so that a seed gives the same on every device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradx import dtypes, random
from gradx.creation import from_host, shape_of
from gradx.ops.shape import flat
from gradx.tensor import Tensor


def rand(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random numbers, uniform from 0 to below 1; of complex ones, both parts."""
    shape = shape_of("rand", sizes, size)
    _require_inexact("rand", dtype)
    if _complex(dtype):
        parts = random.generator().random((*shape, 2))
        return from_host(parts[..., 0] + 1j * parts[..., 1], dtype, device, requires_grad, pin_memory)
    values = random.generator().random(shape, np.float32)
    if dtype is not None and dtypes.as_dtype(dtype).itemsize == 2:  # halves would round the largest up to 1
        steps = np.float32(2 / dtypes.finfo(dtypes.as_dtype(dtype)).eps)
        values = np.floor(values * steps) / steps
    return from_host(values, dtype, device, requires_grad, pin_memory)


def randn(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random numbers, normal with mean 0 and variance 1; of complex ones, 1/2 for each part."""
    shape = shape_of("randn", sizes, size)
    _require_inexact("randn", dtype)
    if _complex(dtype):
        parts = random.generator().standard_normal((*shape, 2)) * math.sqrt(0.5)
        return from_host(parts[..., 0] + 1j * parts[..., 1], dtype, device, requires_grad, pin_memory)
    return from_host(random.generator().standard_normal(shape), dtype, device, requires_grad, pin_memory)


def _complex(dtype: Any) -> bool:
    return dtype is not None and dtypes.as_dtype(dtype).is_complex


def _require_inexact(name: str, dtype: Any) -> None:
    if dtype is not None and dtypes.as_dtype(dtype).dtype.kind not in dtypes.INEXACT:
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{dtypes.as_dtype(dtype).name}'. Ask for a floating-point dtype."
        )


def randint(
    low: int,
    high: Any,
    size: Sequence[int] | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random integers from `low` (0 if left out) to below `high`, all as likely."""
    if size is None:
        low, high, size = 0, low, high
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    values = random.generator().integers(low, high, flat((size,)))
    return from_host(values, dtype or dtypes.int64, device, requires_grad, pin_memory)


def randperm(n: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The integers from 0 to below `n` in random order."""
    return from_host(random.generator().permutation(n), dtype or dtypes.int64, device, False)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return rand(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return randn(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)
