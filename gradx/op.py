"""What an operation is, and how calling one turns into a kernel call and, if a gradient is wanted, into a node.

An operation is declared by a decorated signature:

    @op(input=lambda g, other: g * other, other=lambda g, input: g * input)
    def mul(input: Operand, other: Operand) -> Tensor:
        "Multiply elementwise."

The kernel is the backend's of the same name. Arguments annotated `Tensor`, `Operand` (also a Python number)
or `TensorMask` (left out of type promotion) are tensor inputs; all others are parameters. Each keyword of `op` is the gradient rule of one input. A rule's own arguments say what is saved for it:

    g             the gradient of the (first) output
    input, other  that argument, as the operation got it
    out, out1     the first, the second output
    input_shape   only the shape of that input
    position      in the rule of `*tensors`: which of them is meant

A rule is a pure expression in operators and operations. Those take raw arrays as well as tensors, so one rule serves the
plain backward pass (raw arrays, nothing recorded) and `create_graph=True` (tensors, recorded like anything else).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from gradx import dtypes, tape
from gradx.backends import BY_TYPE, Array, backend_of
from gradx.tape import Edge, Node, Variable, mode

P = ParamSpec("P")
R = TypeVar("R")

OPS: dict[str, Op] = {}  # every declared operation

# Categories of numbers, for a quick look whether anything must be promoted.
_RANK = {type(None): -1, bool: 0, int: 1, float: 2, complex: 3}
_KIND = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_LEAST = {"common": 0, "float": 2}


class _Kernels(dict[type, Callable[..., Any]]):
    """The kernel of one operation for each array type, found at its first use."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __missing__(self, array_type: type) -> Callable[..., Any]:
        backend = BY_TYPE[array_type]
        if backend is None:
            raise TypeError(f"{self.name}(): expected a Tensor or an array, but got {array_type.__name__}")
        return self.setdefault(array_type, backend.kernel(self.name))


class _Call(NamedTuple):
    """One rule to run: for which tensor slot, and which of the saved values follow `g`."""

    slot: int
    rule: Callable[..., Any]
    picks: tuple[int, ...]


class _Plan(NamedTuple):
    """What to save and which rules to run, for one set of inputs that need gradients."""

    fetch: tuple[tuple[str, int], ...]  # where each saved value comes from: (kind, index)
    calls: tuple[_Call, ...]


