"""`grad` and `backward`: what may be asked of the engine, and torch's errors for what may not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradx import dtypes, engine, modes, tape, variables
from gradx.backends import BY_TYPE, backend_of
from gradx.ops.constant import ones_like, zeros_like
from gradx.ops.index import select
from gradx.ops.join import stack
from gradx.ops.transfer import cast
from gradx.size import Size
from gradx.tape import Edge, GradientEdge
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.tensor import Tensor


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of `tensors` to the ``.grad`` of the leaves they were computed from.

    Args:
        tensors: what to differentiate.
        grad_tensors: for each a tensor of its shape, the gradient with respect to it (the vector in the vector-Jacobian
            product); may be None for tensors with one element.
        retain_graph: keep what was saved, so that the graph can be walked again; by default the value of `create_graph`.
        create_graph: record the walk, so that the gradients can be differentiated.
        grad_variables: the older name of `grad_tensors`.
        inputs: add to the ``.grad`` of these tensors only, which need not be leaves.

    Raises:
        RuntimeError: a tensor has no history; one with several elements has no gradient given; shapes do not match; the
            graph was freed by an earlier walk; a saved tensor was changed in place.

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0], requires_grad=True)
    >>> gradx.autograd.backward((x * x).sum())
    >>> x.grad
    tensor([2., 4.])
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", FutureWarning, stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError(
                "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`. Please only use "
                "`grad_tensors`."
            )
        grad_tensors = grad_variables
    if inputs is not None and not isinstance(inputs, (Variable, GradientEdge)) and len(inputs) == 0:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    wanted = None if inputs is None else _as_tuple(inputs)
    roots = _as_tuple(tensors)
    keep = create_graph if retain_graph is None else retain_graph
    starts, gradients = _starts(roots, _aligned(grad_tensors, len(roots)))
    ends = None if wanted is None else [_input_edge(t) for t in wanted]
    found = engine.backward(starts, gradients, ends, keep, create_graph, accumulate=True)
    for t, gradient in zip(wanted or (), found, strict=True):
        if isinstance(t, Variable) and t.node is not None and gradient is not None and not _retained(t):
            engine.add_gradient(t, gradient if create_graph else gradient.array, owned=False, graph=create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs` with respect to each of `inputs`.

    With `grad_outputs` of ones, a softmax over four values has gradients of zero: its outputs sum to 1 whatever the
    input, so the sum that is differentiated does not change.

    Args:
        outputs: what to differentiate.
        inputs: with respect to which; leaves or not.
        grad_outputs: for each output a tensor of its shape; may be None for outputs with one element.
        retain_graph: keep what was saved, so that the graph can be walked again; by default the value of `create_graph`.
        create_graph: record the walk, so that the gradients can be differentiated again.
        only_inputs: deprecated, as in torch.
        allow_unused: return None for inputs that the outputs do not depend on, instead of raising.
        is_grads_batched: `grad_outputs` have a leading dimension; differentiate once for each of its slices and stack.
        materialize_grads: return zeros for inputs that the outputs do not depend on.

    Raises:
        RuntimeError: as for `backward`; or an input is unused and neither `allow_unused` nor `materialize_grads` is set.
        ValueError: `materialize_grads` with `allow_unused=False`.

    >>> import gradx
    >>> x = gradx.tensor(3.0, requires_grad=True)
    >>> (dy,) = gradx.autograd.grad(x * x * x, x, create_graph=True)
    >>> gradx.autograd.grad(dy, x)
    (tensor(18.),)
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    if not only_inputs:
        warnings.warn(
            "only_inputs argument is deprecated and is ignored now (defaults to True). To accumulate gradient for other parts "
            "of the graph, please use torch.autograd.backward.",
            FutureWarning,
            stacklevel=2,
        )
    roots, wanted = _as_tuple(outputs), _as_tuple(inputs)
    if not wanted:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    vectors = _aligned(grad_outputs, len(roots))
    keep = create_graph if retain_graph is None else retain_graph
    if is_grads_batched and any(v is not None for v in vectors):
        return _batched(roots, wanted, vectors, keep, create_graph, allow_unused, materialize_grads)
    starts, gradients = _starts(roots, vectors)
    ends = [_input_edge(t) for t in wanted]
    found = engine.backward(starts, gradients, ends, keep, create_graph, accumulate=False)
    if materialize_grads:
        return tuple(_zeros(t, create_graph) if g is None else g for g, t in zip(found, wanted, strict=True))  # type: ignore[misc]
    position = next((i for i, g in enumerate(found) if g is None), None)
    if not allow_unused and position is not None:
        raise RuntimeError(
            f"The differentiated Tensor at index {position} appears to not have been used in the graph. Set allow_unused=True "
            "if this is the desired behavior. The outputs do not depend on it, or were computed before it required grad."
        )
    return tuple(found)  # type: ignore[arg-type]


def _retained(t: Variable) -> bool:
    """Whether `retain_grad` sees to the gradient of a tensor that is no leaf."""
    hooks = t.node.hooks if t.node is not None else None
    return hooks is not None and t.output_nr in hooks.retained


def _zeros(like: Any, requires_grad: bool) -> Any:
    """What stands for the gradient of a tensor that was not reached."""
    if isinstance(like, GradientEdge):
        shape, dtype, array_type = like.node.outputs[like.output_nr]
        zeros = variables.tensor_type(BY_TYPE[array_type].xp.zeros(shape, dtype))  # type: ignore[union-attr]
    else:
        with modes.no_grad():
            zeros = zeros_like(like)
    zeros.needs_grad = requires_grad
    return zeros


def _batched(
    roots: tuple[Tensor, ...],
    wanted: tuple[Tensor, ...],
    vectors: Sequence[Tensor | None],
    keep: bool,
    create_graph: bool,
    allow_unused: bool | None,
    materialize_grads: bool,
) -> tuple[Tensor | None, ...]:
    """`grad` for each slice of the vectors along their first dimension, the results stacked."""
    size = _batch_size(roots, vectors)
    rows = [
        grad(
            roots,
            wanted,
            [None if v is None else select(v, 0, i) for v in vectors],
            retain_graph=keep or i + 1 < size,
            create_graph=create_graph,
            allow_unused=allow_unused or materialize_grads,
        )
        for i in range(size)
    ]
    found = [None if column[0] is None else stack(column) for column in zip(*rows, strict=True)]
    if materialize_grads:
        return tuple(_zeros(t, create_graph) if g is None else g for g, t in zip(found, wanted, strict=True))
    return tuple(found)


def _batch_size(roots: tuple[Tensor, ...], vectors: Sequence[Tensor | None]) -> int:
    """How many slices the vectors have along their first dimension.

    Raises:
        RuntimeError: the slices have not the outputs' shapes.
        ValueError: the vectors have different numbers of slices.
        IndexError: they have none.
    """
    for i, (root, v) in enumerate(zip(roots, vectors, strict=True)):
        shape = root.node.outputs[root.output_nr][0] if isinstance(root, GradientEdge) else root.array.shape
        if v is not None and v.array.shape[1:] != shape:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension. The "
                "sizes of the remaining dimensions are expected to match the shape of corresponding output, but a mismatch "
                f"was detected: grad_output[{i}] has a shape of {Size(v.array.shape)} and output[{i}] has a shape of "
                f"{Size(shape)}."
            )
    sizes = [v.array.shape[0] for v in vectors if v is not None]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped "
            "dimension"
        )
    if 0 in sizes:
        raise IndexError("index 0 is out of bounds for dimension 0 with size 0")
    return int(sizes[0])


def _as_tuple(tensors: Any) -> tuple[Any, ...]:
    return (tensors,) if isinstance(tensors, (Variable, GradientEdge)) else tuple(tensors)


def _edge(t: Any, i: int) -> Edge:
    """Where the gradient of output `i` goes.

    Raises:
        RuntimeError: the tensor has no history.
    """
    if isinstance(t, GradientEdge):
        return t.node, t.output_nr
    variables.refresh(t)
    if not t.needs_grad:
        raise RuntimeError(
            f"element {i} of tensors does not require grad and does not have a grad_fn. Nothing it was computed from "
            "required grad at the time: call requires_grad_() on the inputs first, and compute it again, since a graph is "
            "recorded when the operations run and does not change afterwards."
        )
    return tape.edge_of(t)


def _input_edge(t: Any) -> Edge:
    """Where the gradient of an input goes.

    Raises:
        RuntimeError: it does not require grad.
    """
    if isinstance(t, GradientEdge):
        return t.node, t.output_nr
    if not isinstance(t, Variable):
        raise RuntimeError(f"all inputs have to be Tensors or GradientEdges, but got {type(t).__name__}")
    variables.refresh(t)
    if not t.needs_grad:
        raise RuntimeError(
            "One of the differentiated Tensors does not require grad. Call requires_grad_() on it before computing the "
            "outputs: a graph that was recorded without it does not know it."
        )
    return tape.edge_of(t)


def _aligned(vectors: Any, count: int) -> Sequence[Tensor | None]:
    """One gradient, or None, for each of `count` outputs."""
    if vectors is None:
        return [None] * count
    aligned: list[Any] = [vectors] if isinstance(vectors, Variable) else list(vectors)
    if len(aligned) != count:
        raise RuntimeError(f"got {count} tensors and {len(aligned)} gradients")
    return aligned


def _starts(roots: Sequence[Any], vectors: Sequence[Any]) -> tuple[list[Edge], list[Any]]:
    """Where the walk starts, and with which gradient from each root."""
    edges: list[Edge] = []
    gradients: list[Any] = []
    for i, root in enumerate(roots):
        vector = vectors[i]
        if isinstance(root, GradientEdge):
            like, (shape, dtype, array_type) = None, root.node.outputs[root.output_nr]
        else:
            like = root.array
            shape, dtype, array_type = like.shape, like.dtype, type(like)
        if vector is None:
            edges.append(_edge(root, i))
            _check_scalar(shape, dtype)
            gradients.append(_one(shape, dtype, array_type, like))
            continue
        if not isinstance(vector, Variable):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(vector).__name__}")
        _check_vector(shape, dtype, like, vector, i)
        edges.append(_edge(root, i))
        gradients.append(vector if vector.array.dtype == dtype else cast(vector, dtype))  # type: ignore[arg-type]
    return edges, gradients


def _check_scalar(shape: tuple[int, ...], dtype: Any) -> None:
    if shape and math.prod(shape) != 1:
        raise RuntimeError(
            "grad can be implicitly created only for scalar outputs. This one has shape "
            f"{shape}: reduce it, for example with .sum(), or pass a gradient of that shape."
        )
    if dtype.kind == "c":
        raise RuntimeError(
            f"grad can be implicitly created only for real scalar outputs but got {dtypes.of_numpy(dtype)}\nTake its "
            "real part, or its size, or pass a gradient."
        )


def _one(shape: tuple[int, ...], dtype: Any, array_type: type, like: Any) -> Variable:
    """The gradient of a scalar with respect to itself."""
    if like is not None:
        return variables.tensor_type(ones_like(like))
    backend = BY_TYPE[array_type]
    assert backend is not None
    return variables.tensor_type(backend.xp.ones(shape, dtype))


def _check_vector(shape: tuple[int, ...], dtype: Any, like: Any, vector: Variable, i: int) -> None:
    given = vector.array
    if given.shape != shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {Size(given.shape)} and output[{i}] has a shape of "
            f"{Size(shape)}. Pass a gradient of the output's shape."
        )
    there = backend_of(given).device_of(given)
    here = there if like is None else backend_of(like).device_of(like)
    if here is not there and here != there:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {here} and {there}! "
            f"Move grad_output[{i}] with .to('{here}')."
        )
    if (given.dtype.kind == "c") != (dtype.kind == "c"):
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
            f"grad_output[{i}] has a dtype of {dtypes.of_numpy(given.dtype)} and output[{i}] has a dtype of "
            f"{dtypes.of_numpy(dtype)}."
        )
