"""A recorded call of an operation: what it saved, and how its gradient rules are run on that."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from gradx import anomaly, tape
from gradx.backends import backend_of
from gradx.modes import INFERENCE, mode
from gradx.saved import UNCHECKED, SavedTensor, SavingNode
from gradx.tape import Edge
from gradx.variables import Variable

Rule = Callable[..., Any]


class Call(NamedTuple):
    """One rule to run: the place among the inputs that it is for, and which of the saved values follow `g`."""

    place: int
    rule: Rule
    kernel: Rule  # the rule for raw arrays
    picks: tuple[int, ...]
    every: bool  # whether the rule takes the gradients of all outputs


class Plan(NamedTuple):
    """What to save, as pairs of kind and index, and which rules to run, for one set of inputs that need gradients."""

    fetch: tuple[tuple[str, int], ...]
    calls: tuple[Call, ...]


def make_plan(
    parameters: list[str], slots: tuple[int, ...], rules: dict[int, Rule], compiled: Callable[[Rule], Rule]
) -> Plan:
    """The plan for running `rules`, by input, of an operation with these parameters, of which `slots` are tensors.

    The arguments of the rules are read here, once; see `gradx.op` for what their names mean.

    Args:
        compiled: what to run on raw arrays in the place of a rule.
    """
    fetch: dict[tuple[str, int], int] = {}  # in order, with each one's place
    calls = []
    for slot, rule in rules.items():
        names = list(inspect.signature(rule).parameters)
        if "position" in names:
            rule = functools.partial(rule, position=slot - slots[0])
        sources = [_source(name, parameters, slots) for name in names if name not in ("g", "grads", "position")]
        picks = tuple(fetch.setdefault(source, len(fetch)) for source in sources)
        calls.append(Call(slot - slots[0], rule, compiled(rule), picks, "grads" in names))
    return Plan(tuple(fetch), tuple(calls))


def _source(name: str, parameters: list[str], slots: tuple[int, ...]) -> tuple[str, int]:
    """Where the value of a rule's argument comes from."""
    if name.startswith("out"):
        return "output", int(name[3:] or 0)
    if name.endswith("_shape"):
        return "shape", parameters.index(name.removesuffix("_shape"))
    index = parameters.index(name)
    return ("input" if index in slots else "parameter"), index


