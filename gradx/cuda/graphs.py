"""CUDA graphs: work recorded once and launched as a whole, again and again, without Python in between."""

from __future__ import annotations

from typing import Any

from gradx.backends.cuda.status import diagnose
from gradx.cuda.devices import backend, current_device, synchronize
from gradx.cuda.memory import empty_cache
from gradx.cuda.streams import Stream, current_stream, stream

MODES = ("global", "thread_local", "relaxed")


def is_current_stream_capturing() -> bool:
    """Whether work given to the current stream is recorded for a graph instead of done; False without CUDA."""
    return diagnose().usable and bool(current_stream().cupy.is_capturing())


def graph_pool_handle() -> Any:
    """Memory that graphs may share, for the `pool` of their captures.

    Raises:
        RuntimeError: CUDA is not usable.
    """
    return backend().graph_pool()


class CUDAGraph:
    """Recorded work. `gradx.cuda.graph` records it, `replay` does it.

    Tensors that the work reads or writes stay at their addresses: new inputs are written into the old tensors, by
    ``x.copy_(new)`` say, and the results are found in the tensors of the capture. What was allocated during the capture
    is kept as long as the graph.

    Args:
        keep_graph: accepted for torch's sake; the graph is always made ready at the end of its capture.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        self._cuda = backend()
        self._capture: Any = None
        self._graph: Any = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "relaxed") -> None:
        """Record what the current stream is given from now on.

        Args:
            pool: memory to share, from `graph_pool_handle` or another graph's `pool`.
            capture_error_mode: "global" and "thread_local" forbid what may disturb a capture, in all threads or in this one.
                That includes asking the driver for memory: with them, the pool must have enough.

        Raises:
            RuntimeError: the current stream is the default one, or there is a recording already.
        """
        if capture_error_mode not in MODES:
            raise RuntimeError(
                f"Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, got {capture_error_mode}"
            )
        if self._capture is not None:
            raise RuntimeError(
                "This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance."
            )
        here = current_stream()
        if here.cuda_stream in (0, 1, 2):
            raise RuntimeError(
                "CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them on the "
                "default stream.) Use `with gradx.cuda.graph(g):`, which sees to that."
            )
        self._capture = self._cuda.begin_capture(here.cupy, pool, capture_error_mode)

    def capture_end(self) -> None:
        """End the recording.

        Raises:
            RuntimeError: there is none under way, or something happened that cannot be recorded.
        """
        if self._capture is None or self._graph is not None:
            raise RuntimeError("capture_end() called without a preceding capture_begin().")
        try:
            self._graph = self._capture.end()
        except RuntimeError:
            self._capture = None
            raise

    def replay(self) -> None:
        """Do the recorded work, on the current stream.

        Raises:
            RuntimeError: nothing was recorded.
        """
        if self._graph is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        self._graph.launch()

    def reset(self) -> None:
        """Forget the recording, and let its memory go. Tensors made in it must not be used any more."""
        self._graph = self._capture = None

    def pool(self) -> Any:
        """The graph's memory, for other captures to share.

        Raises:
            RuntimeError: nothing was recorded.
        """
        if self._capture is None:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self._capture.pool

    def debug_dump(self, debug_path: str) -> None:
        """Write the graph in Graphviz's language to a file."""
        if self._graph is None:
            raise RuntimeError("Called CUDAGraph::debug_dump without a preceding successful capture.")
        with open(debug_path, "w") as file:
            file.write(self._graph.debug_dot_str())


class graph:
    """Within it, work is recorded for a graph instead of done.

    Run the same work a few times beforehand, on a side stream: kernels are compiled at their first use.

    Args:
        cuda_graph: what to record it for.
        pool, capture_error_mode: see `CUDAGraph.capture_begin`.
        stream: on which to record; a side stream of gradx's for None.

    Raises:
        RuntimeError: something was done that cannot be recorded: waiting for the device, copying to or from the host, drawing
            random numbers.

    A training step, say, with everything in place::

        g = gradx.cuda.CUDAGraph()
        with gradx.cuda.graph(g):
            loss = F.mse_loss(x @ w, target)
            (dw,) = gradx.autograd.grad(loss, w)
            with gradx.no_grad():
                w -= 0.1 * dw
        for batch, wanted in data:
            x.copy_(batch)
            target.copy_(wanted)
            g.replay()
    """

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: Stream | None = None,
        capture_error_mode: str = "relaxed",
    ) -> None:
        self.cuda_graph = cuda_graph
        self.capture_stream = _capture_stream() if stream is None else stream
        self._pool = pool
        self._mode = capture_error_mode
        self._context: Any = None

    def __enter__(self) -> None:
        synchronize()
        empty_cache()
        self._context = stream(self.capture_stream)
        self._context.__enter__()
        try:
            self.cuda_graph.capture_begin(self._pool, self._mode)
        except BaseException:
            self._context.__exit__()
            raise

    def __exit__(self, kind: object, error: BaseException | None, *rest: object) -> None:
        try:
            self.cuda_graph.capture_end()
        except RuntimeError as invalid:
            raise _explained(error or invalid) from error
        finally:
            self._context.__exit__()
        if error is not None:
            self.cuda_graph.reset()
            if "capturing" in str(error):
                raise _explained(error) from error


def _explained(error: BaseException) -> RuntimeError:
    """The error of a capture that `error` put an end to."""
    if "Unjoined" in str(error):
        return RuntimeError(
            f"CUDA error: capturing stream has unjoined work. {error}. Each stream that took part must be waited for before "
            "the end: gradx.cuda.current_stream().wait_stream(s)."
        )
    return RuntimeError(
        f"CUDA error: operation not permitted when stream is capturing. {error}. A graph is recorded without being run, so "
        "nothing in it may wait for the device, or copy to or from the host, as .item(), .tolist(), print, "
        "gradx.tensor(...) and synchronize() do: do that before the capture or after a replay."
    )


_streams: dict[int, Stream] = {}


def _capture_stream() -> Stream:
    """The stream of this device's captures."""
    index = current_device()
    return _streams.setdefault(index, Stream(index))
