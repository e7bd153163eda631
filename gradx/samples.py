"""Sample inputs, which stand beside the operations they exercise.

One table serves every check that goes over all operations: values and gradients against torch, gradients against
differences, one device against another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


class T:
    """A tensor input of the given shape, its elements uniform between `low` and `high`.

    With `integer` they are integers from `low` to below `high`, and with `grad=False` not differentiated.
    """

    def __init__(
        self, *shape: int, low: float = -2.0, high: float = 2.0, integer: bool = False, grad: bool = True
    ) -> None:
        self.shape, self.low, self.high = shape, low, high
        self.integer, self.grad = integer, grad and not integer

    def array(self, random: np.random.Generator, dtype: Any) -> np.ndarray[Any, Any]:
        """Elements for this input, of `dtype` unless they are integers or truth values."""
        if self.integer:
            return np.asarray(random.integers(int(self.low), int(self.high), self.shape))
        return np.asarray(random.uniform(self.low, self.high, self.shape), dtype)


class Mask(T):
    """A tensor input of truth values."""

    def __init__(self, *shape: int) -> None:
        super().__init__(*shape, grad=False)

    def array(self, random: np.random.Generator, dtype: Any) -> np.ndarray[Any, Any]:
        return np.asarray(random.uniform(size=self.shape) < 0.5)


class S:
    """One sample call: positional arguments, of which every `T` stands for a tensor, and keywords."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def tensors(self) -> Iterator[T]:
        """The tensor inputs in order, those within lists too."""
        for arg in self.args:
            for item in arg if isinstance(arg, list) else (arg,):
                if isinstance(item, T):
                    yield item


class Entry(NamedTuple):
    """An operation as users call it, with its sample calls."""

    function: Callable[..., Any]
    samples: tuple[S, ...]
    oracle: str  # torch's name of it, below `torch`
    differentiable: bool


TABLE: dict[str, Entry] = {}


def samples(*calls: S, oracle: str | None = None, differentiable: bool = True) -> Callable[[F], F]:
    """Register sample calls of the decorated function; `oracle` is torch's name of it, if not the same."""

    def register(function: F) -> F:
        name = function.__name__
        TABLE[name] = Entry(function, calls, oracle or name, differentiable)
        return function

    return register


UNARY = (S(T(3, 4)), S(T()), S(T(0, 3)))
POSITIVE = (S(T(3, 4, low=0.2, high=3.0)), S(T(low=0.2, high=3.0)))
TENSORS = (S(T(3, 4), T(3, 4)), S(T(3, 4), T(4)), S(T(2, 1, 4), T(3, 1)), S(T(), T(2, 3)))
BINARY = (*TENSORS, S(T(3), 2.5))