class OpNode(SavingNode):
    """A recorded call of an `Op`. Each operation has a subclass of its own, named as torch names it."""

    __slots__ = ("plan", "run")

    variadic: ClassVar[bool]  # whether the operation takes any number of tensors, after its parameters
    wirtinger: ClassVar[bool]  # whether the rules are written for complex numbers
    slots: ClassVar[slice]  # where in its arguments the inputs are
    parameters: ClassVar[list[str]]

    plan: Plan

    def __init__(
        self,
        plan: Plan,
        edges: tuple[Edge | None, ...],
        outputs: tuple[tape.Metadata, ...],
        saved: list[Any],
        versions: tuple[tuple[int, list[Any], int], ...],
        run: Callable[[Any, list[Any], bool], Sequence[Any]] | None = None,
    ) -> None:
        self.edges = edges
        self.outputs = outputs
        self.sequence = tape.next_sequence()
        self.hooks = None
        self.notes = anomaly.notes() if anomaly.state.enabled else None
        self.plan = plan
        self.saved = saved
        self.versions = versions
        self.run = run

    @classmethod
    def of_call(
        cls,
        plan: Plan,
        args: tuple[Any, ...],
        arrays: list[Any],
        wanted: tuple[int, ...],
        results: tuple[Variable, ...],
    ) -> OpNode:
        """The record of a call, whatever its operands and results are."""
        start = cls.slots.start
        edges: list[Edge | None] = [None] * len(args[cls.slots])
        for i in wanted:
            edges[i - start] = tape.edge_of(args[i])
        saved: list[Any] = []
        versions: list[tuple[int, list[Any], int]] = []
        for kind, index in plan.fetch:
            if kind == "parameter":
                saved.append(args[index])
            elif kind == "shape":
                saved.append([a.shape for a in arrays[index:]] if cls.variadic else getattr(arrays[index], "shape", ()))
            else:
                value = args[index] if kind == "input" else results[index]
                if isinstance(value, Variable):
                    if value.version is None:
                        raise RuntimeError(INFERENCE)
                    versions.append((len(saved), value.version, value.version[0]))
                    value = value.array
                saved.append(value)
        outputs = tuple([(r.array.shape, r.array.dtype, type(r.array)) for r in results])
        node = cls(plan, tuple(edges), outputs, saved, tuple(versions))
        if mode.saving is not None and versions:
            mode.saving(node)
        return node

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        saved = self.values(graph)
        if self.outputs[0][1].kind == "c" and not self.wirtinger:
            return self._conjugated(grads, wanted, saved, graph)
        return self._apply(grads, wanted, saved, graph)

    def _conjugated(self, grads: list[Any], wanted: Callable[[Edge], bool], saved: list[Any], graph: bool) -> list[Any]:
        """The rules' results for complex numbers. A rule gives g * f'(x); wanted is g * conj(f'(x)), which is
        conj(conj(g) * f'(x))."""
        results = self._apply([None if g is None else g.conj() for g in grads], wanted, saved, graph)
        return [None if value is None else value.conj() for value in results]

    def _apply(self, grads: list[Any], wanted: Callable[[Edge], bool], saved: list[Any], graph: bool) -> list[Any]:
        result: list[Any] = [None] * len(self.edges)
        for place, rule, kernel, picks, every in self.plan.calls:
            if wanted(self.edges[place]):  # type: ignore[arg-type]
                run = rule if graph else kernel
                result[place] = run(grads if every else grads[0], *[saved[i] for i in picks])
        return result

    def origin_of(self, place: int) -> Edge | None:
        kind, index = self.plan.fetch[place]
        return (self, index) if kind == "output" else self.edges[index - self.slots.start]

    def keep_first_input(self) -> None:
        """Copy the first input, if it is saved: it is about to be overwritten by the output."""
        for place, version, _ in self.versions:
            if self.plan.fetch[place] == ("input", self.slots.start) and version is not UNCHECKED:
                self.saved[place] = backend_of(self.saved[place]).clone(self.saved[place])  # type: ignore[index]
                self.watch(place, UNCHECKED)

    def output_moved(self, array: Any, version: list[Any] | None) -> None:
        """The output has been written to `array`: if it is saved, let it be there."""
        for place, before, _ in self.versions:
            if self.plan.fetch[place][0] == "output" and before is not UNCHECKED and version is not None:
                self.saved[place] = array  # type: ignore[index]
                self.watch(place, version)

    def __getattr__(self, name: str) -> Any:
        """What was saved: ``_saved_self``, ``_saved_other``, ``_saved_result``, ...; ``_raw_saved_self`` etc. as kept."""
        kind, _, wanted = name.removeprefix("_").rpartition("saved_")
        names = self._saved_names() if wanted and kind in ("", "raw_") else []
        if wanted not in names:
            raise AttributeError(f"'{self.name()}' object has no attribute '{name}'")
        place = names.index(wanted)
        if kind:
            return SavedTensor(self, place)
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        return self.tensor(place) if any(place == p for p, _, _ in self.versions) else self.saved[place]

    def _saved_names(self) -> list[str]:
        """Torch's name of each saved value."""
        names = []
        for kind, index in self.plan.fetch:
            name = f"result{index or ''}" if kind == "output" else self.parameters[index]
            name = "self" if name == "input" else name
            names.append(f"{name}_sym_sizes" if kind == "shape" else name)
        return names

    def __dir__(self) -> list[str]:
        return [
            *super().__dir__(),
            *(f"{prefix}_{name}" for name in self._saved_names() for prefix in ("_saved", "_raw_saved")),
        ]
