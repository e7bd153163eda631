"""`torch.cuda`'s functions for random numbers. One sequence serves all devices, so they are those of `gradx.random`."""

from __future__ import annotations

from typing import Any

from gradx import random
from gradx.cuda.devices import DeviceLike, indexed, is_available


def manual_seed(seed: int) -> None:
    """`gradx.manual_seed` where CUDA is usable, else nothing."""
    if is_available():
        random.manual_seed(seed)


manual_seed_all = manual_seed


def seed() -> None:
    """`gradx.seed` where CUDA is usable, else nothing."""
    if is_available():
        random.seed()


seed_all = seed


def initial_seed() -> int:
    """`gradx.initial_seed`.

    Raises:
        RuntimeError: CUDA is not usable.
    """
    indexed(None)
    return random.initial_seed()


def get_rng_state(device: DeviceLike = "cuda") -> Any:
    """`gradx.get_rng_state`.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    indexed(device)
    return random.get_rng_state()


def set_rng_state(new_state: Any, device: DeviceLike = "cuda") -> None:
    """`gradx.set_rng_state`.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """
    indexed(device)
    random.set_rng_state(new_state)
