"""The tape: what a computed tensor remembers of how it was computed, and whether anything is remembered at all.

A `Node` is one recorded operation. It holds edges to the nodes of its inputs and raw saved arrays, never the tensors it
made: there are no reference cycles, and a graph is freed by reference counting alone. Walking back is `gradx.engine`'s.
"""

from __future__ import annotations

import itertools
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradx import anomaly
from gradx.backends import backend_of
from gradx.hooks import Hook, Hooks, RemovableHandle, register
from gradx.streams import recorded_on, seen
from gradx.variables import Variable

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)

Edge = tuple["Node", int]


class GradientEdge(NamedTuple):
    """Where a tensor's gradient goes, for `grad` and `backward` in the place of the tensor itself."""

    node: Node
    output_nr: int
    ownership_token: Any = None


Metadata = tuple[tuple[int, ...], np.dtype[Any], type]  # of an output: shape, dtype, array type


next_sequence = itertools.count().__next__


class Node:
    """One recorded operation.

    Attributes:
        edges: for each tensor input, the node and output number its gradient goes to, or None where none is needed.
        outputs: shape, dtype and array type of each output.
        sequence: nodes are numbered as they are recorded, so a node's number exceeds those of all it depends on.
        hooks: functions of the user's that see gradients pass.
        notes: the dictionary that users see as `metadata`, made when needed.
    """

    __slots__ = ("__weakref__", "edges", "hooks", "notes", "outputs", "sequence")

    run: Callable[[Any, list[Any], bool], Sequence[Any]] | None = None
    """`backward` of raw arrays, every edge wanted, and `release` unless told to keep, written out; None if there are only
    the methods."""
    edges: tuple[Edge | None, ...]
    outputs: tuple[Metadata, ...]
    hooks: Hooks | None
    notes: dict[str, Any] | None

    def __init__(self, edges: tuple[Edge | None, ...], outputs: tuple[Metadata, ...]) -> None:
        self.edges = edges
        self.outputs = outputs
        self.sequence = next_sequence()
        self.hooks = None
        self.notes = anomaly.notes() if anomaly.state.enabled else None

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        """The gradient for each edge that is `wanted`, given those of the outputs (None where nothing arrived).

        Gradients are raw arrays, or tensors if `graph`.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Free what was saved for the backward pass."""

    def name(self) -> str:
        """The operation's name, such as ``MulBackward0``."""
        return type(self).__name__

    def output_name(self, output_nr: int) -> str:
        """One of the outputs, as torch's messages call it: ``output 0 of Mul``."""
        return f"output {output_nr} of {re.sub(r'Backward[0-9]*$', '', self.name())}"

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """For each tensor input, the node that its gradient goes to (None where none is needed) and the output number."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    def register_hook(self, fn: Hook) -> RemovableHandle:
        """Call ``fn(grad_inputs, grad_outputs)`` after this node's rules have run; what it returns, if not None, replaces
        the former. Both are tuples, with None where there is no gradient."""
        return register(self.hooks_to_write().after, fn)

    def register_prehook(self, fn: Hook) -> RemovableHandle:
        """Call ``fn(grad_outputs)`` before this node's rules run; what it returns, if not None, replaces them."""
        return register(self.hooks_to_write().before, fn)

    def hooks_to_write(self) -> Hooks:
        """The node's hooks, made if there are none yet."""
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def severed(self, output_nr: int) -> Node:
        """A node in the place of this one, for one of its outputs, behind which there is nothing."""
        return Severed((), (self.outputs[output_nr],))

    def __call__(self, *grads: Any) -> Any:
        """Run this node's rules on gradients of its outputs, for those who walk a graph themselves."""
        results = self.backward(list(grads), lambda edge: edge is not None, graph=True)
        return results[0] if len(results) == 1 else tuple(results)

    def _sequence_nr(self) -> int:
        return self.sequence

    @property
    def _input_metadata(self) -> tuple[Metadata, ...]:
        return self.outputs

    @property
    def metadata(self) -> dict[str, Any]:
        """A dictionary for whatever you want to note."""
        if self.notes is None:
            self.notes = {}
        return self.notes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


class Severed(Node):
    """What is left of a view's history when its base has been detached: it is no leaf, and nothing flows back."""

    __slots__ = ()

    def backward(self, grads: list[Any], wanted: Callable[[Edge], bool], graph: bool) -> list[Any]:
        return []


class AccumulateGrad(Node):
    """Where the gradients of a leaf end: they are added to its ``.grad``."""

    __slots__ = ("variable",)

    def __init__(self, variable: Variable) -> None:
        array = variable.array
        self.variable = variable
        self.edges = ()
        self.outputs = ((array.shape, array.dtype, type(array)),)
        self.sequence = next_sequence()
        self.notes = anomaly.notes() if anomaly.state.enabled else None

    def name(self) -> str:
        return "gradx::autograd::AccumulateGrad"

    @property
    def hooks(self) -> Hooks | None:
        """The leaf's: they stay when this node goes."""
        return self.variable.hooks

    @hooks.setter
    def hooks(self, hooks: Hooks | None) -> None:
        if hooks is not None:
            self.variable.hooks = hooks


def accumulator(leaf: Variable) -> AccumulateGrad:
    """The leaf's one `AccumulateGrad`, alive as long as a graph refers to it."""
    reference = leaf._accumulator
    node = None if reference is None else reference()
    if node is None:
        with _making_accumulator:
            reference = leaf._accumulator
            node = None if reference is None else reference()
            if node is None:
                node = AccumulateGrad(leaf)
                leaf._accumulator = weakref.ref(node)
    return node


_making_accumulator = threading.Lock()  # threads may share leaves


def edge_of(variable: Variable) -> Edge:
    """Where the gradient of a tensor that requires one goes."""
    if variable.node is not None:
        return variable.node, variable.output_nr
    return accumulator(variable), 0


def attach(variable: Variable, node: Node, output_nr: int = 0) -> None:
    """Make `variable` an output of `node`."""
    variable.node, variable.output_nr, variable.needs_grad = node, output_nr, True
    if seen.other:
        note_stream(node, variable.array)


def note_stream(node: Node, array: Any) -> None:
    """Note which stream `node`, which gives `array`, is recorded on."""
    backend = backend_of(array)
    stream = backend.stream_on(backend.device_of(array))
    if stream is not None:
        recorded_on[node] = stream
