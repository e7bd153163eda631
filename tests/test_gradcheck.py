"""gradcheck and gradgradcheck: what they pass, what they catch, and what they say, on torch and on gradx."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from twin import same

import gradx

CHECKS = ["gradcheck", "gradgradcheck"]
MODES = [{}, {"fast_mode": True}]


@pytest.fixture(params=MODES, ids=["full", "fast"])
def mode(request):
    return request.param


def leaf(m, *values, device="cpu"):
    return m.tensor(values or (0.5, -1.5, 2.0), dtype=m.float64, requires_grad=True, device=device)


def complexes(m):
    return m.tensor([1 + 2j, 3 - 1j, -0.5j], dtype=m.complex128, requires_grad=True)


def matrix(m, rows, columns):
    return (m.arange(rows * columns, dtype=m.float64).reshape(rows, columns) / 7 - 0.5).requires_grad_()


def function(m, **members):
    """A Function with these static methods."""
    return type("Custom", (m.autograd.Function,), {key: staticmethod(value) for key, value in members.items()}).apply


def scaled_square(m, scale):
    """x squared, with `scale` times its gradient."""

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * scale * x * g

    return function(m, forward=forward, backward=backward)


def noisy_square(m, noise):
    """x squared, whose gradient grows by `noise` with every backward pass."""
    passes = []

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        passes.append(None)
        return (2 * x + noise * len(passes)) * g

    return function(m, forward=forward, backward=backward)


# ---- right gradients -------------------------------------------------------------------------------------------------

RIGHT = {
    "elementwise": lambda m: (lambda x: x.sin() * x.exp(), leaf(m)),
    "the input itself": lambda m: (lambda x: x, leaf(m)),
    "no dimensions": lambda m: (lambda x: x**3, leaf(m, 2.0)[0].detach().requires_grad_()),
    "several inputs": lambda m: (lambda x, y: (x @ y).tanh(), (matrix(m, 2, 3), matrix(m, 3, 2))),
    "several outputs": lambda m: (lambda x: (x.sum(), x * x, x.unsqueeze(0) * 3), leaf(m)),
    "lists": lambda m: (lambda x, y: [x * y, y], [leaf(m), leaf(m)]),
    "an input without gradient": lambda m: (lambda x, y, k: x * y * k, (leaf(m), leaf(m).detach(), 3)),
    "an unused input": lambda m: (lambda x, y: x * 2, (leaf(m), leaf(m))),
    "the same input twice": lambda m: (lambda x, y: x * x * y, (leaf(m),) * 2),
    "an input with history": lambda m: (lambda x: x * x, leaf(m) * 2),
    "a view": lambda m: (lambda x: x * x, matrix(m, 3, 2).t()),
    "the same output twice": lambda m: (lambda x: (x * x,) * 2, leaf(m)),
    "integers beside": lambda m: (lambda x: (x * x, m.arange(3)), leaf(m)),
    "whole numbers only": lambda m: (lambda x: x.floor().detach(), leaf(m)),
    "a Function": lambda m: (scaled_square(m, 1), leaf(m)),
    "complex": lambda m: (lambda z: z * z, complexes(m)),
    "complex to real": lambda m: (lambda z: (z.abs(), z.real * z.imag), complexes(m)),
    "real to complex": lambda m: (lambda x: x * (1 + x * 1j), leaf(m)),
    "complex with real": lambda m: (lambda x, z: (x * x, z.conj() * x), (leaf(m), complexes(m))),
    "no elements": lambda m: (lambda x: x * x, m.zeros(0, 2, dtype=m.float64, requires_grad=True)),
    "no elements left": lambda m: (lambda x: x[:0] * 2, leaf(m)),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("options", [{}, {"fast_mode": True}, {"check_batched_grad": True, "check_grad_dtypes": True}])
def test_gradcheck_agrees_with_torch(name, options):
    def program(m):
        func, inputs = RIGHT[name](m)
        return m.autograd.gradcheck(func, inputs, **options)

    same(program)


@pytest.mark.parametrize("fast", [True, False])
def test_constant_outputs_are_left_out(fast):
    """Torch's fast mode stumbles over them if they come first."""

    def program(m, fast):
        return m.autograd.gradcheck(lambda x: (m.ones(2), x * x), leaf(m), fast_mode=fast)

    same(lambda m: program(m, fast and m is gradx))


