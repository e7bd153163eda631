"""Kernels of a user's own in an autograd.Function: the README's two, against torch, by finite differences, differentiated
twice, on inputs that are not contiguous, on a second device, and on a stream."""

from __future__ import annotations

import re
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import gradx

pytestmark = pytest.mark.cuda

README = Path(__file__).parent.parent / "README.md"
FUNCTIONS = ["Cube", "Softsign"]
TORCH = {"Cube": lambda x: x**3, "Softsign": torch.nn.functional.softsign}
VALUES = np.array([[-2.0, -0.5, 0.25], [1.0, 3.0, -1.5]])


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture(scope="module")
def readme():
    """What the README's Python blocks define."""
    pytest.importorskip("cupy")
    module = types.ModuleType("readme")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for block in blocks:
        if "autograd.Function" in block:
            exec(block, vars(module))
    return module


@pytest.fixture(params=FUNCTIONS)
def apply(request, readme):
    return getattr(readme, request.param).apply


@pytest.fixture
def oracle(request):
    return TORCH[request.node.callspec.params["apply"]]


def leaf(dtype=gradx.float64, device="cuda"):
    return gradx.tensor(VALUES, dtype=dtype, device=device, requires_grad=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradients_of_first_and_second_order(apply, oracle, dtype):
    def run(m, function, x):
        weight = m.arange(6.0, dtype=x.dtype, device=x.device).reshape(2, 3)
        y = function(x)
        (first,) = m.autograd.grad((y * weight).sum(), x, create_graph=True)
        (second,) = m.autograd.grad((first * first).sum(), x)
        return [t.detach().cpu().numpy() for t in (y, first, second)]

    ours = run(gradx, apply, leaf(getattr(gradx, dtype)))
    theirs = run(torch, oracle, torch.tensor(VALUES, dtype=getattr(torch, dtype), requires_grad=True))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_gradcheck(apply):
    assert gradx.autograd.gradcheck(apply, leaf())
    assert gradx.autograd.gradgradcheck(apply, leaf())


@pytest.mark.parametrize(
    "view",
    [lambda x: x.t(), lambda x: x[:, ::2], lambda x: x[:, 1], lambda x: x[0, 1], lambda x: x[:1].expand(4, 3)],
    ids=["transposed", "every second", "column", "element", "expanded"],
)
def test_inputs_that_are_not_contiguous(apply, oracle, view):
    x, theirs = leaf(), torch.tensor(VALUES, requires_grad=True)
    y, other = apply(view(x)), oracle(view(theirs))
    y.sum().backward()
    other.sum().backward()
    np.testing.assert_allclose(y.detach().cpu().numpy(), other.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.cpu().numpy(), theirs.grad.numpy(), rtol=1e-12)


def test_on_another_device_than_the_current_one(apply, oracle):
    if gradx.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    x, theirs = leaf(device="cuda:1"), torch.tensor(VALUES, requires_grad=True)
    (first,) = gradx.autograd.grad(apply(x).sum(), x, create_graph=True)
    first.sum().backward()
    (expected,) = torch.autograd.grad(oracle(theirs).sum(), theirs, create_graph=True)
    expected.sum().backward()
    assert first.device == x.grad.device == gradx.device("cuda:1")
    assert gradx.cuda.current_device() == 0
    np.testing.assert_allclose(x.grad.cpu().numpy(), theirs.grad.numpy(), rtol=1e-12)


def test_on_the_current_stream(apply, cupy):
    """While a stream is captured nothing runs on it: what has not run yet was launched there."""
    x = leaf().detach()
    expected = apply(x).tolist()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        apply(x)  # so that the stream's pool has memory for the result
        stream.synchronize()
        stream.begin_capture()
        y = apply(x)
        graph = stream.end_capture()
        y.array.fill(0)
        stream.synchronize()
        assert y.array.get(stream).tolist() == np.zeros((2, 3)).tolist()
        graph.launch()
        stream.synchronize()
    assert y.tolist() == expected


def test_no_copy_on_the_way_in_or_out(readme, cupy):
    seen = []

    class Seen(gradx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = readme.cube(x.array)
            seen.extend([x.array, out])
            return gradx.as_tensor(out)

    x = leaf()
    y = Seen.apply(x)
    assert seen[0].data.ptr == x.data_ptr()
    assert seen[1].data.ptr == y.data_ptr()
