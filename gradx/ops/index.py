"""Indexing. Integers and slices give views; index tensors and masks give copies, whose gradient adds up repeats."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.backends import backend_of, is_array
from gradx.op import op, renamed
from gradx.ops.dims import wrap
from gradx.ops.transfer import cast
from gradx.samples import S, T, samples
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor, TensorMask

Shape = tuple[int, ...]
Index = tuple[Any, ...]


@op(view=True, input=lambda g, input_shape, index: slice_backward(g, input_shape, index))
def _slice(input: Tensor, index: Index) -> Tensor:
    """Basic indexing: a view."""


_select = renamed("slice", "SelectBackward0")
_unsqueeze = renamed("slice", "UnsqueezeBackward0")
_whole = renamed("slice", "AliasBackward0")


@op(grad_output=lambda g, index: _slice(g, index))
def slice_backward(grad_output: Tensor, shape: Shape, index: Index) -> Tensor:
    """Zeros of `shape` with `grad_output` at `index`: the transpose of basic indexing."""


@op(input=lambda g, input_shape, index: index_backward(g, input_shape, index))
def _index(input: Tensor, index: Index) -> Tensor:
    """Advanced indexing: a copy."""


_index_select = renamed("index", "IndexSelectBackward0")


@op(grad_output=lambda g, index: _index(g, index))
def index_backward(grad_output: Tensor, shape: Shape, index: Index) -> Tensor:
    """Zeros of `shape` to which `grad_output` is added at `index`, repeats adding up."""


@op(
    input=lambda g, index: index_put(g, 0, index),
    value=lambda g, index: _index(g, index),
)
def index_put(input: Tensor, value: TensorMask, index: Index) -> Tensor:
    """A copy of `input` with `value`, of its dtype, broadcast over what is at `index`."""


def getitem(input: Tensor, index: Any) -> Tensor:
    """`input[index]`, with integers, slices, None, ..., and tensors, arrays or lists of integers or truth values.

    Raises:
        IndexError: an index is out of range, there are too many, or one is of a type that cannot index.
        ValueError: a slice has a step that is not positive.
    """
    view, advanced = resolve(input, index)
    if advanced is None:
        return view
    try:
        return _index(view, advanced)
    except IndexError as error:
        raise IndexError(_as_torch_says(str(error), view, advanced)) from None


def resolve(input: Tensor, index: Any) -> tuple[Tensor, Index | None]:
    """The view that the basic part of an index takes, and the advanced part to apply to that, if there is one.

    Raises:
        IndexError, ValueError: as `getitem`.
    """
    index, advanced = normalise(input, index)
    basic, rest = split(index) if advanced else (index, None)
    try:
        return input if basic is None else _view_of(basic)(input, basic), rest
    except IndexError as error:
        raise IndexError(_as_torch_says(str(error), input, index)) from None


def _view_of(index: Index) -> Any:
    """The operation that takes basic indices, under the name of the last step that torch would take."""
    for item in reversed(index):
        if isinstance(item, int):
            return _select
        if item is None:
            return _unsqueeze
        if item is not Ellipsis and item != slice(None):
            return _slice
    return _whole


def put(input: Tensor, value: Any, index: Index) -> Tensor:
    """`index_put`, with torch's errors.

    Args:
        value: a number, or a tensor that broadcasts to what is at `index`.
    """
    own = input.array.dtype
    if isinstance(value, Variable) and value.array.dtype != own:
        mask = len(index) == 1 and index[0].dtype.kind == "b"
        if value.array.ndim or not mask:
            index_put(input, cast(value, own), index)  # type: ignore[arg-type]  # raises if the shapes do not fit: torch says that first
            source, destination = dtypes.of_numpy(value.array.dtype).title, dtypes.of_numpy(own).title
            raise RuntimeError(
                f"Index put requires the source and destination dtypes match, got {destination} for the destination and "
                f"{source} for the source."
            )
        value = cast(value, own)  # type: ignore[arg-type]
    try:
        return index_put(input, value, index)
    except IndexError as error:
        raise IndexError(_as_torch_says(str(error), input, index)) from None


def split(index: Index) -> tuple[Index | None, Index]:
    """An advanced index as a basic one to apply first, if it has integers, and an advanced one without.

    An integer takes its dimension away before the arrays are looked at, as in torch. NumPy counts it among the arrays,
    which puts their dimensions elsewhere: `x[0, :, array]`.
    """
    if not builtins.any(isinstance(item, int) for item in index):
        return None, index
    basic: list[Any] = []
    for item in index:
        if not hasattr(item, "dtype"):
            basic.append(item)
        else:
            basic.extend([slice(None)] * (item.ndim if item.dtype.kind == "b" else 1))
    rest = (slice(None) if item is None or isinstance(item, slice) else item for item in index if type(item) is not int)
    return tuple(basic), tuple(rest)


def _as_torch_says(message: str, input: Tensor, index: Index) -> str:
    """The array library's complaint about an index in torch's words."""
    ndim = len(input.shape)
    if message.startswith("too many indices"):
        if ndim == 0:
            return "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++"
        return f"too many indices for tensor of dimension {ndim}"
    arrays = [item for item in index if hasattr(item, "dtype")]
    if message.startswith("boolean index did not match"):
        return _mask_misfit(tuple(input.shape), index)
    if message.startswith("shape mismatch"):
        shapes = ", ".join(str(list(item.shape)) for item in arrays)
        return f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
    return message.replace("for axis", "for dimension")


def _mask_misfit(shape: Shape, index: Index) -> str:
    """Torch's sentence about the first mask whose shape is not that of the dimensions it masks."""
    dim = 0
    for item in index:
        if hasattr(item, "dtype") and item.dtype.kind == "b":
            for d, n in enumerate(item.shape):
                if dim + d < len(shape) and shape[dim + d] != n:
                    return (
                        f"The shape of the mask {list(item.shape)} at index {d} does not match the shape of the indexed "
                        f"tensor {list(shape)} at index {dim + d}"
                    )
            dim += item.ndim
        elif item is Ellipsis:
            dim = len(shape) - len(index) + index.index(item) + 1
        elif item is not None:
            dim += 1
    return f"The shape of the mask does not match the shape of the indexed tensor {list(shape)}"


