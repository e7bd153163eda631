"""A tensor's place on the tape: what it was computed from, and its gradient."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradx import differentiate, modes, variables
from gradx.dtypes import INEXACT
from gradx.hooks import Hooks, RemovableHandle, register
from gradx.methods.description import DescriptionMethods
from gradx.tape import Node
from gradx.variables import Variable

if TYPE_CHECKING:
    from typing import Self


class HistoryMethods(DescriptionMethods):
    """What concerns gradients."""

    __slots__ = ()

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. May be set on leaves."""
        return variables.requires_grad(self)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.array.dtype.kind not in INEXACT:
            raise RuntimeError(
                f"only Tensors of floating point and complex dtype can require gradients. This one holds {self.dtype}: convert "
                "it with .to(gradx.float32) first."
            )
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for gradients, or no longer, from now on: what was computed before stays as it was recorded.

        Raises:
            RuntimeError: the elements are not floating-point; or a tensor that is no leaf shall stop requiring grad.
        """
        if requires_grad and not (self.dtype.is_floating_point or self.dtype.is_complex):
            raise RuntimeError(
                "only Tensors of floating point dtype can require gradients. This one holds "
                f"{self.dtype}: convert it with .to(gradx.float32) first."
            )
        if not requires_grad and self.node is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        if requires_grad and self.version is None and not modes.is_inference_mode_enabled():
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        self.needs_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The node that recorded how this tensor was computed; None for leaves."""
        variables.refresh(self)
        return self.node

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was not computed from others that require grad."""
        return self.grad_fn is None

    @property
    def grad(self) -> Self | None:
        """The gradient accumulated by `backward`, for leaves and where `retain_grad` asked for it."""
        if self._grad is None and self.node is not None and self.needs_grad and not self.retains_grad:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
                "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf "
                "Tensor, use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure "
                "you access the leaf Tensor instead.",
                stacklevel=2,
            )
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
            given, own = value.dtype.type_name, self.dtype.title
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{given}' to a tensor with grad_dtype '{own}'. Convert it with "
                    ".to(dtype)."
                )
            if value.device != self.device:
                raise RuntimeError(
                    f"attempting to assign a gradient with device type '{value.device}' to a tensor with device type "
                    f"'{self.device}'. Move it with .to(device)."
                )
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size '{list(self.shape)}'. "
                    "Please ensure that the gradient and the tensor are the same size."
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

    def register_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Call `hook` with this tensor's gradient whenever one has been computed; what it returns, if not None, replaces it.

        Returns:
            A handle whose `remove()` takes the hook back.

        Raises:
            RuntimeError: the tensor does not require grad.

        >>> import gradx
        >>> x = gradx.tensor(3.0, requires_grad=True)
        >>> handle = x.register_hook(lambda g: 10 * g)
        >>> (x * x).backward()
        >>> x.grad
        tensor(60.)
        """
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        return register(self._hooks().tensor.setdefault(self.output_nr, {}), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Any], None]) -> RemovableHandle:
        """Call `hook` with this leaf whenever its ``.grad`` has been added to.

        Raises:
            RuntimeError: the tensor does not require grad, or is no leaf.
        """
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self.node is not None:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        return register(self._hooks().accumulated, hook)

    def _hooks(self) -> Hooks:
        """The hooks of the node whose output this is; of a leaf, its own."""
        if self.node is not None:
            return self.node.hooks_to_write()
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def retain_grad(self) -> None:
        """Keep this tensor's gradient in ``.grad`` too, though it is no leaf.

        Raises:
            RuntimeError: the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.node is not None:
            self._hooks().retained[self.output_nr] = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this tensor, which is no leaf."""
        hooks = self.node.hooks if self.node is not None else None
        reference = hooks.retained.get(self.output_nr) if hooks else None
        return reference is not None and reference() is self

    def detach(self) -> Self:
        """The same elements in the same memory, without history."""
        return type(self)(self.array.view(), version=self.version)

    @property
    def data(self) -> Self:
        """The same elements in the same memory, without history; changes through it go unnoticed by the tape."""
        return type(self)(self.array.view())

    @data.setter
    def data(self, new: Variable) -> None:
        """Put other elements in the place of this tensor's, of any shape; what the tape has saved stays as it was."""
        if not isinstance(new, Variable):
            raise TypeError(f"Variable data has to be a tensor, but got {type(new).__name__}")
        self.array = new.array

    @property
    def _version(self) -> int:
        if self.version is None:
            raise RuntimeError("Inference tensors do not track version counter.")
        return int(self.version[0])

    def is_inference(self) -> bool:
        """Whether the tensor was made in `inference_mode`."""
        return self.version is None

    def detach_(self) -> Self:
        """Forget, in place, what this tensor was computed from.

        Raises:
            RuntimeError: it is a view.
        """
        if self._view is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
                "detach_() cannot be called on these gradients. To fix this error, please refer to the Optimizer.zero_grad() "
                "function in torch/optim/optimizer.py as a solution."
            )
        self.node, self.output_nr, self.needs_grad = None, 0, False
        return self
