"""NumPy without its floating-point warnings, at a price that small arrays can pay.

NumPy keeps `errstate` in a context variable. `with np.errstate(...)` sets it in 0.7 us; to set the variable itself, or to
enter a context prepared for the purpose, takes a tenth of that.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np

from gradx.backends.base import misfit
from gradx.backends.kernels import Array

_prepared = contextvars.copy_context()
_prepared.run(np.seterr, all="ignore")
_ERRSTATE = next(variable for variable in _prepared if variable.name.startswith("numpy"))
_IGNORED = _prepared[_ERRSTATE]
BUFFER = 512  # elements: NumPy copies what it broadcasts along rows shorter than its buffer, of 8192 by default
_prepared.run(np.setbufsize, BUFFER)
_IN_BLOCKS = _prepared[_ERRSTATE]  # NumPy keeps the size of its buffers beside


class Quiet:
    """Within it, all floating-point conditions are ignored."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _ERRSTATE.set(_IGNORED)

    def __exit__(self, *exception: object) -> None:
        _ERRSTATE.reset(self._before)


def in_blocks() -> None:
    """From now on in this thread, ignore all floating-point conditions and let NumPy's buffers be small."""
    _ERRSTATE.set(_IN_BLOCKS)


class InBlocks(Quiet):
    """Within it, that is so."""

    __slots__ = ()

    def __enter__(self) -> None:
        self._before = _ERRSTATE.set(_IN_BLOCKS)


class _Context(threading.local):
    """A context in which they are. One per thread, since a context cannot be entered twice."""

    def __init__(self) -> None:
        context = contextvars.copy_context()
        context.run(_ERRSTATE.set, _IGNORED)
        self.run = context.run


_context = _Context()


def quiet(function: Callable[..., Array]) -> Callable[..., Array]:
    """The kernel that runs `function` without warnings, and gives arrays also where NumPy returns scalars.

    Its arguments are spelt out where their number is known: to gather and spread them costs half as much as NumPy does.
    """
    names: dict[str, Any] = {"function": function, "context": _context, "errstate": _ERRSTATE.get}
    names |= {"IGNORED": _IGNORED, "IN_BLOCKS": _IN_BLOCKS}
    names |= {"ndarray": np.ndarray, "as_array": _as_array, "misfit": _misfit}
    exec(_quiet(_arguments(function)), names)
    return names["kernel"]  # type: ignore[no-any-return]


@functools.cache
def _quiet(arguments: str) -> CodeType:
    source = f"""
def kernel({arguments}):
    try:
        now = errstate()
        out = function({arguments}) if now is IGNORED or now is IN_BLOCKS else context.run(function, {arguments})
    except ValueError as error:
        raise misfit(error, {arguments}) from None
    return out if type(out) is ndarray else as_array(out)
"""
    return compile(source, __name__, "exec")


def _arguments(function: Callable[..., Array]) -> str:
    """Names for the arguments of a kernel, less the `out=` that some take; "*args" where their number varies."""
    if isinstance(function, np.ufunc):
        return ", ".join(f"x{i}" for i in range(function.nin))
    try:
        signature = inspect.signature(function)
    except ValueError:  # of functions written in C
        return "*args"
    parameters = [p for p in signature.parameters.values() if p.name != "out" or p.default is p.empty]
    fixed = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    return ", ".join(p.name for p in parameters) if fixed else "*args"


def _as_array(out: Any) -> Any:
    return np.asarray(out) if isinstance(out, np.generic) else out


def _misfit(error: ValueError, *args: Any) -> Exception:
    return RuntimeError(misfit(args)) if "broadcast" in str(error) else error
