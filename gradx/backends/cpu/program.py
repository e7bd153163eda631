"""An elementwise expression (`gradx.backends.expression`) as a list of ufunc calls that write into buffers.

What arrays would allocate for each operator stays in a few buffers of the size of a block, one set for each thread; the last
call writes the result where it belongs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradx.backends.expression import Expression, Symbol
from gradx.backends.kernels import Array

_OUT = -1  # the buffer that is the result
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


class _Step(NamedTuple):
    run: Callable[..., Any]
    operands: tuple[int, ...]  # places among the values
    target: int  # the place of the result among the values
    buffer: tuple[np.dtype[Any], int] | None  # None for what is made of Python numbers alone


class _Buffers(threading.local):
    """Arrays that this thread writes to, by dtype and number."""

    def __init__(self) -> None:
        self.kept: dict[tuple[np.dtype[Any], int], Array] = {}

    def like(self, out: Array, key: tuple[np.dtype[Any], int]) -> Array:
        if key[1] == _OUT:
            return out
        buffer = self.kept.get(key)
        if buffer is None or buffer.size < out.size:
            buffer = self.kept[key] = np.empty(out.size, key[0])
        return buffer[: out.size].reshape(out.shape)


_buffers = _Buffers()


class Program:
    """Writes what an expression computes: ``program(*arguments, out=array)``.

    Raises:
        TypeError: the expression passes an argument on, or chooses between Python numbers by a Python number.
    """

    def __init__(self, expression: Expression) -> None:
        steps = expression.steps
        if steps[-1].operation in ("argument", "constant"):
            raise TypeError("nothing to compute")
        self.dtype = steps[-1].dtype
        places = {step: i for i, step in enumerate(steps)}
        self.values = [_constant(step) for step in steps]
        self.arguments = [(i, step.value) for i, step in enumerate(steps) if step.operation == "argument"]
        self.steps: list[_Step] = []
        last_use = {operand: i for i, step in enumerate(steps) for operand in step.operands}
        free: list[tuple[np.dtype[Any], int]] = [] if steps[-1].operation == "where" else [(steps[-1].dtype, _OUT)]
        held: dict[Symbol, tuple[np.dtype[Any], int]] = {}
        made = 0
        for i, step in enumerate(steps):
            if step.operation in ("argument", "constant"):
                continue
            done = [held.pop(operand) for operand in set(step.operands) if last_use[operand] == i and operand in held]
            if step.operation != "where":  # which reads its operands after it has begun to write
                free += done
            buffer = None
            if i == len(steps) - 1:
                buffer = (step.dtype, _OUT)
            elif step.number is not None and step.operation in _FORMS:
                raise TypeError(f"{step.operation} of Python numbers alone")
            elif step.number is None:
                buffer = next((one for one in free if one[0] == step.dtype), None)
                if buffer is None:
                    buffer, made = (step.dtype, made), made + 1
                else:
                    free.remove(buffer)
                held[step] = buffer
            if step.operation == "where":
                free += done
            operands = tuple([places[operand] for operand in step.operands])
            self.steps.append(_Step(_FORMS.get(step.operation) or getattr(np, step.operation), operands, i, buffer))

    def __call__(self, *arguments: Any, out: Array) -> None:
        values = self.values.copy()
        for i, place in self.arguments:
            values[i] = arguments[place]
        for run, operands, target, buffer in self.steps:
            given = [values[i] for i in operands]
            if buffer is None:
                values[target] = run(*given).item()
            else:
                values[target] = into = _buffers.like(out, buffer)
                run(*given, out=into)


def _constant(step: Symbol) -> Any:
    if step.operation != "constant":
        return None
    return step.value if step.number is not None else step.dtype.type(step.value)


def _cast(x: Any, out: Array) -> None:
    np.copyto(out, x, casting="unsafe")


def _where(condition: Any, x: Any, y: Any, out: Array) -> None:
    """A choice between something and zero is made by the bits: masked copies are slow."""
    bits = _BITS.get(out.itemsize)
    if bits is not None and _holds(condition, np.dtype(bool)):
        if _is_zero(y) and _holds(x, out.dtype):
            return _select(condition, x.view(bits), out.view(bits))
        if _is_zero(x) and _holds(y, out.dtype):
            return _select(~condition, y.view(bits), out.view(bits))
    np.copyto(out, y, casting="unsafe")
    np.copyto(out, x, casting="unsafe", where=np.asarray(condition, bool))


def _select(condition: Array, bits: Array, out: Array) -> None:
    """Whole numbers times 0 or 1: unlike a product of floating-point numbers, this is exact for the bits of NaN and inf."""
    np.copyto(out, condition.view(np.int8))
    np.multiply(bits, out, out=out)


def _holds(value: Any, dtype: np.dtype[Any]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype


def _is_zero(value: Any) -> bool:
    return (type(value) in (int, float) or isinstance(value, np.generic)) and value == 0 and str(value)[0] != "-"


_FORMS: dict[str, Callable[..., Any]] = {"cast": _cast, "where": _where}
