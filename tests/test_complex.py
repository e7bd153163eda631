"""Complex numbers: values, gradients and second gradients against torch, whose convention is the conjugate's."""

from __future__ import annotations

import numpy as np
import pytest
from twin import same

import gradx

Z = np.array([[1 + 2j, -0.5 + 1j, 2 - 1j], [0.3 - 0.2j, -1 - 1j, 0.5j + 2]])
W = np.array([[0.5 - 1j, 2 + 1j, 1 + 0.5j], [1 - 2j, -1 + 0.5j, 0.5 + 0.1j]])
R = np.array([[1.5, -0.5, 2.0], [0.3, -1.0, 0.5]])

UNARY = """neg reciprocal square exp expm1 log log2 log10 log1p sqrt rsqrt sin cos tan tanh sigmoid abs sgn angle conj real
imag sum mean prod view_as_real clone""".split()

FUNCTIONS = {name: lambda m, z, name=name: getattr(m, name)(z) for name in UNARY} | {
    "x.real": lambda m, z: z.real * 3,
    "x.imag": lambda m, z: z.imag * 3,
    "square norm": lambda m, z: (z * z.conj()).real,
    "not analytic": lambda m, z: z.conj() * z * z.real,
    "cube": lambda m, z: z**3,
    "complex power": lambda m, z: z ** (1.5 + 0.5j),
    "number to a power": lambda m, z: (2 + 1j) ** z,
    "times a number": lambda m, z: z * (2 - 3j) + 1j - z / (1 + 1j),
    "number over": lambda m, z: (2 - 3j) / z,
    "alpha": lambda m, z: m.add(z, z * z, alpha=2 - 1j),
    "sum of a dimension": lambda m, z: z.sum(0),
    "product of a dimension": lambda m, z: z.prod(1),
    "cumsum": lambda m, z: z.cumsum(1),
    "norm": lambda m, z: m.norm(z),
    "norm 3": lambda m, z: m.norm(z, 3, 1),
    "var": lambda m, z: z.var(),
    "std": lambda m, z: z.std(1),
    "matmul": lambda m, z: z @ (z.t() * 2j),
    "mv": lambda m, z: z @ z[0],
    "dot": lambda m, z: m.dot(z[0], z[1]),
    "transpose": lambda m, z: z.t().reshape(-1),
    "index": lambda m, z: z[:, [0, 0, 2]],
    "slice": lambda m, z: z[0, 1:],
    "where": lambda m, z: m.where(z.real > 0, z, z * 1j),
    "masked_fill": lambda m, z: z.masked_fill(z.real > 0, 1 + 1j) * z,
    "expand": lambda m, z: z.sum(0, keepdim=True).expand(2, 3) * z,
    "cat": lambda m, z: m.cat([z, z * 1j]),
    "stack": lambda m, z: m.stack([z, z.conj()]),
    "polar": lambda m, z: m.polar(z.abs(), z.angle() * 2),
    "complex": lambda m, z: m.complex(z.imag, z.real * 2),
    "there and back": lambda m, z: m.view_as_complex(m.view_as_real(z) * 2),
    "to single": lambda m, z: z.to(m.complex64).to(m.complex128),
    "real to complex": lambda m, z: z.real.to(m.complex128) * z,
    "in place": lambda m, z: z.clone().mul_(z).add_(1j),
    "real part in place": lambda m, z: setitem(z * 1, lambda t: t.real.add_(t.imag)),
    "setitem": lambda m, z: setitem(z * 1, lambda t: t.__setitem__(0, t[1] * 1j)),
}

MIXED = {
    "add": lambda m, z, r: z + r,
    "mul": lambda m, z, r: z * r,
    "div": lambda m, z, r: z / r,
    "div into": lambda m, z, r: r / z,
    "sub": lambda m, z, r: r - z,
    "power": lambda m, z, r: z**r,
    "where": lambda m, z, r: m.where(r > 0, r.to(m.complex128), z),
    "matmul": lambda m, z, r: z @ r.t().to(m.complex128),
    "polar": lambda m, z, r: m.polar(r * r, z.real),
    "complex": lambda m, z, r: m.complex(r, r * 2) * z,
    "j times": lambda m, z, r: 1j * r + z.abs(),
}


