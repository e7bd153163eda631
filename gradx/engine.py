"""The walk back over the tape.

Nodes are numbered as they are recorded, so taking always the highest number first visits each node after everything that
used it. Gradients are raw arrays, and rules run on them directly; with `create_graph` they are tensors, and the same
rules are recorded like any other computation.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from gradx import anomaly, variables
from gradx.backends import BY_TYPE, backend_of, needs_order, quiet
from gradx.modes import determinism, mode
from gradx.node import OpNode
from gradx.ops.compare import isnan
from gradx.ops.complexes import real
from gradx.ops.elementwise import _add
from gradx.ops.shape import sum_to
from gradx.ops.transfer import cast, clone
from gradx.order import Order
from gradx.tape import AccumulateGrad, Edge, Node
from gradx.variables import Variable


def backward(
    roots: Sequence[Edge],
    gradients: Sequence[Variable],
    inputs: Sequence[Edge] | None,
    keep: bool,
    graph: bool,
    accumulate: bool,
) -> list[Variable | None]:
    """Carry `gradients` back from `roots`.

    Args:
        roots: where to start.
        gradients: one for each root, of its shape.
        inputs: where to end; None for all leaves.
        keep: keep what nodes saved, so that the graph can be walked again.
        graph: record the walk itself, so that the gradients can be differentiated.
        accumulate: add to the ``.grad`` of the leaves, of those among `inputs` if there are any.

    Returns:
        The gradient that arrived at each of `inputs`, None where none did.
    """
    walk = _Walk(roots, inputs, keep, graph, accumulate)
    before, running.walk = running.walk, walk
    recording, mode.grad = mode.grad, graph
    try:
        if needs_order():
            walk.order = Order()
        if graph:
            walk.run(gradients)
        else:
            with quiet():
                walk.run(gradients)
    finally:
        running.walk, mode.grad = before, recording
    if inputs is None:
        return []
    found = [walk.found.get(edge) for edge in inputs]
    return [g if g is None or walk.graph else variables.tensor_type(g) for g in found]


class _Walk:
    """One backward pass: gradients that wait for their node, and the nodes that wait for their turn."""

    def __init__(
        self, roots: Sequence[Edge], inputs: Sequence[Edge] | None, keep: bool, graph: bool, accumulate: bool
    ) -> None:
        self.roots = roots
        self.keep = keep
        self.record = graph
        self.graph = graph or determinism.enabled  # whether gradients are tensors: rules' operations are kernels then
        self.accumulate = accumulate
        self.pending: dict[Node, list[Any]] = {}
        self.borrowed: set[Node] = set()  # where a waiting gradient is not ours to change
        self.queue: list[tuple[int, Node]] = []
        self.captures: dict[Node, list[int]] = {}
        self.found: dict[Edge, Any] = {}
        self.order: Order | None = None  # of devices and streams, where there are several
        for node, output_nr in inputs or ():
            self.captures.setdefault(node, []).append(output_nr)
        self.needed = None if inputs is None else _needed(roots, set(self.captures))  # None: every node

    def wanted(self, edge: Edge) -> bool:
        return self.needed is None or edge[0] in self.needed

    def will_visit(self, node: Node) -> bool:
        """Whether a gradient may still arrive at `node`, or has."""
        if self.needed is None:
            self.needed = _needed(self.roots, None)
        return node in self.needed

    def deposit(self, edge: Edge, value: Any, fresh: bool) -> None:
        """Add a gradient to those that wait at `edge`: into the first if that is ours, else the sum of both is.

        Args:
            fresh: no one else has `value`, though it may be a view of what others have.
        """
        node, output_nr = edge
        value = _fit(value, node, output_nr)
        if self.order is not None:
            self.order.arrive(node, value)
        waiting = self.pending.get(node)
        if waiting is None:
            waiting = self.pending[node] = [None] * len(node.outputs)
            heappush(self.queue, (-node.sequence, node))
        if waiting[output_nr] is not None:
            with self._at(node, value):
                self._sum(node, output_nr, waiting, value)
        else:
            waiting[output_nr] = value
            if not fresh:
                self.borrowed.add(node)

    def _sum(self, node: Node, output_nr: int, waiting: list[Any], value: Any) -> None:
        """Add a gradient to one that waits."""
        before = waiting[output_nr]
        if not self.graph and self._owned(node, before):
            before += value
        else:
            waiting[output_nr] = _fit(before + value, node, output_nr)
            if len(waiting) == 1:
                self.borrowed.discard(node)

    def _owned(self, node: Node, value: Any) -> bool:
        """Whether `value`, which waits at `node`, is ours to change."""
        return node not in self.borrowed and backend_of(value).owns_memory(value)

    def run(self, gradients: Sequence[Variable]) -> None:
        """Walk back from the roots, one of `gradients` for each."""
        for edge, value in zip(self.roots, gradients, strict=True):
            self.deposit(edge, value if self.graph else value.array, fresh=False)
        if self.order is not None:
            self._run_in_order(self.order)
        elif self.graph or self.needed is not None or anomaly.state.enabled:
            while self.queue:
                node = heappop(self.queue)[1]
                self._visit(node, self.pending.pop(node))
        else:
            self._run_straight()

    def _run_in_order(self, order: Order) -> None:
        while self.queue:
            node = heappop(self.queue)[1]
            grads = self.pending.pop(node)
            value, saved = next(g for g in grads if g is not None), getattr(node, "saved", None)
            with order.at(node, value):
                self._visit(node, grads)
                order.leave(node, (grads, None if self.keep else saved), value)
        order.join()

    def _run_straight(self) -> None:
        """`run` where each node is needed and nothing looks on, written out: nodes with straight-line code run that, and
        what it gives is deposited. All others are visited."""
        queue, pending, borrowed, keep = self.queue, self.pending, self.borrowed, self.keep
        while queue:
            node = heappop(queue)[1]
            grads = pending.pop(node)
            run = node.run
            if run is None or node.hooks is not None:
                if type(node) is not AccumulateGrad or node.hooks is not None:
                    self._visit(node, grads)
                elif node.variable.needs_grad:
                    with _accumulating:
                        add_gradient(node.variable, grads[0], node not in borrowed, graph=False)
                continue
            given = grads[0]
            for edge, value in zip(node.edges, run(node, grads, keep)):  # noqa: B905  (a keyword costs as much as an edge)
                if edge is None or value is None:
                    continue
                target, output_nr = edge
                outputs = target.outputs
                shape, dtype, array_type = outputs[output_nr]
                if value.shape != shape or value.dtype is not dtype or type(value) is not array_type:
                    value = self._fit_result(value, node, edge)
                waiting = pending.get(target)
                if waiting is None:
                    waiting = pending[target] = [None] * len(outputs)
                    heappush(queue, (-target.sequence, target))
                if waiting[output_nr] is None:
                    waiting[output_nr] = value
                    if value is given:
                        borrowed.add(target)
                elif target not in borrowed and BY_TYPE[array_type].owns_memory(waiting[output_nr]):  # type: ignore[union-attr]
                    waiting[output_nr] += value
                else:
                    self._sum(target, output_nr, waiting, value)

    def _at(self, node: Node, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Within it, raw expressions give arrays on the device of `value`, computed on the stream of `node`."""
        return self.order.at(node, value) if self.order is not None else contextlib.nullcontext()

    def _visit(self, node: Node, grads: list[Any]) -> None:
        hooks = node.hooks
        if hooks is not None:
            grads = hooks.arrived(grads, self.graph)
            self.borrowed.add(node)  # a hook may have kept them
            for output_nr, reference in hooks.retained.items():
                retaining = reference()
                if retaining is not None and grads[output_nr] is not None:
                    self._add(retaining, grads[output_nr], owned=False)
        for output_nr in self.captures.get(node, ()):
            if grads[output_nr] is not None:
                self.found[node, output_nr] = grads[output_nr]
        if isinstance(node, AccumulateGrad):
            if self.accumulate and (not self.captures or node in self.captures):
                self._accumulate(node, grads)
        elif self.needed is None or any(edge is not None and edge[0] in self.needed for edge in node.edges):
            self._step(node, grads)

    def _step(self, node: Node, grads: list[Any]) -> None:
        """Run the rules of a node, and pass on what they give."""
        hooks = node.hooks
        if hooks is not None and hooks.before:
            grads = hooks.entering(grads, self.graph)
            if all(g is None for g in grads):
                return
        run = self._watched if anomaly.state.enabled else self._run
        results = run(node, grads)
        if hooks is not None and hooks.after:
            results = hooks.leaving(results, grads, self.graph)
        # Whether what the rules made is nobody else's: hooks and a user's own Function may have kept it.
        ours = isinstance(node, OpNode) and (hooks is None or not hooks.after)
        for edge, value in zip(node.edges, results, strict=True):
            if edge is not None and value is not None and self.wanted(edge):
                self.deposit(edge, self._fit_result(value, node, edge), ours and value is not grads[0])
        if not self.keep:
            node.release()

    def _fit_result(self, value: Any, node: Node, edge: Edge) -> Any:
        """What a node's rule gave for an edge, in the shape and dtype that are due there."""
        try:
            return _fit(value, *edge)
        except _Misfit as misfit:
            at = f"index {[e is edge for e in node.edges].index(True)} - {misfit}"
            raise RuntimeError(f"Function {node.name()} returned an invalid gradient at {at}") from None

    def _run(self, node: Node, grads: list[Any]) -> list[Any]:
        return node.backward(grads, self.wanted, self.graph)

    def _watched(self, node: Node, grads: list[Any]) -> list[Any]:
        """The rules' results; of an error, or a NaN, it is said which forward operation led to it."""
        before, mode.evaluating = mode.evaluating, node
        try:
            results = self._run(node, grads)
            if anomaly.state.check_nan:
                for i, value in enumerate(results):
                    if value is not None and isnan(getattr(value, "array", value)).any():
                        raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th output.")
            return results
        except Exception as error:
            warnings.warn(anomaly.origin(node), stacklevel=2)
            error.add_note(anomaly.origin(node))
            raise
        finally:
            mode.evaluating = before

    def _accumulate(self, node: AccumulateGrad, grads: list[Any]) -> None:
        """Add to the ``.grad`` of a leaf."""
        hooks = node.hooks
        if hooks is not None and hooks.before:
            grads = hooks.entering(grads, self.graph)
        if grads[0] is None or not node.variable.needs_grad:
            return
        self._add(node.variable, grads[0], node not in self.borrowed)
        if hooks is not None:
            if hooks.after:
                hooks.leaving([], grads, self.graph)
            for hook in list(hooks.accumulated.values()):
                hook(node.variable)

    def _add(self, variable: Variable, value: Any, owned: bool) -> None:
        if self.graph and not self.record:
            value = value.array
        with _accumulating:
            add_gradient(variable, value, owned, self.record)


