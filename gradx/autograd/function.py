"""Operations of your own: torch.autograd.Function.

The context that `forward` fills and `backward` reads is the node itself, as in torch: what you set on it stays visible on
the output's ``grad_fn``, and one object carries the call from the way out to the way back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from gradx import inplace, modes, tape
from gradx.backends import backend_of
from gradx.dtypes import INEXACT
from gradx.ops.transfer import alias
from gradx.saved import SavingNode, with_history
from gradx.tape import Edge, Metadata, Node
from gradx.tensor import Tensor
from gradx.variables import Variable


class FunctionCtx:
    """What `forward` hands on to `backward`: saved tensors, flags, and any attributes you set."""

    needs_input_grad: tuple[bool, ...]
    """For each argument of `forward`, whether its gradient is needed."""

    _to_save: tuple[Tensor | None, ...] = ()
    _dirty: tuple[Tensor, ...] = ()
    _non_differentiable: tuple[Tensor, ...] = ()
    _materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, where `saved_tensors` gives them back. Call it once, in `forward`.

        Unlike attributes, what is saved here is checked for in-place changes, freed after the backward pass, and keeps
        its history, so that double backward is right.

        Raises:
            TypeError: an argument is neither a tensor nor None.
        """
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}. Keep it "
                    "as an attribute of the context."
                )
        self._to_save = tensors

    def mark_dirty(self, *args: Tensor) -> None:
        """Say which inputs `forward` changes in place. They must be returned."""
        self._dirty = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for outputs that no gradient reached."""
        self._materialize = value


class Function:
    """An operation with a gradient of your own making.

    Subclass it with the static methods ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)``, or, in two steps,
    ``forward(*args)`` and ``setup_context(ctx, inputs, output)``; call it by `apply`. `backward` returns a gradient, or
    None, for each argument of `forward`.

    Either may run code of your own on the arrays: ``x.array`` is the NumPy or CuPy array of a tensor, and
    ``gradx.as_tensor(array)`` makes a tensor of one, both without a copy. For a kernel such as CuPy's ``RawKernel`` and
    ``ElementwiseKernel``:

    - It is launched on CuPy's current stream, which is gradx's too. With several GPUs, launch it ``with x.array.device``.
    - A ``RawKernel`` gets an address, and nothing of shape and strides: give it ``cupy.ascontiguousarray(x.array)``.
    - A `backward` that runs such code cannot be differentiated again unless that code is a `Function` too; without,
      mark it `once_differentiable`. A `backward` made of gradx's operations can.

    The README has one of each.

    >>> import gradx
    >>> class Cube(gradx.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x**2 * grad_output
    >>> x = gradx.tensor(2.0, requires_grad=True)
    >>> gradx.autograd.grad(Cube.apply(x), x)
    (tensor(12.),)

    One that runs code on the arrays, here NumPy's ``hypot``:

    >>> import numpy as np
    >>> class Hypot(gradx.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x, y):
    ...         out = gradx.as_tensor(np.hypot(x.array, y.array))
    ...         ctx.save_for_backward(x, y, out)
    ...         return out
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         x, y, out = ctx.saved_tensors
    ...         return grad_output * x / out, grad_output * y / out
    >>> x, y = gradx.tensor([3.0], requires_grad=True), gradx.tensor([4.0], requires_grad=True)
    >>> gradx.autograd.grad(Hypot.apply(x, y), (x, y))
    (tensor([0.6000]), tensor([0.8000]))
    """

    _node_type: ClassVar[type[FunctionNode]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._node_type = type(f"{cls.__name__}Backward", (FunctionNode,), {"__module__": "gradx", "function": cls})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function "
            f"with static forward method: call {type(self).__name__}.apply(...) instead of making an instance."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The operation itself. What it computes is not recorded."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """What to keep for `backward`, if `forward` does not take `ctx`."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments of `forward`, given those of its outputs."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The tangents of the outputs of `forward`, given those of its arguments: for forward mode, which is to come."""
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with forward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation on `args`, tensors or not, and record it if one of them requires grad."""
        node = cls._node_type(args)
        with modes.no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(node, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(node, args, output)
        outputs = output if isinstance(output, tuple) else (output,)
        for t in node._dirty:
            if not any(t is out for out in outputs):
                raise RuntimeError(
                    "Some elements marked as dirty during the forward method were not returned as output. The inputs that "
                    "are modified inplace must all be outputs of the Function."
                )
        if modes.is_grad_enabled() and any(node.needs_input_grad):
            outputs = node.record(args, outputs)
        return outputs if isinstance(output, tuple) else outputs[0]


NOTHING: Metadata = ((), np.dtype(object), type(None))  # of an output that is no tensor


class FunctionNode(FunctionCtx, SavingNode):
    """A call of a `Function`: the context of its `forward` and its `backward`."""

    function: ClassVar[type[Function]]

    def __init__(self, args: tuple[Any, ...]) -> None:
        super().__init__((), ())
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        self._is_tensor = [isinstance(a, Tensor) for a in args]
        self.saved = None
        self.versions = ()
        self._origins: list[Edge | int | None] = []  # of the saved tensors; a number is an output's of this very node
        self._recorded = False

    def record(self, args: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs with this node as their history."""
        inputs = [a for a in args if isinstance(a, Tensor)]
        for t in self._dirty:
            if t.needs_grad and t.is_leaf:
                raise RuntimeError(
                    "a leaf Variable that requires grad has been used in an in-place operation. Its gradient would belong to "
                    "elements that are gone: give the Function a clone()."
                )
            inplace.check_writable(t)
        self.edges = tuple(tape.edge_of(t) if t.requires_grad else None for t in inputs)
        self.sequence = tape.next_sequence()  # later than anything that forward may have recorded
        metadata: list[Metadata] = []
        result = tuple(self._output(out, inputs, metadata) for out in outputs)
        self.outputs = tuple(metadata)
        made = {id(out): t for out, t in zip(outputs, result, strict=True)}
        self._keep([None if t is None else made.get(id(t), t) for t in self._to_save])
        self._recorded = True
        self._to_save = self._dirty = self._non_differentiable = ()
        return result

    def _output(self, out: Any, inputs: list[Tensor], metadata: list[Metadata]) -> Any:
        """What `apply` returns for an output of `forward`."""
        if not isinstance(out, Tensor):
            metadata.append(NOTHING)
            return out
        array, number = out.array, len(metadata)
        backend_of(array).notice()  # forward may have used no operation of ours
        metadata.append((array.shape, array.dtype, type(array)))
        if any(out is t for t in self._dirty):
            inplace.take_history(out, with_history(Tensor(array), (self, number)))
            return out
        if any(out is t for t in inputs):
            with modes.no_grad():
                out = alias(out)  # an input returned as it is: the output is another tensor over its memory
            out._view = None
        if array.dtype.kind in INEXACT and not any(out is t for t in self._non_differentiable):
            tape.attach(out, self, number)
        return out

    def _keep(self, tensors: list[Tensor | None]) -> None:
        self.saved = [None if t is None else t.array for t in tensors]
        for place, t in enumerate(tensors):
            if t is None:
                self._origins.append(None)
                continue
            if t.version is None:
                raise RuntimeError(modes.INFERENCE)
            own = t.node is self
            self._origins.append(t.output_nr if own else tape.edge_of(t) if t.needs_grad else None)
            self.versions += ((place, t.version, t.version[0]),)
        if modes.mode.saving is not None and self.versions:
            modes.mode.saving(self)

    def origin_of(self, place: int) -> Edge | None:
        origin = self._origins[place]
        return (self, origin) if isinstance(origin, int) else origin

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept, with its history.

        Raises:
            RuntimeError: it was freed by an earlier backward pass, or changed in place.
        """
        return tuple(self.values(graph=True)) if self._recorded else self._to_save

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        given = [g if g is None or graph else Tensor(g) for g in grads]
        if self._materialize:
            like = next(g for g in given if g is not None)
            given = [self._zeros(i, like.array) if g is None else g for i, g in enumerate(given)]
        function = self.function
        rule = function.vjp if function.backward is Function.backward else function.backward
        found = rule(self, *given)
        return self._checked(found if isinstance(found, tuple) else (found,), graph)

    def _zeros(self, i: int, like: Any) -> Tensor | None:
        if self.outputs[i] is NOTHING:
            return None
        shape, dtype, _ = self.outputs[i]
        backend = backend_of(like)
        return Tensor(backend.full(shape, 0, dtype, backend.device_of(like)))

    def _checked(self, found: tuple[Any, ...], graph: bool) -> list[Any]:
        """One gradient for each tensor argument."""
        count = len(self._is_tensor)
        surplus = found[count:]
        if len(found) < count or any(g is not None for g in surplus):
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected {count}, got {len(found)})"
            )
        result: list[Any] = []
        for i, (g, is_tensor) in enumerate(zip(found, self._is_tensor, strict=False)):
            if not is_tensor and g is not None:
                raise RuntimeError(
                    f"function {self.name()} returned a gradient different than None at position {i + 1}, but the "
                    "corresponding forward input was not a Variable"
                )
            if is_tensor and g is not None and not isinstance(g, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
            if is_tensor:
                result.append(g if g is None or graph else g.array)
        return result


class _Twice(Node):
    """Stands in for the history of a gradient that must not be differentiated."""

    __slots__ = ()

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `Function`'s backward that cannot itself be differentiated: an attempt raises instead of being wrong."""

    @functools.wraps(function)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with modes.no_grad():
            outputs = function(ctx, *args)
        sources = [a for a in args if isinstance(a, Variable) and a.needs_grad]
        if not sources or not modes.is_grad_enabled():
            return outputs
        edges = tuple(map(tape.edge_of, sources))
        many: Sequence[Any] = outputs if isinstance(outputs, tuple) else (outputs,)
        made = tuple(_differentiable_once(out, edges) for out in many)
        return made if isinstance(outputs, tuple) else made[0]

    return wrapper


def _differentiable_once(out: Any, edges: tuple[Edge, ...]) -> Any:
    if not isinstance(out, Tensor):
        return out
    array = out.array
    return with_history(Tensor(array), (_Twice(edges, ((array.shape, array.dtype, type(array)),)), 0))
