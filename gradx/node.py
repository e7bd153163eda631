"""A recorded call of an operation: what it saved, and how its gradient rules are run on that."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from gradx import tape
from gradx.saved import raise_changed, restore
from gradx.tape import Edge, Node, Variable

Rule = Callable[..., Any]


class Call(NamedTuple):
    """One rule to run: the input it is for, and which of the saved values follow `g`."""

    slot: int
    rule: Rule
    picks: tuple[int, ...]
    every: bool  # whether the rule takes the gradients of all outputs


class Plan(NamedTuple):
    """What to save, as pairs of kind and index, and which rules to run, for one set of inputs that need gradients."""

    fetch: tuple[tuple[str, int], ...]
    calls: tuple[Call, ...]


def make_plan(parameters: list[str], slots: tuple[int, ...], rules: dict[int, Rule]) -> Plan:
    """The plan for running `rules`, by input, of an operation with these parameters, of which `slots` are tensors.

    The arguments of the rules are read here, once; see `gradx.op` for what their names mean.
    """
    fetch: dict[tuple[str, int], int] = {}  # in order, with each one's place
    calls = []
    for slot, rule in rules.items():
        names = list(inspect.signature(rule).parameters)
        if "position" in names:
            rule = functools.partial(rule, position=slot - slots[0])
        sources = [_source(name, parameters, slots) for name in names if name not in ("g", "grads", "position")]
        picks = tuple(fetch.setdefault(source, len(fetch)) for source in sources)
        calls.append(Call(slot, rule, picks, "grads" in names))
    return Plan(tuple(fetch), tuple(calls))


def _source(name: str, parameters: list[str], slots: tuple[int, ...]) -> tuple[str, int]:
    """Where the value of a rule's argument comes from."""
    if name.startswith("out"):
        return "output", int(name[3:] or 0)
    if name.endswith("_shape"):
        return "shape", parameters.index(name.removesuffix("_shape"))
    index = parameters.index(name)
    return ("input" if index in slots else "parameter"), index


class OpNode(Node):
    """A recorded call of an `Op`. Each operation has a subclass of its own, named as torch names it."""

    __slots__ = ("plan", "saved", "versions")

    variadic: ClassVar[bool]  # whether the operation takes any number of tensors, after its parameters

    plan: Plan
    saved: list[Any] | None
    versions: list[tuple[int, list[int], int]]  # of each saved array: its place in `saved`, its version then

    def __init__(
        self,
        plan: Plan,
        args: tuple[Any, ...],
        arrays: list[Any],
        wanted: tuple[int, ...],
        results: tuple[Variable, ...],
    ) -> None:
        edges: list[Edge | None] = [None] * len(args)
        for i in wanted:
            edges[i] = tape.edge_of(args[i])
        super().__init__(tuple(edges), tuple([(r.array.shape, r.array.dtype, type(r.array)) for r in results]))
        self.plan = plan
        self.saved = saved = []
        self.versions = versions = []
        for kind, index in plan.fetch:
            if kind == "parameter":
                saved.append(args[index])
            elif kind == "shape":
                saved.append(
                    [a.shape for a in arrays[index:]] if self.variadic else getattr(arrays[index], "shape", ())
                )
            else:
                value = args[index] if kind == "input" else results[index]
                if isinstance(value, Variable):
                    versions.append((len(saved), value.version, value.version[0]))
                    value = value.array
                saved.append(value)

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        saved = self._unpack(graph)
        result: list[Any] = [None] * len(self.edges)
        for slot, rule, picks, every in self.plan.calls:
            if wanted(self.edges[slot]):  # type: ignore[arg-type]
                result[slot] = rule(grads if every else grads[0], *[saved[i] for i in picks])
        return result

    def release(self) -> None:
        if self.versions:  # as in torch, a node that saved no arrays can be walked again
            self.saved = None
            self.versions = []

    def _unpack(self, graph: bool) -> list[Any]:
        """The saved values, the arrays among them as tensors if `graph`.

        Raises:
            RuntimeError: they were freed, or one was changed in place.
        """
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        for place, version, expected in self.versions:
            if version[0] != expected:
                raise_changed(self, self.saved[place], self._origin(place), version[0], expected)
        if not graph:
            return self.saved
        saved = list(self.saved)
        for place, _, _ in self.versions:
            saved[place] = restore(saved[place], self._origin(place))
        return saved

    def _origin(self, place: int) -> Edge | None:
        """Where the gradient of a saved array goes."""
        kind, index = self.plan.fetch[place]
        return (self, index) if kind == "output" else self.edges[index]
