"""Operations that join tensors or take them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradx.op import op
from gradx.ops.dims import wrap
from gradx.ops.index import narrow, select
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def _cat_rule(g: Any, dim: int, tensors_shape: list[tuple[int, ...]], position: int) -> Any:
    start = sum(shape[dim] for shape in tensors_shape[:position] if shape != (0,))
    if tensors_shape[position] == (0,) and len(g.shape) != 1:
        return None  # torch lets an empty vector join anything; nothing flows to it
    return narrow(g, dim, start, tensors_shape[position][dim])


@op(promote="common", tensors=_cat_rule)
def _cat(dim: int, *tensors: Tensor) -> Tensor:
    """`cat` along a wrapped dimension."""


@samples(S([T(2, 3), T(1, 3)]), S([T(2, 3), T(2, 1), T(2, 2)], 1), S([T(2), T(3)], dim=-1))
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along `dim`; in the others their shapes agree.

    >>> import gradx
    >>> gradx.cat([gradx.tensor([1, 2]), gradx.tensor([3])])
    tensor([1, 2, 3])
    """
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    ndim = max(len(t.shape) for t in tensors)
    if ndim == 0:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    dim = wrap(dim, ndim)
    parts = [t for t in tensors if tuple(t.shape) != (0,)] or list(tensors[:1])
    for i, part in enumerate(parts):
        if len(part.shape) != ndim:
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {len(parts[0].shape)} and {len(part.shape)}"
            )
        for d in range(ndim):
            if d != dim and part.shape[d] != parts[0].shape[d]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {parts[0].shape[d]} but got "
                    f"size {part.shape[d]} for tensor number {i} in the list."
                )
    return _cat(dim, *parts)


@op(promote="common", tensors=lambda g, dim, position: select(g, dim, position))
def _stack(dim: int, *tensors: Tensor) -> Tensor:
    """`stack` along a wrapped dimension."""


@samples(S([T(2, 3), T(2, 3)]), S([T(2), T(2), T(2)], 1), S([T(), T()], dim=-1))
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, side by side along a new dimension before `dim`.

    >>> import gradx
    >>> gradx.stack([gradx.tensor([1, 2]), gradx.tensor([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = tensors[0].shape
    for i, part in enumerate(tensors):
        if part.shape != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(part.shape)} "
                f"at entry {i}"
            )
    return _stack(wrap(dim, len(first) + 1), *tensors)


def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of `tensor` along `dim`, of the given length or lengths."""
    dim = wrap(dim, len(tensor.shape))
    length = tensor.shape[dim]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        starts = range(0, max(length, 1), sizes)
        sizes = [min(sizes, length - start) for start in starts]
    elif sum(sizes) != length:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {length} (input tensor's size at dimension {dim}), "
            f"but got split_sizes={list(sizes)}"
        )
    pieces, start = [], 0
    for size in sizes:
        pieces.append(narrow(tensor, dim, start, size))
        start += size
    return tuple(pieces)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of consecutive pieces of equal length along `dim`, the last maybe shorter."""
    length = input.shape[wrap(dim, len(input.shape))]
    return split(input, max(1, -(-length // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of each slice along `dim`."""
    dim = wrap(dim, len(input.shape))
    return tuple(select(input, dim, i) for i in range(input.shape[dim]))
