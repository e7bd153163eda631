'''What an operation is, and how calling one turns into a kernel call and, if a gradient is wanted, into a node.

An operation is declared by a decorated signature:

    @op(promote="common", input=lambda g, other: g * other, other=lambda g, input: g * input)
    def mul(input: Operand, other: Operand) -> Tensor:
        """Multiply elementwise."""

The kernel is the backend's of the same name. Arguments annotated `Tensor`, `Operand` (also a Python number) or
`TensorMask` (left out of type promotion) are tensor inputs; all others are parameters. Every further keyword of `op` is
the gradient rule of one input. A rule's own arguments say what is saved for it:

    g             the gradient of the (first) output
    grads         those of all outputs, None where nothing arrived
    input, other  that argument, as the operation got it
    input_shape   only the shape of that argument
    out, out1     the first, the second output
    position      in the rule of `*tensors`: which of them is meant

A rule is a pure expression in operators and operations. Those take raw arrays as well as tensors, so one rule serves the
plain backward pass (raw arrays, nothing recorded) and `create_graph=True` (tensors, recorded like anything else).
'''

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from gradx import dtypes, tape, variables
from gradx.backends import BY_TYPE, LARGE, Backend, Parts, backend_of
from gradx.backends.expression import parameters_of
from gradx.dispatch import Kernels, LargeKernels
from gradx.dtypes import CATEGORY, INEXACT
from gradx.modes import mode
from gradx.node import OpNode, Plan, Rule, make_plan
from gradx.specialise import LEAST, RANK, public, variant
from gradx.variables import Variable

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

OPS: dict[str, Op] = {}  # every declared operation
TWINS: list[Op] = []  # and those that `renamed` made of them
_OF_FUNCTION: dict[Callable[..., Any], Op] = {}


@dtypes.WHEN_BFLOAT16.append
def _look_again() -> None:
    """Ask the backends for their kernels anew: from now on, they round to bfloat16."""
    for operation in (*OPS.values(), *TWINS):
        operation.kernels.clear()
        operation.large_kernels.clear()
        operation.variants.clear()


