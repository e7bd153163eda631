"""Operations that keep the elements and change how or where they are held: casts, copies, moves between devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradx.backends import Backend, Place, backend_for, backend_of
from gradx.device import device
from gradx.op import op
from gradx.placement import pinning_backend
from gradx.samples import UNARY, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@op(name="ToCopyBackward0", input=lambda g: g)  # the engine casts a gradient to the dtype of what it belongs to
def cast(input: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """`input` with its elements converted to a floating-point or complex `dtype`."""


@op()
def cast_discrete(input: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """`input` with its elements converted to integers or truth values, which have no gradient."""


@samples(*UNARY)
@op(input=lambda g: g)
def clone(input: Tensor) -> Tensor:
    """A copy of `input` in memory of its own, through which gradients flow.

    >>> import gradx
    >>> gradx.tensor([1.0], requires_grad=True).clone()
    tensor([1.], grad_fn=<CloneBackward0>)
    """


@op(name="CloneBackward0", input=lambda g: g)
def contiguous(input: Tensor) -> Tensor:
    """A copy of `input` in row-major order."""


@op(view=True, input=lambda g: g)
def alias(input: Tensor) -> Tensor:
    """Another tensor over the same memory."""


@op(name="ToCopyBackward0", input=lambda g, source, target: _move(g, target, source, False))
def _move(input: Tensor, source: Place, target: Place, non_blocking: bool) -> Tensor:
    """`move` that knows both ends. The one operation that crosses devices."""


def move(input: Tensor, target: device, non_blocking: bool = False) -> Tensor:
    """A copy of `input` on the device `target`; `input` itself if it is there.

    With `non_blocking`, a copy from pinned memory to a CUDA device, and any to the host, is left to the current stream.
    """
    backend = backend_of(input.array)
    source = backend.device_of(input.array)
    if source == target:
        return input
    return _move(input, Place(backend, source), Place(backend_for(target), target), non_blocking)


@op(name="PinMemoryBackward0", input=lambda g: g)
def _pin_memory(input: Tensor, allocator: Backend) -> Tensor:
    """`pin_memory` that knows where to get pinned memory."""


def pin_memory(input: Tensor, missing: str = "Cannot access accelerator device when none is available.") -> Tensor:
    """A copy of `input`, which is on the CPU, in pinned memory; `input` itself if it is there.

    Args:
        missing: the first sentence of the error where CUDA is not usable.
    """
    if input.is_cuda:
        kind = f"gradx.cuda.{input.dtype.title}Tensor"
        raise RuntimeError(
            f"cannot pin '{kind}' only dense CPU tensors can be pinned. Copy it to the host with .cpu()."
        )
    allocator = pinning_backend(missing)
    return input if allocator.is_pinned(input.array) else _pin_memory(input, allocator)
