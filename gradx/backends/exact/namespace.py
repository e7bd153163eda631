"""NumPy's names for functions that give the same bits on every device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gradx.backends.exact import choices, error_function, exponentials, logarithms, powers, trigonometric
from gradx.backends.exact.coverage import NoExactForm

FUNCTIONS: Final = MappingProxyType(
    {
        function.__name__: function
        for function in (
            *(exponentials.exp, exponentials.exp2, exponentials.expm1),
            *(exponentials.sinh, exponentials.cosh, exponentials.tanh),
            *(logarithms.log, logarithms.log2, logarithms.log10, logarithms.log1p),
            *(powers.power, powers.hypot, error_function.erf, error_function.erfc),
            *(trigonometric.sin, trigonometric.cos, trigonometric.tan),
            *(choices.angle, choices.maximum, choices.minimum, choices.remainder, choices.floor_divide),
        )
    }
)
# Ufuncs that are exact, or rounded as IEEE 754 says, on every device.
PRIMITIVES: Final = frozenset(
    """absolute add bitwise_and bitwise_or bitwise_xor ceil conjugate equal floor fmod greater greater_equal invert isfinite
    isinf isnan left_shift less less_equal logical_and logical_not logical_or logical_xor multiply negative not_equal
    positive reciprocal right_shift rint sqrt square subtract true_divide trunc""".split()
)
# Functions that make, move or select elements.
_ARRAYS: Final = frozenset(
    """all any arange array asarray broadcast broadcast_to concatenate empty expand_dims eye flip full moveaxis ones
    result_type shape stack take transpose where zeros""".split()
)
_ALIASES: Final = {"abs": "absolute", "conj": "conjugate", "divide": "true_divide", "pow": "power"}


class Exact:
    """The names of `xp`, but every function that is not exact is this package's, or missing.

    Args:
        xp: NumPy, or the namespace of symbols.
    """

    def __init__(self, xp: Any) -> None:
        self.library = xp

    def __getattr__(self, name: str) -> Any:
        name = _ALIASES.get(name, name)
        function = FUNCTIONS.get(name)
        if function is not None:
            return self.__dict__.setdefault(name, self._exact(name, function))
        if name not in PRIMITIVES and name not in _ARRAYS:
            raise NoExactForm(f"{name} has no form yet that gives the same bits on every device")
        return self.__dict__.setdefault(name, getattr(self.library, name))

    def _exact(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if function in (choices.maximum, choices.minimum):  # of integers too
            return functools.partial(function, self.library)
        return lambda *values: function(self.library, *map(_double, values))


def _double(value: Any) -> Any:
    """A number as a float64; anything else as it is."""
    if isinstance(value, (bool, int, float)):
        return np.float64(value)
    return value.astype(np.float64) if getattr(value, "number", None) is not None else value
