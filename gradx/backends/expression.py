"""Elementwise expressions: what a kernel or a gradient rule computes for each element.

A rule such as ``lambda g, out: g * (1 - out * out)`` is Python over arrays. Run once on symbols, which note the operations
instead of computing them, it yields an expression. From that a backend makes one kernel, where arrays would take a pass over
memory for each operator.

>>> import numpy as np
>>> print(trace(lambda g, out: g * (1 - out * out), [np.dtype("float32")] * 2))
v0 = argument 0: float32
v1 = argument 1: float32
v2 = multiply(v1, v1): float32
v3 = subtract(1, v2): float32
v4 = multiply(v0, v3): float32

The symbols' operations are named as NumPy's ufuncs are, and NumPy says of which dtype each result is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradx.backends.base import Backend, Rule, named
from gradx.backends.kernels import Array

NUMBERS = (bool, int, float)  # the types of Python numbers in an expression: their dtype gives way to any array's


class Symbol:
    """A value in an expression: an argument, a constant, or the result of an operation on other symbols.

    Attributes:
        operation: NumPy's name of it; "argument", "constant", "where", "cast", "view" or "take".
        operands: the symbols that it is applied to, each to be converted to its dtype in `kinds` first.
        dtype: of the value.
        number: the type of Python number that the value stands for, None for elements of arrays.
        value: of a constant; the place of an argument; the table that is taken from.
    """

    __slots__ = ("dtype", "kinds", "number", "operands", "operation", "value")
    size = 1  # elements that it stands for, as for an array's
    __array_ufunc__ = None  # NumPy's scalars leave `scalar * symbol` to the symbol

    def __init__(
        self,
        operation: str,
        dtype: np.dtype[Any],
        operands: tuple[Symbol, ...] = (),
        kinds: tuple[np.dtype[Any], ...] = (),
        number: type | None = None,
        value: Any = None,
    ) -> None:
        self.operation, self.dtype, self.operands, self.kinds = operation, dtype, operands, kinds
        self.number, self.value = number, value

    def __bool__(self) -> bool:
        raise TypeError("an elementwise expression cannot branch on an element: select with where")

    def astype(self, dtype: Any, copy: bool = True) -> Symbol:
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype and self.number is None else Symbol("cast", dtype, (self,), (self.dtype,))

    def view(self, dtype: Any) -> Symbol:
        """The same bits, as another type of 64 bits."""
        return Symbol("view", np.dtype(dtype), (self,), (self.dtype,))

    def conj(self) -> Symbol:
        return self

    @property
    def real(self) -> Symbol:
        return self

    def __add__(self, other: Any) -> Symbol:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return apply("true_divide", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return apply("true_divide", other, self)

    def __mod__(self, other: Any) -> Symbol:
        return apply("remainder", self, other)

    def __pow__(self, other: Any) -> Symbol:
        return apply("power", self, other)

    def __neg__(self) -> Symbol:
        return apply("negative", self)

    def __abs__(self) -> Symbol:
        return apply("absolute", self)

    def __and__(self, other: Any) -> Symbol:
        return apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Symbol:
        return apply("bitwise_or", self, other)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Symbol:
        return apply("invert", self)

    def __lshift__(self, other: Any) -> Symbol:
        return apply("left_shift", self, other)

    def __rshift__(self, other: Any) -> Symbol:
        return apply("right_shift", self, other)

    def __lt__(self, other: Any) -> Symbol:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Symbol:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Symbol:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return apply("greater_equal", self, other)

    def __eq__(self, other: Any) -> Symbol:  # type: ignore[override]
        return apply("equal", self, other)

    def __ne__(self, other: Any) -> Symbol:  # type: ignore[override]
        return apply("not_equal", self, other)

    __hash__ = object.__hash__


def symbol(value: Any) -> Symbol:
    """`value` itself if it is a symbol, else a constant: of a Python number, or of NumPy's with its dtype."""
    if isinstance(value, Symbol):
        return value
    if type(value) in NUMBERS:
        return Symbol("constant", np.dtype(type(value)), number=type(value), value=value)
    if isinstance(value, np.generic):
        return Symbol("constant", value.dtype, value=value.item())
    raise TypeError(f"{type(value).__name__} has no place in an elementwise expression")


def apply(operation: str, *values: Any) -> Symbol:
    """The result of a ufunc.

    Raises:
        TypeError: it is not defined for these dtypes.
    """
    operands = tuple(symbol(value) for value in values)
    *kinds, dtype = _resolve(operation, operands)
    return Symbol(operation, dtype, operands, tuple(kinds), _number(dtype, *operands))


def _number(dtype: np.dtype[Any], *operands: Symbol) -> type | None:
    """The type of Python number that a result stands for, if all it was made of are Python numbers."""
    return type(dtype.type(0).item()) if all(operand.number for operand in operands) else None


_HALF, _STAND_IN = "bfloat16", np.dtype("float16")  # NumPy widens a bfloat16 that meets a Python number; torch does not


