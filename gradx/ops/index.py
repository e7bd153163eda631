"""Indexing. Integers and slices give views; index tensors and masks give copies, whose gradient adds up repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx.backends import backend_of, is_array
from gradx.op import op
from gradx.ops.dims import wrap
from gradx.samples import S, T, samples
from gradx.tape import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor

Shape = tuple[int, ...]
Index = tuple[Any, ...]


@op(view=True, input=lambda g, input_shape, index: slice_backward(g, input_shape, index))
def _slice(input: Tensor, index: Index) -> Tensor:
    """Basic indexing: a view."""


@op(grad_output=lambda g, index: _slice(g, index))
def slice_backward(grad_output: Tensor, shape: Shape, index: Index) -> Tensor:
    """Zeros of `shape` with `grad_output` at `index`: the transpose of basic indexing."""


@op(input=lambda g, input_shape, index: index_backward(g, input_shape, index))
def _index(input: Tensor, index: Index) -> Tensor:
    """Advanced indexing: a copy."""


@op(grad_output=lambda g, index: _index(g, index))
def index_backward(grad_output: Tensor, shape: Shape, index: Index) -> Tensor:
    """Zeros of `shape` to which `grad_output` is added at `index`, repeats adding up."""


def getitem(input: Tensor, index: Any) -> Tensor:
    """`input[index]`, with integers, slices, None, ..., and tensors, arrays or lists of integers or truth values.

    Raises:
        IndexError: an index is out of range, there are too many, or one is of a type that cannot index.
        ValueError: a slice has a step that is not positive.
    """
    index, advanced = normalise(input, index)
    try:
        return _index(input, index) if advanced else _slice(input, index)
    except IndexError as error:
        raise IndexError(_as_torch_says(str(error), input)) from None


def _as_torch_says(message: str, input: Tensor) -> str:
    """The array library's complaint about an index in torch's words."""
    ndim = len(input.shape)
    if message.startswith("too many indices"):
        if ndim == 0:
            return "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++"
        return f"too many indices for tensor of dimension {ndim}"
    return message.replace("for axis", "for dimension").replace(
        "boolean index did not match", "The shape of the mask does not match"
    )


def normalise(input: Any, index: Any) -> tuple[Index, bool]:
    """An index as a tuple of what arrays are indexed with, and whether it is advanced. Index arrays are copied, so
    that what the backward pass uses cannot change."""
    items = index if isinstance(index, tuple) else (index,)
    result: list[Any] = []
    advanced = False
    for item in items:
        if isinstance(item, Variable) or is_array(item):
            array = item.array if isinstance(item, Variable) else item
            if array.dtype.kind not in "iub":
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            if not array.ndim and array.dtype.kind != "b" and not isinstance(item, Variable):
                item = int(array)
            else:
                item, advanced = array.copy(), True
        elif isinstance(item, (bool, list, range)):
            item, advanced = _index_array(input, item), True
        elif isinstance(item, slice):
            if item.step is not None and item.step <= 0:
                raise ValueError("step must be greater than zero")
            item = slice(*(None if v is None else v.__index__() for v in (item.start, item.stop, item.step)))
        elif item is not None and item is not Ellipsis:
            if not hasattr(item, "__index__"):
                raise IndexError(
                    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                    f"(got {type(item).__name__})"
                )
            item = item.__index__()
        result.append(item)
    return tuple(result), advanced


def _index_array(like: Any, value: Any) -> Any:
    """A list, range or truth value as an index array on the device of `like`."""
    array = like.array if isinstance(like, Variable) else like
    made = backend_of(array).xp.asarray(list(value) if isinstance(value, range) else value)
    return made if made.size else made.astype("int64")


@samples(S(T(3, 4), 0, 1), S(T(3, 4), -1, -2), S(T(3), 0, 0))
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of the slice at `index` along `dim`, without that dimension."""
    dim = wrap(dim, len(input.shape))
    return _slice(input, (*[slice(None)] * dim, index))


@samples(S(T(3, 4), 1, 1, 2), S(T(3), 0, 0, 3))
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of `length` elements from `start` along `dim`."""
    dim = wrap(dim, len(input.shape))
    size = input.shape[dim]
    if start < 0:
        start += size
    if length < 0 or start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return _slice(input, (*[slice(None)] * dim, slice(start, start + length)))


@op(input=lambda g, input_shape, dim, index: gather_backward(g, input_shape, dim, index))
def _gather(input: Tensor, dim: int, index: Any) -> Tensor:
    """`gather` with a raw index array."""


@op(grad_output=lambda g, dim, index: _gather(g, dim, index))
def gather_backward(grad_output: Tensor, shape: Shape, dim: int, index: Any) -> Tensor:
    """Zeros of `shape` to which `grad_output` is added at `index` along `dim`, repeats adding up."""


@samples(S(T(3, 4), 1, T(3, 2, low=0, high=4, integer=True)), S(T(3, 4), 0, T(2, 4, low=0, high=3, integer=True)))
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements of `input` at the places in `index` along `dim`; the result is shaped like `index`.

    >>> import gradx
    >>> gradx.gather(gradx.tensor([[1, 2], [3, 4]]), 1, gradx.tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    places = index.array.copy() if isinstance(index, Variable) else index
    return _gather(input, wrap(dim, len(input.shape)), places)


@samples(S(T(3, 4), 0, T(5, low=0, high=3, integer=True)), S(T(3, 4), 1, T(2, low=0, high=4, integer=True)))
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` at the places in `index` along `dim`."""
    dim = wrap(dim, len(input.shape))
    return _index(input, (*[slice(None)] * dim, index.array.copy()))
