"""Operations that rearrange elements: views where torch gives views, and the broadcast with its transpose, `sum_to`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.op import op, renamed
from gradx.ops.dims import wrap, wrap_all
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor

Shape = tuple[int, ...]


@op(name="SumToSizeBackward0", input=lambda g, input_shape: expand(g, input_shape))
def sum_to(input: Tensor, shape: Shape) -> Tensor:
    """The sum over the dimensions along which `shape` broadcasts to that of `input`: the transpose of `expand`."""


@op(view=True, name="ExpandBackward0", input=lambda g, input_shape: sum_to(g, input_shape))
def _expand(input: Tensor, shape: Shape) -> Tensor:
    """`expand` to a complete shape."""


@samples(S(T(3, 1), (3, 4)), S(T(3), (2, 3)), S(T(), (2,)), S(T(1, 3), (-1, 3)), oracle="Tensor.expand")
def expand(input: Tensor, *sizes: int | Sequence[int]) -> Tensor:
    """`input` repeated along dimensions of length 1, and along new ones in front, without copying.

    Args:
        sizes: the new shape, -1 for a dimension that stays.

    Raises:
        RuntimeError: a dimension that is not 1 would have to change.

    >>> import gradx
    >>> gradx.tensor([[1.0], [2.0]]).expand(2, 3)
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    shape = input.shape
    wanted = flat(sizes)
    lead = len(wanted) - len(shape)
    if lead < 0:
        array: Any = getattr(input, "array", input)
        kind = dtypes.of_numpy(array.dtype).title
        raise RuntimeError(
            f"expand(gradx.{kind}Tensor{{{list(shape)}}}, size={list(wanted)}): the number of sizes provided "
            f"({len(wanted)}) must be greater or equal to the number of dimensions in the tensor ({len(shape)})"
        )
    new = list(wanted)
    for d, n in enumerate(wanted):
        old = shape[d - lead] if d >= lead else None
        if n == -1 and old is None:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {d}"
            )
        if n == -1:
            new[d] = old  # type: ignore[assignment]
        elif old not in (None, 1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton dimension {d}."
                f"  Target sizes: {list(wanted)}.  Tensor sizes: {list(shape)}"
            )
    return _expand(input, tuple(new))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`input` expanded to the shape of `other`."""
    return expand(input, other.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """`input` expanded to the shape `size`."""
    return expand(input, *size)


@op(view=True, name="ViewBackward0", input=lambda g, input_shape: reshape(g, input_shape))
def _view(input: Tensor, shape: Shape) -> Tensor:
    """Another shape over the same memory."""


@op(name="UnsafeViewBackward0", input=lambda g, input_shape: reshape(g, input_shape))
def _reshape(input: Tensor, shape: Shape) -> Tensor:
    """Another shape, in new memory."""


@samples(S(T(3, 4), (4, 3)), S(T(3, 4), (2, -1)), S(T(2, 3, 2), (6, 2)), S(T(), (1, 1)), S(T(0, 3), (3, 0)))
def reshape(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """`input` with another shape: a view where its strides allow one, else a copy.

    Args:
        shape: the new lengths, one of which may be -1: what the others leave.

    Raises:
        RuntimeError: the number of elements differs.

    >>> import gradx
    >>> gradx.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    new = _complete(flat(shape), input.shape)
    try:
        return _view(input, new)
    except AttributeError:  # the strides do not allow it
        return _reshape(input, new)


def view(input: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """`input` with another shape over the same memory.

    Raises:
        RuntimeError: the number of elements differs, or the strides do not allow it (use `reshape`).
    """
    new = _complete(flat(shape), input.shape)
    try:
        return _view(input, new)
    except AttributeError:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        ) from None


def flat(sizes: Sequence[int | Sequence[int]]) -> Shape:
    """The lengths in `f(2, 3)` and in `f((2, 3))` alike."""
    if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
        return tuple(int(n) for n in sizes[0])
    return tuple(n.__index__() for n in sizes)  # type: ignore[union-attr]


