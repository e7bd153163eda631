"""Tensor: an array, its gradient, its place on the tape. Its methods call operations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

from gradx import dtypes, printing, serialization, variables
from gradx.backends import Array, backend_of
from gradx.methods.conversion import ConversionMethods
from gradx.methods.inplace import InplaceMethods
from gradx.methods.operations import OperationMethods
from gradx.methods.random import RandomMethods
from gradx.ops import join


class Tensor(OperationMethods, InplaceMethods, RandomMethods, ConversionMethods):
    """An n-dimensional array that can record what is computed from it.

    Make one with `gradx.tensor`, `gradx.as_tensor`, `gradx.zeros` and their like.

    Attributes:
        array: the NumPy or CuPy array itself. Writing to it directly escapes the check for in-place changes.

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's operators leave `ndarray + tensor` to the tensor

    def __repr__(self) -> str:
        where = self.device
        return printing.tensor_repr(
            backend_of(self.array).to_host(self.array),
            dtype_name=self.dtype.name,
            default_dtype_name=dtypes.get_default_dtype().name,
            device=None if where.type == "cpu" else str(where),
            requires_grad=self.requires_grad,
            grad_fn=None if self.node is None else self.node.name(),
        )

    def __format__(self, spec: str) -> str:
        return repr(self) if self.ndim or type(self) is not Tensor else format(self.item(), spec)

    def __bool__(self) -> Any:
        if self.array.size != 1:
            many = "no values" if self.array.size == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {many} is ambiguous")
        return bool(self.array.item())

    def __int__(self) -> Any:
        return int(self._number())

    def __float__(self) -> Any:
        return float(self._number())

    def _number(self) -> Any:
        if self.array.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.array.item()

    def __index__(self) -> Any:
        if self.array.size != 1 or self.array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.array.item())

    def __len__(self) -> Any:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(join.unbind(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.grad_fn is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If "
                "you were attempting to deepcopy a module, this may be because of a gradx.nn.utils.weight_norm usage. "
                "Use detach() or clone()."
            )
        if id(self) not in memo:
            copied = type(self)(backend_of(self.array).clone(self.array), self.needs_grad)
            copied._grad = copy.deepcopy(self._grad, memo)
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return serialization.reduce(self)

    def __contains__(self, element: Any) -> Any:
        return bool((self == element).any().item())


Operand: TypeAlias = Tensor | Array | complex
TensorMask: TypeAlias = Tensor

variables.tensor_type = Tensor
