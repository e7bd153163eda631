"""What a node keeps for its backward pass, and how it becomes tensors again.

Raw arrays are kept, never the tensors: a node that held its own output would keep itself alive. With each array goes
where its gradient goes (so that the saved tensor gets its history back) and its version (so that a change is noticed).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from gradx import dtypes, modes, tape, variables
from gradx.backends import backend_of
from gradx.tape import Edge, Node
from gradx.variables import Variable


class Packed(NamedTuple):
    """What the user's `pack` made of a saved tensor, and the `unpack` that makes a tensor of it again."""

    value: Any
    unpack: Callable[[Any], Any]


UNCHECKED: list[Any] = [math.nan]  # the version of what nobody watches: it equals none, not even itself


class SavingNode(Node):
    """A node that keeps values for its backward pass.

    Attributes:
        saved: the values, None once they are freed.
        versions: for each of them that is an array: its place in `saved`, the cell of its version, its version then.
    """

    __slots__ = ("saved", "versions")

    saved: list[Any] | None
    versions: tuple[tuple[int, list[Any], int], ...]

    def origin_of(self, place: int) -> Edge | None:
        """Where the gradient of a saved array goes."""
        raise NotImplementedError

    def release(self) -> None:
        if self.versions:  # as in torch, a node that saved no arrays can be walked again
            self.saved = None
            self.versions = ()

    def values(self, graph: bool) -> list[Any]:
        """The saved values, the arrays among them as tensors if `graph`.

        Raises:
            RuntimeError: they were freed, or one was changed in place.
        """
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        if graph:
            return self._tensors(self.saved)
        saved = self.saved
        for place, version, expected in self.versions:
            if version is UNCHECKED:
                saved = list(saved)
                saved[place] = unpacked(saved[place])
            elif version[0] != expected:
                self._raise_changed(place, version[0], expected)
        return saved

    def _tensors(self, saved: list[Any]) -> list[Any]:
        values = list(saved)
        for place, _, _ in self.versions:
            values[place] = self.tensor(place)
        return values

    def tensor(self, place: int) -> Variable:
        """A saved array as the tensor it was: the leaf itself, or a tensor with the same history."""
        if self.saved is None:
            raise RuntimeError(tape.FREED)
        value, edge = self.saved[place], self.origin_of(place)
        version, expected = next((v, e) for p, v, e in self.versions if p == place)
        if version is UNCHECKED:
            return with_history(variables.tensor_type(unpacked(value)), edge)
        if version[0] != expected:
            self._raise_changed(place, version[0], expected)
        if edge is not None and isinstance(edge[0], tape.AccumulateGrad):
            return edge[0].variable
        return with_history(variables.tensor_type(value), edge)

    def pack(self, place: int, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
        """Keep, instead of a saved array, what `pack` makes of it as a tensor."""
        assert self.saved is not None
        tensor = variables.tensor_type(self.saved[place])
        with modes.no_grad():
            packed = pack(tensor)
        if tensor.version is not None and tensor.version[0]:
            raise RuntimeError("A saved tensor pack hook is modifying its input in place.")
        self.saved[place] = Packed(packed, unpack)
        self.watch(place, UNCHECKED)

    def watch(self, place: int, version: list[Any]) -> None:
        """From now on, let another version tell of changes of a saved array."""
        expected = version[0]
        self.versions = tuple([(p, version, expected) if p == place else (p, v, e) for p, v, e in self.versions])

    def _raise_changed(self, place: int, version: int, expected: int) -> NoReturn:
        assert self.saved is not None
        array, edge = self.saved[place], self.origin_of(place)
        cell = next(v for p, v, _ in self.versions if p == place)
        changed_by = cell[1] if len(cell) > 1 else ""
        if changed_by and not backend_of(array).owns_memory(array):
            changed_by = "output 0 of AsStrided"  # by which torch takes views again after a change
        if edge is None or isinstance(edge[0], tape.AccumulateGrad):
            maker = changed_by
        else:
            maker = changed_by if changed_by and edge[0] is not self else edge[0].output_name(edge[1])
        origin = f", which is {maker}," if maker else ""
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[gradx.{dtypes.of_numpy(array.dtype).title}Tensor {list(array.shape)}]{origin} is at version {version}; "
            f"expected version {expected} instead. {self.name()} saved it when it was recorded: clone() it before changing "
            "it in place, or use the out-of-place operation. Hint: enable anomaly detection to see which line that was, with "
            "gradx.autograd.set_detect_anomaly(True, check_nan=False)."
        )


def unpacked(value: Any) -> Any:
    """The array that was packed; an array that was not, as it is."""
    if not isinstance(value, Packed):
        return value
    with modes.no_grad():
        tensor = value.unpack(value.value)
    if not isinstance(tensor, Variable):
        raise TypeError(
            f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(tensor).__name__}"
        )
    return tensor.array


def with_history(tensor: Variable, edge: Edge | None) -> Variable:
    """`tensor`, its gradient going to `edge`."""
    if edge is not None:
        tape.attach(tensor, *edge)
    return tensor


class SavedTensor:
    """A saved tensor as it is kept: ``grad_fn._raw_saved_self`` and its like."""

    def __init__(self, node: SavingNode, place: int) -> None:
        self._node = node
        self._place = place

    def register_hooks(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        """Keep what `pack_hook` makes of the tensor, and make it a tensor again by `unpack_hook`.

        Raises:
            RuntimeError: the tensor was freed, or has hooks already.
        """
        if self._node.saved is None:
            raise RuntimeError(tape.FREED)
        if isinstance(self._node.saved[self._place], Packed):
            raise RuntimeError(
                "Calling register_hooks on a saved tensor whose hooks have already been set. Hint: only one pair of hooks is "
                "allowed at a time."
            )
        self._node.pack(self._place, pack_hook, unpack_hook)
