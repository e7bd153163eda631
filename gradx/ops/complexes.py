"""Complex numbers and their parts.

The gradient of a real function by complex numbers is torch's: the direction of steepest ascent, twice the derivative by the
conjugate. For operations that have a complex derivative it follows from the ordinary rule (see `gradx.node`); those here
have none, and their rules are written out for complex numbers (`wirtinger=True`).
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from gradx import dtypes
from gradx.op import op
from gradx.ops.transfer import contiguous
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def is_complex(x: Any) -> bool:
    """Whether a tensor, a raw array or a number is complex."""
    array = x.array if isinstance(x, Variable) else x
    return array.dtype.kind == "c" if hasattr(array, "dtype") else isinstance(array, builtins.complex)


@op(wirtinger=True, name="ConjBackward0", input=lambda g: conj(g))
def _conj(input: Tensor) -> Tensor:
    """The conjugate of complex numbers."""


def conj(input: Tensor) -> Tensor:
    """The complex conjugate, elementwise; real numbers as they are.

    >>> import gradx
    >>> gradx.conj(gradx.tensor([1 + 2j]))
    tensor([1.-2.j])
    """
    return _conj(input) if is_complex(input) else input


@op(view=True, wirtinger=True, name="RealBackward0", input=lambda g: g)  # the engine makes it complex
def _real(input: Tensor) -> Tensor:
    """The real part of complex numbers: a view."""


@op(view=True, wirtinger=True, name="ImagBackward0", input=lambda g: g * 1j)
def _imag(input: Tensor) -> Tensor:
    """The imaginary part of complex numbers: a view."""


def real(input: Tensor) -> Tensor:
    """The real part: a view of complex numbers, real numbers as they are.

    >>> import gradx
    >>> gradx.real(gradx.tensor([1 + 2j]))
    tensor([1.])
    """
    return _real(input) if is_complex(input) else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part: a view.

    Raises:
        RuntimeError: the numbers are real.

    >>> import gradx
    >>> gradx.imag(gradx.tensor([1 + 2j]))
    tensor([2.])
    """
    if not is_complex(input):
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _imag(input)


@op(wirtinger=True, name="ComplexBackward0", real=lambda g: real(g), imag=lambda g: imag(g))
def _complex(real: Tensor, imag: Tensor) -> Tensor:
    """`complex` of two tensors of one dtype."""


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """Complex numbers from their real and imaginary parts, which broadcast.

    Raises:
        RuntimeError: the parts are not floating-point numbers of one dtype.

    >>> import gradx
    >>> gradx.complex(gradx.tensor([1.0]), gradx.tensor([2.0]))
    tensor([1.+2.j])
    """
    first, second = (dtypes.of_numpy(part.array.dtype) for part in (real, imag))
    if not (first.is_floating_point and second.is_floating_point) or dtypes.bfloat16 in (first, second):
        raise RuntimeError(
            f"Expected both inputs to be Half, Float or Double tensors but got {first.title} and {second.title}"
        )
    if first is dtypes.float16:
        raise NotImplementedError("gradx has no complex numbers of half precision. Convert the parts to float32 first.")
    if first is not second:
        raise RuntimeError(
            f"Expected object of scalar type {first.title} but got scalar type {second.title} for second argument"
        )
    return _complex(real, imag)


@op(view=True, wirtinger=True, input=lambda g: view_as_complex(contiguous(g)))
def _view_as_real(input: Tensor) -> Tensor:
    """`view_as_real` of complex numbers."""


def view_as_real(input: Tensor) -> Tensor:
    """A view of complex numbers as real ones, with one more dimension: of the real and the imaginary part.

    Raises:
        RuntimeError: the numbers are real.
    """
    if not is_complex(input):
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return _view_as_real(input)


@op(view=True, wirtinger=True, input=lambda g: view_as_real(g))
def _view_as_complex(input: Tensor) -> Tensor:
    """`view_as_complex` of pairs."""


def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs of real numbers, along the last dimension, as complex ones.

    Raises:
        RuntimeError: the last dimension is not of length 2, or its elements are not neighbours in memory.
    """
    if not input.shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    array = input.array if isinstance(input, Variable) else input
    if array.strides[-1] != array.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    return _view_as_complex(input)