def _resolve(operation: str, operands: Sequence[Symbol]) -> list[np.dtype[Any]]:
    """The dtypes that a ufunc converts these operands to, and that of its result."""
    weak = () if all(operand.number for operand in operands) else (int, float)  # of numbers alone, none gives way
    given: list[Any] = [operand.number if operand.number in weak else operand.dtype for operand in operands]
    half = next((kind for kind in given if getattr(kind, "name", "") == _HALF), None)
    if half is not None:
        given = [_STAND_IN if kind == half else kind for kind in given]
    resolved = getattr(np, operation).resolve_dtypes((*given, None))
    return [half if half is not None and kind == _STAND_IN else kind for kind in resolved]


def where(condition: Any, x: Any, y: Any) -> Symbol:
    """`x` where `condition` holds, else `y`."""
    condition, x, y = symbol(condition), symbol(x), symbol(y)
    *kinds, dtype = _resolve("maximum", (x, y))  # of the operands' common dtype, as where's result is
    return Symbol("where", dtype, (condition, x, y), (np.dtype(bool), *kinds), _number(dtype, x, y))


class Namespace:
    """NumPy's names for symbols: its ufuncs, and the few functions that elementwise kernels use besides."""

    where = staticmethod(where)

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not isinstance(found, np.ufunc):
            raise AttributeError(f"{name} is not elementwise")

        def call(*values: Any) -> Symbol:
            return apply(name, *values)

        return call

    @staticmethod
    def take(table: np.ndarray[Any, Any], place: Symbol) -> Symbol:
        """An element of a table of constants."""
        return Symbol("take", table.dtype, (place,), (place.dtype,), value=table)

    @staticmethod
    def result_type(*values: Any) -> np.dtype[Any]:
        return np.result_type(*(v.dtype if isinstance(v, Symbol) and v.number is None else v for v in values))


class SymbolicBackend(Backend):
    """Kernels of symbols: the elementwise ones yield expressions, others raise.

    Args:
        xp: NumPy's names for symbols.
    """

    array_types = (Symbol,)

    def __init__(self, xp: Any = None) -> None:
        super().__init__(xp or Namespace())

    def clone(self, x: Array) -> Array:
        return x

    def cast(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype)

    def zeros_like(self, x: Array) -> Array:
        return symbol(x.dtype.type(0))

    def ones_like(self, x: Array) -> Array:
        return symbol(x.dtype.type(1))

    def exact_kernel(self, name: str, expression: Rule | None, static: frozenset[int]) -> Rule | None:
        return expression or named(exact_symbols(), name)


@functools.cache
def exact_symbols() -> SymbolicBackend:
    """Kernels of symbols from exact operations alone."""
    from gradx.backends.exact.namespace import Exact

    return SymbolicBackend(Exact(Namespace()))


def parameters_of(signature: inspect.Signature) -> frozenset[int]:
    """The places of a function's arguments that are neither tensors nor floats, by their annotations: on the values of
    these it may branch."""
    annotations = [str(p.annotation) for p in signature.parameters.values()]
    return frozenset(
        i
        for i, text in enumerate(annotations)
        if not any(word in text for word in ("Array", "Tensor", "Operand", "float"))
    )


class Expression(NamedTuple):
    """What a function computes for each element, as symbols in the order of computation, the result last."""

    steps: tuple[Symbol, ...]

    @property
    def operations(self) -> int:
        """How many operations there are, and thus how many passes it takes to compute them one by one."""
        return sum(step.operation not in ("argument", "constant") for step in self.steps)

    def __str__(self) -> str:
        names = {step: str(step.value) for step in self.steps if step.operation == "constant"}
        lines: list[str] = []
        for step in self.steps:
            if step in names:
                continue
            names[step] = f"v{len(lines)}"
            operands = ", ".join(names[operand] for operand in step.operands)
            what = f"argument {step.value}" if step.operation == "argument" else f"{step.operation}({operands})"
            lines.append(f"{names[step]} = {what}: {step.dtype}")
        return "\n".join(lines)


def trace(function: Callable[..., Any], arguments: Sequence[Any]) -> Expression:
    """The expression that an elementwise function computes.

    Args:
        function: over arrays and numbers, by operators, operations and NumPy's names.
        arguments: for each argument of it the dtype of an array, the type of a Python number, or any other value as it is.

    Raises:
        TypeError: the function branches on elements.
        AttributeError: it does what is not elementwise.
    """
    given = [
        Symbol("argument", np.dtype(a), number=a if isinstance(a, type) else None, value=i)
        if isinstance(a, (np.dtype, type))
        else a
        for i, a in enumerate(arguments)
    ]
    result = symbol(function(*given))
    steps: dict[Symbol, None] = {argument: None for argument in given if isinstance(argument, Symbol)}
    _visit(result, steps)
    if result.operation == "argument":  # the result stands last
        del steps[result]
        steps[result] = None
    return Expression(tuple(steps))


def _visit(step: Symbol, steps: dict[Symbol, None]) -> None:
    """Enter `step` after all that it needs."""
    if step in steps:
        return
    for operand in step.operands:
        _visit(operand, steps)
    steps[step] = None