class _Running(threading.local):
    walk: _Walk | None = None


running = _Running()  # the backward pass that this thread is in
_accumulating = threading.Lock()  # threads may share leaves


def add_gradient(variable: Variable, value: Any, owned: bool, graph: bool) -> None:
    """Add to a tensor's ``.grad``: in place, unless the sum itself is to be differentiated.

    Args:
        value: a raw array, or a tensor if `graph`.
        owned: nothing else refers to `value`, so that it may become the gradient, unless it is a view.
    """
    before = variable._grad
    if graph:
        variable._grad = clone(value) if before is None else before + value
    elif before is None:
        variable._grad = variables.tensor_type(_in_layout(value, variable.array, owned))
    else:
        if determinism.enabled:
            backend_of(value).write(before.array, _add(before.array, value))
        else:
            backend_of(value).add_into(before.array, value)
        if before.version is not None:
            before.version[0] += 1


def _in_layout(value: Any, leaf: Any, owned: bool) -> Any:
    """A gradient with its elements in the order in which those of the leaf lie in memory, in memory of its own."""
    backend, contiguous = BY_TYPE[type(value)], leaf.flags.c_contiguous
    assert backend is not None
    if owned and (contiguous or value.strides == leaf.strides) and backend.owns_memory(value):
        return value
    if contiguous:
        return backend.contiguous(value)
    with backend.at(value):
        gradient = backend.xp.empty_like(leaf)
    backend.write(gradient, value)
    return gradient


