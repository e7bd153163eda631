"""Tensor: an array, its gradient, its place on the tape. Its methods call operations."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from gradx import dtypes, printing, tape
from gradx.backends import Array, backend_of
from gradx.device import device
from gradx.inplace import InplaceMethods
from gradx.methods import OpMethods
from gradx.ops import join, transfer
from gradx.ops.shape import permute
from gradx.placement import resolve
from gradx.tape import Node


class Size(tuple[int, ...]):
    """A shape: a tuple that prints like torch's."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        total = 1
        for n in self:
            total *= n
        return total

    def __repr__(self) -> str:
        return f"gradx.Size({list(self)})"


class Tensor(OpMethods, InplaceMethods):
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

    # ---- description -----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The length of each dimension."""
        return Size(self.array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of dimension `dim`."""
        return self.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim  # type: ignore[no-any-return]

    ndimension = dim

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim  # type: ignore[no-any-return]

    def numel(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    nelement = numel

    @property
    def dtype(self) -> dtypes.dtype:
        """The type of the elements."""
        return dtypes.of_numpy(self.array.dtype)

    @property
    def device(self) -> device:
        """Where the elements are."""
        return backend_of(self.array).device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        """Whether the elements are on a CUDA device."""
        return self.device.type == "cuda"

    def element_size(self) -> int:
        """Bytes per element."""
        return int(self.array.itemsize)

    def stride(self) -> tuple[int, ...]:
        """For each dimension, how many elements apart its neighbours are in memory."""
        return tuple(n // self.array.itemsize for n in self.array.strides)

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in row-major order without gaps."""
        return bool(self.array.flags.c_contiguous)

    def contiguous(self) -> Tensor:
        """The tensor itself if contiguous, else a copy that is."""
        return self if self.is_contiguous() else self.clone()

    def is_floating_point(self) -> bool:
        """Whether the elements are real floating-point numbers."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the elements are complex."""
        return self.dtype.is_complex

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions reversed."""
        return permute(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two dimensions exchanged."""
        return self.transpose(-2, -1)

    # ---- the tape ----------------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. May be set on leaves."""
        tape.refresh(self)
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
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
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward`, for leaves and where `retain_grad` asked for it."""
        return self._grad  # type: ignore[return-value]

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
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
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add to the ``.grad`` of every leaf this tensor was computed from; see `gradx.autograd.backward`."""
        from gradx.autograd import backward

        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

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

    def detach(self) -> Tensor:
        """The same elements in the same memory, without history."""
        return Tensor(self.array.view(), version=self.version)

    @property
    def data(self) -> Tensor:
        """The same elements in the same memory, without history; changes through it go unnoticed by the tape."""
        return Tensor(self.array.view())

    @property
    def _version(self) -> int:
        return self.version[0]

    # ---- conversion -----------------------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number. On CUDA this waits for the device.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor with {self.array.size} elements cannot be converted to Scalar")
        return self.array.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return backend_of(self.array).to_host(self.array).tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The NumPy array of the elements, sharing their memory.

        Args:
            force: detach, and copy from another device, instead of raising.

        Raises:
            RuntimeError: the tensor requires grad.
            TypeError: the tensor is not on the CPU.
        """
        if not force and self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead. What NumPy computes is "
                "not recorded."
            )
        if not force and self.device.type != "cpu":
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return backend_of(self.array).to_host(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy) if copy else np.asarray(array, dtype=dtype)

    @property
    def __cuda_array_interface__(self) -> Any:
        if not self.is_cuda:
            raise AttributeError("Can't get __cuda_array_interface__ on non-CUDA tensor. Use tensor.cuda() first.")
        return self.array.__cuda_array_interface__

    def to(self, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **ignored: Any) -> Tensor:
        """This tensor with another dtype, on another device, or both; itself if nothing changes and `copy` is off.

        ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``; gradients flow back through it.

        Raises:
            TypeError: an argument is neither dtype nor device nor tensor.
        """
        unknown = set(ignored) - {"non_blocking", "memory_format"}
        if unknown:
            raise TypeError(f"to() received an invalid combination of arguments - unexpected {sorted(unknown)}")
        flags = [arg for arg in args if isinstance(arg, bool_of)]  # non_blocking, copy
        copy = copy or flags[1:2] == [True]
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, (str, int, tape_device)) and not isinstance(arg, bool):
                device = arg
            elif isinstance(arg, bool):
                continue  # non_blocking: copies here are ordered with the stream anyway
            elif arg is not None:
                dtype = arg
        result = self if dtype is None else _cast(self, dtypes.as_dtype(dtype))
        target = None if device is None else resolve(device)
        if target is not None and target != self.device:
            result = transfer.move(result, self.device, target)
        return self.clone() if copy and result is self else result

    def cpu(self) -> Tensor:
        """This tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Tensor:
        """This tensor on a CUDA device, the current one unless given."""
        return self.to("cuda" if device is None else device)

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in the dtype and on the device of `other`."""
        return self.to(other)

    def float(self) -> Tensor:
        """This tensor as float32."""
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        """This tensor as float64."""
        return self.to(dtypes.float64)

    def half(self) -> Tensor:
        """This tensor as float16."""
        return self.to(dtypes.float16)

    def int(self) -> Tensor:
        """This tensor as int32, fractions dropped."""
        return self.to(dtypes.int32)

    def long(self) -> Tensor:
        """This tensor as int64, fractions dropped."""
        return self.to(dtypes.int64)

    def bool(self) -> Tensor:
        """This tensor as truth values: where it is not zero."""
        return self.to(dtypes.bool_)

    # ---- Python's protocols ------------------------------------------------------------------------------------------------------

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
        return bool_of(self.array.item())

    def __int__(self) -> Any:
        return int_of(self._number())

    def __float__(self) -> Any:
        return float_of(self._number())

    def _number(self) -> Any:
        if self.array.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.array.item()

    def __index__(self) -> Any:
        if self.array.size != 1 or self.array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int_of(self.array.item())

    def __len__(self) -> Any:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(join.unbind(self))

    def __contains__(self, element: Any) -> Any:
        return bool_of((self == element).any().item())


# Within the class `float`, `int` and `bool` are methods.
bool_of, int_of, float_of = bool, int, float
tape_device = device
Operand: TypeAlias = Tensor | Array | complex
TensorMask: TypeAlias = Tensor

tape.tensor_type = Tensor


def _cast(tensor: Tensor, target: dtypes.dtype) -> Tensor:
    if tensor.dtype is target:
        return tensor
    if target.is_floating_point or target.is_complex:
        return transfer.cast(tensor, target.dtype)
    return transfer.cast_discrete(tensor, target.dtype)
