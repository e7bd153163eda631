"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradx import dtypes, variables
from gradx.autocasting import adapted
from gradx.backends import backend_of, is_array
from gradx.op import op, renamed
from gradx.ops.shape import transpose, unsqueeze
from gradx.out import into
from gradx.samples import S, T, samples

if TYPE_CHECKING:
    from gradx.tensor import Tensor


@op(
    name="MmBackward0",
    input=lambda g, mat2: _mm(g, transpose(mat2, -1, -2)),
    mat2=lambda g, input: _mm(transpose(input, -1, -2), g),
)
def _mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of matrices, whose leading dimensions broadcast."""


_bmm = renamed("mm", "BmmBackward0")


@op(input=lambda g, tensor: g * tensor, tensor=lambda g, input: g * input)
def _dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of products of two vectors of one length."""


_inner = renamed("dot", "DotBackward0", called="matmul")  # which autocast casts as it does not cast dot


@op(
    input=lambda g, vec: unsqueeze(g, 1) * vec,
    vec=lambda g, input: _mv(transpose(input, 0, 1), g),
)
def _mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""


def _times(g: Any, factor: float) -> Any:
    return g if factor == 1 else g * factor


@op(
    input=lambda g, beta: _times(g, beta),
    mat1=lambda g, mat2, alpha: _mm(_times(g, alpha), mat2.T),
    mat2=lambda g, mat1, alpha: _mm(mat1.T, _times(g, alpha)),
)
def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, beta: float, alpha: float) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)` for matrices that fit."""


@op(
    name="AddmmBackward0",
    input=lambda g, weight: _mm(g, weight),
    weight=lambda g, input: _mm(g.T, input),
    bias=lambda g: g,
)
def _linear(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`input @ weight.T + bias` for matrices that fit, as one node: torch has one more for the transpose."""


def fit_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are two matrices and a vector, of one dtype and shapes that fit."""
    if bias is None:
        return False
    x, w, b = input.array, weight.array, bias.array
    shapes_fit: bool = x.ndim == w.ndim == 2 and x.shape[1:] == w.shape[1:] and b.shape == w.shape[:1]
    return shapes_fit and x.dtype == w.dtype == b.dtype


@samples(
    S(T(2, 3), T(3, 4)),
    S(T(3), T(3)),
    S(T(2, 3), T(3)),
    S(T(3), T(3, 4)),
    S(T(2, 2, 3), T(3, 4)),
    S(T(2, 1, 2, 3), T(3, 3, 2)),
)
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The matrix product: of vectors, matrices, and, with broadcasting, stacks of matrices.

    Raises:
        RuntimeError: a shape has no dimension, the shapes do not fit, or the dtypes differ.

    >>> import gradx
    >>> gradx.tensor([[1.0, 2.0]]) @ gradx.tensor([3.0, 4.0])
    tensor([11.])
    """
    if out is not None:
        return into(out, "matmul", (input, other), lambda: matmul(input, other))  # type: ignore[no-any-return]
    a, b = tuple(input.shape), tuple(other.shape)
    if not a or not b:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D")
    input, other = _factors(input, other)
    if len(a) == len(b) == 1:
        return _inner(input, other)  # type: ignore[no-any-return]
    if len(b) == 1 and len(a) == 2:
        return _mv(input, other)
    if len(a) == 1 and len(b) == 2:
        return _mv(transpose(other, 0, 1), input)
    if len(a) == len(b) == 3 and a[0] == b[0]:
        return _bmm(input, other)  # type: ignore[no-any-return]
    result = _mm(unsqueeze(input, 0) if len(a) == 1 else input, unsqueeze(other, 1) if len(b) == 1 else other)
    if len(a) == 1:
        return result.squeeze(-2)
    return result.squeeze(-1) if len(b) == 1 else result


def _lifted(factor: Any, name: str) -> Any:
    if isinstance(factor, variables.Variable):
        return factor
    if not is_array(factor):
        raise TypeError(f"{name}(): arguments must be Tensor, not {type(factor).__name__}")
    return variables.tensor_type(backend_of(factor).plain(factor))


def _factors(input: Tensor, other: Tensor, name: str = "matmul") -> tuple[Tensor, ...]:
    """The factors, of one dtype, which autocast may give them.

    Raises:
        RuntimeError: their shapes do not fit, or their dtypes differ.
    """
    try:
        a, b = input.array.shape, other.array.shape
    except AttributeError:  # an array is taken here as the elementwise operations take it
        return _factors(_lifted(input, name), _lifted(other, name), name)
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise RuntimeError(_misfit(a, b))
    if input.array.dtype != other.array.dtype:
        input, other = adapted(name, (input, other))
        _require_one_dtype(input, other, name)
    return input, other


def _require_one_dtype(input: Tensor, other: Tensor, name: str) -> None:
    """Raise torch's error for factors of two dtypes."""
    a, b = dtypes.of_numpy(input.array.dtype), dtypes.of_numpy(other.array.dtype)
    if a is b:
        return
    if name == "dot":
        found = f"dot : expected both vectors to have same dtype, but found {a.title} and {b.title}"
    else:
        found = f"expected m1 and m2 to have the same dtype, but got: {a.type_name} != {b.type_name}"
    raise RuntimeError(f"{found}\nMatrix products do not promote: convert one with .to(dtype).")


def _misfit(a: Any, b: Any) -> str:
    if len(a) == len(b) == 1:
        return (
            f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of elements, but "
            f"got {a[0]} and {b[0]} elements respectively"
        )
    if len(b) == 1:
        return f"size mismatch, got input ({a[-2]}), mat ({a[-2]}x{a[-1]}), vec ({b[0]})"
    if len(a) == 1:
        return f"size mismatch, got input (1), mat (1x{a[0]}), vec ({b[-2]})"
    rows = 1
    for n in a[:-1]:
        rows *= n
    return f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {b[-2]}x{b[-1]})"


@samples(S(T(2, 3), T(3, 4)))
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    if len(input.shape) != 2 or len(mat2.shape) != 2:
        raise RuntimeError("self must be a matrix" if len(input.shape) != 2 else "mat2 must be a matrix")
    input, mat2 = _factors(input, mat2)
    return _mm(input, mat2)


@samples(S(T(3), T(3)))
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of products of two vectors."""
    if len(input.shape) != 1 or len(tensor.shape) != 1:
        raise RuntimeError(f"1D tensors expected, but got {len(input.shape)}D and {len(tensor.shape)}D tensors")
    return _dot(*_factors(input, tensor, "dot"))


@samples(S(T(2, 3, 4), T(2, 4, 2)))
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two stacks of matrices, pair by pair."""
    if len(input.shape) != 3 or len(mat2.shape) != 3:
        raise RuntimeError(f"batch{1 if len(input.shape) != 3 else 2} must be a 3D tensor")
    return matmul(input, mat2)


@samples(S(T(4), T(2, 3), T(3, 4)), S(T(2, 4), T(2, 3), T(3, 4), beta=0.5, alpha=2.0))
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`."""
    if not mat1.array.ndim == mat2.array.ndim == 2:
        name, matrix = ("mat1", mat1) if mat1.array.ndim != 2 else ("mat2", mat2)
        raise RuntimeError(f"{name} must be a matrix, got {matrix.ndim}-D tensor")
    mat1, mat2 = _factors(mat1, mat2)
    if input.array.dtype != mat1.array.dtype:
        input, mat1, mat2 = adapted("addmm", (input, mat1, mat2))
    if input.array.dtype != mat1.array.dtype:
        first, second = (dtypes.of_numpy(t.array.dtype) for t in (input, mat1))
        raise RuntimeError(f"self and mat2 must have the same dtype, but got {first.title} and {second.title}")
    return _addmm(input, mat1, mat2, beta, alpha)
