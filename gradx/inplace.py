"""Changing tensors in place, without ever leaving a wrong gradient behind.

An in-place operation is the out-of-place one, whose result is written over the tensor and whose history the tensor takes
over. Every write counts up the version of the memory, so that a backward pass that saved the old elements notices. If
the tensor is a view, what it was taken from gets a new history too: its elements, but for the view's (`CopySlices`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradx import dtypes, modes, tape, variables
from gradx.backends import backend_of
from gradx.node import OpNode
from gradx.ops.constant import fill
from gradx.ops.transfer import clone
from gradx.tape import Edge, Node
from gradx.variables import Variable


class CopySlices(Node):
    """A base after one of its views was overwritten: two inputs, the base as it was and the view's new elements."""

    __slots__ = ("steps",)

    def __init__(self, base: Variable, value: Variable, steps: variables.Steps) -> None:
        edges = tuple(tape.edge_of(t) if t.needs_grad else None for t in (base, value))
        super().__init__(edges, ((base.array.shape, base.array.dtype, type(base.array)),))
        self.steps = steps

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        g = grads[0]
        to_base, to_value = self.edges
        kept = None
        if to_base is not None and wanted(to_base):
            kept = clone(g)
            view = variables.replay(self.steps, kept)
            if graph:
                overwrite(view, fill(view, 0))  # type: ignore[arg-type]
            else:
                view[...] = 0
        return [kept, variables.replay(self.steps, g) if to_value is not None and wanted(to_value) else None]


def check_writable(variable: Variable, *operands: Any) -> None:
    """Raise torch's errors for tensors that must not be changed in place while recording."""
    variables.refresh(variable)
    if not modes.is_grad_enabled() or not any(isinstance(t, Variable) and t.needs_grad for t in (variable, *operands)):
        return
    view = variable._view
    if view is not None:
        variables.require_writable(variable, view, "is being modified inplace")
        if variable.needs_grad and view.base.node is None:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place operation. Change it under "
                "gradx.no_grad(), or change a view of a clone()."
            )
    if variable.needs_grad and variable.node is None:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation. Its gradient would belong to "
            "elements that are gone: change it under gradx.no_grad(), or change a clone()."
        )


def check_memory(array: Any) -> None:
    """An error if several elements share memory, as in an expanded tensor."""
    if array.size and any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def count_change(variable: Variable) -> None:
    """Count up the version of a tensor's memory.

    Raises:
        RuntimeError: no versions are counted for it.
    """
    if variable.version is not None:
        if changing.listeners:
            for listener in list(changing.listeners):
                listener(variable)
        variable.version[0] += 1
    elif not modes.is_inference_mode_enabled():
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal "
            "tensor before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
        )


class _Changing:
    listeners: tuple[Callable[[Variable], None], ...] = ()  # told before a tensor changes in place


changing = _Changing()


def overwrite(variable: Variable, result: Variable, *, one_value: bool = False) -> None:
    """Write `result` over the tensor, which takes over its history.

    Args:
        one_value: all elements of `result` are the same, so that those of the tensor may share memory.

    Raises:
        RuntimeError: the shape or dtype of `result` does not fit, or elements of the tensor share memory.
    """
    array, new = variable.array, result.array
    if new.shape != array.shape:
        raise RuntimeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape {list(new.shape)}")
    given, own = dtypes.of_numpy(new.dtype), dtypes.of_numpy(array.dtype)
    if not dtypes.can_cast(given, own):
        raise RuntimeError(f"result type {given.title} can't be cast to the desired output type {own.title}")
    if not one_value:
        check_memory(array)
    node = result.node
    if isinstance(node, OpNode):
        node.keep_first_input()
    count_change(variable)
    backend_of(array).write(array, new)
    if isinstance(node, OpNode) and new.dtype == array.dtype:
        node.output_moved(array, variable.version)
    if modes.is_grad_enabled():
        take_history(variable, result)


def _move_retained(variable: Variable, result: Variable) -> None:
    """What `retain_grad` keeps is the gradient of the tensor as it is now."""
    hooks = variable.node.hooks if variable.node is not None else None
    reference = hooks.retained.get(variable.output_nr) if hooks is not None else None
    if hooks is None or reference is None or reference() is not variable or result.node is None:
        return
    del hooks.retained[variable.output_nr]
    result.node.hooks_to_write().retained[result.output_nr] = reference


def take_history(variable: Variable, result: Variable) -> None:
    """Make the tensor, which now has the elements of `result`, an output of what computed them."""
    _move_retained(variable, result)
    view = variable._view
    if view is None:
        variable.node, variable.output_nr, variable.needs_grad = result.node, result.output_nr, result.needs_grad
    elif view.base.needs_grad or result.needs_grad:
        tape.attach(view.base, CopySlices(view.base, result, view.steps))
        view.seen[0] = -1
        variables.refresh(variable)
    if variable.version is not None and variable.node is not None:
        name = variable.node.output_name(variable.output_nr)
        variable.version[1:] = [
            name if view is None else "output 0 of AsStrided"
        ]  # what torch takes views by, in the end
