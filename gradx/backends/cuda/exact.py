"""Kernels on CUDA that give the same bits as those on the CPU: exact operations on float64, see `gradx.backends.exact`.

The compiler is told not to contract a product and a sum (``--fmad=false``); then + - * / and sqrt of float64 are IEEE 754's.
CuPy has float32 flushed to zero where it is subnormal (``-ftz=true``, to which nothing can be added): so numbers of
float32 are made float64, and float64 float32, by their bits where they are subnormal, and nothing is computed between.
Imported by the CuPy backend only.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Final

import cupy
import numpy as np

from gradx.backends.base import Rule, is_elementwise, named, refusing
from gradx.backends.cuda.fusion import _NUMBER, _TYPE, Fused, _operand, _statement
from gradx.backends.exact.choices import discrete
from gradx.backends.exact.coverage import NoExactForm
from gradx.backends.exact.formats import FORMATS, is_floating, on_doubles, rounded
from gradx.backends.exact.kernels import ExactKernels
from gradx.backends.exact.namespace import PRIMITIVES, Exact
from gradx.backends.expression import Expression, Namespace, Symbol, exact_symbols, parameters_of, symbol, trace
from gradx.backends.kernels import Elementwise
from gradx.dtypes import REAL

_FORMS: Final = {"argument", "constant", "where", "cast", "view", "take"}
_OPTIONS: Final = ("--fmad=false",)
_DOUBLE: Final = np.dtype(np.float64)
_LOAD: Final = {
    "float16": "(double)(float){0}",
    "bfloat16": "widened(__uint_as_float((unsigned int)*(const unsigned short*)&{0} << 16))",
    "float32": "widened({0})",
    "float64": "{0}",
}
_STORE: Final = {
    "float16": "out = (float){0};",
    "bfloat16": "const unsigned short bits = __float_as_uint(narrowed({0})) >> 16; out = *(const bfloat16*)&bits;",
    "float32": "out = narrowed({0});",
    "float64": "out = {0} == {0} ? {0} : __longlong_as_double(0x7ff8000000000000LL);",
}
_PREAMBLE: Final = """
// The compiler's conversions take subnormal numbers of float32 for 0.
__device__ double widened(float x) {
    const int bits = __float_as_int(x), size = bits & 0x7fffffff;
    if (size >= 0x00800000) return (double)x;
    const double subnormal = (double)size * 0x1p-149;
    return bits < 0 ? -subnormal : subnormal;
}
__device__ float narrowed(double x) {
    if (x != x) return __int_as_float(0x7fc00000);
    const double size = fabs(x);
    if (size >= 0x1p-126) return (float)x;
    const int sign = __double_as_longlong(x) < 0 ? 0x80000000 : 0;
    return __int_as_float((int)rint(size * 0x1p149) | sign);
}
__device__ double absolute(double x) { return fabs(x); }
__device__ long long absolute(long long x) { return x < 0 ? -x : x; }
"""


def _source(expression: Expression, key: tuple[Any, ...], result: np.dtype[Any]) -> tuple[str, str, str]:
    """The parameters, the result and the body of the kernel, as `cupy.ElementwiseKernel` takes them."""
    names: dict[Symbol, str] = {}
    letters: dict[str, str] = {}
    parameters, body = [], []
    for i, step in enumerate(expression.steps):
        names[step] = f"v{i}"
        if step.operation == "constant":
            continue
        kind = _TYPE[step.dtype.name]
        if step.operation == "take":
            table = ", ".join(map(str, step.value.tolist()))
            body.append(f"const {kind} t{i}[] = {{{table}}};\nconst {kind} v{i} = t{i}[{names[step.operands[0]]}];")
        elif step.operation != "argument":
            body.append(f"const {kind} v{i} = {_statement(step, names)};")
        elif step.number is not None:
            parameters.append(f"{_NUMBER[step.number]} v{i}")
        else:
            given = key[step.value]
            letter = letters.setdefault(given.name, "TUVWXYZ"[len(letters)])
            parameters.append(f"{letter} x{i}")
            body.append(f"const {kind} v{i} = {_LOAD.get(given.name, '{0}').format(f'x{i}')};")
    last = _operand(expression.steps[-1], expression.steps[-1].dtype, names)
    body.append(_STORE.get(result.name, "out = {0};").format(last))
    return ", ".join(parameters), f"{letters.get(result.name, result.name)} out", "\n".join(body)


class ExactFused(Fused):
    """An elementwise function as one kernel, computed in float64 and rounded once.

    Args:
        target: the dtype of floating-point results, if not that of the first floating-point array.

    Raises (at the first call):
        NoExactForm: something in it may differ between devices.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        static: frozenset[int] = frozenset(),
        target: np.dtype[Any] | None = None,
    ) -> None:
        super().__init__(function, name, static)
        self.target = target

    def _compile(self, key: tuple[Any, ...]) -> Callable[..., Any]:
        floating = [isinstance(kind, np.dtype) and kind.kind in REAL for kind in key]
        target = self.target or next(itertools.compress(key, floating), _DOUBLE)
        wide = [_DOUBLE if real else kind for real, kind in zip(floating, key, strict=True)]
        expression = trace(self._rounding(target), wide)
        unknown = {step.operation for step in expression.steps} - _FORMS - PRIMITIVES
        if unknown:
            raise NoExactForm(f"{self.name}: {', '.join(sorted(unknown))} may differ between devices")
        result = expression.steps[-1].dtype
        body = _source(expression, key, target if result == _DOUBLE else result)
        kernel = cupy.ElementwiseKernel(*body, f"gradx_exact_{self.name}", preamble=_PREAMBLE, options=_OPTIONS)
        places = [step.value for step in expression.steps if step.operation == "argument"]
        if len(places) == len(key) and places == sorted(places):
            return kernel  # type: ignore[no-any-return]
        return lambda *args: kernel(*[args[i] for i in places])

    def _rounding(self, target: np.dtype[Any]) -> Callable[..., Any]:
        """The function, its results rounded to formats that the compiler does not round to from float64."""
        if target.name not in FORMATS:
            return self.function

        def function(*args: Any) -> Any:
            result = symbol(self.function(*args))
            return rounded(_PLAIN, result, *FORMATS[target.name]) if result.dtype == _DOUBLE else result

        return function