def _complete(shape: Shape, old: Shape) -> Shape:
    """`shape` with its -1 filled in, checked against the number of elements in `old`."""
    size = math.prod(old)
    for i, n in enumerate(shape):
        if n < -1:
            raise RuntimeError(f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
    if shape.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    rest = math.prod(n for n in shape if n != -1)
    if -1 in shape:
        if rest == 0 and size == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 "
                "can be any value and is ambiguous"
            )
        if rest == 0 or size % rest:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {size}")
        return tuple(size // rest if n == -1 else n for n in shape)
    if rest != size or min(shape, default=0) < 0:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {size}")
    return shape


@functools.lru_cache(1024)
def _inverse(dims: Shape) -> Shape:
    return tuple(sorted(range(len(dims)), key=dims.__getitem__))


@op(view=True, name="PermuteBackward0", input=lambda g, dims: _permute(g, _inverse(dims)))
def _permute(input: Tensor, dims: Shape) -> Tensor:
    """`permute` with wrapped dimensions."""


@samples(S(T(2, 3, 4), (2, 0, 1)), S(T(2, 3), (-1, 0)), S(T(), ()))
def permute(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """A view with the dimensions in another order.

    Raises:
        RuntimeError: the number of `dims` is not that of the tensor's dimensions, or one appears twice.

    >>> import gradx
    >>> gradx.zeros(2, 3, 4).permute(2, 0, 1).shape
    gradx.Size([4, 2, 3])
    """
    order = flat(dims)
    ndim = len(input.shape)
    if len(order) != ndim:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}"
        )
    if len({wrap(d, ndim) for d in order}) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return _permute(input, tuple(wrap(d, ndim) for d in order))


_transpose = renamed("permute", "TransposeBackward0")
_t = renamed("permute", "TBackward0")


@samples(S(T(2, 3, 4), 0, 2), S(T(2, 3), -1, -2))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions exchanged.

    >>> import gradx
    >>> gradx.tensor([[1, 2], [3, 4]]).transpose(0, 1)
    tensor([[1, 3],
            [2, 4]])
    """
    order = list(range(len(input.shape)))
    if order:
        a, b = wrap(dim0, len(order)), wrap(dim1, len(order))
        order[a], order[b] = b, a
    return _transpose(input, tuple(order))  # type: ignore[no-any-return]


@samples(S(T(2, 3)), S(T(3)))
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and scalars as they are.

    Raises:
        RuntimeError: more than two dimensions.
    """
    if len(input.shape) > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {len(input.shape)}D")
    return _t(input, tuple(reversed(range(len(input.shape)))))  # type: ignore[no-any-return]


# Views for any strides: only dimensions of length 1 come or go.
_unsqueeze = renamed("view", "UnsqueezeBackward0")
_squeeze = tuple(renamed("view", f"SqueezeBackward{i}") for i in range(3))


@samples(S(T(2, 3), 0), S(T(2, 3), -1), S(T(), 0))
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a dimension of length 1 inserted before `dim`."""
    ndim = len(input.shape)
    d = wrap(dim, ndim + 1)
    return _unsqueeze(input, (*input.shape[:d], 1, *input.shape[d:]))  # type: ignore[no-any-return]


@samples(S(T(2, 1, 3, 1)), S(T(2, 1, 3), 1), S(T(2, 3), 0), S(T(1, 2, 1), (0, 2)))
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """A view without the dimensions of length 1, or without those of them in `dim`."""
    drop = wrap_all(dim, len(input.shape))
    which = 0 if dim is None else 1 if isinstance(dim, int) else 2
    return _squeeze[which](input, tuple(n for d, n in enumerate(input.shape) if n != 1 or d not in drop))  # type: ignore[no-any-return]


@samples(S(T(2, 3, 4)), S(T(2, 3, 4), 1), S(T(2, 3, 4), 0, 1), S(T()))
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """`input` with the dimensions from `start_dim` to `end_dim` made one.

    >>> import gradx
    >>> gradx.zeros(2, 3, 4).flatten(1).shape
    gradx.Size([2, 12])
    """
    shape = tuple(input.shape)
    if not shape:
        return reshape(input, (1,))
    first, last = wrap(start_dim, len(shape)), wrap(end_dim, len(shape))
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return _view_or_copy(input, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _view_or_copy(input: Tensor, shape: Shape) -> Tensor:
    """`reshape` to a shape known to fit."""
    try:
        return _view(input, shape)
    except AttributeError:
        return _reshape(input, shape)


@op(input=lambda g, dims: _flip(g, dims))
def _flip(input: Tensor, dims: Shape) -> Tensor:
    """`flip` with wrapped dimensions."""


@samples(S(T(2, 3), (0,)), S(T(2, 3, 2), (0, -1)))
def flip(input: Tensor, *dims: int | Sequence[int]) -> Tensor:
    """A copy with the order along `dims` reversed."""
    return _flip(input, wrap_all(flat(dims), len(input.shape)))