TWICE = {
    "elementwise": lambda m: (lambda x: x.sin() * x.exp(), leaf(m)),
    "linear": lambda m: (lambda x: 2 * x, leaf(m)),
    "several inputs": lambda m: (lambda x, y: (x @ y).tanh(), (matrix(m, 2, 3), matrix(m, 3, 2))),
    "several outputs": lambda m: (lambda x: (x.prod(), x.unsqueeze(0) ** 3, x.detach()), leaf(m)),
    "an unused input": lambda m: (lambda x, y: x * x, (leaf(m), leaf(m))),
    "complex with real": lambda m: (lambda x, z: (z * z * x, (z.conj() * x).imag ** 3), (leaf(m), complexes(m))),
    "a Function": lambda m: (scaled_square(m, 1), leaf(m)),
}


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("options", [{}, {"fast_mode": True}, {"gen_non_contig_grad_outputs": True}])
def test_gradgradcheck_agrees_with_torch(name, options):
    def program(m):
        func, inputs = TWICE[name](m)
        return m.autograd.gradgradcheck(func, inputs, **options)

    same(program)


@pytest.mark.parametrize("alone", [True, False])
def test_gradgradcheck_takes_grad_outputs(alone):
    def program(m):
        given = leaf(m, 1.0, -2.0, 3.0)
        return m.autograd.gradgradcheck(lambda x: x**3, leaf(m), given if alone else (given,))

    same(program)


@pytest.mark.parametrize("gaps", [True, False])
def test_random_grad_outputs_may_have_gaps(gaps):
    seen = []

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        seen.append(g.is_contiguous())
        return 2 * ctx.saved_tensors[0] * g

    assert gradx.autograd.gradgradcheck(
        function(gradx, forward=forward, backward=backward), leaf(gradx), gen_non_contig_grad_outputs=gaps
    )
    assert seen[0] is not gaps


# ---- wrong gradients -------------------------------------------------------------------------------------------------