def _fit(value: Any, node: Node, output_nr: int) -> Any:
    """A gradient in the shape and dtype of the output it belongs to: summed where that was broadcast, and cast."""
    shape, dtype, array_type = node.outputs[output_nr]
    if isinstance(value, Variable):
        if value.array.shape != shape:
            value = sum_to(value, _checked(value.array.shape, shape))  # type: ignore[arg-type]
        if value.array.dtype.kind == "c" and dtype.kind != "c":
            value = real(value)
        return cast(value, dtype) if value.array.dtype != dtype else value
    if value.shape != shape:
        value = sum_to(value, _checked(value.shape, shape))
    if value.dtype != dtype:
        value = cast(value.real if dtype.kind != "c" else value, dtype)
    return value if type(value) is array_type else backend_of(value).xp.asarray(value)


class _Misfit(Exception):
    """A gradient has a shape that cannot be summed to the one it should have."""


def _checked(given: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape`, if a gradient of shape `given` can be summed to it."""
    lead = len(given) - len(shape)
    if lead >= 0 and given[lead:] == shape:
        return shape
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, given[lead:], strict=True)):
        raise _Misfit(f"got {list(given)} but expected shape compatible with {list(shape)}")
    return shape


def _needed(roots: Sequence[Edge], captured: set[Node] | None) -> set[Node]:
    """The nodes from which some captured node can be reached, those included; all that can be reached for None."""
    oldest = min((node.sequence for node in captured or ()), default=0)
    seen: set[Node] = set()
    stack = [node for node, _ in roots]
    while stack:
        node = stack.pop()
        if node in seen or node.sequence < oldest:
            continue
        seen.add(node)
        stack.extend(edge[0] for edge in node.edges if edge is not None)
    if captured is None:
        return seen
    needed: set[Node] = set()
    for node in sorted(seen, key=lambda node: node.sequence):
        if node in captured or any(edge is not None and edge[0] in needed for edge in node.edges):
            needed.add(node)
    return needed