class Op:
    """A declared operation. Its instances are callable on tensors and on raw arrays."""

    def __init__(
        self,
        function: Callable[..., Any],
        rules: dict[str, Callable[..., Any]],
        *,
        promote: str | None,
        view: bool,
        name: str | None,
    ) -> None:
        self.name = function.__name__.strip("_")
        self.function = function
        self.signature = inspect.signature(function)
        self.promote = promote
        self.view = view
        parameters = list(self.signature.parameters.values())
        self.parameters = [p.name for p in parameters]
        is_input = [str(p.annotation).startswith(("Tensor", "Operand")) for p in parameters]
        self.slots = tuple(i for i, given in enumerate(is_input) if given)
        self.masks = frozenset(i for i in self.slots if parameters[i].annotation == "TensorMask")
        self.variadic = parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL
        self.rules = {self.parameters.index(argument): rule for argument, rule in rules.items()}
        self.kernels = _Kernels(self.name)
        self.plan = functools.cache(self._plan)
        title = name or "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"
        self.node_type = type(title, (OpNode,), {"__slots__": (), "op": self, "__module__": "gradx"})

    def __call__(self, *args: Any) -> Any:
        """Run the kernel and, if some input needs a gradient, record a node."""
        slots = range(self.slots[0], len(args)) if self.variadic else self.slots
        arrays = list(args)
        wanted: tuple[int, ...] = ()
        first, first_is_mask = None, False  # the first array operand; masks are not promoted
        lifted = plain = False
        same = True  # of one array type and dtype
        rank = -1  # the highest category of the Python numbers
        for i in slots:
            value = args[i]
            if isinstance(value, Variable):
                lifted = True
                if value._view is not None:
                    tape.refresh(value)
                array = arrays[i] = value.array
                if value.needs_grad and mode.grad and (self.variadic or i in self.rules):
                    wanted += (i,)
            elif type(value) in _RANK:
                rank = max(rank, _RANK[type(value)])
                continue
            else:
                plain, array = True, value
            if first is None or first_is_mask:
                first, first_is_mask = array, i in self.masks
            elif i in self.masks:
                same = same and type(array) is type(first)
            elif type(array) is not type(first) or array.dtype is not first.dtype:
                same = False
        if first is None:
            raise TypeError(f"{self.name}(): argument '{self.parameters[slots[0]]}' must be Tensor, not {_kind(args)}")
        if not lifted:
            return self.kernels[type(first)](*arrays)
        if plain or not same:
            args = self._lift(args, slots)
        if self.promote and not (same and rank <= _KIND[first.dtype.kind] >= _LEAST[self.promote]):
            promoted = self._promote(args, slots, first)
            if promoted is not args:
                return self(*promoted)
        if plain:
            return self(*args)
        out = self.kernels[type(first)](*arrays)
        if type(out) is tuple:
            results = tuple(tape.tensor_type(array) for array in out)
            if wanted:
                tape.attach(results[0], self._record(args, arrays, wanted, results))
            return results
        result = tape.tensor_type(out)
        if wanted:
            tape.attach(result, self._record(args, arrays, wanted, (result,)))
        if self.view:
            self._mark_view(args, result)
        return result

    def _lift(self, args: tuple[Any, ...], slots: Any) -> tuple[Any, ...]:
        """`args` with raw arrays made tensors; an error if the inputs live on different devices."""
        lifted = list(args)
        places = {}
        for i in slots:
            value = args[i]
            if not isinstance(value, Variable):
                if type(value) in _RANK:
                    continue
                if BY_TYPE[type(value)] is None:
                    name = self.parameters[min(i, len(self.parameters) - 1)]
                    kind = type(value).__name__
                    raise TypeError(f"{self.name}(): argument '{name}' (position {i + 1}) must be Tensor, not {kind}")
                backend = backend_of(value)
                value = lifted[i] = tape.tensor_type(backend.xp.asarray(value))
            places[str(backend_of(value.array).device_of(value.array))] = None
        if len(places) > 1:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {' and '.join(places)}! "
                f"gradx never copies between devices by itself: move one operand of {self.name} with .to(device)."
            )
        return tuple(lifted)

    def _promote(self, args: tuple[Any, ...], slots: Any, first: Array) -> tuple[Any, ...]:
        """`args` cast to their common dtype; `args` itself if they have it."""
        operands = []
        for i in slots:
            value = args[i]
            if i in self.masks:
                continue
            if isinstance(value, Variable):
                operands.append(dtypes.Operand(value.array.dtype, 2 if value.array.ndim else 1))
            elif value is not None:
                operands.append(dtypes.Operand(dtypes.scalar_dtype(value).dtype, 0))
        common = dtypes.result_dtype(operands)
        if self.promote == "float" and common.kind not in "fc":
            common = dtypes.get_default_dtype().dtype
        cast = OPS["cast"]
        changed = {
            i: cast(args[i], common)
            for i in slots
            if i not in self.masks and isinstance(args[i], Variable) and args[i].array.dtype != common
        }
        return tuple(changed.get(i, value) for i, value in enumerate(args)) if changed else args

    def _mark_view(self, args: tuple[Any, ...], result: Variable) -> None:
        """Share the version of the input's memory, and remember how to take the view again."""
        source = args[0]
        params = args[1:]
        result.version = source.version
        if source._view is None:
            base, replay = source, functools.partial(_replay, ((self, params),))
        else:
            base = source._view.base
            replay = functools.partial(_replay, (*source._view.replay.args[0], (self, params)))  # type: ignore[attr-defined]
        if base.needs_grad or mode.grad:
            result._view = tape.View(base, replay, [source.version[0]])

    # ---- recording -----------------------------------------------------------------------------------------------------

    def _plan(self, wanted: tuple[int, ...]) -> _Plan:
        fetch: list[tuple[str, int]] = []
        calls = []
        for slot in wanted:
            rule = self.rules[self.slots[0] if self.variadic else slot]
            names = [p for p in inspect.signature(rule).parameters if p not in ("g", "position")]
            if "position" in inspect.signature(rule).parameters:
                rule = functools.partial(rule, position=slot - self.slots[0])
            sources = [self._source(name) for name in names]
            fetch += [source for source in sources if source not in fetch]
            calls.append(_Call(slot, rule, tuple(fetch.index(source) for source in sources)))
        return _Plan(tuple(fetch), tuple(calls))

    def _source(self, name: str) -> tuple[str, int]:
        """Where the value of a rule's argument comes from."""
        if name.startswith("out"):
            return "output", int(name[3:] or 0)
        kind, argument = ("shape", name[:-6]) if name.endswith("_shape") else ("argument", name)
        index = self.parameters.index(argument)
        if index in self.slots:
            return ("shapes" if self.variadic else kind, index) if kind == "shape" else ("input", index)
        return "parameter", index

    def _record(
        self, args: tuple[Any, ...], arrays: list[Any], wanted: tuple[int, ...], results: tuple[Variable, ...]
    ) -> Node:
        plan = self.plan(wanted)
        saved: list[Any] = []
        versions: list[tuple[int, list[int], int]] = []
        for kind, index in plan.fetch:
            if kind in ("input", "output"):
                variable = args[index] if kind == "input" else results[index]
                if isinstance(variable, Variable):
                    versions.append((len(saved), variable.version, variable.version[0]))
                    variable = variable.array
                saved.append(variable)
            elif kind == "parameter":
                saved.append(args[index])
            elif kind == "shape":
                saved.append(getattr(arrays[index], "shape", ()))
            else:
                saved.append([array.shape for array in arrays[index:]])
        edges = tuple(tape.edge_of(args[i]) if i in wanted else None for i in range(len(args)))
        node: OpNode = self.node_type(edges, tuple((r.array.shape, r.array.dtype, type(r.array)) for r in results))
        node.plan, node.saved, node.versions = plan, saved, versions
        return node


