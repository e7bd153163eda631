"""Tensors of random numbers, drawn on the device where they live, in one launch, without a copy from the host.

The same seed gives the same numbers on every device, bit for bit: see `gradx.random`. All take torch's `generator`, the
`gradx.Generator` to draw from instead of the default one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradx import dtypes
from gradx.backends import backend_for, backend_of
from gradx.backends.base import misfit
from gradx.creation import finish, from_host, shape_of
from gradx.device import device as Device
from gradx.methods.random import bernoulli
from gradx.ops import draw
from gradx.ops import random as ops
from gradx.ops.shape import flat
from gradx.placement import resolve
from gradx.random import Generator, source
from gradx.tensor import Tensor

__all__ = ["bernoulli", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"]


def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random numbers, uniform from 0 to below 1; of complex ones, both parts.

    >>> import gradx
    >>> gradx.rand(2, generator=gradx.Generator().manual_seed(0))
    tensor([0.3990, 0.8805])
    """
    shape, chosen, where = shape_of("rand", sizes, size), draw.inexact("check_uniform_bounds", dtype), resolve(device)
    return finish(Tensor(draw.uniform(shape, 0, 1, chosen, generator, where)), requires_grad, pin_memory)


def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random numbers, normal with mean 0 and variance 1; of complex ones, 1/2 for each part.

    >>> import gradx
    >>> gradx.randn(2, generator=gradx.Generator().manual_seed(0))
    tensor([ 1.2761, -1.1776])
    """
    shape, chosen, where = shape_of("randn", sizes, size), draw.inexact("normal_kernel_cpu", dtype), resolve(device)
    return finish(Tensor(draw.normal(shape, 0, 1, chosen, generator, where)), requires_grad, pin_memory)


def randint(
    low: int,
    high: Any,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Random integers from `low` (0 if left out) to below `high`, all as likely.

    Raises:
        RuntimeError: there is no number between the bounds, or one that the dtype has no room for.
    """
    if size is None:
        low, high, size = 0, low, high
    chosen = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    where = resolve(device)
    array = draw.integers(flat((size,)), low, high, chosen.dtype, generator, where)
    return finish(Tensor(array), requires_grad, pin_memory)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """The integers from 0 to below `n` in random order. It is found on the host, by sorting, and copied to the device."""
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    chosen = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    state, host = source(generator, resolve(device)).take(2 * n), Device("cpu")
    keys = backend_for(host).integers((n,), 0, 2**64 - 1, np.dtype(np.int64), state, host)
    return from_host(keys.argsort(kind="stable"), chosen, device, requires_grad, pin_memory)


def normal(
    mean: Tensor | float,
    std: Tensor | float = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Normal random numbers, with a mean and a standard deviation for all, or with one of their own for each.

    Args:
        mean, std: numbers, and then `size` says how many are drawn; or tensors, which broadcast, the result of the dtype
            of the first.
        dtype, device, requires_grad, pin_memory: for numbers only.

    Raises:
        RuntimeError: a deviation is negative. On CUDA those in a tensor are not looked at: the host would have to wait.

    >>> import gradx
    >>> gradx.normal(gradx.tensor([1.0, 2.0]), 0.0)
    tensor([1., 2.])
    """
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        return _normal_around(mean, std, generator)
    if size is None:
        raise TypeError("normal() received an invalid combination of arguments - two numbers need a size.")
    shape, chosen, where = shape_of("normal", (), size), draw.inexact("normal_kernel_cpu", dtype), resolve(device)
    drawn = draw.normal(shape, float(mean), float(std), chosen, generator, where)
    return finish(Tensor(drawn), requires_grad, pin_memory)


def _normal_around(mean: Tensor | float, std: Tensor | float, generator: Generator | None) -> Tensor:
    """`normal` of which the mean, the deviation or both are tensors."""
    if not isinstance(std, Tensor):
        if std < 0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    elif backend_of(std.array).synchronous and bool((std.array < 0).any()):
        raise RuntimeError("normal expects all elements of std >= 0.0")
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    chosen = draw.inexact("normal_kernel_cpu", tensors[0].dtype)
    try:
        shape = np.broadcast_shapes(*(x.array.shape for x in tensors))
    except ValueError:
        raise RuntimeError(misfit([x.array for x in tensors])) from None
    z = Tensor(draw.normal(shape, 0, 1, chosen, generator, tensors[0].device))
    if len(tensors) == 2:
        return ops.shifted(z, mean, std)
    return (ops.shifted_by_mean if tensors[0] is mean else ops.shifted_by_std)(z, mean, std)  # type: ignore[no-any-return]


def _form(input: Tensor, dtype: Any, device: Any, requires_grad: bool) -> dict[str, Any]:
    return {"dtype": dtype or input.dtype, "device": device or input.device, "requires_grad": requires_grad}


def rand_like(
    input: Tensor, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`rand` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return rand(input.shape, generator=generator, **_form(input, dtype, device, requires_grad))


def randn_like(
    input: Tensor, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`randn` in the shape of `input`, and in its dtype and on its device unless others are given."""
    return randn(input.shape, generator=generator, **_form(input, dtype, device, requires_grad))


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`randint` in the shape of `input`, and in its dtype and on its device unless others are given."""
    if high is None:
        low, high = 0, low
    return randint(low, high, input.shape, generator=generator, **_form(input, dtype, device, requires_grad))
