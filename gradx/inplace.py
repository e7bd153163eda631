"""Changing tensors in place, without ever leaving a wrong gradient behind.

An in-place operation is the out-of-place one, whose result is written over the tensor and whose history the tensor takes
over. Every write counts up the version of the memory, so that a backward pass that saved the old elements notices. If
the tensor is a view, what it was taken from gets a new history too: its elements, but for the view's (`CopySlices`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradx import dtypes, tape
from gradx.backends import backend_of
from gradx.ops import select
from gradx.tape import Edge, Node, Variable


class CopySlices(Node):
    """A base after one of its views was overwritten: two inputs, the base as it was and the view's new elements."""

    __slots__ = ("steps",)

    def __init__(self, base: Variable, value: Variable, steps: tape.Steps) -> None:
        edges = tuple(tape.edge_of(t) if t.needs_grad else None for t in (base, value))
        super().__init__(edges, ((base.array.shape, base.array.dtype, type(base.array)),))
        self.steps = steps

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        g = grads[0]
        to_base, to_value = self.edges
        kept = None
        if to_base is not None and wanted(to_base):
            array = g.array if graph else g
            mask = backend_of(array).ones_like(array)
            tape.replay(self.steps, mask)[...] = 0
            outside: Any = tape.tensor_type(mask != 0) if graph else mask != 0
            kept = select.where(outside, g, 0)
        return [kept, tape.replay(self.steps, g) if to_value is not None and wanted(to_value) else None]


def check_writable(variable: Variable, *operands: Any) -> None:
    """Raise torch's errors for tensors that must not be changed in place while recording."""
    tape.refresh(variable)
    if not tape.is_grad_enabled() or not any(isinstance(t, Variable) and t.needs_grad for t in (variable, *operands)):
        return
    view = variable._view
    if view is not None:
        view.require_writable("is being modified inplace")
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
    if any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def overwrite(variable: Variable, result: Variable) -> None:
    """Write `result` over the tensor, which takes over its history.

    Raises:
        RuntimeError: the shape or dtype of `result` does not fit, or elements of the tensor share memory.
    """
    array, new = variable.array, result.array
    if new.shape != array.shape:
        raise RuntimeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape {list(new.shape)}")
    given, own = dtypes.of_numpy(new.dtype), dtypes.of_numpy(array.dtype)
    if not dtypes.can_cast(given, own):
        raise RuntimeError(f"result type {given.title} can't be cast to the desired output type {own.title}")
    check_memory(array)
    backend_of(array).write(array, new)
    variable.version[0] += 1
    if tape.is_grad_enabled():
        take_history(variable, result)


def take_history(variable: Variable, result: Variable) -> None:
    """Make the tensor, which now has the elements of `result`, an output of what computed them."""
    view = variable._view
    if view is None:
        variable.node, variable.output_nr, variable.needs_grad = result.node, result.output_nr, result.needs_grad
    elif view.base.needs_grad or result.needs_grad:
        tape.attach(view.base, CopySlices(view.base, result, view.steps))
        view.seen[0] = -1
        tape.refresh(variable)
