"""Torch's tutorials, with `import gradx as torch` and otherwise as they are printed."""

from __future__ import annotations

import importlib
import math

import pytest
from twin import same


def differentiation(torch):
    """From "Automatic Differentiation with torch.autograd"."""
    importlib.import_module(f"{torch.__name__}.nn.functional")
    seen = []
    x = torch.ones(5)  # input tensor
    y = torch.zeros(3)  # expected output
    w = torch.full((5, 3), 0.3, requires_grad=True)
    b = torch.full((3,), -0.2, requires_grad=True)
    z = torch.matmul(x, w) + b
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
    seen.append(z.grad_fn.name())
    loss.backward()
    seen += [w.grad, b.grad, z.requires_grad]
    with torch.no_grad():
        z = torch.matmul(x, w) + b
    seen.append(z.requires_grad)
    z = torch.matmul(x, w) + b
    seen.append(z.detach().requires_grad)
    inp = torch.eye(4, 5, requires_grad=True)
    out = (inp + 1).pow(2).t()
    out.backward(torch.ones_like(out), retain_graph=True)
    seen.append(inp.grad.clone())
    out.backward(torch.ones_like(out), retain_graph=True)
    seen.append(inp.grad.clone())
    inp.grad.zero_()
    out.backward(torch.ones_like(out), retain_graph=True)
    return [*seen, inp.grad]


def gentle_introduction(torch):
    """From "A Gentle Introduction to torch.autograd"."""
    a = torch.tensor([2.0, 3.0], requires_grad=True)
    b = torch.tensor([6.0, 4.0], requires_grad=True)
    Q = 3 * a**3 - b**2
    external_grad = torch.tensor([1.0, 1.0])
    Q.backward(gradient=external_grad)
    x = torch.ones(5, 5)
    y = torch.ones(5, 5)
    z = torch.ones((5, 5), requires_grad=True)
    return 9 * a**2 == a.grad, -2 * b == b.grad, (x + y).requires_grad, (x + z).requires_grad


def polynomial(torch, steps=300):
    """From "Learning PyTorch with Examples": a third-order polynomial fitted to the sine, by autograd."""
    x = torch.linspace(-math.pi, math.pi, 2000, device=torch.device("cpu"), dtype=torch.float)
    y = torch.sin(x)
    a, b, c, d = (torch.full((), value, requires_grad=True) for value in (0.1, -0.2, 0.3, -0.4))
    learning_rate = 1e-6
    for _ in range(steps):
        y_pred = a + b * x + c * x**2 + d * x**3
        loss = (y_pred - y).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            a -= learning_rate * a.grad
            b -= learning_rate * b.grad
            c -= learning_rate * c.grad
            d -= learning_rate * d.grad
            a.grad = None
            b.grad = None
            c.grad = None
            d.grad = None
    return a.item(), b.item(), c.item(), d.item(), loss.item()


def legendre(torch, steps=300):
    """From "Learning PyTorch with Examples": an autograd function of one's own."""

    class LegendrePolynomial3(torch.autograd.Function):
        @staticmethod
        def forward(ctx, input):
            ctx.save_for_backward(input)
            return 0.5 * (5 * input**3 - 3 * input)

        @staticmethod
        def backward(ctx, grad_output):
            (input,) = ctx.saved_tensors
            return grad_output * 1.5 * (5 * input**2 - 1)

    x = torch.linspace(-math.pi, math.pi, 2000)
    y = torch.sin(x)
    parameters = a, b, c, d = [torch.full((), value, requires_grad=True) for value in (0.0, -1.0, 0.0, 0.3)]
    for _ in range(steps):
        loss = (a + b * LegendrePolynomial3.apply(c + d * x) - y).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 5e-6 * parameter.grad
                parameter.grad = None
    return [parameter.item() for parameter in parameters]


@pytest.mark.parametrize(
    "program", [differentiation, gentle_introduction, polynomial, legendre], ids=lambda p: p.__name__
)
def test_tutorials(program):
    same(program, rtol=2e-4, atol=1e-6)  # single precision, added up over hundreds of steps
