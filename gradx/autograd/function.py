"""Operations of your own: torch.autograd.Function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gradx import inplace, tape
from gradx.creation import zeros
from gradx.ops.transfer import alias
from gradx.tape import Edge, Metadata, Node, Variable
from gradx.tensor import Tensor


class FunctionCtx:
    """What `forward` hands on to `backward`: saved tensors, flags, and any attributes you set."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._to_save: tuple[Tensor | None, ...] = ()
        self._node: FunctionNode | None = None
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, where `saved_tensors` gives them back. Call it once, in `forward`.

        Unlike attributes, what is saved here is checked for in-place changes, freed after the backward pass, and keeps
        its history, so that double backward is right.
        """
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument is of type {type(t).__name__}"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept.

        Raises:
            RuntimeError: it was freed by an earlier backward pass, or changed in place.
        """
        return self._to_save if self._node is None else self._node.unpack()

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
    """

    _node_class: ClassVar[type[FunctionNode]]

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

    @classmethod
    def _node_type(cls) -> type[FunctionNode]:
        """The class of the nodes that record calls of this function."""
        if "_node_class" not in cls.__dict__:
            members = {"__slots__": (), "__module__": "gradx"}
            cls._node_class = type(f"{cls.__name__}Backward", (FunctionNode,), members)
        return cls._node_class

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation on `args`, tensors or not, and record it if one of them requires grad."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx = FunctionCtx(needs)
        recorded = any(needs) and tape.is_grad_enabled()
        with tape.no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
        many = isinstance(output, (tuple, list))
        outputs = list(output) if many else [output]
        for t in ctx._dirty:
            t.version[0] += 1
            if not any(t is out for out in outputs):
                raise RuntimeError(
                    "Some elements marked as dirty during the forward method were not returned as output."
                )
        made = _attach(cls, ctx, args, tensors, outputs) if recorded else outputs
        return tuple(made) if many else made[0]


def _attach(
    cls: type[Function], ctx: FunctionCtx, args: tuple[Any, ...], tensors: list[Tensor], outputs: list[Any]
) -> list[Any]:
    """The outputs with a `FunctionNode` as their history."""
    for t in ctx._dirty:
        inplace.check_writable(t)
    slots = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
    edges = tuple(tape.edge_of(t) if t.requires_grad else None for t in tensors)
    node = cls._node_type()(cls, ctx, slots, len(args), edges)
    metadata: list[Metadata] = []
    result = list(outputs)
    for i, out in enumerate(outputs):
        if not isinstance(out, Tensor):
            continue
        constant = any(out is t for t in ctx._non_differentiable) or out.dtype.dtype.kind not in "fc"
        dirty = any(out is t for t in ctx._dirty)
        if not dirty and any(out is t for t in tensors):
            with tape.no_grad():
                result[i] = alias(out)  # an input returned as it is: the output is another tensor over its memory
            result[i]._view = None
        if not constant:
            tape.attach(result[i], node, len(metadata))
        metadata.append((out.array.shape, out.array.dtype, type(out.array)))
    node.outputs = tuple(metadata)
    node.save(ctx, outputs, result)
    return result


# An array, the number of our output it is or else where its gradient goes, its version cell, its version when saved.
_Saved = tuple[Any, int | Edge | None, list[int], int]


class FunctionNode(Node):
    """A recorded call of a `Function`."""

    __slots__ = ("arguments", "ctx", "function", "saved", "slots")

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionCtx,
        slots: list[int],
        arguments: int,
        edges: tuple[Edge | None, ...],
    ) -> None:
        super().__init__(edges, ())
        self.function = function
        self.ctx = ctx
        self.slots = slots
        self.arguments = arguments
        self.saved: list[_Saved | None] | None = []

    def save(self, ctx: FunctionCtx, outputs: list[Any], result: list[Any]) -> None:
        """Keep what the context asks for: raw arrays, where each one's gradient goes, and its version."""
        saved: list[_Saved | None] = []
        for t in ctx._to_save:
            if t is not None:
                t = next((made for given, made in zip(outputs, result, strict=True) if given is t), t)
            own = t is not None and t.node is self
            edge = None if t is None or own or not t.needs_grad else tape.edge_of(t)
            saved.append(
                None if t is None else (t.array, (None, t.output_nr) if own else edge, t.version, t.version[0])
            )  # type: ignore[arg-type]
        self.saved = saved
        ctx._to_save = ()
        ctx._node = None
        ctx._dirty = ctx._non_differentiable = ()

    def _origin(self, t: Tensor) -> int | Edge | None:
        if t.node is self:
            return t.output_nr  # not an edge: it would be a cycle
        return tape.edge_of(t) if t.needs_grad else None

    def unpack(self) -> tuple[Tensor | None, ...]:
        """The saved tensors with their history."""
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        tensors: list[Tensor | None] = []
        for entry in self.saved:
            if entry is None:
                tensors.append(None)
                continue
            array, origin, version, expected = entry
            if version[0] != expected:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: it is "
                    f"at version {version[0]}; expected version {expected} instead. {self.name()} saved it."
                )
            tensors.append(_with_history(array, (self, origin) if isinstance(origin, int) else origin))
        return tuple(tensors)

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        given = [g if g is None or graph else Tensor(g) for g in grads]
        if self.ctx._materialize:
            given = [self._zeros(i) if g is None else g for i, g in enumerate(given)]
        rule = self.function.backward
        if rule is Function.backward:
            rule = self.function.vjp
        self.ctx._node = self
        try:
            found = rule(self.ctx, *given)
        finally:
            self.ctx._node = None  # the node holds the context: no cycle stays behind
        return self._checked(found if isinstance(found, tuple) else (found,), graph)

    def _zeros(self, i: int) -> Tensor:
        shape, dtype, _ = self.outputs[i]
        return zeros(shape, dtype=dtype)

    def _checked(self, found: tuple[Any, ...], graph: bool) -> list[Any]:
        """One gradient for each tensor argument."""
        if (
            len(found) > self.arguments
            and any(g is not None for g in found[self.arguments :])
            or len(found) < self.arguments
        ):
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected {self.arguments}, got {len(found)})"
            )
        result: list[Any] = []
        for i, g in enumerate(found[: self.arguments]):
            if i not in self.slots:
                if g is not None:
                    raise RuntimeError(
                        f"function {self.name()} returned a gradient different from None at position {i + 1}, but the "
                        "corresponding forward input was not a Variable"
                    )
                continue
            if g is not None and not isinstance(g, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
            result.append(g if g is None or graph else g.array)
        return result

    def release(self) -> None:
        self.saved = None


def _with_history(array: Any, edge: Edge | None) -> Tensor:
    """A saved array as the tensor it was."""
    if edge is not None and isinstance(edge[0], tape.AccumulateGrad):
        return edge[0].variable  # type: ignore[return-value]
    tensor = Tensor(array)
    if edge is not None:
        tape.attach(tensor, *edge)
    return tensor


class _Twice(Node):
    """Stands in for the history of a gradient that must not be differentiated."""

    __slots__ = ()
    message: ClassVar[str] = "trying to differentiate twice a function that was marked with @once_differentiable"

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        raise RuntimeError(self.message)


def once_differentiable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `Function`'s backward that cannot itself be differentiated: an attempt raises instead of being wrong."""

    @functools.wraps(function)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with tape.no_grad():
            outputs = function(ctx, *args)
        if not tape.is_grad_enabled():
            return outputs
        if not any(isinstance(a, Variable) and a.needs_grad for a in args):
            return outputs
        many: Sequence[Any] = outputs if isinstance(outputs, tuple) else (outputs,)
        edges = tuple(tape.edge_of(a) for a in args if isinstance(a, Variable) and a.needs_grad)
        made = []
        for out in many:
            if isinstance(out, Tensor):
                out = out.detach()
                tape.attach(out, _Twice(edges, ((out.array.shape, out.array.dtype, type(out.array)),)))
            made.append(out)
        return tuple(made) if isinstance(outputs, tuple) else made[0]

    return wrapper
