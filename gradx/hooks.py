"""Functions of the user's that look at gradients on their way back, and may replace them.

The order is torch's. When all gradients of a node's outputs have arrived: the tensors' own hooks, then `retain_grad`,
then the node's prehooks; the node's hooks after its rules have run; a leaf's post-accumulate hooks last of all.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gradx import variables
from gradx.dtypes import of_numpy
from gradx.variables import Variable

if TYPE_CHECKING:
    from typing import Self

Hook = Callable[..., Any]
_ids = itertools.count()


class RemovableHandle:
    """Takes a hook back: by `remove`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Hook]) -> None:
        self.id = next(_ids)
        self._hooks = hooks

    def remove(self) -> None:
        """Remove the hook; nothing happens if it is gone already."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class HandleGroup:
    """Takes several hooks back at once."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register(hooks: dict[int, Hook], hook: Hook) -> RemovableHandle:
    """Add a hook behind those there are."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


class Hooks:
    """The hooks of one node.

    Attributes:
        tensor: for each output, what its tensor registered: called with its gradient.
        retained: for each output, the tensor that keeps its gradient.
        before: called with the gradients of all outputs.
        after: called with the gradients of the inputs and those of the outputs.
        accumulated: for a leaf; called with it when its ``.grad`` is up to date.
    """

    __slots__ = ("accumulated", "after", "before", "retained", "tensor")

    def __init__(self) -> None:
        self.tensor: dict[int, dict[int, Hook]] = {}
        self.retained: dict[int, weakref.ref[Variable]] = {}
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}
        self.accumulated: dict[int, Hook] = {}

    def arrived(self, grads: list[Any], graph: bool) -> list[Any]:
        """The gradients of the outputs after the tensors' hooks."""
        result = list(grads)
        for output_nr, hooks in self.tensor.items():
            if result[output_nr] is not None:
                for hook in list(hooks.values()):
                    given = _as_tensor(result[output_nr], graph)
                    answer = hook(given)
                    if answer is not None:
                        result[output_nr] = _as_value(_checked(hook, answer, given), graph)
        return result

    def entering(self, grads: list[Any], graph: bool) -> list[Any]:
        """The gradients of the outputs after the node's prehooks."""
        return _run(self.before.values(), grads, graph)

    def leaving(self, results: list[Any], grads: list[Any], graph: bool) -> list[Any]:
        """The gradients of the inputs after the node's hooks."""
        return _run(self.after.values(), results, graph, tuple(_as_tensor(g, graph) for g in grads))


def _run(hooks: Iterable[Hook], values: list[Any], graph: bool, *more: Any) -> list[Any]:
    """`values` after hooks that take them as a tuple of tensors, and return nothing or what shall replace them."""
    for hook in list(hooks):
        given = tuple(_as_tensor(value, graph) for value in values)
        answers = hook(given, *more)
        if answers is None:
            continue
        if not isinstance(answers, tuple):
            raise TypeError(f"expected tuple, but hook returned '{type(answers).__name__}'")
        if len(answers) != len(given):
            raise RuntimeError(
                f"hook '{_name(hook)}' has returned an incorrect number of values (got {len(answers)}, but expected "
                f"{len(given)})"
            )
        checked = (_checked(hook, answer, old) for answer, old in zip(answers, given, strict=True))
        values = [_as_value(value, graph) for value in checked]
    return values


def _checked(hook: Hook, answer: Any, given: Variable | None) -> Any:
    """What a hook returned in the place of a gradient, if it can stand there."""
    if answer is None:
        return None
    if not isinstance(answer, Variable):
        raise TypeError(f"expected Variable, but hook returned '{type(answer).__name__}'")
    if given is None:
        raise RuntimeError("can't replace a None gradient with a non-None value")
    if answer.array.dtype != given.array.dtype or type(answer.array) is not type(given.array):
        was, got = (f"gradx.{of_numpy(t.array.dtype).title}Tensor" for t in (given, answer))
        raise RuntimeError(f"hook '{_name(hook)}' has changed the type of value (was {was} got {got})")
    if answer.array.shape != given.array.shape:
        raise RuntimeError(f"hook '{_name(hook)}' has changed the size of value")
    return answer


def _name(hook: Hook) -> str:
    return getattr(hook, "__name__", type(hook).__name__)


def _as_tensor(value: Any, graph: bool) -> Any:
    return value if graph or value is None else variables.tensor_type(value)


def _as_value(tensor: Any, graph: bool) -> Any:
    return tensor if graph or tensor is None else tensor.array
