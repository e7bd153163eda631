"""Trading time for memory: what a function saves is dropped, and computed again in the backward pass.

The variant without re-entrant backward passes, torch's ``use_reentrant=False``: it works with `grad`, keyword arguments,
nested checkpoints and double backward.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from gradx import autocasting, engine, random
from gradx.autograd.graph import saved_tensors_hooks
from gradx.modes import enable_grad
from gradx.tensor import Tensor

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential"]

Contexts = tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]


class CheckpointError(RuntimeError):
    """The function did not compute the same again."""


class _AllThere(Exception):
    """Raised when everything that had been saved has been computed again: the rest of the function may be left out."""


def noop_context_fn() -> Contexts:
    """Contexts in which nothing is special."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool = False,
    context_fn: Callable[[], Contexts] = noop_context_fn,
    determinism_check: str = "default",
    preserve_rng_state: bool = True,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, whose saved tensors are dropped and computed again in the backward pass.

    Args:
        use_reentrant: must be False.
        context_fn: gives the contexts for the first run and for the second.
        determinism_check: "default" compares shapes and dtypes of what is computed again; "none" does not.
        preserve_rng_state: draw the same random numbers again.
        early_stop: end the second run as soon as all that was saved is there.

    Raises:
        ValueError: `use_reentrant` is True.
        CheckpointError: in the backward pass, if the second run does not save what the first one did.

    >>> import gradx
    >>> x = gradx.tensor(2.0, requires_grad=True)
    >>> checkpoint(lambda t: t.exp().sin(), x).backward()
    >>> x.grad
    tensor(3.3129)
    """
    if use_reentrant:
        raise ValueError("gradx.utils.checkpoint has no re-entrant variant. Pass use_reentrant=False, the better one.")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'] but got {determinism_check!r}")
    first, second = context_fn()
    place = random.default_generator.place if preserve_rng_state else None
    casts = autocasting.settings()

    def again() -> None:
        with _random_place(place), autocasting.applied(casts), second, enable_grad():
            function(*args, **kwargs)

    frame = _Frame(again, determinism_check == "default", early_stop)
    with saved_tensors_hooks(frame.pack, frame.unpack), first:
        return function(*args, **kwargs)


class _Frame:
    """What one checkpointed call saved: the number and kind of the tensors, until they are needed."""

    def __init__(self, again: Callable[[], None], check: bool, early_stop: bool) -> None:
        self._again = again
        self._check = check
        self._early_stop = early_stop
        self._kinds: list[tuple[Any, ...]] = []
        self._recomputed: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    def pack(self, tensor: Tensor) -> int:
        self._kinds.append(_kind(tensor))
        return len(self._kinds) - 1

    def unpack(self, place: int) -> Any:
        walk = engine.running.walk or self  # outside a backward pass: somebody looks at a node's saved tensors
        if walk not in self._recomputed:
            self._recomputed[walk] = self._recompute()
        return self._recomputed[walk][place]

    def _recompute(self) -> list[Any]:
        tensors: list[Any] = []

        def keep(tensor: Tensor) -> Tensor:
            tensors.append(tensor.detach())
            if self._early_stop and len(tensors) == len(self._kinds):
                raise _AllThere
            return tensor

        with contextlib.suppress(_AllThere), saved_tensors_hooks(keep, lambda tensor: tensor):
            self._again()
        self._compare(tensors)
        return tensors

    def _compare(self, tensors: list[Any]) -> None:
        if len(tensors) != len(self._kinds):
            raise CheckpointError(
                "gradx.utils.checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation.\nNumber of tensors saved during forward: {len(self._kinds)}\n"
                f"Number of tensors saved during recomputation: {len(tensors)}."
            )
        for place, (tensor, kind) in enumerate(zip(tensors, self._kinds, strict=True)):
            if self._check and _kind(tensor) != kind:
                raise CheckpointError(
                    "gradx.utils.checkpoint: Recomputed values for the following tensors have different metadata than "
                    f"during the forward pass.\ntensor at position {place}:\nsaved metadata: {kind}\n"
                    f"recomputed metadata: {_kind(tensor)}"
                )


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


@contextlib.contextmanager
def _random_place(place: Any) -> Any:
    """Within it, random numbers are drawn from `place` on, if it is not None."""
    with random.fork_rng(enabled=place is not None):
        if place is not None:
            random.default_generator.place = place
        yield


def checkpoint_sequential(
    functions: Sequence[Callable[[Any], Any]],
    segments: int,
    input: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
) -> Any:
    """Run functions one after the other, in `segments` groups of which all but the last are checkpointed.

    >>> import gradx
    >>> x = gradx.tensor(1.0, requires_grad=True)
    >>> y = checkpoint_sequential([gradx.exp, gradx.sin, gradx.exp], 3, x)
    >>> gradx.autograd.grad(y, x)
    (tensor(-3.7373),)
    """

    def run(start: int, stop: int, value: Any) -> Any:
        for function in functions[start:stop]:
            value = function(value)
        return value

    size, stop = len(functions) // segments, 0
    for start in range(0, size * (segments - 1), size):
        stop = start + size
        input = checkpoint(run, start, stop, input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return run(stop, len(functions), input)
