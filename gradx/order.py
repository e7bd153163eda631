"""Where the steps of a backward pass run, and in which order, where there are several devices or streams.

A node's rules run on the device of its gradients, and on the stream on which the node was recorded. Where a gradient goes
from one stream to another, an event makes the second wait for the first; at the end the streams that called for the
backward pass wait for all that took part. (Torch: "Stream semantics of backward passes", in its notes on CUDA.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from gradx.backends import backend_of
from gradx.streams import recorded_on, seen
from gradx.tape import AccumulateGrad, Node
from gradx.variables import Variable


class Order:
    """The streams of one backward pass.

    Attributes:
        used: by device and stream, an array there.
        mixed: whether work for one device may be under way on several streams. What such work uses must not be freed
            before it is done: the memory would be given out again on the stream that it came from, which does not wait.
        crossed: for each waiting node, the gradients that came to it from another stream.
        leaves: the stream on which a leaf's first gradient was made, where it is accumulated.
    """

    def __init__(self) -> None:
        self.used: dict[tuple[Any, Any], Any] = {}
        self.mixed = False
        self.crossed: dict[Node, list[Any]] = {}
        self.leaves: dict[Node, Any] = {}

    def arrive(self, node: Node, value: Any) -> None:
        """Let the stream of `node` wait until the gradient `value`, which the current stream makes, is there."""
        if not seen.other:
            return
        array = _array(value)
        backend = backend_of(array)
        source = backend.stream_of(array)
        if isinstance(node, AccumulateGrad):
            self.leaves.setdefault(node, source)
        target = self._stream(node)
        where = backend.device_of(array)
        self.used.setdefault((where, source), array)
        self.used.setdefault((where, target), array)
        if target != source:
            backend.wait_stream(array, target, source)
            self.crossed.setdefault(node, []).append(array)
            self.mixed = True

    def at(self, node: Node, value: Any) -> AbstractContextManager[Any]:
        """Within it, the device of `value` and the stream of `node` are the current ones."""
        array = _array(value)
        backend = backend_of(array)
        return backend.within(array, self._stream(node)) if seen.other else backend.at(array)

    def leave(self, node: Node, value: Any, saved: Any) -> None:
        """Keep what the rules of `node` used, and nobody may keep any more, until they are done."""
        kept = self.crossed.pop(node, [])
        if kept or (self.mixed and saved):
            array = _array(value)
            backend_of(array).keep((kept, saved), array)

    def join(self) -> None:
        """Let the streams that are current now wait for all that took part."""
        for (_, stream), array in self.used.items():
            backend = backend_of(array)
            if stream != backend.stream_of(array):
                backend.wait_stream(array, backend.stream_of(array), stream)

    def _stream(self, node: Node) -> Any:
        return self.leaves.get(node) if isinstance(node, AccumulateGrad) else recorded_on.get(node)


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Variable) else value
