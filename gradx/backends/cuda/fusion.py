"""One CUDA kernel for an elementwise function: its expression (`gradx.backends.expression`), written as CUDA C++.

float16 and bfloat16 are computed in float and rounded once, at the end. Python numbers are arguments of the kernel, so that
another number needs no other kernel. Broadcasting, strides and 64-bit indices are CuPy's. Imported by the CuPy backend only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import cupy
import numpy as np

from gradx.backends.expression import NUMBERS, Expression, Symbol, trace

# The CUDA type in which values of a dtype are computed.
_TYPE: Final = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float16": "float",
    "bfloat16": "float",
    "float32": "float",
    "float64": "double",
}
_NUMBER: Final = {bool: "bool", int: "int64", float: "float64"}  # CuPy's types for arguments that are Python numbers

_INFIX: Final = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "true_divide": "/",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "logical_and": "&&",
    "logical_or": "||",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "left_shift": "<<",
    "right_shift": ">>",
}
_FORM: Final = {
    "where": "{0} ? {1} : {2}",
    "cast": "{0}",
    "positive": "{0}",
    "negative": "-{0}",
    "square": "{0} * {0}",
    "reciprocal": "1 / {0}",
    "absolute": "absolute({0})",
    "maximum": "{0} >= {1} || {0} != {0} ? {0} : {1}",  # NaN wins
    "minimum": "{0} <= {1} || {0} != {0} ? {0} : {1}",
    "logical_not": "!{0}",
    "logical_xor": "({0} != 0) != ({1} != 0)",
    "fmod": "fmod({0}, {1})",
    "invert": "~{0}",
    "isnan": "{0} != {0}",
    "floor_divide": "floor_divide({0}, {1})",
    "remainder": "modulo({0}, {1})",
    "power": "pow({0}, {1})",
    "arctan2": "atan2({0}, {1})",
    "arcsin": "asin({0})",
    "arccos": "acos({0})",
    "arctan": "atan({0})",
    "arcsinh": "asinh({0})",
    "arccosh": "acosh({0})",
    "arctanh": "atanh({0})",
}
_UNLIKE: Final = {"floor_divide", "remainder"}  # CuPy floors the rounded quotient: 1 // 0.1 is 10 there, not 9
_PREAMBLE: Final = """
template <typename T> __device__ T absolute(T x) {
    if constexpr (T(0.5) == T(0)) return x < T(0) ? T(-x) : x;
    else return fabs(x);
}
// With the sign of the divisor, as in Python. A whole number has no remainder by 0.
template <typename T> __device__ T modulo(T x, T y) {
    T rest;
    if constexpr (T(0.5) == T(0)) rest = y == T(0) ? T(0) : T(x % y);
    else rest = fmod(x, y);
    return rest != T(0) && (rest < T(0)) != (y < T(0)) ? T(rest + y) : rest;
}
// The quotient that belongs to it: that of numbers with a fraction is exact but for one rounding, of the difference.
template <typename T> __device__ T floor_divide(T x, T y) {
    if constexpr (T(0.5) == T(0)) {
        return y == T(0) ? T(0) : T((x - modulo(x, y)) / y);
    } else {
        if (y == T(0)) return x / y;
        const T rest = fmod(x, y);
        const T quotient = rint((x - rest) / y) - T(rest != T(0) && (rest < T(0)) != (y < T(0)));
        return quotient == T(0) ? copysign(T(0), x / y) : quotient;
    }
}
"""


def _literal(value: Any, kind: str) -> str:
    """A number as CUDA C++ of that type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return f"({kind})__longlong_as_double({np.float64(value).view(np.int64)}LL)"
    return f"({kind})({value!r})"


def _operand(operand: Symbol, kind: np.dtype[Any], names: dict[Symbol, str]) -> str:
    """A symbol, converted to that dtype, as a C++ expression."""
    if operand.operation == "constant":
        return _literal(operand.value, _TYPE[kind.name])
    same = operand.dtype == kind and operand.number is None
    return names[operand] if same else f"({_TYPE[kind.name]}){names[operand]}"


