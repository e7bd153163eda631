"""Whether operations are recorded: no_grad, enable_grad, inference_mode. Modes are per thread."""

from __future__ import annotations

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    grad = True
    inference = False
    saving: Callable[[Any], None] | None = None  # what to do with a node that has saved arrays
    changing: tuple[Callable[[Any], None], ...] = ()  # told before a tensor changes in place
    evaluating: Any = None  # the node whose rules run, noted under anomaly detection
    autocast: dict[str, Any] | None = None  # for each device type that casts, the lower dtype; None if none does
    usual = True  # whether an operation has no more to ask than whether `grad` is on

    def settle(self) -> None:
        """Bring `usual` up to date."""
        self.usual = not self.inference and self.saving is None and self.autocast is None


mode = _Mode()


class _Determinism:
    """Set by `gradx.use_deterministic_algorithms`, for all threads."""

    enabled = False
    warn_only = False


determinism = _Determinism()

INFERENCE = (
    "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation "
    "tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use "
    "`gradx.no_grad()` instead of `gradx.inference_mode()`."
)


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is in `inference_mode`."""
    return mode.inference


def uncast(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `function` gives when autocast casts nothing."""
    before, mode.autocast = mode.autocast, None
    mode.settle()
    try:
        return function(*args, **kwargs)
    finally:
        mode.autocast = before
        mode.settle()


class _Block:
    """A `with` block in a given mode; also decorates functions and generators. May be entered again and again."""

    def __init__(self, grad: bool, inference: bool | None = None) -> None:
        self._grad = grad
        self._inference = inference
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((mode.grad, mode.inference))
        mode.grad = self._grad
        if self._inference is not None:
            mode.inference = self._inference
            mode.settle()

    def __exit__(self, *exception: object) -> None:
        mode.grad, mode.inference = self._before.pop()
        if self._inference is not None:
            mode.settle()

    def __call__(self, function: F) -> F:
        if inspect.isclass(function):
            warnings.warn(
                "Decorating classes is deprecated and will be disabled in future versions. You should only decorate functions "
                "or methods. To preserve the current behavior of class decoration, you can directly decorate the `__init__` "
                "method and nothing else.",
                FutureWarning,
                stacklevel=2,
            )
        block = functools.partial(_Block, self._grad, self._inference)
        return (_wrap_generator if inspect.isgeneratorfunction(function) else _wrap)(block, function)  # type: ignore[return-value]


def _wrap(block: Callable[[], _Block], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return wrapper


def _wrap_generator(block: Callable[[], _Block], function: Callable[..., Any]) -> Callable[..., Any]:
    """The mode holds while the generator runs, not while it waits for whoever uses it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        resume, sent = generator.send, None
        while True:
            try:
                with block():
                    given = resume(sent)
            except StopIteration as stop:
                return stop.value
            try:
                resume, sent = generator.send, (yield given)
            except GeneratorExit:
                with block():
                    generator.close()
                raise
            except BaseException as error:
                resume, sent = generator.throw, error

    return wrapper


class no_grad(_Block):
    """Within it, nothing is recorded: ``with no_grad():`` or ``@no_grad()`` (or ``@no_grad``).

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: None = None) -> None:
        super().__init__(False)


class enable_grad(_Block):
    """Within it, operations are recorded, also inside `no_grad`.

    >>> with no_grad(), enable_grad():
    ...     is_grad_enabled()
    True
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: None = None) -> None:
        super().__init__(True)


class set_grad_enabled(_Block):
    """Record operations or not: at once, within a `with` block, or in a decorated function.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}"
            )
        super().__init__(mode)
        self.mode = mode
        self._start = is_grad_enabled()
        self._set(self.mode)

    @staticmethod
    def _set(value: bool) -> None:
        mode.grad = value

    def __enter__(self) -> None:
        self._set(self.mode)

    def __exit__(self, *exception: object) -> None:
        self._set(self._start)

    def __repr__(self) -> str:
        return f"set_grad_enabled(mode={self.mode})"

    def __call__(self, function: F) -> F:
        self._set(self._start)  # as a decorator it acts within calls only
        return super().__call__(function)


class inference_mode(_Block):
    """`no_grad`, and what is made within cannot be part of a graph later: no versions are counted for it.

    Args:
        mode: False makes it an ordinary block with gradients, also inside another `inference_mode`.

    >>> import gradx
    >>> with inference_mode():
    ...     x = gradx.ones(2)
    >>> x.is_inference()
    True
    """

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode, mode)
