"""autograd.functional: the same programs on torch and on gradx, and on every device."""

from __future__ import annotations

import numpy as np
import pytest
from twin import same

import gradx

CLOSE = {"rtol": 1e-12, "atol": 1e-14}


def leaf(m, *values, requires_grad=False):
    return m.tensor(values, dtype=m.float64, requires_grad=requires_grad)


def grid(m, *shape):
    return m.arange(1, 1 + int(np.prod(shape)), dtype=m.float64).reshape(shape) / 4


# Functions of one tensor and of two; of one and of two outputs; onto vectors, matrices and numbers.
VECTOR = [
    lambda x: x**3,
    lambda x: (x * x).sum(),
    lambda x: (x.sin(), (x[1:] * x[:-1]).reshape(-1, 1)),
    lambda x: (x.exp(),),
    lambda x: x,
    lambda x: x.unsqueeze(0) * x.unsqueeze(1),
    lambda x: (x * 0 + 1).detach(),
    lambda x: (x.softmax(0), x.detach()),
]
PAIR = [
    lambda x, y: x @ y,
    lambda x, y: (x.sum(), (y * y).sum(0)),
    lambda x, y: x.exp(),
    lambda x, y: (y.sum(), x.tanh() * x),
]
SCALAR = [
    lambda x: (x**3).sum(),
    lambda x: x.prod().reshape(1, 1),
    lambda x: x.sum(),
    lambda x: x.softmax(0).dot(x),
    lambda x: (x * 0).sum().detach(),
]
SCALAR_PAIR = [lambda x, y: (x @ y * y.exp()).sum(), lambda x, y: (x**4).sum(), lambda x, y: x.sum() * (y * y).sum()]
FLAGS = [{}, {"create_graph": True}, {"strict": True}, {"create_graph": True, "strict": True}]


@pytest.fixture(params=FLAGS, ids=lambda flags: "+".join(flags) or "plain")
def flags(request):
    return request.param


def one(m):
    return leaf(m, 0.5, -1.5, 2.0)


def two(m):
    return grid(m, 2, 3), grid(m, 3, 2)


def functional(m):
    return m.autograd.functional


@pytest.mark.parametrize("number", range(len(VECTOR)))
@pytest.mark.parametrize("name", ["jacobian", "vjp", "jvp"])
def test_one_input(name, number, flags):
    def program(m):
        func, x = VECTOR[number], one(m)
        if name == "jacobian":
            return functional(m).jacobian(func, x, **flags)
        outs = func(x)
        like = x if name == "jvp" else outs
        v = tuple(m.cos(t) for t in like) if isinstance(like, tuple) else m.cos(like)
        return getattr(functional(m), name)(func, x, v, **flags)

    same(program, **CLOSE)


@pytest.mark.parametrize("number", range(len(PAIR)))
@pytest.mark.parametrize("name", ["jacobian", "vjp", "jvp"])
def test_two_inputs(name, number, flags):
    def program(m):
        func, point = PAIR[number], two(m)
        if name == "jacobian":
            return functional(m).jacobian(func, point, **flags)
        like = point if name == "jvp" else func(*point)
        v = tuple(m.cos(t) for t in like) if isinstance(like, tuple) else m.cos(like)
        return getattr(functional(m), name)(func, point, v, **flags)

    same(program, **CLOSE)


@pytest.mark.parametrize("number", range(len(SCALAR)))
@pytest.mark.parametrize("name", ["hessian", "vhp", "hvp"])
def test_second_derivatives(name, number, flags):
    def program(m):
        x = one(m)
        v = () if name == "hessian" else (m.cos(x),)
        return getattr(functional(m), name)(SCALAR[number], x, *v, **flags)

    same(program, **CLOSE)


@pytest.mark.parametrize("number", range(len(SCALAR_PAIR)))
@pytest.mark.parametrize("name", ["hessian", "vhp", "hvp"])
def test_second_derivatives_of_two_inputs(name, number, flags):
    def program(m):
        point = (grid(m, 1, 2), grid(m, 2, 2))
        v = () if name == "hessian" else (tuple(m.cos(t) for t in point),)
        return getattr(functional(m), name)(SCALAR_PAIR[number], point, *v, **flags)

    same(program, **CLOSE)


@pytest.mark.parametrize("name", ["vjp", "jvp", "vhp", "hvp"])
@pytest.mark.parametrize("alone", [True, False])
def test_v_is_one_for_single_elements(name, alone):
    def program(m):
        x = leaf(m, 3.0)
        return getattr(functional(m), name)(lambda x: x**3, x if alone else (x,))

    same(program, **CLOSE)


