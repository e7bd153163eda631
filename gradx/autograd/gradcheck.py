"""Is a gradient right? Compare it with differences: torch.autograd.gradcheck and gradgradcheck.

The Jacobian of an output with respect to an input is computed twice. Numerically, an input is moved a little to either
side along some directions, and the outputs' differences are taken. Analytically, some cotangents are carried back from the
output. The full check takes every element for a direction and a cotangent; the fast one takes a random vector u of each
input and v of each output, and compares the numbers v J u only.

A Jacobian is held as torch holds it, transposed: a row for each element of the input, a column for each of the output.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np  # compares finished Jacobians, on the host

from gradx.creation import as_tensor, eye, ones_like, rand, zeros, zeros_like
from gradx.differentiate import grad
from gradx.dtypes import float64
from gradx.ops.join import stack
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
    """Compare the gradients of `func` with central differences, for all inputs that require grad.

    Args:
        func: takes the inputs; returns a tensor or several. Outputs that do not require grad are left out.
        inputs: a tensor or several arguments, tensors or not. Those to check require grad and had better be float64.
        eps: how far the inputs are moved to either side.
        atol, rtol: a gradient may differ from its numerical value n by ``atol + rtol * abs(n)``.
        raise_exception: raise GradcheckError for a wrong gradient; otherwise return False.
        nondet_tol: how far the gradients of two backward passes may be apart.
        check_undefined_grad: also check that it makes no difference whether the gradient of an output is zero or missing.
        check_grad_dtypes: also check that gradients have the dtype of their input.
        check_batched_grad: also check `grad` with ``is_grads_batched=True``.
        check_forward_ad, check_batched_forward_grad: not supported yet.
        check_backward_ad: must be True.
        fast_mode: compare one number for each input and output instead of their Jacobian.
        masked: taken for torch's sake: it concerns sparse tensors only.

    Returns:
        True if all gradients are right.

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
    assert check_forward_ad or check_backward_ad, (
        "Expected at least one of check_forward_ad or check_backward_ad to be True"
    )
    assert check_backward_ad or not check_batched_grad, (
        "Setting check_batched_grad=True requires check_backward_ad to be True"
    )
    assert check_forward_ad or not check_batched_forward_grad, (
        "Setting check_batched_forward_grad=True requires check_forward_ad to be True"
    )
    if check_forward_ad:
        raise NotImplementedError("check_forward_ad=True is not supported: gradx differentiates in reverse mode only.")
    given = _as_tuple(inputs)
    _check_inputs(given)
    try:
        check = _Check(func, given, _as_tuple(func(*given)), eps, atol, rtol, nondet_tol, check_grad_dtypes)
        check.run(fast_mode)
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

    They are checked as a function of the inputs and of the gradients `grad_outputs` that they are computed from.

    Args:
        grad_outputs: a gradient for each output that requires grad; random ones by default.
        gen_non_contig_grad_outputs: let those random ones have gaps in memory.
        check_fwd_over_rev: not supported yet.
        check_rev_over_rev: must be True.

    The other arguments, what is returned and what is raised are as for `gradcheck`.

    >>> import gradx
    >>> x = gradx.tensor([0.5, 2.0], dtype=gradx.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: x.sin() * x, x)
    True
    """
    assert check_fwd_over_rev or check_rev_over_rev, (
        "Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True"
    )
    assert check_rev_over_rev or not check_undefined_grad, (
        "Setting check_undefined_grad=True requires check_rev_over_rev to be True"
    )
    assert check_rev_over_rev or not check_batched_grad, (
        "Setting check_batched_grad=True requires check_rev_over_rev to be True"
    )
    given = _as_tuple(inputs)
    if grad_outputs is None:
        outputs = _differentiable(_as_tuple(func(*given)))
        grad_outputs = tuple(_random_gradient(out, gen_non_contig_grad_outputs) for out in outputs)

    def gradients(*args: Any) -> tuple[Tensor, ...]:
        point, vectors = args[: len(given)], args[len(given) :]
        outputs = _differentiable(_as_tuple(func(*point)))
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


@dataclass(frozen=True)
class _Check:
    """What is checked: a function at a point, and what it returned there."""

    func: Callable[..., Any]
    inputs: tuple[Any, ...]
    results: tuple[Any, ...]
    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    check_grad_dtypes: bool

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        return _differentiable(self.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return _differentiable(self.results)

    def run(self, fast: bool) -> None:
        """Compare analytical and numerical Jacobians; without differentiable outputs the latter must be zero."""
        if not self.outputs:
            self._nothing_depends()
        elif fast:
            self._fast()
        else:
            self._full()

    def _nothing_depends(self) -> None:
        for x in self.wanted:
            for result in self.numerical(x, _basis(x), _floating(self.results)):
                if (result != 0).any():
                    raise GradcheckError(
                        "Numerical gradient for function expected to be zero. No output requires grad, yet the outputs "
                        "change with the inputs: part of the computation was not recorded."
                    )

    def _full(self) -> None:
        numerical = [self.numerical(x, _basis(x), self.outputs) for x in self.wanted]
        for i, output in enumerate(self.outputs):
            for j, analytical in enumerate(self.analytical(output, _basis(output))):
                if not self._close(analytical, numerical[j][i]):
                    raise GradcheckError(_mismatch(i, j, numerical[j][i], analytical))

    def _fast(self) -> None:
        random = np.random.default_rng(0)  # its own: the program's random numbers stay as they are
        directions = [_random_unit(x, random) for x in self.wanted]
        numerical = [self.numerical(x, [u], self.outputs) for x, u in zip(self.wanted, directions, strict=True)]
        for i, output in enumerate(self.outputs):
            v = _random_unit(output, random)
            for j, column in enumerate(self.analytical(output, [v])):
                u = directions[j]
                expected, found = (numerical[j][i] * v.reshape(1, -1)).sum(), (u.reshape(-1, 1) * column).sum()
                if not self._close(found, expected, float(u.sum() * v.sum())):
                    raise GradcheckError(_mismatch(i, j, expected, found) + self._in_full(i, j))

    def _in_full(self, i: int, j: int) -> str:
        """What the Jacobians are where the fast check failed."""
        x, output = self.wanted[j], self.outputs[i]
        numerical = self.numerical(x, _basis(x), self.outputs)[i]
        analytical = self.analytical(output, _basis(output))[j]
        verdict = "agree, so that the check might pass" if self._close(analytical, numerical) else "differ as well"
        return (
            "\nThese are numbers v J u, compared in fast mode for random u and v. The Jacobians themselves, which "
            f"{verdict} with fast_mode=False:\nnumerical:{numerical}\nanalytical:{analytical}\n"
        )

    def _close(self, found: Tensor, expected: Tensor, scale: float = 1.0) -> bool:
        return np.allclose(found.numpy(force=True), expected.numpy(force=True), self.rtol, self.atol * scale)

    def numerical(self, x: Tensor, directions: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        """For each of `outputs`, how it changes with the input `x` along each direction: a row for each."""
        places = [i for i, result in enumerate(self.results) if any(result is out for out in outputs)]
        changes = [self._differences(x.data, u, places) for u in directions]
        return [_matrix([change[k] for change in changes], 0, outputs[k].numel(), x) for k in range(len(places))]

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
        for low, high in zip(*sides, strict=True):
            _require_alike(low, high, self.eps)
        return [((high - low) / (2 * self.eps)).reshape(-1) for low, high in zip(*sides, strict=True)]

    def analytical(self, output: Tensor, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """For each wanted input, the gradients that the cotangents of `output` give: a column for each."""
        first, second = (self._columns(output, cotangents) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            if a.numel() and float((a - b).abs().max()) > self.nondet_tol:
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives "
                    "different values, although analytical gradient matches numerical gradient.The tolerance for "
                    f"nondeterminism was {self.nondet_tol}. Pass a larger nondet_tol if that is as it should be."
                )
        return first

    def _columns(self, output: Tensor, cotangents: Sequence[Tensor]) -> list[Tensor]:
        rows = [self._gradients((output,), (v,)) for v in cotangents]
        if self.check_grad_dtypes and any(g.dtype != x.dtype for row in rows for g, x in zip(row, self.wanted, strict=True)):
            raise GradcheckError("Gradient has dtype mismatch")
        return [_matrix([row[j].reshape(-1) for row in rows], 1, x.numel(), x) for j, x in enumerate(self.wanted)]

    def _gradients(self, outputs: Sequence[Tensor], vectors: Sequence[Tensor], batched: bool = False) -> Sequence[Tensor]:
        return grad(  # type: ignore[return-value]
            outputs,
            self.wanted,
            vectors,
            retain_graph=True,
            is_grads_batched=batched,
            materialize_grads=True,
        )

    def batched(self) -> None:
        """Several cotangents at once must give what they give one after the other."""
        random = np.random.default_rng(0)
        for i, output in enumerate(self.outputs):
            vectors = [_random_unit(output, random) for _ in range(2)]
            each = [self._gradients((output,), (v,)) for v in vectors]
            together = self._gradients((output,), (stack(vectors),), batched=True)
            for j, found in enumerate(together):
                expected = stack([row[j] for row in each])
                if not np.allclose(found.numpy(force=True), expected.numpy(force=True)):
                    raise GradcheckError(
                        f"For output {i} and input {j}:\ngradcheck or gradgradcheck failed while testing batched gradient "
                        f"computation.\nGot:\n{found}\nExpected:\n{expected}"
                    )

    def zeros(self) -> None:
        """Gradients must be zero where those of all outputs are."""
        if self.outputs and _any_nonzero(self._gradients(self.outputs, [zeros_like(out) for out in self.outputs])):
            raise GradcheckError("backward not multiplied by grad_output")

    def undefined(self) -> None:
        """Gradients must be zero too where that of one output is missing. A node that none reaches is never run."""
        for missing in self.outputs if len(self.outputs) > 1 else ():
            rest = [out for out in self.outputs if out is not missing]
            try:
                found = self._gradients(rest, [zeros_like(out) for out in rest])
            except RuntimeError as error:
                raise GradcheckError("Expected backward function to handle undefined output grads") from error
            if _any_nonzero(found):
                raise GradcheckError(
                    "Expected all input grads to be undefined or zero when all output grads are undefined or zero"
                )