class CudaExact(Exact):
    """CuPy's names for functions that give the same bits on every device, each as one kernel."""

    def __init__(self) -> None:
        super().__init__(cupy)

    def _exact(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return ExactFused(getattr(_SYMBOLS, name), name)


_PLAIN: Final = Namespace()
_SYMBOLS: Final = Exact(_PLAIN)


@functools.cache
def _rounder(target: np.dtype[Any]) -> Callable[..., Any]:
    return ExactFused(lambda x: x, "rounded", target=target)


def rounded_to(x: Any, dtype: np.dtype[Any]) -> Any:
    """A floating-point array as one of another floating-point `dtype`."""
    return _rounder(dtype)(x)


@functools.cache
def _converter(target: np.dtype[Any]) -> Callable[..., Any]:
    return ExactFused(lambda x: discrete(_PLAIN, x, target), "discrete")


def discrete_of(x: Any, dtype: np.dtype[Any]) -> Any:
    """A floating-point array as integers or truth values."""
    return _converter(dtype)(x)


def widened(x: Any) -> Any:
    """An array in float64, if it is floating-point."""
    return rounded_to(x, _DOUBLE) if is_floating(x) and x.dtype != _DOUBLE else x


_CONVERSIONS: Final = {"cast": rounded_to, "cast_discrete": discrete_of}


@functools.cache
def _kernels() -> ExactKernels:
    return ExactKernels(CudaExact())


def kernel(name: str, expression: Rule | None, static: frozenset[int]) -> Rule:
    """The kernel `name`, or `expression`, for arrays of which some are floating-point; see `Backend.exact_kernel`."""
    if expression is not None:
        return ExactFused(expression, name, static)
    if name in _CONVERSIONS:
        return _CONVERSIONS[name]
    if not is_elementwise(name):
        return refusing(name, on_doubles(named(_kernels(), name), widened, rounded_to))
    symbolic = named(exact_symbols(), name)
    if name in vars(Elementwise):
        static = parameters_of(inspect.signature(symbolic))
    return refusing(name, ExactFused(symbolic, name, static))
