"""Where the steps of a backward pass run, and in which order, where there are several devices or streams.

A node's rules run on the device of its gradients, and on the stream on which the node was recorded. Where a gradient goes
from one stream to another, an event makes the second wait for the first; at the end the streams that called for the
backward pass wait for all that took part. (Torch: "Stream semantics of backward passes", in its notes on CUDA.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from gradx.backends import Backend, backend_of
from gradx.device import device
from gradx.streams import recorded_on, seen
from gradx.tape import AccumulateGrad, Node
from gradx.variables import Variable


class Order:
    """The streams of one backward pass.

    Attributes:
        used: the devices and streams that take part, each with its backend.
        mixed: whether a gradient has gone from one stream to another. From then on, what work uses must not be freed before
            it is done: memory is given out again to the stream that it came from, which may be another, and does not wait.
        crossed: for each waiting node, the gradients that came to it from another stream.
        leaves: the stream on which a leaf's first gradient was made, where it is accumulated.
    """

    def __init__(self) -> None:
        self.used: dict[tuple[device, Any], Backend] = {}
        self.mixed = False
        self.crossed: dict[Node, list[Any]] = {}
        self.leaves: dict[Node, Any] = {}

    def arrive(self, node: Node, value: Any) -> None:
        """Let the stream of `node` wait until the gradient `value`, which the current stream makes, is there."""
        if not seen.other:
            return
        array = _array(value)
        backend = backend_of(array)
        where = backend.device_of(array)
        source = backend.stream_on(where)
        if isinstance(node, AccumulateGrad):
            self.leaves.setdefault(node, source)
        target = self._stream(node)
        self.used[where, source] = self.used[where, target] = backend
        if target != source:
            backend.wait_stream(where, target, source)
            self.crossed.setdefault(node, []).append(array)
            self.mixed = True

    def at(self, node: Node, value: Any) -> AbstractContextManager[Any]:
        """Within it, the device of `value` and the stream of `node` are the current ones."""
        array = _array(value)
        backend = backend_of(array)
        return backend.within(array, self._stream(node)) if seen.other else backend.at(array)

    def leave(self, node: Node, used: Any, value: Any) -> None:
        """Keep what the rules of `node` used until they are done on its stream, on the device of `value`."""
        if self.mixed:
            array = _array(value)
            backend = backend_of(array)
            backend.keep((used, self.crossed.pop(node, None)), backend.device_of(array))

    def join(self) -> None:
        """Let the streams that are current now wait for all that took part."""
        for (where, stream), backend in self.used.items():
            current = backend.stream_on(where)
            if stream != current:
                backend.wait_stream(where, current, stream)

    def _stream(self, node: Node) -> Any:
        return self.leaves.get(node) if isinstance(node, AccumulateGrad) else recorded_on.get(node)


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Variable) else value
