"""Changing tensors in place, without ever leaving a wrong gradient behind.

An in-place operation is the out-of-place one, whose result is written over the tensor and whose history the tensor takes
over. Every write counts up the version of the memory, so that a backward pass that saved the old elements notices. If
the tensor is a view, what it was taken from gets a new history too: its elements, but for the view's (`CopySlices`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradx import dtypes, tape
from gradx.backends import backend_of
from gradx.ops import activation, elementwise, index, select
from gradx.ops.constant import zeros_like
from gradx.tape import Edge, Node, Variable

if TYPE_CHECKING:
    from typing import Self


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
            kept = select.where(tape.tensor_type(mask != 0) if graph else mask != 0, g, 0)
        return [kept, tape.replay(self.steps, g) if to_value is not None and wanted(to_value) else None]


def check_writable(variable: Variable) -> None:
    """Torch's errors for tensors that must not be changed in place while recording."""
    tape.refresh(variable)
    if variable.needs_grad and tape.is_grad_enabled():
        if variable.node is None:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation. Its gradient would belong to "
                "elements that are gone: change it under gradx.no_grad(), or change a clone()."
            )
        if variable._view is not None and variable._view.base.node is None:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place operation. Change it under "
                "gradx.no_grad(), or change a view of a clone()."
            )
    elif variable._view is not None and variable._view.base.needs_grad and tape.is_grad_enabled():
        raise RuntimeError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation. The view was taken "
            "under no_grad: take it again, or change it under gradx.no_grad()."
        )


def overwrite(variable: Variable, result: Any) -> None:
    """Write `result` over the tensor, which takes over its history.

    Raises:
        RuntimeError: the tensor is a leaf that requires grad, or the shape or dtype of `result` does not fit.
    """
    array, new = variable.array, result.array
    if new.shape != array.shape:
        raise RuntimeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape {list(new.shape)}")
    if "biufc".index(new.dtype.kind) > "biufc".index(array.dtype.kind) and (
        new.dtype.kind not in "iu" or array.dtype.kind == "b"
    ):
        given, own = dtypes.of_numpy(new.dtype), dtypes.of_numpy(array.dtype)
        raise RuntimeError(f"result type {given.name} can't be cast to the desired output type {own.name}")
    check_memory(array)
    backend_of(array).write(array, new)
    variable.version[0] += 1
    if not tape.is_grad_enabled():
        return
    view = variable._view
    if view is None:
        variable.node, variable.output_nr, variable.needs_grad = result.node, result.output_nr, result.needs_grad
        if result.needs_grad and result.node is None:  # the result is itself a leaf, as in copy_
            tape.attach(variable, *tape.edge_of(elementwise._add(result, 0)))
    elif view.base.needs_grad or result.needs_grad:
        tape.attach(view.base, CopySlices(view.base, result, view.steps))
        view.seen[0] = -1
        tape.refresh(variable)


def check_memory(array: Any) -> None:
    """An error if several elements share memory, as in an expanded tensor."""
    if any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def _inplace(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_writable(self)
        overwrite(self, function(self, *args, **kwargs))
        return self

    name = function.__name__.strip("_") + "_"
    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"`{function.__name__.strip('_')}`, in place."
    return method


def _fill(input: Any, value: Any) -> Any:
    """`value` in the shape and dtype of `input`; nothing flows back to `input`."""
    filled = zeros_like(input)
    if isinstance(value, Variable) and value.array.ndim:
        raise RuntimeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value.array.ndim} dimensions."
        )
    return select.where(zeros_like(filled) == 0, value, filled)  # type: ignore[arg-type]


def _copy(input: Any, src: Any) -> Any:
    """`src`, broadcast to the shape of `input` and moved to its device."""
    from gradx.ops.shape import expand
    from gradx.ops.transfer import cast, clone

    if isinstance(src, Variable) and src.array.dtype.kind in "fc" and src.array.dtype != input.array.dtype:
        src = cast(src, input.array.dtype) if input.array.dtype.kind in "fc" else src
    return clone(expand(src, input.array.shape))


class InplaceMethods(Variable):
    """What changes a tensor in place. Each returns the tensor itself."""

    __slots__ = ()

    add_, sub_, mul_, div_, pow_ = map(
        _inplace, (elementwise.add, elementwise.sub, elementwise.mul, elementwise.div, elementwise.pow)
    )
    neg_, abs_, exp_, log_, sqrt_ = map(
        _inplace, (elementwise.neg, elementwise.abs, elementwise.exp, elementwise.log, elementwise.sqrt)
    )
    sin_, cos_, reciprocal_, rsqrt_, expm1_, log1p_ = map(
        _inplace,
        (
            elementwise.sin,
            elementwise.cos,
            elementwise.reciprocal,
            elementwise.rsqrt,
            elementwise.expm1,
            elementwise.log1p,
        ),
    )
    relu_, tanh_, sigmoid_, clamp_ = map(_inplace, (activation.relu, activation.tanh, activation.sigmoid, select.clamp))
    fill_, copy_ = _inplace(_fill), _inplace(_copy)
    __iadd__, __isub__, __imul__, __itruediv__, __ipow__ = add_, sub_, mul_, div_, pow_

    def zero_(self) -> Self:
        """Set every element to zero."""
        return self.fill_(0)  # type: ignore[no-any-return]

    def __setitem__(self, place: Any, value: Any) -> None:
        """Write `value`, broadcast, at an index."""
        indexed, advanced = index.normalise(self, place)
        if not advanced:
            target = index._slice(self, indexed)  # type: ignore[arg-type]
            check_writable(target)
            overwrite(target, _copy(target, value) if isinstance(value, Variable) else _fill_any(target, value))
            return
        check_writable(self)
        overwrite(self, _put(self, indexed, value))


def _fill_any(target: Any, value: Any) -> Any:
    if isinstance(value, (bool, int, float, complex)):
        return _fill(target, value)
    array = backend_of(target.array).xp.asarray(value)
    return _copy(target, tape.tensor_type(array.astype(target.array.dtype)))


def _put(input: Any, place: Any, value: Any) -> Any:
    """A copy of `input` with `value` at an advanced index."""
    from gradx.ops.shape import expand

    backend = backend_of(input.array)
    mask = backend.xp.zeros(input.array.shape, bool)
    mask[place] = True
    shape = mask[place].shape
    if not isinstance(value, Variable):
        value = tape.tensor_type(backend.xp.asarray(value).astype(input.array.dtype))
    # Where an index repeats, the last value written stands: number the writes and see which remain.
    order = backend.xp.zeros(input.array.shape, np_int64())
    order[place] = backend.xp.arange(mask[place].size).reshape(shape)
    flat = expand(value, shape).reshape(-1)  # type: ignore[arg-type]
    scattered = index._index(flat, (order,)) if mask[place].size else input
    return select.where(tape.tensor_type(mask), scattered, input)  # type: ignore[arg-type]


def np_int64() -> Any:
    """The dtype of indices."""
    return dtypes.int64.dtype
