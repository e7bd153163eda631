"""Arrays of random numbers, for the functions that make tensors of them and for those that overwrite tensors with them.

Each takes as many words from the generator as its elements need, by their number and dtype, whatever the device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradx import dtypes
from gradx.backends import Array, backend_for
from gradx.backends.kernels.random import DIGITS
from gradx.device import device as Device
from gradx.random import source


def inexact(name: str, dtype: Any) -> np.dtype[Any]:
    """The dtype of floating-point or complex numbers that is meant."""
    chosen = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if chosen.dtype.kind not in dtypes.INEXACT:
        raise NotImplementedError(f"\"{name}\" not implemented for '{chosen.title}'. Ask for a floating-point dtype.")
    return chosen.dtype


def words(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How many words of 32 bits floating-point numbers of that shape and dtype take."""
    return math.prod(shape) * (2 if dtype.itemsize == 8 else 1)


def _real(
    draw: str, shape: tuple[int, ...], numbers: Any, dtype: np.dtype[Any], generator: Any, where: Device
) -> Array:
    """An array that the kernel `draw` fills; of complex numbers, both parts."""
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        return _real(draw, (*shape, 2), numbers, part, generator, where).view(dtype).reshape(shape)
    state = source(generator, where).take(words(shape, dtype))
    return getattr(backend_for(where), draw)(shape, *numbers, dtype, state, where)


def uniform(shape: Any, low: float, high: float, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    """Numbers from `low` to below `high`.

    Raises:
        RuntimeError: the bounds are the wrong way round, or they or their difference are beyond what `dtype` holds.
    """
    kind = dtypes.of_numpy(dtype)
    largest = dtypes.finfo(kind).max
    for bound, value in (("from", low), ("to", high)):
        if not -largest <= value <= largest:
            raise RuntimeError(f"{bound} is out of bounds for {kind.type_name}. It is {value}.")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > largest:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{kind.title}>::max(), but found to={high:g} and from={low:g} which "
            "result in to-from to exceed the limit"
        )
    return _real("uniform", shape, (low, high), dtype, generator, where)


def normal(shape: Any, mean: float, std: float, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    """Normal numbers; of complex ones, `std` is that of the number, and half its square the variance of each part."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if dtype.kind != "c":
        return _real("normal", shape, (mean, std), dtype, generator, where)
    drawn = _real("normal", shape, (0, std * math.sqrt(0.5)), dtype, generator, where)
    if mean:
        with backend_for(where).at(drawn):
            drawn += mean
    return drawn


def _bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest whole number that random ones of this dtype may be."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(limits.min), int(limits.max)
    largest = min(int(dtypes.finfo(dtypes.of_numpy(dtype)).max), 2**63 - 1)
    return -largest, largest


def integers(shape: Any, low: int, high: int, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    """Whole numbers from `low` to below `high`.

    Raises:
        ValueError: a bound is no number of 64 bits.
        RuntimeError: there is no number between the bounds, or one that `dtype` has no room for.
    """
    if not all(-(2**63) <= bound < 2**63 for bound in (low, high)):
        raise ValueError("Overflow when unpacking long long. The bounds are numbers of 64 bits.")
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if dtype.kind == "c":
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean types")
    least, largest = _bounds(dtype)
    for name, bound in (("from", low), ("to - 1", high - 1)):
        if not least <= bound <= largest:
            kind = dtypes.of_numpy(dtype).type_name
            raise RuntimeError(f"{name} is out of bounds for {kind}. It is {bound}; there is room up to {largest}.")
    return _integers(shape, low, high - low, dtype, generator, where)


def any_integers(shape: Any, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    """Whole numbers from 0 up to the largest such that all below it are of this dtype too."""
    count = (1 << DIGITS[dtype.char]) + 1 if dtype.kind in dtypes.REAL else _bounds(dtype)[1] + 1
    return _integers(shape, 0, count, dtype, generator, where)


def _integers(shape: Any, low: int, count: int, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    state = source(generator, where).take(2 * math.prod(shape))
    return backend_for(where).integers(shape, low, count, dtype, state, where)


def events(shape: Any, p: float, dtype: np.dtype[Any], generator: Any, where: Device) -> Array:
    """1 with probability `p`, else 0."""
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    return backend_for(where).events(shape, p, dtype, source(generator, where).take(math.prod(shape)), where)