def setitem(t, change):
    change(t)
    return t


def derivatives(m, out, *leaves):
    """The value, first and second gradients, with complex weights so that every part counts."""
    weights = m.arange(out.numel(), dtype=m.float64).reshape(out.shape).cos().to(out.dtype)
    if out.is_complex():
        weights = weights * (1 + 0.5j)
    first = m.autograd.grad(out, leaves, weights, create_graph=True, allow_unused=True)
    total = sum((g * g.conj()).real.sum() + g.real.sin().sum() for g in first if g is not None and g.requires_grad)
    second = m.autograd.grad(total, leaves, allow_unused=True) if hasattr(total, "grad_fn") else ()
    return (
        out,
        [g if g is None else g.conj().conj() for g in first],
        [g for g in second if g is not None and g.abs().sum() > 0],
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    def program(m):
        z = m.tensor(Z, requires_grad=True)
        return derivatives(m, FUNCTIONS[name](m, z), z)

    same(program, rtol=2e-7 if name == "to single" else 1e-11, atol=1e-12)


@pytest.mark.parametrize("name", MIXED)
def test_real_and_complex(name):
    def program(m):
        z, r = m.tensor(Z, requires_grad=True), m.tensor(R, requires_grad=True)
        return derivatives(m, MIXED[name](m, z, r), z, r)

    same(program, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_two_complex_operands(name):
    def program(m):
        z, w = m.tensor(Z, requires_grad=True), m.tensor(W, requires_grad=True)
        return derivatives(m, getattr(m, name)(z, w), z, w)

    same(program, rtol=1e-11, atol=1e-12)


ERRORS = {
    "imag of real numbers": lambda m: m.imag(m.ones(2)),
    "view_as_real of real numbers": lambda m: m.view_as_real(m.ones(2)),
    "view_as_complex of a number": lambda m: m.view_as_complex(m.tensor(1.0)),
    "view_as_complex of triples": lambda m: m.view_as_complex(m.ones(2, 3)),
    "view_as_complex of a transpose": lambda m: m.view_as_complex(m.ones(2, 3).t()),
    "complex of two dtypes": lambda m: m.complex(m.ones(2), m.ones(2, dtype=m.float64)),
    "complex of integers": lambda m: m.complex(m.tensor([1]), m.tensor([1])),
    "no implicit gradient": lambda m: m.tensor(1j, requires_grad=True).backward(),
    "real gradient": lambda m: (m.tensor([1j], requires_grad=True) * 2).backward(m.ones(1)),
    "complex gradient": lambda m: m.tensor([1j], requires_grad=True).abs().backward(m.tensor([1j])),
    "sign": lambda m: m.sign(m.tensor([1j])),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    same(ERRORS[case])


def test_zero():
    def program(m):
        z = m.zeros(2, dtype=m.complex128, requires_grad=True)
        return [m.autograd.grad(f(z).sum(), z) for f in (m.abs, m.norm)]

    same(program)


@pytest.mark.cuda
@pytest.mark.parametrize("name", FUNCTIONS)
def test_on_cuda(name):
    results = []
    for device in ("cpu", "cuda"):
        z = gradx.tensor(Z, device=device, requires_grad=True)
        out = FUNCTIONS[name](gradx, z)
        weights = (out.detach() * 0 + 1) * ((1 + 0.5j) if out.is_complex() else 2)
        results.append([out, *gradx.autograd.grad(out, z, weights)])
    for cpu, cuda in zip(*results, strict=True):
        assert cuda.device.type == "cuda"
        np.testing.assert_allclose(cuda.cpu().detach().numpy(), cpu.detach().numpy(), 1e-12, 1e-13)


def test_the_gradient_of_view_as_real_may_be_laid_out_in_any_way():
    def program(m):
        z = m.tensor([1 + 2j, 3j], requires_grad=True)
        m.view_as_real(z).sum().backward()
        first, z.grad = z.grad, None
        m.view_as_real(z).transpose(0, 1).pow(2).sum(0).sum().backward()
        return first, z.grad

    same(program)
