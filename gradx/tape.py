"""The tape: what a computed tensor remembers of how it was computed, and whether anything is remembered at all.

A `Node` is one recorded operation. It holds edges to the nodes of its inputs and raw saved arrays, never the tensors it
made: there are no reference cycles, and a graph is freed by reference counting alone. Walking back is `gradx.engine`'s.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from gradx.backends import Array

F = TypeVar("F", bound=Callable[..., Any])

# ---- grad modes, per thread -------------------------------------------------------------------------------------------


class _Mode(threading.local):
    grad = True


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.grad


class set_grad_enabled:
    """Record operations or not: at once, within a `with` block, or in a decorated function.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._before: list[bool] = [is_grad_enabled()]
        self._set(self.mode)

    @staticmethod
    def _set(value: bool) -> None:
        mode.grad = value

    def __enter__(self) -> None:
        self._set(self.mode)

    def __exit__(self, *exception: object) -> None:
        self._set(self._before[0])

    def __call__(self, function: F) -> F:
        self._set(self._before[0])  # as a decorator it acts within calls only
        return _decorate(functools.partial(_Block, self.mode), function)


class _Block:
    """A `with` block in a given grad mode; also decorates functions. May be entered again and again."""

    def __init__(self, value: bool) -> None:
        self._value = value
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.grad)
        mode.grad = self._value

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.grad = self._before.pop()

    def __call__(self, function: F) -> F:
        return _decorate(functools.partial(_Block, self._value), function)


def _decorate(block: Callable[[], _Block], function: F) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


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
    """Within it, operations are recorded, also inside `no_grad`."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: None = None) -> None:
        super().__init__(True)


# ---- variables -----------------------------------------------------------------------------------------------------------


Steps = tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...]  # operations, each with its parameters


class View(NamedTuple):
    """How a tensor shares another's memory, so that an in-place change of either reaches the other's history."""

    base: Variable
    steps: Steps  # how the view is taken, of any array or tensor shaped like the base
    seen: list[int]  # the version of the shared memory for which the view's node holds
    unrecorded: bool  # whether it was taken under no_grad
    output: str | None  # "Output 1 of Split" if it is one of several views from one call

    def require_writable(self, happened: str) -> None:
        """Raise torch's error for views that must not change while operations are recorded."""
        if self.unrecorded:
            happened = f"A view was created in no_grad mode and {happened} with grad mode enabled."
        elif self.output:
            happened = f"{self.output} is a view and {happened}."
        else:
            return
        raise RuntimeError(f"{happened} {_SEVERAL_VIEWS if self.output else _UNRECORDED_VIEW}")


_UNRECORDED_VIEW = (
    "Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the "
    "view and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or both "
    "outside (if you want the inplace to be tracked)."
)
_SEVERAL_VIEWS = (
    "This view is the output of a function that returns multiple views. Such functions do not allow the output views to "
    "be modified inplace. You should replace the inplace operation by an out-of-place one."
)


class Variable:
    """An array and its place on the tape. This is all of a tensor's state; `gradx.Tensor` adds what it can do."""

    __slots__ = ("__weakref__", "_accumulator", "_grad", "_view", "array", "needs_grad", "node", "output_nr", "version")

    array: Array
    node: Node | None
    _view: View | None
    _grad: Variable | None
    _accumulator: weakref.ref[AccumulateGrad] | None

    def __init__(self, array: Array, needs_grad: bool = False, version: list[int] | None = None) -> None:
        self.array = array
        self.needs_grad = needs_grad
        self.node = None
        self.output_nr = 0
        self.version = [0] if version is None else version  # a cell, shared by all tensors over the same memory
        self._view = None
        self._grad = None
        self._accumulator = None


def replay(steps: Steps, x: Any) -> Any:
    """The view that `steps` take, of `x`."""
    for operation, params in steps:
        x = operation(x, *params)
    return x


tensor_type: type[Variable] = Variable  # `gradx.tensor` puts its class here: ops make tensors without importing it


def refresh(variable: Variable) -> None:
    """Give a view the history that its base has now, if the memory they share has changed since."""
    view = variable._view
    if view is None or view.seen[0] == variable.version[0] or not mode.grad:
        return
    if view.base.needs_grad:
        view.require_writable("its base or another view of its base has been modified inplace")
        again = replay(view.steps, view.base)
        variable.node, variable.output_nr, variable.needs_grad = again.node, again.output_nr, True
    view.seen[0] = variable.version[0]


# ---- nodes ---------------------------------------------------------------------------------------------------------------

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)

Edge = tuple["Node", int]
Metadata = tuple[tuple[int, ...], np.dtype[Any], type]  # of an output: shape, dtype, array type

next_sequence = itertools.count().__next__


class Node:
    """One recorded operation.

    Attributes:
        edges: for each tensor input, the node and output number its gradient goes to, or None where none is needed.
        outputs: shape, dtype and array type of each output.
        sequence: nodes are numbered as they are recorded, so a node's number exceeds those of all it depends on.
        retained: output number to the tensor whose `retain_grad` asks for that output's gradient.
    """

    __slots__ = ("__weakref__", "edges", "outputs", "retained", "sequence")

    edges: tuple[Edge | None, ...]
    outputs: tuple[Metadata, ...]
    retained: dict[int, weakref.ref[Variable]] | None
    holds_arrays: ClassVar[bool] = False

    def __init__(self, edges: tuple[Edge | None, ...], outputs: tuple[Metadata, ...]) -> None:
        self.edges = edges
        self.outputs = outputs
        self.sequence = next_sequence()
        self.retained = None

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        """The gradient for each edge that is `wanted`, given those of the outputs (None where nothing arrived).

        Gradients are raw arrays, or tensors if `graph`.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Free what was saved for the backward pass."""

    def name(self) -> str:
        """The operation's name, such as ``MulBackward0``."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """For each tensor input, the node that its gradient goes to (None where none is needed) and the output number."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


class AccumulateGrad(Node):
    """Where the gradients of a leaf end: they are added to its ``.grad``."""

    __slots__ = ("variable",)

    def __init__(self, variable: Variable) -> None:
        array = variable.array
        super().__init__((), ((array.shape, array.dtype, type(array)),))
        self.variable = variable


def accumulator(leaf: Variable) -> AccumulateGrad:
    """The leaf's one `AccumulateGrad`, alive as long as a graph refers to it."""
    node = leaf._accumulator() if leaf._accumulator is not None else None
    if node is None:
        node = AccumulateGrad(leaf)
        leaf._accumulator = weakref.ref(node)
    return node


def edge_of(variable: Variable) -> Edge:
    """Where the gradient of a tensor that requires one goes."""
    if variable.node is not None:
        return variable.node, variable.output_nr
    return accumulator(variable), 0


def attach(variable: Variable, node: Node, output_nr: int = 0) -> None:
    """Make `variable` an output of `node`."""
    variable.node, variable.output_nr, variable.needs_grad = node, output_nr, True
