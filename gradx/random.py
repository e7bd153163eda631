"""Where random numbers come from: a seed, and how many have been drawn since.

Numbers are a function of the seed, of that count and of an element's place in its tensor
(`gradx.backends.kernels.philox`): the same on every device, computed where the tensor lives. One sequence, that of
`default_generator`, serves all devices; a `Generator` is a sequence of one's own.

>>> import gradx
>>> _ = gradx.manual_seed(0)
>>> gradx.rand(2)
tensor([0.3990, 0.8805])
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from gradx import variables
from gradx.backends import backend_of
from gradx.backends.kernels.philox import WORDS, State
from gradx.device import device as Device
from gradx.placement import resolve

__all__ = ["fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]

_DEFAULT_SEED: Final = 67280421310721  # torch's


class Generator:
    """A sequence of random numbers.

    Threads may share one: each draw gets numbers of its own, in the order in which the draws come.

    Args:
        device: for tensors on devices of which type it draws. Where CUDA cannot be used, "cuda" is as for tensors.

    >>> import gradx
    >>> g = gradx.Generator().manual_seed(7)
    >>> first = gradx.rand(3, generator=g)
    >>> bool((gradx.rand(3, generator=g.manual_seed(7)) == first).all())
    True
    """

    def __init__(self, device: Device | str | int = "cpu") -> None:
        self._device = resolve(device)
        self._lock = threading.Lock()
        self.place = State(_DEFAULT_SEED, 0)

    @property
    def device(self) -> Device:
        """The device that it was made for."""
        return self._device

    def take(self, words: int) -> State:
        """Where to draw `words` words of 32 bits; what is drawn next begins at the following block."""
        with self._lock:
            place = self.place
            blocks = -(-words // WORDS)
            self.place = State(place.seed, (place.offset + blocks * WORDS) % 2**64)
        return place

    def manual_seed(self, seed: int) -> Generator:
        """Start the sequence of `seed`, from -2**63 to below 2**64; a negative one is that plus 2**64.

        Raises:
            RuntimeError: `seed` is no whole number.
            ValueError: it is out of range.
        """
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        number = int(seed)
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"Overflow when unpacking long long. A seed has 64 bits: {number} is out of range.")
        self.place = State(number % 2**64, 0)
        return self

    def seed(self) -> int:
        """Start a sequence by a seed that the operating system draws, and return that."""
        return self.manual_seed(int.from_bytes(os.urandom(8), "little")).initial_seed()

    def initial_seed(self) -> int:
        """The seed, as a number from 0 to below 2**64."""
        return self.place.seed

    def get_offset(self) -> int:
        """How many words of 32 bits have been drawn; a multiple of 4."""
        return self.place.offset

    def set_offset(self, offset: int) -> None:
        """Go on after `offset` words.

        Raises:
            RuntimeError: `offset` is not a multiple of 4.
        """
        if offset % WORDS:
            raise RuntimeError(f"offset must be a multiple of {WORDS}. Words are drawn in blocks; this is {offset}.")
        self.place = State(self.place.seed, offset % 2**64)

    def get_state(self) -> Any:
        """The seed and the offset, as a tensor of 16 bytes on the CPU: torch's format for CUDA."""
        return variables.tensor_type(np.array(self.place, "<u8").view(np.uint8))

    def set_state(self, new_state: Any) -> None:
        """Go on from a state that `get_state` gave.

        Raises:
            TypeError: it is no tensor of bytes.
            RuntimeError: it is not of 16 bytes.
        """
        if not isinstance(new_state, variables.Variable):
            raise TypeError(f"expected a gradx.ByteTensor, but got {type(new_state).__name__}")
        array = new_state.array
        if array.dtype != np.uint8 or backend_of(array).device_type != "cpu":
            raise TypeError("RNG state must be a gradx.ByteTensor. It is what get_state() gives, and lives on the CPU.")
        if array.size != 16:
            raise RuntimeError(
                f"RNG state is wrong size. It takes 16 bytes, as get_state() gives them, not {array.size}."
            )
        number, offset = (int(n) for n in np.ascontiguousarray(array).reshape(-1).view("<u8"))
        self.place = State(number, offset // WORDS * WORDS)

    def clone_state(self) -> Generator:
        """Another generator at the same place."""
        twin = Generator(self._device)
        twin.place = self.place
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (str(self._device), *self.place)


def _restored(device: str, number: int, offset: int) -> Generator:
    generator = Generator(device)
    generator.place = State(number, offset)
    return generator


default_generator: Final = Generator()
default_generator.seed()


def source(generator: Generator | None, where: Device) -> Generator:
    """The generator to draw from for a tensor on `where`: the default one for None.

    Raises:
        TypeError: `generator` is none.
        RuntimeError: it was made for another type of device.
    """
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be gradx.Generator, not {type(generator).__name__}")
    if generator.device.type != where.type:
        raise RuntimeError(
            f"Expected a '{where.type}' device type for generator but found '{generator.device.type}'. Make one by "
            f"gradx.Generator('{where.type}')."
        )
    return generator


def manual_seed(seed: int) -> Generator:
    """Start the sequence of random numbers anew: the same seed gives the same numbers, on every device.

    Args:
        seed: from -2**63 to below 2**64; a negative one is that plus 2**64.

    Returns:
        The default generator.
    """
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Start the sequence by a seed that the operating system draws, and return that."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the sequence."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """Where the sequence of random numbers stands, as a tensor of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Go on with the random numbers from a state that `get_rng_state` gave."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str | None = None,
) -> Iterator[None]:
    """Within it, random numbers may be drawn, and seeds set: afterwards the sequence goes on from where it was before.

    Args:
        devices, device_type: accepted for torch's sake; one sequence serves all devices.
        enabled: if False, nothing is put back.

    >>> import gradx
    >>> _ = gradx.manual_seed(0)
    >>> with gradx.random.fork_rng():
    ...     _ = gradx.rand(5)
    >>> gradx.rand(2)
    tensor([0.3990, 0.8805])
    """
    before = default_generator.place
    try:
        yield
    finally:
        if enabled:
            default_generator.place = before