class Op:
    """A declared operation, callable on tensors and on raw arrays."""

    def __init__(
        self,
        function: Callable[..., Any],
        rules: dict[str, Rule],
        promote: str | None,
        view: bool,
        name: str | tuple[str, str] | None,
        no_bools: str | None,
        wirtinger: bool,
        elementwise: bool,
        kernel: Callable[..., Any] | None,
    ) -> None:
        self.name = function.__name__.strip("_")
        self.signature = inspect.signature(function)
        self.promote = promote
        self.view = view
        self.no_bools = no_bools
        self.wirtinger = wirtinger
        self.elementwise = elementwise
        parameters = list(self.signature.parameters.values())
        self.parameters = [p.name for p in parameters]
        self.slots = tuple(i for i, p in enumerate(parameters) if str(p.annotation).startswith(("Tensor", "Operand")))
        assert self.slots == tuple(range(self.slots[0], self.slots[-1] + 1)), f"{self.name}: inputs stand side by side"
        self.masks = frozenset(i for i in self.slots if parameters[i].annotation == "TensorMask")
        self.variadic = parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL
        self.several = str(self.signature.return_annotation).startswith("tuple")  # whether there are several outputs
        self.rules = {self.parameters.index(argument): rule for argument, rule in rules.items()}
        static = parameters_of(self.signature)
        self.static = frozenset(parameters[i].name for i in static)
        self.kernels = Kernels(self.name, kernel, static)
        self.large_kernels = LargeKernels(self.name, kernel, Parts(self.name, self.parameters, static, elementwise))
        self.start(name or "".join(part.capitalize() for part in self.name.split("_")) + "Backward0")

    def start(self, node_names: str | tuple[str, str]) -> None:
        """With rules and names as they are, begin to gather what is made of them at its first use."""
        # By array type, the inputs that need gradients, and whether the arrays are large.
        self.plans: dict[tuple[type, tuple[int, ...], bool], Plan] = {}
        self.variants: dict[Any, Callable[..., Any]] = {}  # by the type of the operand, or the types of the operands
        self.node_names = node_names
        self.__dict__.pop("node_types", None)
        self.function = public(self)

    @functools.cached_property
    def node_types(self) -> tuple[type[OpNode], type[OpNode]]:
        """The classes of this operation's nodes: where a Python number is among the operands, and where none is."""
        members = {
            "__slots__": (),
            "__module__": "gradx",
            "variadic": self.variadic,
            "wirtinger": self.wirtinger,
            "slots": slice(self.slots[0], None if self.variadic else self.slots[-1] + 1),
            "parameters": self.parameters,
        }
        both = (self.node_names, self.node_names) if isinstance(self.node_names, str) else self.node_names
        made: dict[str, type[OpNode]] = {name: type(name, (OpNode,), members) for name in both}
        return made[both[0]], made[both[1]]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *args: Any) -> Any:
        """Run the kernel and, if some input needs a gradient, record a node."""
        slots = range(self.slots[0], len(args)) if self.variadic else self.slots
        arrays = list(args)
        wanted: tuple[int, ...] = ()  # the inputs that need gradients
        first: Any = None  # the first array that is no mask
        tensors = raw = False  # whether there are tensors, and raw arrays, among the inputs
        same = True  # whether all arrays are of one type and dtype
        rank = -1  # the highest category of the Python numbers
        for i in slots:
            value = args[i]
            if isinstance(value, Variable):
                tensors = True
                if value._view is not None:
                    variables.refresh(value)
                array = arrays[i] = value.array
                if value.needs_grad and mode.grad and (i in self.rules or (self.variadic and self.rules)):
                    wanted += (i,)
            elif type(value) in RANK:
                rank = max(rank, RANK[type(value)])
                continue
            else:
                raw, array = True, value
            if i in self.masks:
                same = same and (first is None or type(array) is type(first))
            elif first is None:
                first = array
            elif type(array) is not type(first) or array.dtype is not first.dtype:
                same = False
        if first is None:
            first = next((arrays[i] for i in self.masks if type(args[i]) not in RANK), None)
            if first is None:
                return self._of_no_tensor(args)
        if rank == 0 and self.no_bools and (first is None or first.dtype.kind != "b"):
            raise RuntimeError(self.no_bools)
        if BY_TYPE[type(first)] is None:
            raise self._not_a_tensor(args, slots)
        large = first.size >= LARGE
        kernels = self.large_kernels if large else self.kernels
        if not tensors:
            return kernels[type(first)](*arrays)
        if raw or not same:
            args = self._lift(args, slots)
        if self.promote and not (same and rank <= CATEGORY[first.dtype.kind] >= LEAST[self.promote]):
            promoted = self._promote(args, slots)
            if promoted is not args:
                return self.function(*promoted)
        if raw:
            return self.function(*args)
        out = kernels[type(first)](*arrays)
        several = type(out) is tuple
        results = tuple([variables.tensor_type(a) for a in out]) if several else (variables.tensor_type(out),)
        if wanted:
            self.record(args, arrays, wanted, results, rank, large)
        if self.view:
            for i, result in enumerate(results):
                self.mark_view(args, result, i if several else None)
        return results if several else results[0]

    def meet(self, *args: Any) -> Any:
        """A call with operands of types that were not met before, or for which there is no more than the general path."""
        types = tuple([type(args[i]) for i in self.slots])
        straight = variant(self, types)
        if straight is None:
            return self(*args)
        self.variants[types if len(types) > 1 else types[0]] = straight
        return straight(*args)

    def record(
        self,
        args: tuple[Any, ...],
        arrays: list[Any],
        wanted: tuple[int, ...],
        results: tuple[Variable, ...],
        rank: int,
        large: bool = False,
    ) -> None:
        """Make a node the history of the results.

        Args:
            arrays: the raw arrays in the places of the tensors, the rest of `args` as it is.
            wanted: the inputs that need gradients.
            rank: the highest category of the Python numbers among the inputs.
            large: whether the first array is.
        """
        plan = self.plan(type(results[0].array), wanted, large)
        node = self.node_types[rank < 0].of_call(plan, args, arrays, wanted, results)
        for i, result in enumerate(results):
            if result.array.dtype.kind in INEXACT:
                tape.attach(result, node, i)

    def plan(self, array_type: type, wanted: tuple[int, ...], large: bool = False) -> Plan:
        """What to save, and which rules to run, if these inputs need gradients."""
        found = self.plans.get((array_type, wanted, large))
        if found is None:
            rules = {i: self.rules[self.slots[0] if self.variadic else i] for i in wanted}
            compiled = functools.partial(self._compiled, BY_TYPE[array_type], large)
            plan = make_plan(self.parameters, self.slots, rules, compiled)
            found = self.plans.setdefault((array_type, wanted, large), plan)
        return found

    def _compiled(self, backend: Backend | None, large: bool, rule: Rule) -> Rule:
        """What to run on raw arrays in the place of a rule."""
        if backend is None or not (self.elementwise or large):
            return rule
        names = list(inspect.signature(rule).parameters)
        static = frozenset(i for i, name in enumerate(names) if name in self.static or name.endswith("_shape"))
        if large:
            return backend.large_rule(rule, Parts(self.name, names, static, self.elementwise))
        return backend.fuse(rule, f"{self.name}_backward", static)

    def _of_no_tensor(self, args: tuple[Any, ...]) -> Any:
        """Of numbers alone: a tensor for those of torch's functions that take them, an error for the others."""
        if self.name in ("add", "sub", "mul", "div") and all(
            isinstance(value, (int, float, complex)) for value in args
        ):
            array = BY_TYPE[np.ndarray].xp.asarray(args[0], dtypes.scalar_dtype(args[0]).dtype)  # type: ignore[union-attr]
            return self(variables.tensor_type(array), *args[1:])
        place = self.slots[0]
        argument = self.parameters[place]
        given = type(args[place]).__name__ if len(args) > place else "nothing"
        raise TypeError(f"{self.name}(): argument '{argument}' (position {place + 1}) must be Tensor, not {given}")

    def _not_a_tensor(self, args: tuple[Any, ...], slots: Sequence[int]) -> TypeError:
        """Torch's error about the first operand that is neither a tensor nor an array nor a number."""
        operands = (Variable, bool, int, float, complex)
        i = next(i for i in slots if not isinstance(args[i], operands) and BY_TYPE[type(args[i])] is None)
        name, kind = self.parameters[min(i, len(self.parameters) - 1)], type(args[i]).__name__
        return TypeError(f"{self.name}(): argument '{name}' (position {i + 1}) must be Tensor, not {kind}")

    def _lift(self, args: tuple[Any, ...], slots: Sequence[int]) -> tuple[Any, ...]:
        """`args` with raw arrays made tensors.

        Raises:
            TypeError: an input is no array.
            RuntimeError: the inputs live on different devices.
        """
        lifted = list(args)
        places: dict[str, None] = {}
        for i in slots:
            value = args[i]
            if type(value) in RANK:
                continue
            if isinstance(value, np.generic):  # a NumPy scalar counts as a Python number, as in torch
                lifted[i] = value.item()
                continue
            if not isinstance(value, Variable):
                if BY_TYPE[type(value)] is None:
                    raise self._not_a_tensor(args, slots)
                value = lifted[i] = variables.tensor_type(backend_of(value).plain(value))
            places[str(backend_of(value.array).device_of(value.array))] = None
        if len(places) > 1:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{' and '.join(places)}! gradx never copies between devices by itself: move one operand of {self.name} "
                "with .to(device)."
            )
        return tuple(lifted)

    def _promote(self, args: tuple[Any, ...], slots: Sequence[int]) -> tuple[Any, ...]:
        """`args` cast to their common dtype; `args` itself if they have it."""
        operands = dtypes.operands(args[i] for i in slots if i not in self.masks)
        if self.no_bools and any(operand.dtype.kind == "b" for operand in operands):
            raise RuntimeError(self.no_bools)
        common = dtypes.result_dtype(operands)
        if self.promote == "float" and common.kind not in INEXACT:
            common = dtypes.get_default_dtype().dtype
        changed = {
            i: OPS["cast"].function(args[i], common)
            for i in slots
            if i not in self.masks and isinstance(args[i], Variable) and args[i].array.dtype != common
        }
        return tuple(changed.get(i, value) for i, value in enumerate(args)) if changed else args

    def mark_view(self, args: tuple[Any, ...], result: Variable, output_nr: int | None) -> None:
        """Share the version of the input's memory, and remember how to take the view again."""
        source = args[0]
        result.version = source.version
        if source.version is None:
            return
        base, steps, unrecorded, several = source, (), not mode.grad, output_nr is not None
        if source._view is not None:
            base, steps, _, unrecorded_before, several_before = source._view
            unrecorded |= unrecorded_before
            several |= several_before
        again = self if output_nr is None else functools.partial(_output, self, output_nr)
        step = again, args[1:]
        result._view = variables.new_view((base, (*steps, step), [source.version[0]], unrecorded, several))


