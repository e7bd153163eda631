"""Changing tensors in place, without ever leaving a wrong gradient behind.

An in-place operation is the out-of-place one, whose result is written over the tensor and whose history the tensor takes
over. Every write counts up the version of the memory, so that a backward pass that saved the old elements notices. If
the tensor is a view, what it was taken from gets a new history too: its elements, but for the view's (`CopySlices`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradx import dtypes, modes, tape, variables
from gradx.backends import backend_of
from gradx.backends.base import misfit
from gradx.node import OpNode
from gradx.ops.constant import fill
from gradx.ops.shape import _permute
from gradx.ops.transfer import clone, contiguous
from gradx.streams import seen
from gradx.tape import Edge, Node
from gradx.variables import Variable


class CopySlices(Node):
    """A base after one of its views was overwritten: two inputs, the base as it was and the view's new elements."""

    __slots__ = ("order", "steps")

    def __init__(self, base: Variable, value: Variable, steps: variables.Steps) -> None:
        edges = tuple(tape.edge_of(t) if t.needs_grad else None for t in (base, value))
        super().__init__(edges, ((base.array.shape, base.array.dtype, type(base.array)),))
        if seen.other:
            tape.note_stream(self, base.array)
        self.steps = steps
        strides = base.array.strides
        self.order = tuple(sorted(range(len(strides)), key=lambda d: -abs(strides[d])))  # of its dimensions in memory

    def name(self) -> str:
        return "gradx::autograd::CopySlices"

    def _in_order(self, g: Any) -> Any:
        """The gradient laid out as the base was, so that the views of that can be taken of it."""
        array = g.array if isinstance(g, Variable) else g
        in_memory = array.transpose(self.order)
        if in_memory.flags.c_contiguous:
            return g
        back = tuple(sorted(range(array.ndim), key=self.order.__getitem__))
        return _permute(contiguous(_permute(g, self.order)), back)

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        g = self._in_order(grads[0])
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
    if not modes.mode.grad or not any(_involved(t) for t in (variable, *operands)):
        return
    view = variable._view
    if view is not None:
        variables.require_writable(variable, view, "is being modified inplace")
        variables.refresh(variable)
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


def _involved(operand: Any) -> bool:
    """Whether an operand, or what it is a view of, is part of a graph."""
    if not isinstance(operand, Variable):
        return False
    return operand.needs_grad or (operand._view is not None and operand._view.base.needs_grad)


def check_memory(array: Any) -> None:
    """An error if several elements share memory, as in an expanded tensor."""
    if array.size and any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def overwrite(variable: Variable, result: Variable, *, one_value: bool = False) -> None:
    """Write `result` over the tensor, which takes over its history.

    Args:
        one_value: all elements of `result` are the same, so that those of the tensor may share memory.

    Raises:
        RuntimeError: the shape or dtype of `result` does not fit, or elements of the tensor share memory.
    """
    array, new = variable.array, result.array
    if new.shape != array.shape:
        require_room(variable, result)
    if new.dtype is not array.dtype:
        dtypes.require_castable(new.dtype, array.dtype)
    if not one_value and not array.flags.c_contiguous:
        check_memory(array)
    node = result.node
    if isinstance(node, OpNode):
        node.keep_first_input()
    variables.count_change(variable)
    backend_of(array).write(array, new)
    if node is not None and isinstance(node, OpNode) and new.dtype == array.dtype:
        node.output_moved(array, variable.version)
    if modes.mode.grad:
        take_history(variable, result)


def copied_without_waiting(variable: Variable, src: Any) -> bool:
    """Copy the elements of `src` over those of the tensor, one on the host and one on a device, if nothing has to be
    recorded, converted or broadcast; say whether. From or to pinned memory, the stream does it and the host goes on."""
    if not isinstance(src, Variable) or (modes.is_grad_enabled() and (_involved(variable) or _involved(src))):
        return False
    array, new = variable.array, src.array
    alike = array.shape == new.shape and array.dtype == new.dtype
    if type(array) is type(new) or not (alike and array.flags.c_contiguous and new.flags.c_contiguous):
        return False
    variables.count_change(variable)
    backend_of(new if backend_of(array).device_type == "cpu" else array).send(array, new)
    return True


def require_castable(variable: Variable, *operands: Any) -> None:
    """Raise torch's error if the dtype that an operation of these operands gives cannot be written over the tensor."""
    dtypes.require_castable(dtypes.result_dtype(dtypes.operands((variable, *operands))), variable.array.dtype)


def require_room(variable: Variable, value: Variable) -> None:
    """Raise torch's error if a value is broadcast to more than the tensor's shape."""
    own = variable.array.shape
    try:
        whole = np.broadcast_shapes(own, value.array.shape)
    except ValueError:
        raise RuntimeError(misfit((variable.array, value.array))) from None
    if whole != own:
        raise RuntimeError(f"output with shape {list(own)} doesn't match the broadcast shape {list(whole)}")


def take_history(variable: Variable, result: Variable) -> None:
    """Make the tensor, which now has the elements of `result`, an output of what computed them."""
    view = variable._view
    if view is None:
        variables.set_history(variable, result.node, result.output_nr, result.needs_grad)
    elif view.base.needs_grad or result.needs_grad:
        variables.set_history(view.base, CopySlices(view.base, result, view.steps), 0, True)
        view.seen[0] = -1
        variables.refresh(variable)
    maker = variable if view is None else view.base
    if variable.version is not None and maker.node is not None:
        variable.version[1:] = [maker.node.output_name(maker.output_nr)]
