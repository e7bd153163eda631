"""The walk back over the tape.

Nodes are numbered as they are recorded, so taking always the highest number first visits each node after everything that
used it. Gradients are raw arrays, and rules run on them directly; with `create_graph` they are tensors, and the same
rules are recorded like any other computation.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Sequence
from typing import Any

from gradx import tape
from gradx.backends import backend_of, loaded
from gradx.ops.shape import sum_to
from gradx.ops.transfer import cast
from gradx.tape import AccumulateGrad, Edge, Node, Variable


def backward(
    roots: Sequence[Variable],
    gradients: Sequence[Variable],
    inputs: Sequence[Variable] | None,
    *,
    keep: bool,
    graph: bool,
    accumulate: bool,
) -> list[Variable | None]:
    """Carry `gradients` back from `roots`.

    Args:
        roots: tensors that require grad.
        gradients: one for each root, of its shape.
        inputs: the tensors whose gradients are wanted; None for all leaves.
        keep: keep what nodes saved, so that the graph can be walked again.
        graph: record the walk itself, so that the gradients can be differentiated.
        accumulate: add to the inputs' ``.grad`` instead of returning.

    Returns:
        With `inputs` and without `accumulate`, the gradient of each input, None where it was not reached.
    """
    walk = _Walk(inputs, keep, graph, accumulate)
    values = gradients if graph else [g.array for g in gradients]
    edges = [tape.edge_of(root) for root in roots]
    if inputs is not None:
        walk.needed = _needed(edges, set(walk.captures))
    with tape.set_grad_enabled(graph), contextlib.ExitStack() as stack:
        if not graph:
            for backend in loaded():
                stack.enter_context(backend.quiet())
                walk.guarded |= backend.several_devices
        for edge, value in zip(edges, values, strict=True):
            walk.deposit(edge, value, fresh=False)
        walk.run()
    if inputs is None or accumulate:
        return []
    found = [walk.found.get(tape.edge_of(t)) for t in inputs]
    return [g if g is None or graph else tape.tensor_type(g) for g in found]


class _Walk:
    """One backward pass: gradients that wait for their node, and the nodes that wait for their turn."""

    def __init__(self, inputs: Sequence[Variable] | None, keep: bool, graph: bool, accumulate: bool) -> None:
        self.keep = keep
        self.graph = graph
        self.pending: dict[Node, list[Any]] = {}
        self.owned: set[Edge] = set()  # where the waiting gradient is ours to change
        self.queue: list[tuple[int, Node]] = []
        self.needed: set[Node] | None = None  # None: every node
        self.captures: dict[Node, list[tuple[int, Variable]]] = {}
        self.found: dict[Edge, Any] = {}
        self.accumulate = accumulate
        self.guarded = False  # whether raw arrays may be on another device than the current one
        for variable in inputs or ():
            node, output_nr = tape.edge_of(variable)
            self.captures.setdefault(node, []).append((output_nr, variable))

    def wanted(self, edge: Edge) -> bool:
        return self.needed is None or edge[0] in self.needed

    def deposit(self, edge: Edge, value: Any, fresh: bool) -> None:
        """Add a gradient to those that wait at `edge`: the first is borrowed, the second makes a sum of our own."""
        node, output_nr = edge
        value = _fit(value, node, output_nr)
        waiting = self.pending.get(node)
        if waiting is None:
            waiting = self.pending[node] = [None] * len(node.outputs)
            heapq.heappush(self.queue, (-node.sequence, node))
        before = waiting[output_nr]
        if before is None:
            waiting[output_nr] = value
            if fresh:
                self.owned.add(edge)
        else:
            with self._beside(before):
                if edge in self.owned and not self.graph:
                    before += value
                else:
                    waiting[output_nr] = _fit(before + value, node, output_nr)
                    self.owned.add(edge)

    def run(self) -> None:
        while self.queue:
            _, node = heapq.heappop(self.queue)
            grads = self.pending.pop(node)
            if self.guarded:
                with self._beside(next(g for g in grads if g is not None)):
                    self._visit(node, grads)
            else:
                self._visit(node, grads)

    def _beside(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Within it, the device of `value` is the current one: raw expressions give arrays there."""
        return backend_of(value).at(value) if self.guarded else contextlib.nullcontext()

    def _visit(self, node: Node, grads: list[Any]) -> None:
        if node.retained:
            self._retain(node, grads)
        for output_nr, variable in self.captures.get(node, ()):
            self._capture(node, output_nr, variable, grads[output_nr])
        if isinstance(node, AccumulateGrad):
            if self.needed is None:
                self._accumulate(node.variable, grads[0], (node, 0) in self.owned)
        elif self.needed is None or any(edge is not None and self.wanted(edge) for edge in node.edges):
            self._step(node, grads)

    def _step(self, node: Node, grads: list[Any]) -> None:
        results = node.backward(grads, self.wanted, self.graph)
        for edge, value in zip(node.edges, results, strict=True):
            if edge is not None and value is not None and self.wanted(edge):
                fresh = not self.graph and value is not grads[0] and backend_of(value).owns_memory(value)
                self.deposit(edge, value, fresh)
        if not self.keep:
            node.release()

    def _retain(self, node: Node, grads: list[Any]) -> None:
        for output_nr, reference in (node.retained or {}).items():
            variable = reference()
            if variable is not None and grads[output_nr] is not None:
                self._accumulate(variable, grads[output_nr], owned=False)

    def _capture(self, node: Node, output_nr: int, variable: Variable, value: Any) -> None:
        if value is None:
            return
        if self.accumulate:
            self._accumulate(variable, value, owned=False)
        else:
            self.found[node, output_nr] = value

    def _accumulate(self, variable: Variable, value: Any, owned: bool) -> None:
        """Add to ``.grad``: in place, unless the sum itself is to be differentiated."""
        before = variable._grad
        if self.graph:
            variable._grad = value if before is None else before + value
        elif before is None:
            variable._grad = tape.tensor_type(value if owned else backend_of(value).clone(value))
        elif before.needs_grad:
            variable._grad = tape.tensor_type(before.array + value)
        else:
            backend_of(value).write(before.array, before.array + value)
            before.version[0] += 1


