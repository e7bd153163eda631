"""A tensor's state: its array, its version, its place on the tape, and whether it is a view of another.

Tensors over the same memory share one version, counted up by every in-place change: so a saved tensor is known to have
changed, and a view knows that its history is no longer what it was.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradx.backends import Array
from gradx.modes import mode

if TYPE_CHECKING:
    from gradx.hooks import Hooks
    from gradx.tape import AccumulateGrad, Node


Steps = tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...]  # operations, each with its parameters


class View(NamedTuple):
    """How a tensor shares another's memory, so that an in-place change of either reaches the other's history."""

    base: Variable
    steps: Steps  # how the view is taken, of any array or tensor shaped like the base
    seen: list[int]  # the version of the shared memory for which the view's node holds
    unrecorded: bool  # whether it was taken under no_grad
    several: bool  # whether it is one of several views from one call, or a view of one


new_view = functools.partial(tuple.__new__, View)  # in half the time that the class itself takes


def require_writable(variable: Variable, view: View, happened: str) -> None:
    """Raise torch's error for views that must not change while operations are recorded."""
    if not (view.unrecorded or view.several):
        return
    if view.unrecorded or variable.node is None:
        happened = f"A view was created in no_grad mode and {happened} with grad mode enabled."
    else:
        happened = f"O{variable.node.output_name(variable.output_nr)[1:]} is a view and {happened}."
    raise RuntimeError(f"{happened} {_SEVERAL_VIEWS if view.several else _UNRECORDED_VIEW}")


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

    __slots__ = (
        "__weakref__",
        "_accumulator",
        "_grad",
        "_view",
        "array",
        "hooks",
        "needs_grad",
        "node",
        "output_nr",
        "version",
    )

    array: Array
    node: Node | None
    hooks: Hooks | None  # a leaf's; others' are their node's
    version: list[Any] | None  # the number of changes, and which operation made the last of them, if recorded
    _view: View | None
    _grad: Variable | None
    _accumulator: weakref.ref[AccumulateGrad] | None

    def __init__(self, array: Array, needs_grad: bool = False, version: list[Any] | None = None) -> None:
        self.array = array
        self.needs_grad = needs_grad
        self.node = None
        self.output_nr = 0
        self.hooks = None
        # A cell, shared by all tensors over the same memory; none is kept for what is made in inference mode.
        self.version = version if version is not None else None if mode.inference else [0]
        self._view = None
        self._grad = None
        self._accumulator = None


def replay(steps: Steps, x: Any) -> Any:
    """The view that `steps` take, of `x`."""
    for operation, params in steps:
        x = operation(x, *params)
    return x


tensor_type: type[Variable] = Variable  # `gradx.tensor` puts its class here: ops make tensors without importing it


def set_history(variable: Variable, node: Node | None, output_nr: int, needs_grad: bool) -> None:
    """Make a tensor an output of another node than before. What `retain_grad` keeps is the gradient of the tensor as it is
    now, so that goes along."""
    before, number = variable.node, variable.output_nr
    variable.node, variable.output_nr, variable.needs_grad = node, output_nr, needs_grad
    hooks = before.hooks if before is not None else None
    reference = hooks.retained.get(number) if hooks is not None else None
    if hooks is not None and node is not None and reference is not None and reference() is variable:
        del hooks.retained[number]
        node.hooks_to_write().retained[output_nr] = reference


def requires_grad(variable: Variable) -> bool:
    """Whether operations on a tensor are recorded: also of a view whose base has become part of a graph since."""
    view = variable._view
    return variable.needs_grad or (view is not None and not view.unrecorded and view.base.needs_grad)


def refresh(variable: Variable) -> None:
    """Give a view the history that its base has now, if the memory they share has changed since."""
    view = variable._view
    if view is None or variable.version is None or view.seen[0] == variable.version[0] or not mode.grad:
        return
    if view.base.needs_grad:
        require_writable(variable, view, "its base or another view of its base has been modified inplace")
        again = replay(view.steps, view.base)
        set_history(variable, again.node, again.output_nr, True)
    elif variable.node is not None:
        set_history(variable, variable.node.severed(variable.output_nr), 0, True)  # the base was detached, and changed
    view.seen[0] = variable.version[0]


def count_change(variable: Variable) -> None:
    """Count up the version of a tensor's memory.

    Raises:
        RuntimeError: no versions are counted for it.
    """
    if variable.version is not None:
        for listener in mode.changing:
            listener(variable)
        variable.version[0] += 1
    elif not mode.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal "
            "tensor before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
        )
