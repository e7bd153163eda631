"""Random numbers: each from the words of Philox at its place in the tensor, by operations that every device rounds alike.

An element of float64 or of whole numbers takes a word of 64 bits, any other one of 32. A uniform one is a whole number of
steps of 2**-53, 2**-24 for float32, 2**-11 for float16 and 2**-8 for bfloat16: those below 1 that its dtype can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gradx.backends.kernels.common import Array, Common, Dims
from gradx.backends.kernels.philox import WORDS, State, blocks, chunks, words
from gradx.backends.kernels.quantile import quantile
from gradx.device import device

DIGITS: Final = {"e": 11, "E": 8, "f": 24, "d": 53}  # bits of a uniform number, by dtype.char


def precision(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which random numbers of `dtype` are computed."""
    return np.dtype(np.float64 if dtype.char == "d" else np.float32)


def threshold(p: float) -> int:
    """The word below which an event of probability `p` takes place: it may be 2**32."""
    return round(p * 2.0**32)


def _generate(
    shape: Dims, dtype: np.dtype[Any], state: State, wide: bool, values: Callable[[Array, slice], Array]
) -> Array:
    """An array of `values` of the words, and of the places to which they belong."""
    out = np.empty(shape, dtype)
    flat, per_block = out.reshape(-1), WORDS // 2 if wide else WORDS
    with np.errstate(all="ignore"):  # a wide distribution may overflow a narrow dtype
        for first, count in chunks(state, -(-out.size // per_block)) if out.size else ():
            place = slice(first * per_block, min((first + count) * per_block, out.size))
            drawn = words(blocks(state, first, count), count, wide)[: place.stop - place.start]
            flat[place] = values(drawn, place)
    return out


def _unit(drawn: Array, dtype: np.dtype[Any]) -> Array:
    """Words as uniform numbers from 0 to below 1."""
    digits, kind = DIGITS[dtype.char], precision(dtype)
    whole = (drawn >> (drawn.itemsize * 8 - digits)).view(f"i{drawn.itemsize}").astype(kind)
    whole *= 2.0**-digits
    return whole


def _normal(drawn: Array, dtype: np.dtype[Any]) -> Array:
    """Words as normal numbers: of one bit the sign, of the others the size."""
    bits, kind = drawn.itemsize * 8, precision(dtype)
    largest = 2 ** (bits - 1) - 1
    size = (drawn & largest).view(f"i{drawn.itemsize}")
    centred, complement = ((n.astype(kind) + 0.5) * 2.0**-bits for n in (size, largest - size))
    out = quantile(centred, complement)
    sign = out.view(drawn.dtype)
    sign |= drawn & (largest + 1)
    return out


class Random(Common):
    """Kernels that draw, at the place `state` of a sequence. `where` is the device on which the result is to live."""

    def uniform(self, shape: Dims, low: float, high: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        """Numbers from `low` to below `high`; one that is rounded to `high` becomes `low`."""

        def values(drawn: Array, place: slice) -> Array:
            unit = _unit(drawn, dtype)
            if (low, high) == (0, 1):
                return unit
            unit *= high - low
            unit += low
            rounded = unit.astype(dtype, copy=False)
            rounded[rounded == dtype.type(high)] = low
            return rounded

        return _generate(shape, dtype, state, dtype.char == "d", values)

    def normal(self, shape: Dims, mean: float, std: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        """Normal numbers."""

        def values(drawn: Array, place: slice) -> Array:
            z = _normal(drawn, dtype)
            if (mean, std) != (0, 1):
                z *= std
                z += mean
            return z

        return _generate(shape, dtype, state, dtype.char == "d", values)

    def shifted(self, z: Array, mean: Array | float, std: Array | float) -> Array:
        """`z * std + mean` in the dtype of `z`."""
        kind = precision(z.dtype)
        operands: tuple[Any, ...] = z, std, mean
        wide, factor, term = (x.astype(kind, copy=False) if hasattr(x, "dtype") else x for x in operands)
        return (wide * factor + term).astype(z.dtype, copy=False)

    def integers(self, shape: Dims, low: int, count: int, dtype: np.dtype[Any], state: State, where: device) -> Array:
        """Whole numbers from `low` on, `count` of them (below 2**64), all as likely to 2**-64: the upper half of the
        product of a word and `count` (Lemire, "Fast random integer generation in an interval", 2019)."""
        high, rest = count >> 32, count & 0xFFFFFFFF
        start = np.array(low % 2**64, np.uint64)

        def values(drawn: Array, place: slice) -> Array:
            upper, lower = drawn >> 32, drawn & 0xFFFFFFFF
            middle = upper * rest + (lower * rest >> 32)
            if not high:
                return ((middle >> 32) + start).view(np.int64)
            cross = lower * high
            middle += cross & 0xFFFFFFFF
            return (upper * high + (cross >> 32) + (middle >> 32) + start).view(np.int64)

        return _generate(shape, dtype, state, True, values)

    def events(self, shape: Dims, p: float, dtype: np.dtype[Any], state: State, where: device) -> Array:
        """1 with probability `p`, else 0; the probability is known to 2**-33."""
        bound = threshold(p)
        return _generate(shape, dtype, state, False, lambda drawn, place: drawn < bound)

    def bernoulli(self, p: Array, state: State) -> Array:
        """1 with the probability that is at its place in `p`, else 0; in the dtype of `p`."""
        if not bool(((p >= 0) & (p <= 1)).all()):
            raise RuntimeError(
                "Expected p_in >= 0 && p_in <= 1 to be true, but got false. Probabilities are from 0 to 1."
            )
        flat = np.ascontiguousarray(p).reshape(-1)
        kind = precision(p.dtype)

        def values(drawn: Array, place: slice) -> Array:
            return _unit(drawn, kind) < flat[place].astype(kind)

        return _generate(p.shape, p.dtype, state, p.dtype.char == "d", values)

    def dropout(self, x: Array, p: float, state: State) -> tuple[Array, Array]:
        """`x` over `1 - p`, or 0 with probability `p`; and where it is kept."""
        bound = threshold(p)
        kept = _generate(x.shape, np.dtype(bool), state, False, lambda drawn, place: drawn >= bound)
        return self.dropout_backward(x, kept, keep_scale(p)), kept

    def dropout_backward(self, g: Array, kept: Array, scale: float) -> Array:
        """`g` times `scale` where `kept`, else 0."""
        product = g.astype(precision(g.dtype), copy=False) * scale
        return self.where(kept, product, 0).astype(g.dtype, copy=False)


def keep_scale(p: float) -> float:
    """By what an element is multiplied that is kept with probability `1 - p`."""
    return 1 / (1 - p) if p < 1 else 0.0
