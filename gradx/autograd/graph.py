"""torch.autograd.graph's face: nodes, edges, and what becomes of saved tensors."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gradx import engine
from gradx.backends import backend_of
from gradx.hooks import HandleGroup
from gradx.modes import mode
from gradx.saved import UNCHECKED, SavingNode
from gradx.tape import GradientEdge, Node, edge_of
from gradx.tensor import Tensor
from gradx.variables import Variable

__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Where the gradient of a tensor goes; `grad` and `backward` take it in the place of the tensor.

    Raises:
        RuntimeError: the tensor does not require grad.
    """
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(*edge_of(tensor))


class _Disabled(threading.local):
    message: str | None = None


_disabled = _Disabled()


class saved_tensors_hooks:
    """Within it, nodes keep what `pack_hook` makes of a tensor they save; `unpack_hook` makes it a tensor again.

    Args:
        pack_hook: takes a tensor, without history, which it must not change; returns anything.
        unpack_hook: takes what `pack_hook` returned; returns a tensor of the same elements.

    >>> import gradx
    >>> x = gradx.tensor([2.0], requires_grad=True)
    >>> with saved_tensors_hooks(lambda t: t.tolist(), gradx.tensor):
    ...     y = x * x
    >>> gradx.autograd.grad(y, x)
    (tensor([4.]),)
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook
        self._before: list[Any] = []

    def __enter__(self) -> None:
        if _disabled.message is not None:
            raise RuntimeError(_disabled.message)
        self._before.append(mode.saving)
        mode.saving = self._pack
        mode.settle()

    def __exit__(self, *exception: object) -> None:
        mode.saving = self._before.pop()
        mode.settle()

    def _pack(self, node: SavingNode) -> None:
        for place, _, _ in list(node.versions):
            node.pack(place, self.pack_hook, self.unpack_hook)


class save_on_cpu(saved_tensors_hooks):
    """Within it, saved tensors are kept on the CPU, and moved back when they are needed.

    Args:
        pin_memory: as in torch; CuPy's copies take pinned memory from its pool anyway.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: (t.device, t.cpu() if t.is_cuda else t), lambda kept: kept[1].to(kept[0]))


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Within it, `saved_tensors_hooks` raises RuntimeError with this message."""
    if mode.saving is not None:
        raise RuntimeError(error_message)
    before, _disabled.message = _disabled.message, error_message
    try:
        yield
    finally:
        _disabled.message = before


class _Preserved:
    """What `allow_mutation_on_saved_tensors` gives: the saved arrays that a change in place would spoil."""

    def __init__(self) -> None:
        self._kept: dict[int, list[tuple[weakref.ref[SavingNode], int]]] = {}  # by the version's cell

    def note(self, node: SavingNode) -> None:
        for place, version, _ in node.versions:
            self._kept.setdefault(id(version), []).append((weakref.ref(node), place))

    def preserve(self, changing: Variable) -> None:
        """Give the nodes that saved this memory copies of their own."""
        for reference, place in self._kept.pop(id(changing.version), ()):
            node = reference()
            if node is None or node.saved is None:
                continue
            current = next((v for p, v, e in node.versions if p == place and v[0] == e), None)
            if current is changing.version:
                node.saved[place] = backend_of(node.saved[place]).clone(node.saved[place])
                node.watch(place, UNCHECKED)

    def clear(self) -> None:
        """Forget all saved arrays."""
        self._kept.clear()


@contextlib.contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_Preserved]:
    """Within it, saved tensors may be changed in place: nodes then get copies of what they saved.

    >>> import gradx
    >>> with allow_mutation_on_saved_tensors():
    ...     x = gradx.ones(2, requires_grad=True)
    ...     y = x.clone()
    ...     z = (y * y).sum()
    ...     _ = y.sin_()
    ...     gradx.autograd.grad(z, x)
    (tensor([2., 2.]),)
    """
    preserved = _Preserved()
    before, mode.saving = mode.saving, preserved.note
    mode.settle()
    mode.changing += (preserved.preserve,)
    try:
        yield preserved
    finally:
        mode.saving = before
        mode.settle()
        mode.changing = tuple(listener for listener in mode.changing if listener != preserved.preserve)


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[[Any], None], *, mode: str = "all") -> HandleGroup:
    """Call `fn` when the gradients of several tensors are there.

    Args:
        mode: "all" waits for all of `tensors` that the backward pass computes, and gives a list of their gradients, None
            for the others; "any" gives the first.

    Raises:
        ValueError: `mode` is neither.
        RuntimeError: a tensor does not require grad.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    group = _Group([edge_of(t)[0] for t in _requiring_grad(tensors)], fn, all_of_them=mode == "all")
    return HandleGroup([t.register_hook(group.hook(i)) for i, t in enumerate(tensors)])


def _requiring_grad(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    for t in tensors:
        if not t.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    return tensors


class _Group:
    """The gradients of several tensors, gathered for each backward pass."""

    def __init__(self, nodes: list[Node], fn: Callable[[Any], None], all_of_them: bool) -> None:
        self._nodes = nodes
        self._fn = fn
        self._all = all_of_them
        self._lock = threading.Lock()
        self._arrived: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    def hook(self, i: int) -> Callable[[Any], None]:
        """The hook of the tensor at place `i`."""

        def collect(grad: Any) -> None:
            walk = engine.running.walk
            assert walk is not None
            with self._lock:
                arrived = self._arrived.setdefault(walk, [None] * len(self._nodes))
                first = all(g is None for g in arrived)
                arrived[i] = grad
                expected = [walk.will_visit(node) for node in self._nodes]
                complete = all(g is not None for g, awaited in zip(arrived, expected, strict=True) if awaited)
            if self._all and complete:
                self._fn(arrived)
            elif not self._all and first:
                self._fn(grad)

        return collect