WRONG = {
    "detached": lambda m: (lambda x: x.detach() * x, leaf(m)),
    "past the tape": lambda m: (lambda x: x.data * x, leaf(m)),
    "detached in the second output": lambda m: (lambda x: (x * 2, x.detach() * x), leaf(m)),
    "for the second input": lambda m: (lambda x, y: x * y + y.detach() * y, (leaf(m), leaf(m))),
    "not recorded at all": lambda m: (lambda x: x.detach() * 2, leaf(m)),
    "scaled": lambda m: (scaled_square(m, 1.01), leaf(m)),
    "of the wrong sign": lambda m: (scaled_square(m, -1), leaf(m)),
    "complex, wrong in part": lambda m: (lambda z: z.real.detach() * z, complexes(m)),
    "complex, second output": lambda m: (lambda x, z: (x * x, z.detach() * z * x), (leaf(m), complexes(m))),
    "complex, real output": lambda m: (lambda x, z: (x * x.detach(), z * x), (leaf(m), complexes(m))),
    "complex, conjugate": lambda m: (lambda z: (z * z.conj().detach()).real, complexes(m)),
    "complex, not recorded": lambda m: (lambda z: z.detach() * 2, complexes(m)),
    "not a number": lambda m: (scaled_square(m, float("nan")), leaf(m)),
    "noisy": lambda m: (noisy_square(m, 1e-9), leaf(m)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_caught_in_torchs_words(name, mode):
    def program(m):
        func, inputs = WRONG[name](m)
        return m.autograd.gradcheck(func, inputs, **mode)

    same(program)
    func, inputs = WRONG[name](gradx)
    assert gradx.autograd.gradcheck(func, inputs, raise_exception=False, **mode) is False


def test_a_right_gradient_whose_own_gradient_is_wrong(mode):
    """Its backward computes with numbers that are not part of the graph."""

    def cube(m):
        def forward(ctx, x):
            ctx.numbers = x.detach()
            return x**3

        return function(m, forward=forward, backward=lambda ctx, g: 3 * ctx.numbers**2 * g)

    same(lambda m: m.autograd.gradcheck(cube(m), leaf(m), **mode))
    same(lambda m: m.autograd.gradgradcheck(cube(m), leaf(m), **mode))
    assert gradx.autograd.gradgradcheck(cube(gradx), leaf(gradx), raise_exception=False, **mode) is False


def test_the_error_shows_both_jacobians():
    errors = sys.modules["gradx.autograd.gradcheck"]
    with pytest.raises(errors.GradcheckError) as caught:
        gradx.autograd.gradcheck(scaled_square(gradx, 2), leaf(gradx, 1.0, 3.0))
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == (
        "Jacobian mismatch for output 0 with respect to input 0,\n"
        "numerical:tensor([[2.0000, 0.0000],\n        [0.0000, 6.0000]], dtype=gradx.float64)\n"
        "analytical:tensor([[ 4.,  0.],\n        [ 0., 12.]], dtype=gradx.float64)\n"
    )


def test_fast_mode_shows_the_jacobians_too():
    with pytest.raises(RuntimeError, match=r"(?s)v J u.*differ as well:\nnumerical:tensor.*\nanalytical:tensor"):
        gradx.autograd.gradcheck(scaled_square(gradx, 2), leaf(gradx, 1.0, 3.0), fast_mode=True)


def test_fast_mode_says_if_the_full_check_might_pass():
    """Each element is within its tolerance, but large ones of both signs cancel in the sum, and their errors do not."""

    def program(m, fast):
        signs = 1 - 2 * (m.arange(40, dtype=m.float64) % 2)
        tilted = function(m, forward=lambda ctx, x: signs * x, backward=lambda ctx, g: (signs + 5e-4) * g)
        x = m.zeros(40, dtype=m.float64, requires_grad=True)
        return m.autograd.gradcheck(tilted, x, fast_mode=fast, atol=1e-12)

    same(lambda m: program(m, fast=False))
    same(lambda m: program(m, fast=True))
    with pytest.raises(RuntimeError, match="fast_mode=False might pass"):
        program(gradx, fast=True)


@pytest.mark.parametrize("check", CHECKS)
def test_tolerances(check):
    """A gradient that is wrong by one percent passes only if that is allowed."""

    def program(m, **options):
        return getattr(m.autograd, check)(scaled_square(m, 1.01), leaf(m), raise_exception=False, **options)

    for options in ({}, {"rtol": 0.02}, {"atol": 0.1}, {"rtol": 1e-3, "atol": 1e-4}):
        same(lambda m: program(m, **options))
    assert gradx.autograd.gradcheck(scaled_square(gradx, 1.01), leaf(gradx), rtol=0.02)


def test_nondeterminism_may_be_tolerated(mode):
    for tolerance in (0.0, 1e-6):
        same(lambda m: m.autograd.gradcheck(noisy_square(m, 1e-9), leaf(m), nondet_tol=tolerance, **mode))


def test_gradients_must_vanish_with_those_of_the_outputs():
    """The offset is within the tolerance, yet it is there without any gradient."""

    def program(m):
        offset = function(m, forward=lambda ctx, x: x * 2, backward=lambda ctx, g: 2 * g + 1e-6)
        return m.autograd.gradcheck(offset, leaf(m))

    same(program)


def three_outputs(m, when_one_is_missing):
    """x, 2x and 3x, from a Function that does not like one missing gradient."""

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 1, x * 2, x * 3

    def backward(ctx, *grads):
        if [g is None for g in grads].count(True) == 1:
            return when_one_is_missing()
        return sum(k * g for k, g in enumerate(grads, 1) if g is not None) or None

    return function(m, forward=forward, backward=backward)


@pytest.mark.filterwarnings("ignore:Backwards compatibility:UserWarning")  # torch's
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("how", ["raises", "is not zero", "is zero"])
def test_missing_gradients(checked, how):
    def program(m):
        def respond():
            if how == "raises":
                raise RuntimeError("a gradient is missing")
            return m.full((3,), float(how == "is not zero"), dtype=m.float64)

        return m.autograd.gradcheck(three_outputs(m, respond), leaf(m), check_undefined_grad=checked)

    same(program)


def test_batched_gradients_are_compared():
    """A backward that goes wrong after six passes: four for the Jacobians, two for the cotangents one by one."""

    def tiring(m):
        passes = []

        def backward(ctx, g):
            passes.append(None)
            return 2 * g if len(passes) <= 6 else 3 * g

        return function(m, forward=lambda ctx, x: 2 * x, backward=backward)

    x = leaf(gradx, 1.0, 2.0)
    assert gradx.autograd.gradcheck(tiring(gradx), x)
    with pytest.raises(RuntimeError, match=r"^For output 0 and input 0:\n"):
        gradx.autograd.gradcheck(tiring(gradx), x, check_batched_grad=True)


# ---- inputs stay as they are -----------------------------------------------------------------------------------------


def test_inputs_are_left_as_they_were(mode):
    x, y = leaf(gradx), leaf(gradx)
    before, version = x.detach().clone(), x._version
    (x * y).sum().backward()
    gradient = x.grad.clone()
    held = (x * x * y).sum()  # a graph that saved x: it must still be good afterwards
    assert gradx.autograd.gradcheck(lambda x, y: x * y, (x, y), **mode)
    with pytest.raises(ZeroDivisionError):
        gradx.autograd.gradcheck(lambda x: x * (1 // int(x[0] == 0.5)), x, **mode)
    assert (x == before).all() and x._version == version and (x.grad == gradient).all()
    held.backward()


def test_random_numbers_are_left_as_they_were():
    gradx.manual_seed(1)
    expected = gradx.rand(3)
    gradx.manual_seed(1)
    gradx.autograd.gradcheck(lambda x: x * x, leaf(gradx), fast_mode=True, check_batched_grad=True)
    assert (gradx.rand(3) == expected).all()


def test_tensors_that_the_function_holds_are_moved_too():
    """As in torch, the memory of the inputs itself is moved, so a function may also find them by other ways."""

    def program(m):
        x = leaf(m)
        return m.autograd.gradcheck(lambda _: x * x, x)

    same(program)


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS = {
    "no input requires grad": lambda m, check: check(lambda x: x * x, leaf(m).detach()),
    "no tensor": lambda m, check: check(lambda x: x * x, 3.0),
    "overlapping elements": lambda m, check: check(
        lambda x: x * x, m.ones(1, dtype=m.float64).expand(3).requires_grad_()
    ),
    "an error in the function": lambda m, check: check(lambda x: x @ x @ x, matrix(m, 2, 3)),
}


ERRORS_OF_TORCHS = ("no tensor", "gradgradcheck")  # an AttributeError, by accident


@pytest.mark.parametrize(
    ("name", "check"), [(name, check) for name in ERRORS for check in CHECKS if (name, check) != ERRORS_OF_TORCHS]
)
@pytest.mark.parametrize("raise_exception", [True, False])
def test_errors(name, check, raise_exception):
    """What is no wrong gradient is raised in any case."""

    def program(m):
        def chosen(func, inputs):
            return getattr(m.autograd, check)(func, inputs, raise_exception=raise_exception)

        return ERRORS[name](m, chosen)

    same(program)


@pytest.mark.parametrize(
    ("check", "options"),
    [
        ("gradcheck", {"check_backward_ad": False}),
        ("gradcheck", {"check_batched_forward_grad": True}),
        ("gradcheck", {"check_forward_ad": True, "check_backward_ad": False, "check_batched_grad": True}),
        ("gradgradcheck", {"check_rev_over_rev": False}),
        ("gradgradcheck", {"check_rev_over_rev": False, "check_fwd_over_rev": True}),
        (
            "gradgradcheck",
            {
                "check_rev_over_rev": False,
                "check_fwd_over_rev": True,
                "check_undefined_grad": False,
                "check_batched_grad": True,
            },
        ),
    ],
)
def test_options_that_exclude_each_other(check, options):
    same(lambda m: getattr(m.autograd, check)(lambda x: x * x, leaf(m), **options))


@pytest.mark.parametrize(
    ("check", "option"), [("gradcheck", "check_forward_ad"), ("gradgradcheck", "check_fwd_over_rev")]
)
def test_forward_mode_is_not_there_yet(check, option):
    with pytest.raises(NotImplementedError, match="reverse mode only"):
        getattr(gradx.autograd, check)(lambda x: x * x, leaf(gradx), **{option: True})


@pytest.mark.parametrize("change", ["shape", "dtype"])
def test_outputs_that_change_their_kind(change):
    """In fast mode, as torch otherwise names the element that was moved."""

    def program(m):
        def fickle(x):
            return x if x[0] <= 0.5 else x[:1] if change == "shape" else x.float()

        return m.autograd.gradcheck(fickle, leaf(m), fast_mode=True)

    same(program)


def test_gradgradcheck_wants_an_output_that_requires_grad():
    with pytest.raises(ValueError, match="at least one output to require gradient"):
        gradx.autograd.gradgradcheck(lambda x: x.detach(), leaf(gradx))


@pytest.mark.parametrize("check", CHECKS)
def test_single_precision_is_warned_of(check):
    """Both libraries say so of each input, in the same words."""
    said = []
    for m in (torch, gradx):
        x = m.tensor([1.0, 2.0], requires_grad=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            passed = getattr(m.autograd, check)(lambda x, y: x * y, (x, x), eps=1e-2, atol=1e-2, rtol=1e-2)
        said.append((passed, [(w.category, str(w.message)) for w in caught]))
    assert said[0] == said[1]
    assert "Input #1 requires gradient and is not a double precision" in said[1][1][1][1]


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_devices(check, device, mode):
    x, y = leaf(gradx, device=device), leaf(gradx, 1.0, 2.0, 3.0, device=device)
    run = getattr(gradx.autograd, check)
    assert run(lambda x, y: ((x * y).softmax(0), x.prod()), (x, y), **mode)
    assert not run(lambda x, y: x * x.detach() * y * y, (x, y), raise_exception=False, **mode)
    np.testing.assert_array_equal(x.numpy(force=True), [0.5, -1.5, 2.0])