@pytest.mark.parametrize("vectorize", [True, False])
def test_vectorized_results_are_the_same(vectorize):
    def program(m):
        f = functional(m)
        return (
            f.jacobian(PAIR[3], two(m), vectorize=vectorize),
            f.jacobian(PAIR[2], two(m), vectorize=vectorize, create_graph=True),
            f.hessian(SCALAR[0], one(m), vectorize=vectorize),
        )

    same(program, **CLOSE)


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "vhp", "hvp"])
@pytest.mark.parametrize("func", [lambda z: z * z.conj() * z, lambda z: (z * z).real, lambda z: z.abs().sum() ** 3])
def test_complex_inputs(name, func):
    def program(m):
        z = m.tensor([1 + 2j, 3 - 1j], dtype=m.complex128)
        extra = {"vjp": [m.ones_like(func(z))], "jacobian": [], "hessian": []}.get(name, [z * 1j])
        return getattr(functional(m), name)(func, z, *extra)

    same(program, **CLOSE)


# ---- create_graph ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "vhp", "hvp"])
def test_results_can_be_differentiated_again(name):
    """With respect to the input, the vector, and a parameter that the function uses besides."""

    def program(m):
        x, w = leaf(m, 0.5, -1.5, requires_grad=True), leaf(m, 2.0, 3.0, requires_grad=True)
        v = leaf(m, 1.0, -2.0, requires_grad=True)
        scalar = name in ("hessian", "vhp", "hvp")

        def func(t):
            return (w * t**4).sum() if scalar else w * t**4

        extra = () if name in ("jacobian", "hessian") else (v,)
        found = getattr(functional(m), name)(func, x, *extra, create_graph=True)
        parts = found if isinstance(found, tuple) else (found,)
        return parts, m.autograd.grad(sum((p * p).sum() for p in parts), (x, w, *extra))

    same(program, **CLOSE)


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "vhp", "hvp"])
@pytest.mark.parametrize("create_graph", [True, False])
@pytest.mark.parametrize("mode", ["enable_grad", "no_grad"])
def test_which_results_require_grad(name, create_graph, mode):
    def program(m):
        x = leaf(m, 2.0, requires_grad=True)
        with getattr(m, mode)():
            found = getattr(functional(m), name)(lambda t: (t**3).sum(), x, create_graph=create_graph)
        parts = found if isinstance(found, tuple) else (found,)
        return [p.requires_grad for p in parts], x.grad is None, m.is_grad_enabled()

    same(program)


def test_the_given_tensor_is_told_apart_from_the_argument():
    def program(m):
        x = leaf(m, 1.0, 2.0, requires_grad=True)
        f = functional(m)
        return f.jacobian(lambda t: t * x, x), f.hessian(lambda t: (t * t * x).sum(), x), f.jvp(lambda t: t * x, x, x)

    same(program, **CLOSE)


