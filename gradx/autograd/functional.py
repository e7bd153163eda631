"""Derivatives of a function at a point, torch.autograd.functional: Jacobians, Hessians, and their products with vectors.

Each of these evaluates `func(*inputs)` once, on new tensors over the memory of `inputs`, and differentiates what was
recorded. They share their arguments:

    func          takes tensors; returns a tensor or a tuple of them (`hessian`, `vhp`, `hvp`: one tensor of one element)
    inputs        a tensor or a tuple of them, floating-point or complex: the point
    v             the vector: a tensor or a tuple of them; may be left out where it has a single element, then it is 1
    create_graph  the results can be differentiated again, with respect to `inputs`, `v` and all else `func` uses
    strict        raise RuntimeError where a result does not depend on what it should, instead of giving zeros

Where `inputs` or the outputs are a single tensor, so are the results; for a tuple they are a tuple of the same length.
All raise TypeError for what is neither a tensor nor a tuple of them, RuntimeError for a `v` of other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradx.creation import zeros_like
from gradx.differentiate import grad
from gradx.modes import enable_grad
from gradx.ops.join import stack
from gradx.ops.transfer import alias
from gradx.tensor import Tensor

Tensors = Tensor | tuple[Tensor, ...]
Matrices = Tensor | tuple[Tensor, ...] | tuple[tuple[Tensor, ...], ...]


@enable_grad()
def vjp(
    func: Callable[..., Tensors],
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """The outputs of `func`, and the product of `v`, shaped like them, with its Jacobian: in the shapes of `inputs`.

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0])
    >>> vjp(lambda x: x**2, x, gradx.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    point = _fresh(_group(inputs, "inputs", "vjp"), create_graph)
    outputs = _evaluate("vjp", func, point, strict)
    vectors = _vectors("vjp", v, outputs, create_graph)
    found = _gradients(outputs.tensors, point.tensors, vectors, create_graph=create_graph)
    product = _filled(found, point.tensors, strict, create_graph, _UNUSED, _CONSTANT_JACOBIAN)
    return _result(outputs, outputs.tensors, create_graph), _result(point, product, create_graph)


@enable_grad()
def jvp(
    func: Callable[..., Tensors],
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """The outputs of `func`, and the product of its Jacobian with `v`, shaped like `inputs`: in the shapes of the outputs.

    The vector-Jacobian product u J is linear in u, so its own vjp, with respect to u, is J v (J. Townsend, A new trick
    for calculating Jacobian vector products, 2017).

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0])
    >>> jvp(lambda x: (x**2).sum(), x, gradx.tensor([1.0, 10.0]))
    (tensor(5.), tensor(42.))
    """
    point = _fresh(_group(inputs, "inputs", "jvp"), create_graph)
    vectors = _vectors("jvp", v, point, create_graph)
    outputs = _evaluate("jvp", func, point, strict)
    cotangents = tuple(zeros_like(out, requires_grad=True) for out in outputs.tensors)
    products = _gradients(outputs.tensors, point.tensors, cotangents, create_graph=True)
    if strict:
        _require_history(products, _CONSTANT_GRADIENT)
    found = _gradients(products, cotangents, vectors, create_graph=create_graph)
    product = _filled(found, outputs.tensors, strict, create_graph, _UNUSED_COTANGENT, _CONSTANT_JACOBIAN)
    return _result(outputs, outputs.tensors, create_graph), _result(outputs, product, create_graph)


@enable_grad()
def jacobian(
    func: Callable[..., Tensors],
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Matrices:
    """The Jacobian of `func`: for output `o` and input `x` a tensor of shape ``o.shape + x.shape``.

    With several outputs and inputs it is a tuple of tuples: ``jacobian(...)[i][j]`` belongs to output i and input j.

    Args:
        vectorize: taken for torch's sake: the rows are computed one after the other either way.
        strategy: "reverse-mode". Torch's "forward-mode" is not supported yet.

    Raises:
        NotImplementedError: `strategy` is "forward-mode".
        RuntimeError: `strict` and `vectorize` are both set.

    >>> import gradx
    >>> jacobian(lambda x: x.cumsum(0) ** 2, gradx.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [6., 6.]])
    """
    _require_reverse(strategy, "strategy")
    point = _fresh(_group(inputs, "inputs", "jacobian"), create_graph)
    outputs = _evaluate("jacobian", func, point, strict)
    if vectorize and strict:
        raise RuntimeError(
            "gradx.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please "
            "either set `strict=False` or `vectorize=False`."
        )
    blocks = [
        _block(out, point.tensors, f"Output {i} of {_UNUSED_BY}", strict, create_graph)
        for i, out in enumerate(outputs.tensors)
    ]
    return outputs.form(tuple(_result(point, block, create_graph) for block in blocks))  # type: ignore[no-any-return]


def hessian(
    func: Callable[..., Tensor],
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Matrices:
    """The Hessian of `func`: for inputs `x` and `y` a tensor of shape ``x.shape + y.shape``; of several, a tuple of tuples.

    Args:
        vectorize, outer_jacobian_strategy: as `vectorize` and `strategy` of `jacobian`, for the second derivative.

    Raises:
        NotImplementedError: `outer_jacobian_strategy` is "forward-mode".
        RuntimeError: `func` gives more than one element.

    >>> import gradx
    >>> hessian(lambda x: x.prod(), gradx.tensor([1.0, 2.0, 3.0]))
    tensor([[0., 3., 2.],
            [3., 0., 1.],
            [2., 1., 0.]])
    """
    _require_reverse(outer_jacobian_strategy, "outer_jacobian_strategy")
    point = _group(inputs, "inputs", "hessian")

    def gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        output = _evaluate_scalar("hessian", func, _Group(tensors, point.alone), strict)
        found = _filled(_gradients((output,), tensors, create_graph=True), tensors)
        if strict:
            _require_history(found, _CONSTANT_FIRST)
        return found

    rows: Any = jacobian(gradient, point.tensors, create_graph, strict, vectorize)
    return point.form(tuple(map(point.form, rows)))  # type: ignore[no-any-return]


@enable_grad()
def vhp(
    func: Callable[..., Tensor],
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, Tensors]:
    """The output of `func`, and the product of `v` with its Hessian, in the shapes of `inputs`.

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0])
    >>> vhp(lambda x: (x**3).sum(), x, gradx.tensor([1.0, 10.0]))
    (tensor(9.), tensor([  6., 120.]))
    """
    point = _fresh(_group(inputs, "inputs", "vhp"), create_graph)
    vectors = _vectors("vhp", v, point, create_graph)
    output, first = _differentiate_scalar("vhp", func, point, strict)
    found = _gradients(first, point.tensors, vectors, create_graph=create_graph)
    product = _filled(found, point.tensors, strict, create_graph, _UNUSED_BY_JACOBIAN, _CONSTANT_HESSIAN)
    return output if create_graph else output.detach(), _result(point, product, create_graph)


@enable_grad()
def hvp(
    func: Callable[..., Tensor],
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, Tensors]:
    """The output of `func`, and the product of its Hessian with `v`, in the shapes of `inputs`.

    This is the `jvp` of the gradient. Where second derivatives are continuous the Hessian is symmetric, and `vhp` gives the
    same with one walk less.

    >>> import gradx
    >>> x = gradx.tensor([1.0, 2.0])
    >>> hvp(lambda x: (x**3).sum(), x, gradx.tensor([1.0, 10.0]))
    (tensor(9.), tensor([  6., 120.]))
    """
    point = _fresh(_group(inputs, "inputs", "hvp"), create_graph)
    vectors = _vectors("hvp", v, point, create_graph)
    output, first = _differentiate_scalar("hvp", func, point, strict)
    cotangents = tuple(zeros_like(x, requires_grad=True) for x in point.tensors)
    products = _gradients(first, point.tensors, cotangents, create_graph=True)
    found = _gradients(products, cotangents, vectors, create_graph=create_graph)
    product = _filled(found, point.tensors, strict, create_graph, _UNUSED_BY_HESSIAN, _CONSTANT_HESSIAN)
    return output if create_graph else output.detach(), _result(point, product, create_graph)


# ---- tensors and tuples of them --------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Tensors that were given as a tuple, or one that was given alone."""

    tensors: tuple[Tensor, ...]
    alone: bool

    def form(self, results: tuple[Any, ...]) -> Any:
        """One result for each of the tensors, in the form in which they were given."""
        return results[0] if self.alone else results


def _group(given: Any, what: str, name: str) -> _Group:
    tensors = given if isinstance(given, tuple) else (given,)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            which = f"value at index {i}" if tensors is given else f"given {what}"
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the {which} has type {type(t)}."
            )
    return _Group(tensors, tensors is not given)


def _fresh(given: _Group, create_graph: bool, requires_grad: bool = True) -> _Group:
    """New tensors over the same memory: `func` may itself use those that were given, and these are to be told apart."""
    new = [
        alias(t) if create_graph and t.requires_grad else t.detach().requires_grad_(requires_grad)
        for t in given.tensors
    ]
    return given._replace(tensors=tuple(new))


def _vectors(name: str, v: Any, like: _Group, create_graph: bool) -> tuple[Tensor, ...] | None:
    """`v` as a tuple that fits the tensors of `like`; None for the 1 of a single element."""
    if v is None:
        if len(like.tensors) == 1 and like.tensors[0].numel() == 1:
            return None
        subject = "user-provided function returns" if name == "vjp" else "input to the user-provided function is"
        raise RuntimeError(
            f"The vector v can only be None if the {subject} a single Tensor with a single element. Pass a v of shape "
            f"{like.form(tuple(t.shape for t in like.tensors))}."
        )
    vectors = _fresh(_group(v, "v", name), create_graph, requires_grad=False).tensors
    if len(vectors) != len(like.tensors):
        if like.alone:
            raise RuntimeError("The given v should contain a single Tensor.")
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like.tensors)} but got {len(vectors)}.")
    for i, (vector, t) in enumerate(zip(vectors, like.tensors, strict=True)):
        if vector.shape != t.shape:
            which = "v" if like.alone else f"Entry {i} in v"
            raise RuntimeError(f"{which} has invalid size: should be {t.shape} but got {vector.shape}.")
    return vectors


def _result(group: _Group, results: tuple[Tensor, ...], create_graph: bool) -> Any:
    return group.form(results if create_graph else tuple(t.detach() for t in results))


# ---- evaluating and differentiating ----------------------------------------------------------------------------------


def _evaluate(name: str, func: Callable[..., Any], point: _Group, strict: bool) -> _Group:
    outputs = _group(func(*point.tensors), "outputs of the user-provided function", name)
    if strict:
        _require_history(outputs.tensors, _CONSTANT_OUTPUT)
    return outputs


def _evaluate_scalar(name: str, func: Callable[..., Any], point: _Group, strict: bool) -> Tensor:
    outputs = _evaluate(name, func, point, strict)
    if not outputs.alone:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outputs.tensors[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")
    return outputs.tensors[0]


def _differentiate_scalar(
    name: str, func: Callable[..., Any], point: _Group, strict: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The output of `func`, and its gradients, which can be differentiated again."""
    output = _evaluate_scalar(name, func, point, strict)
    first = _gradients((output,), point.tensors, create_graph=True)
    if strict:
        _require_history(first, _CONSTANT_FIRST)
    return output, first


def _gradients(
    outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    vectors: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """`grad` of those outputs that have a history; None for inputs that they do not depend on."""
    pairs = zip(outputs, (None,) * len(outputs) if vectors is None else vectors, strict=True)
    kept = [(out, vector) for out, vector in pairs if out is not None and out.requires_grad]
    if not kept:
        return (None,) * len(inputs)
    roots, starts = zip(*kept, strict=True)
    return grad(roots, inputs, starts, retain_graph, create_graph, allow_unused=True)


def _block(
    output: Tensor, inputs: tuple[Tensor, ...], unused: str, strict: bool, create_graph: bool
) -> tuple[Tensor, ...]:
    """The Jacobian of one output with respect to each input."""
    flat = output.reshape(-1)
    rows = []
    for i in range(flat.numel()):
        found = _gradients((flat[i],), inputs, create_graph=create_graph, retain_graph=True)
        rows.append(_filled(found, inputs, strict, create_graph, unused, _CONSTANT_JACOBIAN))
    return tuple(stack([row[j] for row in rows]).reshape(output.shape + x.shape) for j, x in enumerate(inputs))


def _filled(
    found: Sequence[Tensor | None],
    like: Sequence[Tensor],
    strict: bool = False,
    create_graph: bool = False,
    unused: str = "",
    constant: str = "",
) -> tuple[Tensor, ...]:
    """Zeros for those that are None. If `strict` that is the error `unused`, and `constant` is that for lack of history."""
    for i, t in enumerate(found if strict else ()):
        if t is None:
            raise RuntimeError(unused.format(i))
        if create_graph and not t.requires_grad:
            raise RuntimeError(constant.format(i))
    return tuple(zeros_like(x) if t is None else t for t, x in zip(found, like, strict=True))


def _require_history(tensors: Sequence[Tensor | None], otherwise: str) -> None:
    for i, t in enumerate(tensors):
        if t is None or not t.requires_grad:
            raise RuntimeError((_UNUSED if t is None else otherwise).format(i))


def _require_reverse(strategy: str, argument: str) -> None:
    if strategy == "forward-mode":
        raise NotImplementedError(
            f'{argument}="forward-mode" is not supported: gradx differentiates in reverse mode only. "reverse-mode" gives '
            "the same numbers."
        )
    if strategy != "reverse-mode":
        raise AssertionError(
            f'Expected strategy to be either "forward-mode" or "reverse-mode". Got {argument}={strategy!r}; gradx supports '
            '"reverse-mode".'
        )


# ---- torch's words ---------------------------------------------------------------------------------------------------

_NOT_STRICTLY = "This is not allowed in strict mode."
_UNUSED_BY = f"the user-provided function is independent of input {{}}. {_NOT_STRICTLY}"
_UNUSED = f"The output of {_UNUSED_BY}"
_UNUSED_BY_JACOBIAN = f"The jacobian of {_UNUSED_BY}"
_UNUSED_COTANGENT = (
    "The gradient with respect to the input is independent of entry {} in the grad_outputs when using the double backward "
    f"trick to compute forward mode gradients. {_NOT_STRICTLY}"
)
_UNUSED_BY_HESSIAN = (
    "The hessian of the user-provided function is independent of entry {} in the grad_jacobian. This is not allowed in "
    "strict mode as it prevents from using the double backward trick to replace forward mode AD."
)
_CONSTANT_OUTPUT = (
    "Output {} of the user-provided function does not require gradients. The outputs must be computed in a differentiable "
    "manner from the input when running in strict mode."
)
_CONSTANT_GRADIENT = f"The gradient with respect to input {{}} is independent of the inputs of the user-provided function. {_NOT_STRICTLY}"
_CONSTANT_FIRST = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is "
    f"independent of the input. {_NOT_STRICTLY} You should ensure that your function is twice differentiable and that the "
    "jacobian depends on the inputs (this would be violated by a linear function for example)."
)
_CONSTANT_JACOBIAN = (
    "The jacobian of the user-provided function is independent of input {}. This is not allowed in strict mode when "
    "create_graph=True."
)
_CONSTANT_HESSIAN = _CONSTANT_JACOBIAN.replace("jacobian", "hessian")