def variants_of(function: Callable[..., Any]) -> dict[Any, Callable[..., Any]]:
    """The straight-line code that an operation's function has found so far; none for other functions."""
    return _OF_FUNCTION[function].variants if function in _OF_FUNCTION else {}


def _output(operation: Op, number: int, *args: Any) -> Any:
    """One output of an operation that has several."""
    return operation(*args)[number]


def renamed(name: str, node_name: str, called: str | None = None, **rules: Rule) -> Callable[..., Any]:
    """The operation called `name`, whose calls are recorded as `node_name`: one operation may be torch's several.

    Args:
        called: what errors and autocast call it, if not `name`.
        rules: those that are other than the operation's.
    """
    twin = copy.copy(OPS[name])
    twin.name = called or name
    twin.rules = twin.rules | {twin.parameters.index(argument): rule for argument, rule in rules.items()}
    twin.start(node_name)
    TWINS.append(twin)
    return twin.function


def op(
    *,
    promote: str | None = None,
    view: bool = False,
    name: str | tuple[str, str] | None = None,
    no_bools: str | None = None,
    wirtinger: bool = False,
    elementwise: bool = False,
    kernel: Callable[..., Any] | None = None,
    **rules: Rule,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare an operation; see the module's docstring.

    Args:
        promote: "common" casts the inputs to torch's common dtype; "float" also turns integers into the default dtype.
        view: the result shares the memory of the first input.
        name: of the recorded node, where it is not the operation's name in camel case and "Backward0"; or two: if a Python
            number is among the operands, and if none is.
        no_bools: the error where truth values would have to be promoted, if they must not.
        wirtinger: the rules hold for complex numbers as they are written; otherwise they are those of a function with a
            complex derivative, and are conjugated as need be.
        elementwise: the rules are elementwise too, so that a backend may run each of them as one kernel.
        kernel: what to compute, as an expression of other operations, where no backend has a kernel of that name; elementwise.
        rules: input name to gradient rule.
    """

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        operation = Op(function, rules, promote, view, name, no_bools, wirtinger, elementwise, kernel)
        OPS[operation.name] = operation
        _OF_FUNCTION[operation.function] = operation
        return cast("Callable[P, R]", functools.update_wrapper(operation.function, function))

    return declare


elementwise = functools.partial(op, elementwise=True)


def fused(function: F) -> F:
    """A function of operations that is elementwise, for use in rules: one kernel on the arrays of a backend that fuses.

    All its arguments are tensors, or arrays, or Python numbers, the first no number. They broadcast.
    """
    name = function.__name__.strip("_")
    kernels: dict[type, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(first: Any, *args: Any) -> Any:
        kernel = kernels.get(type(first))
        if kernel is None:
            backend = None if isinstance(first, Variable) else BY_TYPE[type(first)]
            kernel = function if backend is None else backend.fuse(function, name, frozenset())
            kernels[type(first)] = kernel
        return kernel(first, *args)

    return cast("F", call)
