"""Operations that join tensors or take them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradx.op import op, renamed
from gradx.ops.constant import new_zeros
from gradx.ops.dims import wrap
from gradx.ops.index import narrow, select
from gradx.samples import S, T, samples
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor

Shape = tuple[int, ...]


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
    if isinstance(tensors, Variable):
        raise TypeError("cat(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
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


def _present(grads: list[Any], shapes: Sequence[Shape]) -> list[Any]:
    """Gradients of several outputs, zeros where none arrived."""
    like = next(g for g in grads if g is not None)
    return [new_zeros(like, shape) if g is None else g for g, shape in zip(grads, shapes, strict=True)]


def _piece(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])


@op(
    view=True,
    name="SplitBackward0",
    input=lambda grads, input_shape, sizes, dim: cat(
        _present(grads, [_piece(input_shape, dim, size) for size in sizes]), dim
    ),
)
def _split(input: Tensor, sizes: Shape, dim: int) -> tuple[Tensor, ...]:
    """`split` into pieces of given lengths along a wrapped dimension."""


_split_with_sizes = renamed("split", "SplitWithSizesBackward0")


@samples(S(T(5, 2), 2), S(T(2, 5), [1, 4], 1), S(T(3), 3))
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of `tensor` along `dim`, of the given length or lengths.

    Raises:
        RuntimeError: a length is negative, or the lengths do not sum to that of `dim`.

    >>> import gradx
    >>> gradx.split(gradx.arange(5), 2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    dim = wrap(dim, len(tensor.shape))
    if not tensor.shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    length = tensor.shape[dim]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        if sizes < 0 or (sizes == 0 and length):
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={sizes}")
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)] if length else [0]
    elif sum(sizes) != length:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {length} (input tensor's size at dimension {dim}), "
            f"but got split_sizes={list(sizes)}"
        )
    else:
        return _split_with_sizes(tensor, tuple(sizes), dim)  # type: ignore[no-any-return]
    return _split(tensor, tuple(sizes), dim)


@samples(S(T(5, 2), 2), S(T(2, 5), 3, 1))
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of consecutive pieces of equal length along `dim`, the last maybe shorter."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if not input.shape:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    length = input.shape[wrap(dim, len(input.shape))]
    return split(input, max(1, -(-length // chunks)), dim)


@op(
    view=True,
    name="UnbindBackward0",
    input=lambda grads, input_shape, dim: stack(
        _present(grads, [input_shape[:dim] + input_shape[dim + 1 :]] * len(grads)), dim
    ),
)
def _unbind(input: Tensor, dim: int) -> tuple[Tensor, ...]:
    """`unbind` along a wrapped dimension."""


@samples(S(T(3, 2)), S(T(2, 3), 1))
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of each slice along `dim`.

    >>> import gradx
    >>> gradx.unbind(gradx.tensor([[1, 2], [3, 4]]), 1)
    (tensor([1, 3]), tensor([2, 4]))
    """
    dim = wrap(dim, len(input.shape))
    if not input.shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return _unbind(input, dim)