def test_a_hypergradient():
    """The derivative of a Newton step with respect to a hyperparameter, through jacobian and hessian."""

    def program(m):
        x, decay = leaf(m, 0.5, -1.5), leaf(m, 0.1, requires_grad=True)

        def loss(t):
            return (t**4).sum() + decay * (t * t).sum()

        first = functional(m).jacobian(lambda t: loss(t).reshape(()), x, create_graph=True)
        second = functional(m).hessian(loss, x, create_graph=True)
        step = first / m.stack([second[0, 0], second[1, 1]])
        return m.autograd.grad(step.sum(), decay)

    same(program, **CLOSE)


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS = {
    "a list of inputs": lambda m, f: f.vjp(lambda x: x, [one(m)]),
    "a number among inputs": lambda m, f: f.jacobian(lambda x, y: x, (one(m), 3.0)),
    "a number for an output": lambda m, f: f.jacobian(lambda x: 3.0, one(m)),
    "a list of outputs": lambda m, f: f.jvp(lambda x: [x], one(m), one(m)),
    "a number among outputs": lambda m, f: f.vjp(lambda x: (x, 1), one(m), one(m)),
    "a number for v": lambda m, f: f.vjp(lambda x: x, one(m), 2.0),
    "integer inputs": lambda m, f: f.jacobian(lambda x: x, m.arange(3)),
    "no v for several outputs": lambda m, f: f.vjp(lambda x: x, one(m)),
    "no v for several inputs": lambda m, f: f.jvp(lambda x: x, one(m)),
    "no v for a Hessian": lambda m, f: f.vhp(lambda x: x.sum(), one(m)),
    "no v for a Hessian from the left": lambda m, f: f.hvp(lambda x: x.sum(), one(m)),
    "v too long": lambda m, f: f.vjp(lambda x: x, one(m), grid(m, 4)),
    "v of another shape": lambda m, f: f.jvp(lambda x, y: x @ y, two(m), (grid(m, 2, 3), grid(m, 2, 3))),
    "v in one": lambda m, f: f.jvp(lambda x, y: x @ y, two(m), grid(m, 2, 3)),
    "v in two": lambda m, f: f.jvp(lambda x: x, one(m), (one(m), one(m))),
    "no scalar for hessian": lambda m, f: f.hessian(lambda x: x * x, one(m)),
    "a tuple for hessian": lambda m, f: f.hessian(lambda x: (x.sum(),), one(m)),
    "no scalar for vhp": lambda m, f: f.vhp(lambda x: x * x, one(m), one(m)),
    "a tuple for vhp": lambda m, f: f.vhp(lambda x: (x.sum(), x.sum()), one(m), one(m)),
    "no scalar for hvp": lambda m, f: f.hvp(lambda x: x * x, one(m), one(m)),
    "a tuple for hvp": lambda m, f: f.hvp(lambda x: (x.sum(),), one(m), one(m)),
    "strict and vectorized": lambda m, f: f.jacobian(lambda x: x * x, one(m), strict=True, vectorize=True),
    "an unknown strategy": lambda m, f: f.jacobian(lambda x: x, one(m), strategy="backward"),
    "an unknown outer strategy": lambda m, f: f.hessian(lambda x: x.sum(), one(m), outer_jacobian_strategy="reverse"),
    "no outputs": lambda m, f: f.jacobian(lambda x: x[:0], one(m)),
    "strict, second output constant": lambda m, f: f.jacobian(lambda x: (x, x.detach()), one(m), strict=True),
    "strict, input unused": lambda m, f: f.jacobian(lambda x, y: x * 2, two(m), strict=True),
    "strict, linear Hessian": lambda m, f: f.hessian(lambda x: x.sum(), one(m), strict=True),
    "strict, input unused in hessian": lambda m, f: f.hessian(lambda x, y: (x**3).sum(), two(m), strict=True),
    "strict, input unused in vhp": lambda m, f: f.vhp(lambda x, y: (x**3).sum(), two(m), two(m), strict=True),
    "strict, mixed in vhp": lambda m, f: f.vhp(
        lambda x, y: x.sum() * y.sum() + 0 * x.sum(), two(m), two(m), strict=True
    ),
    "strict, separate in vhp": lambda m, f: f.vhp(lambda x, y: x.sum() ** 2 + y.sum(), two(m), two(m), strict=True),
    "strict, constant jvp": lambda m, f: f.jvp(lambda x: x * 2, one(m), one(m), create_graph=True, strict=True),
    "strict, constant vjp": lambda m, f: f.vjp(lambda x: x * 2, one(m), one(m), create_graph=True, strict=True),
    "strict, constant vhp": lambda m, f: f.vhp(lambda x: x.dot(x), one(m), one(m), create_graph=True, strict=True),
    "strict, constant hvp": lambda m, f: f.hvp(lambda x: x.dot(x), one(m), one(m), create_graph=True, strict=True),
    "strict, constant jacobian": lambda m, f: f.jacobian(lambda x: x * 2, one(m), create_graph=True, strict=True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    same(lambda m: ERRORS[name](m, functional(m)))


def test_strict_names_the_input_that_is_constant():
    """Torch's message counts outputs here, though it says input; ours counts inputs."""
    x, y = gradx.tensor([1.0]), gradx.tensor([2.0])
    with pytest.raises(RuntimeError, match="independent of input 1"):
        gradx.autograd.functional.jacobian(
            lambda x, y: x * x + y, (x.requires_grad_(), y), create_graph=True, strict=True
        )


@pytest.mark.parametrize(("name", "argument"), [("jacobian", "strategy"), ("hessian", "outer_jacobian_strategy")])
def test_forward_mode_is_not_there_yet(name, argument):
    func = getattr(gradx.autograd.functional, name)
    with pytest.raises(NotImplementedError, match=f'^{argument}="forward-mode" is not supported'):
        func(lambda x: x.sum(), gradx.ones(2), **{argument: "forward-mode"})


# ---- devices ---------------------------------------------------------------------------------------------------------


def test_devices_agree(device):
    """For f(x) = sum x^3 all is known: the gradient 3x^2, the Hessian 6x on its diagonal."""
    f = gradx.autograd.functional
    x = gradx.tensor([1.0, 2.0, -3.0], dtype=gradx.float64, device=device)
    v = gradx.tensor([1.0, 10.0, 100.0], dtype=gradx.float64, device=device)
    cubes = lambda t: (t**3).sum()  # noqa: E731
    found = [f.jacobian(cubes, x), f.vjp(lambda t: t**3, x, v)[1], f.jvp(lambda t: t**3, x, v)[1]]
    found += [f.vhp(cubes, x, v)[1], f.hvp(cubes, x, v)[1], f.hessian(cubes, x).sum(0)]
    expected = [[3, 12, 27], [3, 120, 2700], [3, 120, 2700], [6, 120, -1800], [6, 120, -1800], [6, 12, -18]]
    for ours, known in zip(found, expected, strict=True):
        assert ours.device.type == device
        np.testing.assert_allclose(ours.numpy(force=True), known, rtol=1e-13)