class OpNode(Node):
    """A recorded call of an `Op`. Each operation has a subclass of its own, named as torch names it."""

    __slots__ = ("plan", "saved", "versions")

    op: Op
    plan: _Plan
    saved: list[Any] | None
    versions: list[tuple[int, list[int], int]]  # of each saved array: its place in `saved`, its version then

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        g = grads[0]
        saved = self._unpack(graph)
        result: list[Any] = [None] * len(self.edges)
        for slot, rule, picks in self.plan.calls:
            if wanted(self.edges[slot]):  # type: ignore[arg-type]
                result[slot] = rule(g, *[saved[i] for i in picks])
        return result

    def _unpack(self, graph: bool) -> list[Any]:
        """The saved values, the arrays among them as tensors if `graph`; an error if one was freed or changed."""
        if self.saved is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
                "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or "
                "if you need to access saved tensors after calling backward."
            )
        for place, version, expected in self.versions:
            if version[0] != expected:
                self._raise_changed(place, version[0], expected)
        if not graph:
            return self.saved
        saved = list(self.saved)
        for place, _, _ in self.versions:
            saved[place] = self._rewrap(place)
        return saved

    def _rewrap(self, place: int) -> Variable:
        """A saved array as the tensor it was: the leaf itself, or a tensor with the same history."""
        kind, index = self.plan.fetch[place]
        array = self.saved[place]  # type: ignore[index]
        edge: Edge | None = (self, index) if kind == "output" else self.edges[index]
        if edge is None:
            return tape.tensor_type(array)
        if isinstance(edge[0], tape.AccumulateGrad):
            return edge[0].variable
        variable = tape.tensor_type(array)
        tape.attach(variable, *edge)
        return variable

    def _raise_changed(self, place: int, version: int, expected: int) -> None:
        kind, index = self.plan.fetch[place]
        array = self.saved[place]  # type: ignore[index]
        edge = (self, index) if kind == "output" else self.edges[index]
        origin = f", which is output {edge[1]} of {edge[0].name()}," if edge else ""
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[{dtypes.of_numpy(array.dtype)} {list(array.shape)}]{origin} is at version {version}; expected version "
            f"{expected} instead. {self.name()} saved it when it was recorded: clone() it before changing it in place, "
            "or use the out-of-place operation."
        )

    def release(self) -> None:
        if self.versions:  # like torch, a node that saved no arrays can be walked again
            self.saved = None
            self.versions = []


def _replay(steps: tuple[tuple[Op, tuple[Any, ...]], ...], x: Any) -> Any:
    for operation, params in steps:
        x = operation(x, *params)
    return x


def _kind(args: tuple[Any, ...]) -> str:
    return type(args[0]).__name__ if args else "nothing"


def op(
    *, promote: str | None = None, view: bool = False, name: str | None = None, **rules: Callable[..., Any]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare an operation; see the module's docstring.

    Args:
        promote: "common" casts the inputs to torch's common dtype; "float" also turns integers into the default dtype.
        view: the result shares the memory of the first input.
        name: of the recorded node, where it is not the operation's name in camel case and "Backward0".
        rules: input name to gradient rule.
    """

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        operation = OPS[function.__name__.strip("_")] = Op(function, rules, promote=promote, view=view, name=name)

        required = 0 if operation.variadic else len(operation.parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs or len(args) < required:
                bound = operation.signature.bind(*args, **kwargs)
                bound.apply_defaults()
                args = bound.args
            return operation(*args)  # type: ignore[no-any-return]

        return call

    return declare
