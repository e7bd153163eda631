"""Functions whose forward and backward passes are CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradx import variables
from gradx.autograd.function import Function, once_differentiable
from gradx.creation import empty_like
from gradx.cuda.devices import synchronize
from gradx.cuda.graphs import CUDAGraph, graph, graph_pool_handle
from gradx.cuda.streams import Stream, stream
from gradx.differentiate import grad
from gradx.tensor import Tensor


def make_graphed_callables(
    callables: Callable[..., Any] | Sequence[Callable[..., Any]],
    sample_args: Sequence[Any],
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: Any = None,
) -> Any:
    """Functions that compute what `callables` do, forward and backward, each by one launch of a CUDA graph.

    A graphed function returns the same tensors at each call, with new elements: clone what is to be kept. Only its
    arguments get gradients, not tensors that the function finds elsewhere; and there are no second derivatives.

    Args:
        callables: a function of tensors that returns a tensor or a tuple of them; or several, in the order in which they
            will be called. Backward passes are run in the opposite order.
        sample_args: for each function, a tuple of tensors like those it will get, in shape, dtype and `requires_grad`. They
            belong to the graphed function from now on.
        num_warmup_iters: how often to run each function before the capture.
        allow_unused_input: whether an argument that requires grad may have no gradient.
        pool: see `gradx.cuda.CUDAGraph.capture_begin`.

    Returns:
        A function for each of `callables`, in a tuple if there are several.

    Raises:
        RuntimeError: CUDA is not usable, or a function does what cannot be captured (see `gradx.cuda.graph`).
    """
    one = callable(callables)
    functions: list[Any] = [callables] if callable(callables) else list(callables)
    arguments = [tuple(args) for args in ([sample_args] if one else sample_args)]
    pool = graph_pool_handle() if pool is None else pool
    synchronize()
    with stream(Stream()):
        for function, args in zip(functions, arguments, strict=True):
            for _ in range(num_warmup_iters):
                outputs = _as_tuple(function(*args))
                _differentiate(outputs, [_like(out) for out in outputs], args, allow_unused_input)
    synchronize()
    captured = [_Captured(function, args, pool) for function, args in zip(functions, arguments, strict=True)]
    for each in reversed(captured):  # memory is shared in the order in which the graphs will be launched
        each.capture_backward(pool, allow_unused_input)
    graphed = tuple([each.function() for each in captured])
    return graphed[0] if one else graphed


class _Captured:
    """The graphs of one function, and the tensors that they read and write."""

    def __init__(self, function: Callable[..., Any], args: tuple[Tensor, ...], pool: Any) -> None:
        self.args = args
        self.forward, self.backward = CUDAGraph(), CUDAGraph()
        with graph(self.forward, pool=pool):
            result = function(*args)
        self.outputs = _as_tuple(result)
        self.several = isinstance(result, tuple)

    def capture_backward(self, pool: Any, allow_unused: bool) -> None:
        self.grad_outputs = [_like(out) for out in self.outputs]
        with graph(self.backward, pool=pool):
            self.grad_inputs = _differentiate(self.outputs, self.grad_outputs, self.args, allow_unused)

    def function(self) -> Callable[..., Any]:
        """What takes the place of the captured function."""

        class Graphed(Function):
            @staticmethod
            def forward(ctx: Any, *args: Tensor) -> tuple[Tensor, ...]:
                _feed(self.args, args)
                self.forward.replay()
                for out in self.outputs:
                    variables.count_change(out)  # for whoever saved what an earlier call returned
                results = tuple(out.detach() for out in self.outputs)
                ctx.mark_non_differentiable(
                    *(t for t, out in zip(results, self.outputs, strict=True) if not out.requires_grad)
                )
                return results

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
                _feed(self.grad_outputs, grads)
                self.backward.replay()
                return tuple(None if g is None else g.detach() for g in self.grad_inputs)

        def graphed(*args: Tensor) -> Any:
            outputs = Graphed.apply(*args)
            return outputs if self.several else outputs[0]

        return graphed


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _like(out: Tensor) -> Tensor | None:
    """Room for the gradient of an output, if it has one."""
    return empty_like(out) if out.requires_grad else None


def _feed(places: Sequence[Tensor | None], given: Sequence[Tensor]) -> None:
    """Write what is given to where a graph reads it."""
    for place, value in zip(places, given, strict=True):
        if place is not None and place is not value:
            place.copy_(value)


def _differentiate(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None], args: Sequence[Tensor], allow_unused: bool
) -> list[Tensor | None]:
    """The gradient of each argument, None where it has none."""
    kept = [(out, g) for out, g in zip(outputs, grads, strict=True) if g is not None]
    wanted = [i for i, arg in enumerate(args) if arg.requires_grad]
    result: list[Tensor | None] = [None] * len(args)
    if kept and wanted:
        found = grad(
            [out for out, _ in kept], [args[i] for i in wanted], [g for _, g in kept], allow_unused=allow_unused
        )
        for i, g in zip(wanted, found, strict=True):
            result[i] = g
    return result
