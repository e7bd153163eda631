"""A tensor's place on the tape: what it was computed from, and its gradient."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from gradx import differentiate, tape
from gradx.methods.description import DescriptionMethods
from gradx.tape import Node, Variable

if TYPE_CHECKING:
    from typing import Self


class HistoryMethods(DescriptionMethods):
    """What concerns gradients."""

    __slots__ = ()

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. May be set on leaves."""
        tape.refresh(self)
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for gradients, or no longer, from now on: what was computed before stays as it was recorded.

        Raises:
            RuntimeError: the elements are not floating-point; or a tensor that is no leaf shall stop requiring grad.
        """
        if requires_grad and not (self.dtype.is_floating_point or self.dtype.is_complex):
            raise RuntimeError(
                "only Tensors of floating point and complex dtype can require gradients. This one holds "
                f"{self.dtype}: convert it with .to(gradx.float32) first."
            )
        if requires_grad and self.dtype.is_complex:
            raise NotImplementedError(
                "gradients of complex tensors are not supported yet. Use the real and imaginary parts."
            )
        if not requires_grad and self.node is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        self.needs_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The node that recorded how this tensor was computed; None for leaves."""
        tape.refresh(self)
        return self.node

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was not computed from others that require grad."""
        return self.grad_fn is None

    @property
    def grad(self) -> Self | None:
        """The gradient accumulated by `backward`, for leaves and where `retain_grad` asked for it."""
        return self._grad  # type: ignore[return-value]

    @grad.setter
    def grad(self, value: Self | None) -> None:
        if value is not None:
            if not isinstance(value, Variable):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with grad_dtype '{self.dtype}'. "
                    "Convert it with .to(dtype)."
                )
            if value.device != self.device:
                raise RuntimeError(
                    f"assigned grad has data located on a different device: {value.device}, while the tensor is on {self.device}"
                )
            if value.shape != self.shape:
                raise RuntimeError(
                    f"assigned grad has data of a different size: {list(value.shape)} instead of {list(self.shape)}"
                )
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(
        self,
        gradient: Self | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add to the ``.grad`` of every leaf this tensor was computed from; see `gradx.autograd.backward`."""
        tensor: Any = self
        differentiate.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)

    def retain_grad(self) -> None:
        """Keep this tensor's gradient in ``.grad`` too, though it is no leaf.

        Raises:
            RuntimeError: the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.node is not None:
            if self.node.retained is None:
                self.node.retained = {}
            self.node.retained[self.output_nr] = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this tensor, which is no leaf."""
        kept = self.node.retained if self.node is not None else None
        reference = kept.get(self.output_nr) if kept else None
        return reference is not None and reference() is self

    def detach(self) -> Self:
        """The same elements in the same memory, without history."""
        return type(self)(self.array.view(), version=self.version)

    @property
    def data(self) -> Self:
        """The same elements in the same memory, without history; changes through it go unnoticed by the tape."""
        return type(self)(self.array.view())

    @property
    def _version(self) -> int:
        return self.version[0]