def _fit(value: Any, node: Node, output_nr: int) -> Any:
    """A gradient in the shape and dtype of the output it belongs to: summed where that was broadcast, and cast."""
    shape, dtype, array_type = node.outputs[output_nr]
    if isinstance(value, Variable):
        if value.array.shape != shape:
            value = sum_to(value, _checked(value.array.shape, shape, node))  # type: ignore[arg-type]
        return cast(value, dtype) if value.array.dtype != dtype else value
    if value.shape != shape:
        value = sum_to(value, _checked(value.shape, shape, node))
    if value.dtype != dtype:
        value = cast(value, dtype)
    return value if type(value) is array_type else backend_of(value).xp.asarray(value)


def _checked(given: tuple[int, ...], shape: tuple[int, ...], node: Node) -> tuple[int, ...]:
    """`shape`, if a gradient of shape `given` can be summed to it."""
    lead = len(given) - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, given[lead:], strict=True)):
        raise RuntimeError(
            f"{node.name()} received an invalid gradient - got {list(given)} but expected shape compatible with {list(shape)}"
        )
    return shape


def _needed(roots: Sequence[Edge], captured: set[Node]) -> set[Node]:
    """The nodes from which some captured node can be reached, those included."""
    oldest = min((node.sequence for node in captured), default=0)
    seen: set[Node] = set()
    stack = [node for node, _ in roots]
    while stack:
        node = stack.pop()
        if node in seen or node.sequence < oldest:
            continue
        seen.add(node)
        stack.extend(edge[0] for edge in node.edges if edge is not None)
    needed: set[Node] = set()
    for node in sorted(seen, key=lambda node: node.sequence):
        if node in captured or any(edge is not None and edge[0] in needed for edge in node.edges):
            needed.add(node)
    return needed
