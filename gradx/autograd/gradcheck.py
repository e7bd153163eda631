"""Is a gradient right? Compare it with differences: torch.autograd.gradcheck and gradgradcheck.

The Jacobian of an output with respect to an input is computed twice. Numerically, an input is moved a little to either
side along some directions, and the outputs' differences are taken. Analytically, some cotangents are carried back from the
output. The full check takes every element for a direction and a cotangent; the fast one takes a random vector u of each
input and v of each output, and compares the numbers v J u only.

A Jacobian is held as torch holds it, transposed: a row for each element of the input, a column for each of the output.
Real and imaginary parts of complex outputs are checked one after the other. The derivative of a real s with respect to a
complex x + iy is ds/dx + i ds/dy, as in torch.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np  # compares finished Jacobians, on the host

from gradx.creation import as_tensor, eye, zeros, zeros_like
from gradx.differentiate import grad
from gradx.dtypes import INEXACT, complex128, float64
from gradx.ops.join import stack
from gradx.sampling import rand
from gradx.tensor import Tensor


class GradcheckError(RuntimeError):
    """A gradient is wrong, or differs from one backward pass to the next."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare the gradients of `func` with central differences, for all inputs that require grad: True if they agree.

    Args:
        func: takes the inputs; returns a tensor or several. Outputs that do not require grad are left out.
        inputs: a tensor or several arguments, tensors or not. Those to check require grad, and are float64 or complex128.
        eps: how far the inputs are moved to either side.
        atol, rtol: a gradient may differ from its numerical value n by ``atol + rtol * abs(n)``.
        raise_exception: raise GradcheckError for a wrong gradient; otherwise return False.
        nondet_tol: how far the gradients of two backward passes may be apart.
        check_undefined_grad: also check that it makes no difference whether the gradient of an output is zero or missing.
        check_batched_grad: also check `grad` with ``is_grads_batched=True``.
        check_forward_ad, check_batched_forward_grad: not supported yet; so `check_backward_ad` must be True.
        fast_mode: compare one number for each input and output instead of their Jacobian.
        check_grad_dtypes, masked: taken for torch's sake. A gradient always has its input's dtype, and none is sparse.

    Raises:
        GradcheckError: a gradient is wrong; the message shows both Jacobians.
        ValueError: no input requires grad.
        RuntimeError: elements of an input share memory, so that one cannot be moved alone.
        NotImplementedError: forward mode was asked for.

    >>> import gradx
    >>> x = gradx.tensor([0.5, 2.0], dtype=gradx.float64, requires_grad=True)
    >>> gradcheck(lambda x: x.sin() * x, x)
    True
    >>> gradcheck(lambda x: x.sin() * x.detach(), x, raise_exception=False)
    False
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("Setting check_batched_forward_grad=True requires check_forward_ad to be True")
    if check_forward_ad:
        raise NotImplementedError("check_forward_ad=True is not supported: gradx differentiates in reverse mode only.")
    given = _as_tuple(inputs)
    _check_inputs(given)
    try:
        check = _Check(func, given, _differentiable(given), _as_tuple(func(*given)), eps, atol, rtol, nondet_tol)
        for part in check.parts():
            part.run(fast_mode)
        if check_batched_grad:
            check.batched()
        check.zeros()
        if check_undefined_grad:
            check.undefined()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Compare the second derivatives of `func` with central differences: `gradcheck` of its gradients.

    They are checked as a function of the inputs and of the gradients `grad_outputs` that they are computed from. Other
    arguments than these, what is returned and what is raised are as for `gradcheck`.

    Args:
        grad_outputs: a gradient for each output that requires grad; random ones by default.
        gen_non_contig_grad_outputs: let those random ones have gaps in memory.
        check_fwd_over_rev: not supported yet; so `check_rev_over_rev` must be True.

    >>> import gradx
    >>> x = gradx.tensor([0.5, 2.0], dtype=gradx.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: x.sin() * x, x)
    True
    """
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    if check_undefined_grad and not check_rev_over_rev:
        raise AssertionError("Setting check_undefined_grad=True requires check_rev_over_rev to be True")
    if check_batched_grad and not check_rev_over_rev:
        raise AssertionError("Setting check_batched_grad=True requires check_rev_over_rev to be True")
    given = _as_tuple(inputs)
    if grad_outputs is None:
        outputs = _differentiable(_as_tuple(func(*given)))
        grad_outputs = tuple(_random_gradient(out, gen_non_contig_grad_outputs) for out in outputs)

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        point, vectors = args[: len(given)], args[len(given) :]
        outputs = _differentiable(_as_tuple(func(*point)))
        if not outputs:
            raise ValueError("gradgradcheck expects at least one output to require gradient, but none of them does.")
        found = grad(outputs, _differentiable(point), vectors, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients,
        (*given, *_as_tuple(grad_outputs)),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


class _Check(NamedTuple):
    """What is checked: a function at a point, and what it returned there."""

    func: Callable[..., Any]
    inputs: tuple[Any, ...]
    wanted: tuple[Tensor, ...]  # those of the inputs that require grad
    results: tuple[Any, ...]
    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    prefixes: dict[int, str] = {}  # noqa: RUF012  # how an error begins, by output; never changed

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return _differentiable(self.results)

    def parts(self) -> list[_Check]:
        """This check itself; or, where outputs are complex, one of their imaginary and one of their real parts."""
        complexes = [i for i, out in enumerate(self.outputs) if out.is_complex()]
        parts = []
        for attribute, name in (("imag", "imaginary"), ("real", "real")) if complexes else ():
            func = functools.partial(_part, attribute, self.func)
            prefixes = dict.fromkeys(complexes, f"While considering the {name} part of complex outputs only, ")
            parts.append(self._replace(func=func, results=func(*self.inputs), prefixes=prefixes))
        return parts or [self]

    def run(self, fast: bool) -> None:
        """Compare analytical and numerical Jacobians; without differentiable outputs the latter must be zero."""
        random = np.random.default_rng(0)  # its own: the program's random numbers stay as they are
        directions = [[_random_unit(x, random)] if fast else _basis(x) for x in self.wanted]
        numerical = [self.numerical(x, along) for x, along in zip(self.wanted, directions, strict=True)]
        if not self.outputs and any(map(_any_nonzero, numerical)):
            raise GradcheckError(
                "Numerical gradient for function expected to be zero. No output requires grad, yet they change with the "
                "inputs: part of the computation was not recorded."
            )
        for i, output in enumerate(self.outputs):
            cotangents = [_random_unit(output, random)] if fast else _basis(output)
            for j, found in enumerate(self.analytical(output, cotangents)):
                expected, scale = numerical[j][i], 1.0
                if fast:
                    (u,), (v,) = directions[j], cotangents
                    expected, found = (expected * v.reshape(1, -1)).sum(), (u.reshape(-1, 1) * found).sum()
                    scale = float((u.sum() * v.sum()).abs())
                if not self._close(found, expected, scale):
                    raise GradcheckError(self._mismatch(i, j, expected, found) + (self._in_full(i, j) if fast else ""))

    def _mismatch(self, i: int, j: int, numerical: Tensor, analytical: Tensor) -> str:
        which = f"{self.prefixes.get(i, '')}Jacobian mismatch for output {i} with respect to input {j}"
        return f"{which},\nnumerical:{numerical}\nanalytical:{analytical}\n"

    def _in_full(self, i: int, j: int) -> str:
        """What the Jacobians are where the fast check failed."""
        x, output = self.wanted[j], self.outputs[i]
        numerical = self.numerical(x, _basis(x))[i]
        analytical = self.analytical(output, _basis(output))[j]
        verdict = "agree: fast_mode=False might pass" if self._close(analytical, numerical) else "differ as well"
        return (
            f"\nIn fast mode these are the numbers v J u for random u and v. The Jacobians themselves {verdict}:\n"
            f"numerical:{numerical}\nanalytical:{analytical}\n"
        )

    def _close(self, found: Tensor, expected: Tensor, scale: float = 1.0) -> bool:
        return np.allclose(found.numpy(force=True), expected.numpy(force=True), self.rtol, self.atol * scale)

    def numerical(self, x: Tensor, directions: Sequence[Tensor]) -> list[Tensor]:
        """For each output, how it changes as the input `x` moves along each direction: a row for each.

        Outputs are those that require grad; if none does, all that might.
        """
        outputs = self.outputs or tuple(
            t for t in self.results if isinstance(t, Tensor) and t.array.dtype.kind in INEXACT
        )
        places = [i for i, result in enumerate(self.results) if any(result is out for out in outputs)]
        changes = [self._differences(x.data, u, places) for u in directions]
        if x.is_complex():
            for change, u in zip(changes, directions, strict=True):
                change[:] = [a + 1j * b for a, b in zip(change, self._differences(x.data, 1j * u, places), strict=True)]
        return [_matrix([change[k] for change in changes], 0, out) for k, out in enumerate(outputs)]

    def _differences(self, x: Tensor, direction: Tensor, places: list[int]) -> list[Tensor]:
        """Central differences of the results at `places`. The elements of `x` are those of an input: they are put back."""
        start = x.clone()
        sides = []
        try:
            for step in (-self.eps, self.eps):
                x.copy_(start + step * direction)
                results = _as_tuple(self.func(*self.inputs))
                sides.append([results[i].detach().clone() for i in places])
        finally:
            x.copy_(start)
        return [_slope(low, high, self.eps) for low, high in zip(*sides, strict=True)]

    def analytical(self, output: Tensor, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """For each wanted input, the gradients that the cotangents of `output` give: a column for each."""
        first, second = (self._columns(output, cotangents) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            if a.numel() and float((a - b).abs().max()) > self.nondet_tol:
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives "
                    "different values, although analytical gradient matches numerical gradient.The tolerance for "
                    f"nondeterminism was {self.nondet_tol}.\nPass a larger nondet_tol if that is as it should be."
                )
        return first

    def _columns(self, output: Tensor, cotangents: Sequence[Tensor]) -> list[Tensor]:
        rows = [self._gradients((output,), (v,)) for v in cotangents]
        return [_matrix([row[j].reshape(-1) for row in rows], 1, x) for j, x in enumerate(self.wanted)]

    def _gradients(self, outputs: Sequence[Tensor], vectors: Sequence[Tensor], **options: Any) -> Any:
        return grad(outputs, self.wanted, vectors, retain_graph=True, materialize_grads=True, **options)

    def batched(self) -> None:
        """Several cotangents at once must give what they give one after the other."""
        random = np.random.default_rng(0)
        for i, output in enumerate(self.outputs):
            vectors = [_random_unit(output, random) for _ in range(2)]
            each = [self._gradients((output,), (v,)) for v in vectors]
            together = self._gradients((output,), (stack(vectors),), is_grads_batched=True)
            for j, found in enumerate(together):
                expected = stack([row[j] for row in each])
                if not self._close(found, expected):
                    raise GradcheckError(
                        f"For output {i} and input {j}:\ngradcheck or gradgradcheck failed while testing batched gradient "
                        f"computation.\nGot:\n{found}\nExpected:\n{expected}"
                    )

    def zeros(self) -> None:
        """Gradients must be zero where those of all outputs are."""
        if self.outputs and _any_nonzero(self._gradients(self.outputs, [zeros_like(out) for out in self.outputs])):
            raise GradcheckError("backward not multiplied by grad_output")

    def undefined(self) -> None:
        """They must be zero too where that of one output is missing. Where all are, the node is never run."""
        for i in range(len(self.outputs)):
            rest = self.outputs[:i] + self.outputs[i + 1 :]
            try:
                found = self._gradients(rest, [zeros_like(out) for out in rest])
            except RuntimeError as error:
                raise GradcheckError("Expected backward function to handle undefined output grads") from error
            if _any_nonzero(found):
                raise GradcheckError(
                    "Expected all input grads to be undefined or zero when all output grads are undefined or zero"
                )


def _check_inputs(inputs: tuple[Any, ...]) -> None:
    """Raise what `gradcheck` raises for inputs that it cannot check."""
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.requires_grad:
            continue
        if x.dtype not in (float64, complex128):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check will likely "
                "fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=3,
            )
        if any(stride == 0 and n > 1 for stride, n in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping to "
                "be able to compute the numerical gradients correctly. You should call .contiguous on the input before "
                "passing it to gradcheck."
            )
    if not _differentiable(inputs):
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )


def _slope(low: Tensor, high: Tensor, eps: float) -> Tensor:
    for what in ("shape", "dtype"):
        a, b = getattr(low, what), getattr(high, what)
        if a != b:
            raise AssertionError(
                f"Expected `func` to return outputs with the same {what} when inputs are perturbed by {eps}, but got: {what}s "
                f"{a} and {b}."
            )
    return ((high - low) / (2 * eps)).reshape(-1)


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def _part(attribute: str, func: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """What `func` returns, with "real" or "imag" of complex tensors."""
    results = _as_tuple(func(*args))
    return tuple(getattr(t, attribute) if isinstance(t, Tensor) and t.is_complex() else t for t in results)


def _differentiable(values: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(t for t in values if isinstance(t, Tensor) and t.requires_grad)


def _any_nonzero(tensors: Sequence[Tensor]) -> bool:
    return any(bool((t != 0).any()) for t in tensors)


def _basis(like: Tensor) -> list[Tensor]:
    """For each element of `like` the tensor that is one there and zero elsewhere."""
    unit = eye(like.numel(), dtype=like.dtype, device=like.device)
    return [unit[i].reshape(like.shape) for i in range(like.numel())]


def _random_unit(like: Tensor, random: np.random.Generator) -> Tensor:
    """A random tensor of norm 1, its elements positive, so that no errors cancel where all have the same sign."""
    values = random.random(tuple(like.shape))
    return as_tensor(values / np.linalg.norm(values), dtype=like.dtype, device=like.device)


def _random_gradient(output: Tensor, gaps: bool) -> Tensor:
    """A leaf shaped like `output`, with parts from -1 to 1; with `gaps`, every second element of its memory."""
    drawn, imaginary = (2 * rand(output.shape, dtype=float64, device=output.device) - 1 for _ in range(2))
    drawn = (drawn + 1j * imaginary if output.is_complex() else drawn).to(output.dtype)
    return (stack([drawn, drawn], -1)[..., 0] if gaps else drawn).detach().requires_grad_()


def _matrix(lines: list[Tensor], dim: int, like: Tensor) -> Tensor:
    """Lines of as many elements as `like` has, stacked along `dim`; there may be none."""
    if lines:
        return stack(lines, dim)
    shape = (0, like.numel()) if dim == 0 else (like.numel(), 0)
    return zeros(shape, dtype=like.dtype, device=like.device)
