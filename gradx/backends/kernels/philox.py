"""Philox4x32-10, random numbers from a counter: word i of a sequence is a function of the seed and of i alone.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Whoever computes them, in whatever
order, gets the same words: integers are exact on every device.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import numpy as np

WORDS: Final = 4  # of 32 bits, in a block
ROUNDS: Final = 10
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
INCREMENTS: Final = (0x9E3779B9, 0xBB67AE85)  # of the key, in each round: the golden ratio, and the root of 3 less 1
_MASK: Final = 0xFFFFFFFF
CHUNK: Final = 8192  # blocks at a time, so that what is computed of them stays in a core's cache; a power of two
FEW: Final = 8  # blocks that Python computes faster than NumPy

Words = Any  # whole numbers below 2**32: a Python int, or an array of uint64


class State(NamedTuple):
    """A place in a sequence of random numbers.

    Attributes:
        seed: of 64 bits; the key.
        offset: how many words were drawn before, below 2**64 and a multiple of 4: words are drawn in whole blocks.
    """

    seed: int
    offset: int

    @property
    def block(self) -> int:
        """The counter of the next block."""
        return self.offset // WORDS


@functools.lru_cache(maxsize=16)
def _keys(key: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The key of each round."""
    left, right = key
    return tuple(((left + i * INCREMENTS[0]) & _MASK, (right + i * INCREMENTS[1]) & _MASK) for i in range(ROUNDS))


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """The four words of a block, from the four of its counter; or of many blocks, from arrays.

    The second and the fourth word of the counter are overwritten, where they are arrays.
    """
    a, b, c, d = counter
    for left, right in _keys(key):
        p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        b ^= left
        b ^= q >> 32
        d ^= right
        d ^= p >> 32
        q &= _MASK
        p &= _MASK
        a, b, c, d = b, q, d, p
    return a, b, c, d


def blocks(state: State, first: int, count: int) -> tuple[Words, Words, Words, Words]:
    """The words of `count` blocks, in one chunk of the counter, from the `first` one after `state` on."""
    start = (state.block + first) % 2**62
    low, high = start & _MASK, start >> 32  # the upper word is the same for a whole chunk
    key = state.seed & _MASK, state.seed >> 32
    if count > FEW:
        return philox((np.arange(low, low + count, dtype=np.uint64), high, 0, 0), key)
    rows = [philox((word, high, 0, 0), key) for word in range(low, low + count)]
    return tuple(np.array(rows, np.uint64).T)


def chunks(state: State, count: int) -> list[tuple[int, int]]:
    """The first of `count` blocks and the number of them, for each chunk of the counter that they touch."""
    ahead = CHUNK - state.block % CHUNK
    starts = [0, *range(ahead, count, CHUNK)]
    return list(zip(starts, (b - a for a, b in zip(starts, [*starts[1:], count], strict=True)), strict=True))


def words(parts: tuple[Words, Words, Words, Words], count: int, wide: bool) -> np.ndarray[Any, Any]:
    """Blocks as a row of words, of 32 bits or, with `wide`, two of them joined to 64."""
    a, b, c, d = parts
    columns = (a | b << 32, c | d << 32) if wide else parts
    out = np.empty((count, len(columns)), np.uint64 if wide else np.uint32)
    for place, column in enumerate(columns):
        out[:, place] = column
    return out.reshape(-1)
