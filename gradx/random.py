"""Random numbers. `manual_seed` makes them repeatable; on every device they are drawn on the host."""

from __future__ import annotations

import numpy as np

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Start the sequence of random numbers anew: the same seed gives the same numbers, on every device."""
    global _generator
    _generator = np.random.default_rng(int(seed) % 2**64)


def generator() -> np.random.Generator:
    """The generator from which all random tensors are drawn."""
    return _generator
