"""The name of a device: ``cpu``, ``cuda:0``. Knows nothing of arrays or drivers."""

from __future__ import annotations

from typing import Any


class device:
    """Where an array lives: a type (``"cpu"``, ``"cuda"``) and, where there are several, an index.

    >>> device("cuda:1")
    device(type='cuda', index=1)
    >>> device("cuda", 1) == device("cuda:1")
    True
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, spec: device | str | int, index: int | None = None) -> None:
        if isinstance(spec, int):
            spec = f"cuda:{spec}"
        name, colon, number = str(spec).partition(":")
        if not name.isidentifier() or (colon and (not number.isdecimal() or number != str(int(number)))):
            if not spec:
                raise RuntimeError("Device string must not be empty")
            raise RuntimeError(f"Invalid device string: '{spec}'")
        if colon:
            if index is not None:
                raise RuntimeError(
                    "type (string) must not include an index because index was passed explicitly: " + str(spec)
                )
            index = int(number)
        object.__setattr__(self, "type", name)
        object.__setattr__(self, "index", index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"attribute '{name}' of 'device' objects is not writable")

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (str(self),)
