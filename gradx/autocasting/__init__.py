"""What autocast does to operations: their inputs are cast, by the lists of `gradx.autocasting.lists`.

While no thread is in an autocast block, operations know nothing of it. The first block makes the listed ones `CastingOp`s,
the last one to end makes them `Op`s again. Casts are operations: gradients flow through them, into the dtype of the leaf.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from gradx import dtypes
from gradx.autocasting.lists import CPU, CUDA, LISTS, Policy
from gradx.backends import backend_of
from gradx.modes import mode, uncast
from gradx.op import OPS, TWINS, Op
from gradx.variables import Variable

F = TypeVar("F", bound=Callable[..., Any])


class Cast(NamedTuple):
    """A leaf that has been cast, its version then, and the result."""

    leaf: Variable
    version: int
    result: Variable


class _State(threading.local):
    """What `gradx.autocast` and its functions have set in this thread. `mode.autocast` follows from it."""

    cache_enabled = True
    nesting = 0  # of blocks

    def __init__(self) -> None:
        self.enabled: frozenset[str] = frozenset()  # device types
        self.dtypes = {"cuda": dtypes.float16, "cpu": dtypes.bfloat16}
        self.cache: dict[int, Cast] = {}  # by the leaf's id


state = _State()


# ---- switching -------------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """A thread's autocast settings."""

    enabled: frozenset[str]
    dtypes: dict[str, dtypes.dtype]
    cache_enabled: bool


def settings() -> Settings:
    """Those of this thread."""
    return Settings(state.enabled, dict(state.dtypes), state.cache_enabled)


def apply(new: Settings) -> None:
    """Make them those of this thread."""
    state.enabled, state.dtypes, state.cache_enabled = new.enabled, dict(new.dtypes), new.cache_enabled
    was_off = mode.autocast is None
    mode.autocast = {device: state.dtypes[device].dtype for device in state.enabled} or None
    mode.settle()
    if was_off != (mode.autocast is None):
        _switch.count(1 if was_off else -1)


@contextmanager
def applied(new: Settings) -> Generator[None, None, None]:
    """Within it, this thread has other settings."""
    before = settings()
    apply(new)
    try:
        yield
    finally:
        apply(before)


class _Switch:
    """Makes the listed operations casting ones while there are threads that want that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0

    def count(self, change: int) -> None:
        with self._lock:
            before, self._threads = self._threads, self._threads + change
            if bool(before) != bool(self._threads):
                for operation in _listed_operations():
                    operation.__class__ = CastingOp if self._threads else Op


@functools.cache
def _listed_operations() -> list[Op]:
    return [operation for operation in (*OPS.values(), *TWINS) if operation.name in {**CUDA, **CPU}]


_switch = _Switch()


# ---- casting ---------------------------------------------------------------------------------------------------------


class CastingOp(Op):
    """A listed operation while some thread is in an autocast block; whether this thread is, it sees at each call."""

    def __call__(self, *args: Any) -> Any:
        return super().__call__(*(args if mode.autocast is None else adapted(self.name, args)))


def listed(function: F) -> F:
    """A function of several operations that autocast takes for one: its inputs are cast, and nothing within."""
    name = function.__name__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if mode.autocast is None or _policy(name, (*args, *kwargs.values())) is None:
            return function(*args, **kwargs)
        values = iter(adapted(name, (*args, *kwargs.values())))
        return uncast(function, *[next(values) for _ in args], **dict(zip(kwargs, values, strict=True)))

    return cast("F", call)


def adapted(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call of the operation `name`, cast as the lists say; `args` itself outside autocast blocks.

    Tensors that are not floating-point, or float64, or on devices of another type, stay as they are.
    """
    found = _policy(name, args)
    if found is None:
        return args
    policy, device, target = found
    eligible = {id(t): t for t in _tensors(args) if _eligible(t, device)}
    goal = policy(target, [t.array.dtype for t in eligible.values()])
    if all(t.array.dtype == goal for t in eligible.values()):
        return args
    return tuple(_converted(value, eligible, goal) for value in args)


def _policy(name: str, args: Iterable[Any]) -> tuple[Policy, str, np.dtype[Any]] | None:
    """The policy for a call, the device type that it is for, and the dtype that is set for that; None if there is none."""
    if mode.autocast is None:
        return None
    for tensor in _tensors(args):
        device = backend_of(tensor.array).device_type
        if device in mode.autocast:
            policy = LISTS[device].get(name)
            return None if policy is None else (policy, device, mode.autocast[device])
    return None


def _tensors(args: Iterable[Any]) -> Iterator[Variable]:
    """The tensors among arguments, those within lists too."""
    for value in args:
        if isinstance(value, Variable):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _eligible(tensor: Variable, device: str) -> bool:
    dtype = dtypes.of_numpy(tensor.array.dtype)
    return dtype.is_floating_point and dtype.itemsize < 8 and backend_of(tensor.array).device_type == device


def _converted(value: Any, eligible: dict[int, Variable], goal: np.dtype[Any]) -> Any:
    """`value` with the eligible tensors in it cast."""
    if isinstance(value, (list, tuple)):
        return type(value)([_converted(item, eligible, goal) for item in value])
    if id(value) not in eligible or value.array.dtype == goal:
        return value
    return _cached(value, goal) if _cacheable(value, goal) else OPS["cast"](value, goal)


def _cacheable(tensor: Variable, goal: np.dtype[Any]) -> bool:
    """Whether a cast is kept until the outermost block ends: parameters are, which are used again and again."""
    return (
        state.cache_enabled
        and state.nesting > 0
        and tensor.needs_grad
        and tensor.node is None
        and tensor._view is None
        and tensor.version is not None
        and goal.itemsize < tensor.array.dtype.itemsize
    )


def _cached(leaf: Any, goal: np.dtype[Any]) -> Any:
    """The cast of a leaf: the one that is kept, unless the leaf has changed since, or it lacks a gradient or the dtype."""
    known = state.cache.get(id(leaf))
    if (
        known is None
        or known.version != leaf.version[0]
        or known.result.needs_grad < mode.grad
        or known.result.array.dtype != goal
    ):
        known = state.cache[id(leaf)] = Cast(leaf, leaf.version[0], OPS["cast"](leaf, goal))
    return known.result
