"""Kernels and gradient rules of large arrays, taken apart into blocks.

The gradient of an elementwise function is elementwise, and that of a function of independent rows has independent rows: so
a rule is cut as its operation's kernel is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradx.backends.base import Parts
from gradx.backends.cpu.kernels import WRITERS, WRITING, last, single, whole
from gradx.backends.cpu.program import Program
from gradx.backends.cpu.rules import OF_ALL, POINTWISE, RULES
from gradx.backends.cpu.tiles import Shape, elementwise, rowwise
from gradx.backends.expression import NUMBERS, SymbolicBackend, trace
from gradx.backends.kernels import Array

Function = Callable[..., Array]
Write = Callable[..., object]

# Operations along dimensions, those named `dim` among their arguments; rows along the others do not depend on each other.
ROWWISE = frozenset(
    "sum mean prod amax amin any all argmax argmin cumsum logsumexp norm softmax softmax_backward log_softmax "
    "log_softmax_backward".split()
)
_LIGHT = frozenset("sum mean prod amax amin any all argmax argmin".split())  # of a single pass
# Elementwise kernels that are declared as such nowhere else, because they have no gradient.
_ELEMENTWISE = frozenset(
    "eq ne lt le gt ge isnan isfinite isinf logical_and logical_or logical_not logical_xor contiguous".split()
)
# Rules that are but a call of a kernel, which is cut anyway, or a view.
_PLAIN = frozenset("add tanh sigmoid relu sum mean cumsum".split()) | {name for name in ROWWISE if "softmax" in name}


class Elementwise:
    """An elementwise function, in blocks where its arrays are large.

    Args:
        static: see `trace`.
        symbolic: what to run on symbols; None where there is nothing.
        write: does what `function` does, into its argument `out`; None to make it from the expression.
    """

    def __init__(
        self, function: Function, static: frozenset[int], symbolic: Function | None, write: Write | None
    ) -> None:
        self.function, self.static, self.symbolic, self.write = function, static, symbolic, write
        self.programs: dict[tuple[Any, ...], tuple[Write | None, np.dtype[Any] | None, bool]] = {}

    def __call__(self, *args: Any) -> Array:
        key = tuple([self._kind(i, arg) for i, arg in enumerate(args)])
        program = self.programs.get(key)
        if program is None:
            program = self.programs[key] = self._compiled(key)
        return elementwise(self.function, args, *program)

    def _kind(self, place: int, arg: Any) -> Any:
        """What the expression depends on: a dtype, the type of a number, or a parameter's value."""
        if isinstance(arg, np.ndarray):
            return arg.dtype
        return type(arg) if type(arg) in NUMBERS and place not in self.static else arg

    def _compiled(self, key: tuple[Any, ...]) -> tuple[Write | None, np.dtype[Any] | None, bool]:
        """What writes the result, and of which dtype that is, as far as is known; and whether it takes a single pass.
        Expressions are of real numbers only."""
        light = isinstance(self.write, np.ufunc)
        kinds = {kind.kind for kind in key if isinstance(kind, np.dtype)}
        if "V" in kinds:  # bfloat16, which `function` alone rounds to
            return None, None, False
        if self.symbolic is None or complex in map(type, key) or "f" not in kinds or not kinds <= set("biuf"):
            return self.write, None, light
        try:
            program = Program(trace(self.symbolic, key))
        except (TypeError, AttributeError):
            return self.write, None, light
        return self.write or program, program.dtype, light or len(program.steps) == 1


def in_blocks(
    function: Function, exact: Function, name: str, parts: Parts, expression: Function | None = None
) -> Function:
    """The kernel `name`, computed by `function` block by block; `function` itself where it cannot be cut.

    Args:
        exact: `function` before it was made to round to bfloat16.
        expression: what it computes, if it is no kernel that symbols have as well.
    """
    write = exact if isinstance(exact, np.ufunc) or name in WRITING else WRITERS.get(name)
    if parts.elementwise or name in _ELEMENTWISE:
        return Elementwise(function, parts.static, expression or _symbolic(name), write)
    if name not in ROWWISE:
        return function
    place = parts.arguments.index("dim")

    def tiled(*args: Any) -> Array:
        lead, light = _lead(args[place]), name in _LIGHT
        if write is None or not single(args[0]):
            return rowwise(function, args, lead, light=light)
        return rowwise(function, args, lead, write, args[0].dtype)

    return tiled


def _symbolic(name: str) -> Function | None:
    """The kernel `name` of symbols, None where they have none."""
    try:
        return SymbolicBackend().function(name)
    except AttributeError:
        return None


def rule_in_blocks(function: Function, rule: Function, parts: Parts) -> Function:
    """A gradient rule on arrays, computed block by block by `function`, where it can be cut."""
    names = list(parts.arguments)
    if parts.name in _PLAIN:
        return function
    if parts.elementwise and not any(name.endswith("_shape") for name in names):
        return Elementwise(function, parts.static, rule, None)
    own = RULES.get((parts.name, tuple(names)))
    if own is not None or (parts.name in ROWWISE and "dim" in names):
        return _Rows(rule, parts.name, names, own)
    return function


class _Rows:
    """A gradient rule of independent rows, in blocks of them.

    Args:
        name: of the operation.
        names: of the rule's arguments.
        write: does what the rule does, for arrays of a single dtype along their last dimension, into its argument `out`.
    """

    def __init__(self, rule: Function, name: str, names: list[str], write: Write | None) -> None:
        self.rule, self.name = rule, name
        self.place = names.index("dim")
        self.shapes = [i for i, argument in enumerate(names) if argument.endswith("_shape")]
        self.power = names.index("p") if "p" in names else None
        self.write = write
        self.of_all = OF_ALL.get(name) if write else None

    def __call__(self, *args: Any) -> Array:
        if not isinstance(args[0], list):
            return self._cut(self.rule, args)
        g, *others = args[0]  # the gradients of several outputs; of all but the first there is seldom any
        if g is None or any(other is not None for other in others):
            return self.rule(*args)
        return self._cut(lambda g, *rest: self.rule([g, *others], *rest), (g, *args[1:]))

    def _cut(self, rule: Function, args: tuple[Any, ...]) -> Array:
        dim = args[self.place]
        arrays = [arg for arg in args if isinstance(arg, np.ndarray)]
        input = max(arrays, key=np.size)
        if isinstance(dim, tuple) and len(dim) == input.ndim:
            return self._of_all(rule, input, args)
        known = self.write is not None and (self.power is None or args[self.power] == 2)
        if known and single(*arrays) and last(input, dim):
            return rowwise(rule, args, _lead(dim), self.write, input.dtype)
        marked = [Shape(arg) if i in self.shapes else arg for i, arg in enumerate(args)]
        return rowwise(rule, marked, _lead(dim))

    def _of_all(self, rule: Function, input: Array, args: tuple[Any, ...]) -> Array:
        """The gradient of a reduction of all elements to one."""
        if self.of_all is not None and whole(input):
            return self.of_all(*args)
        if self.name in POINTWISE:
            kept = (1,) * input.ndim
            repeated = [a.reshape(kept) if isinstance(a, np.ndarray) and a is not input else a for a in args]
            return elementwise(rule, repeated)
        return rule(*args)


def _lead(dim: int | tuple[int, ...]) -> int:
    """How many dimensions come before the first of `dim`."""
    return dim if isinstance(dim, int) else min(dim, default=0)