def _statement(step: Symbol, names: dict[Symbol, str]) -> str:
    """One operation, as a C++ expression."""
    if step.operation == "view":
        return _viewed(step, names)
    operands = [_operand(operand, kind, names) for operand, kind in zip(step.operands, step.kinds, strict=True)]
    if step.operation == "invert" and step.dtype == bool:  # C++'s ~ makes an int of it first, which is never 0
        return f"!{operands[0]}"
    if step.operation in _INFIX:
        return f" {_INFIX[step.operation]} ".join(operands)
    return _FORM.get(step.operation, step.operation + "({0})").format(*operands)


def _viewed(step: Symbol, names: dict[Symbol, str]) -> str:
    """The bits of one type of 64 bits as another."""
    (operand,) = step.operands
    value = _operand(operand, operand.dtype, names)
    if step.dtype.kind == "f":
        return f"__longlong_as_double({value})"
    return f"__double_as_longlong({value})" if operand.dtype.kind == "f" else f"({_TYPE[step.dtype.name]}){value}"


def source(expression: Expression) -> tuple[str, str, str]:
    """The parameters, the result and the body of the kernel, as `cupy.ElementwiseKernel` takes them."""
    names: dict[Symbol, str] = {}
    letters: dict[str, str] = {}  # CuPy's placeholders for the dtypes of arrays
    parameters, body = [], []
    for i, step in enumerate(expression.steps):
        kind, names[step] = _TYPE[step.dtype.name], f"v{i}"
        if step.operation == "constant":
            continue
        if step.operation != "argument":
            body.append(f"const {kind} v{i} = {_statement(step, names)};")
        elif step.number is not None:
            parameters.append(f"{_NUMBER[step.number]} v{i}")
        else:
            letter = letters.setdefault(step.dtype.name, "TUVWXYZ"[len(letters)])
            parameters.append(f"{letter} x{i}")
            body.append(f"const {kind} v{i} = ({kind})x{i};")
    result = expression.steps[-1]
    letter = letters.get(result.dtype.name, result.dtype.name)
    body.append(f"out = {names[result]};")
    return ", ".join(parameters), f"{letter} out", "\n".join(body)


class Fused:
    """An elementwise function as one kernel, compiled for each combination of dtypes at its first use.

    Of complex numbers, and of expressions of one operation, the function itself is run: CuPy's kernel, where that is right.

    Args:
        name: of the kernel.
        static: the places of the arguments on whose values, if they are Python numbers, the function may branch.
        symbolic: what to run on symbols, if it is not the function itself.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        static: frozenset[int],
        symbolic: Callable[..., Any] | None = None,
    ) -> None:
        self.function, self.name, self.static = function, name, static
        self.symbolic = symbolic or function
        self.kernels: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        key = tuple([self._kind(i, arg) for i, arg in enumerate(args)])
        kernel = self.kernels.get(key)
        if kernel is None:
            kernel = self.kernels[key] = self._compile(key)
        return kernel(*args)

    def _kind(self, place: int, arg: Any) -> Any:
        """What the kernel depends on: a dtype, the type of a number, or a parameter's value."""
        if type(arg) is cupy.ndarray:
            return arg.dtype
        return type(arg) if type(arg) in NUMBERS and place not in self.static else arg

    def _compile(self, key: tuple[Any, ...]) -> Callable[..., Any]:
        dtypes = [kind for kind in key if isinstance(kind, np.dtype)]
        if complex in map(type, key) or not all(dtype.name in _TYPE for dtype in dtypes):
            return self.function
        expression = trace(self.symbolic, key)
        half = any(dtype.kind == "V" for dtype in dtypes)  # CuPy's own `where` of bfloat16 gives float32
        unlike = any(step.operation in _UNLIKE for step in expression.steps)
        if expression.operations <= (0 if half or unlike else 1):
            return self.function
        parameters, result, body = source(expression)
        kernel = cupy.ElementwiseKernel(parameters, result, body, f"gradx_{self.name}", preamble=_PREAMBLE)
        places = [step.value for step in expression.steps if step.operation == "argument"]
        if len(places) == len(key):
            return kernel  # type: ignore[no-any-return]
        return lambda *args: kernel(*[args[i] for i in places])