def normalise(input: Any, index: Any) -> tuple[Index, bool]:
    """An index as a tuple of what arrays are indexed with, and whether it is advanced. Index arrays are copied, so
    that what the backward pass uses cannot change."""
    if isinstance(index, list) and builtins.any(_is_index(item) for item in index):
        index = tuple(index)  # torch and old versions of NumPy take a list that holds indices for a tuple of them
    items = index if isinstance(index, tuple) else (index,)
    result: list[Any] = []
    advanced = False
    for item in items:
        if item is Ellipsis and builtins.any(before is Ellipsis for before in result):
            continue  # torch lets more than one pass
        if isinstance(item, Variable) or is_array(item):
            array = item.array if isinstance(item, Variable) else item
            if array.dtype.kind not in "iub":
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            if not array.ndim and array.dtype.kind != "b" and not isinstance(item, Variable):
                item = int(array)
            else:
                item, advanced = backend_of(array).clone(array), True
        elif isinstance(item, (bool, list, range)):
            item, advanced = _index_array(input, item), True
        elif isinstance(item, slice):
            item = _whole_slice(item)
        elif item is not None and item is not Ellipsis:
            if not hasattr(item, "__index__"):
                raise (TypeError if isinstance(item, str) else IndexError)(
                    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                    f"(got {type(item).__name__})"
                )
            item = item.__index__()
        result.append(item)
    return tuple(result), advanced


def _is_index(item: Any) -> bool:
    """Whether an item of a list is an index of its own, not a number among others."""
    return item is None or item is Ellipsis or isinstance(item, (slice, list, tuple, Variable)) or is_array(item)


def _whole_slice(item: slice) -> slice:
    """The slice with Python integers."""
    try:
        start, stop, step = (None if v is None else v.__index__() for v in (item.start, item.stop, item.step))
    except AttributeError:
        raise TypeError("slice indices must be integers or None or have an __index__ method") from None
    if step is not None and step <= 0:
        raise ValueError(
            "slice step cannot be zero"
            if step == 0
            else "step must be greater than zero. Use flip to reverse an order."
        )
    return slice(start, stop, step)


def _index_array(like: Any, value: Any) -> Any:
    """A list, range or truth value as an index array on the device of `like`."""
    array = like.array if isinstance(like, Variable) else like
    made = backend_of(array).xp.asarray(list(value) if isinstance(value, range) else value)
    return made if made.size else made.astype("int64")


@samples(S(T(3, 4), 0, 1), S(T(3, 4), -1, -2), S(T(3), 0, 0))
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of the slice at `index` along `dim`, without that dimension."""
    dim = wrap(dim, len(input.shape))
    if not input.shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    if not -input.shape[dim] <= index < input.shape[dim]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {dim}"
        )
    return _select(input, (*[slice(None)] * dim, index))  # type: ignore[no-any-return]


@samples(S(T(3, 4), 1, 1, 2), S(T(3), 0, 0, 3))
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of `length` elements from `start` along `dim`."""
    if not input.shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
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


def require_within(index: Any, size: int, dim: int) -> None:
    """Raise RuntimeError unless all of a raw `index` are from 0 to below `size`. On CUDA, where to look is to wait, the
    kernels deal with those that are not."""
    if index.size and backend_of(index).synchronous:
        for place in (index.min(), index.max()):
            if not 0 <= place < size:
                raise RuntimeError(f"index {place} is out of bounds for dimension {dim} with size {size}")


@samples(S(T(3, 4), 1, T(3, 2, low=0, high=4, integer=True)), S(T(3, 4), 0, T(2, 4, low=0, high=3, integer=True)))
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements of `input` at the places in `index` along `dim`; the result is shaped like `index`.

    >>> import gradx
    >>> gradx.gather(gradx.tensor([[1, 2], [3, 4]]), 1, gradx.tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    dim = wrap(dim, len(input.shape))
    places = backend_of(index.array).clone(index.array) if isinstance(index, Variable) else index
    if places.dtype.name not in ("int32", "int64"):
        raise RuntimeError(f"gather(): Expected dtype int32/int64 for index. It is {places.dtype.name}.")
    if len(input.shape) != places.ndim:
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for d, (mine, theirs) in enumerate(zip(places.shape, input.shape, strict=True)):
        if d != dim and mine > theirs:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(places.shape)} to be no larger than self "
                f"{list(input.shape)} apart from dimension {dim}"
            )
    if places.ndim:
        require_within(places, input.shape[dim], dim)
    return _gather(input, dim, places)


@samples(S(T(3, 4), 0, T(5, low=0, high=3, integer=True)), S(T(3, 4), 1, T(2, low=0, high=4, integer=True)))
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` at the places in `index` along `dim`."""
    dim = wrap(dim, len(input.shape))
    places = backend_of(index.array).clone(index.array.reshape(-1))
    if places.dtype.name not in ("int32", "int64"):
        raise RuntimeError(f"index_select(): Expected dtype int32 or int64 for index. It is {places.dtype.name}.")
    require_within(places, input.shape[dim], dim)
    return _index_select(input, (*[slice(None)] * dim, places))  # type: ignore[no-any-return]
