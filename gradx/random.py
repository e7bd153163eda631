"""Random numbers. `manual_seed` makes them repeatable; on every device they are drawn on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np  # np.random is imported at its first use only: it takes as long as the rest of gradx

_generator: np.random.Generator | None = None


def manual_seed(seed: int) -> None:
    """Start the sequence of random numbers anew: the same seed gives the same numbers, on every device."""
    global _generator
    _generator = np.random.default_rng(int(seed) % 2**64)


def generator() -> np.random.Generator:
    """The generator from which all random tensors are drawn."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def get_state() -> Mapping[str, Any]:
    """Where the sequence of random numbers stands."""
    return generator().bit_generator.state


def set_state(state: Mapping[str, Any]) -> None:
    """Go on with the random numbers from `state`."""
    generator().bit_generator.state = state
