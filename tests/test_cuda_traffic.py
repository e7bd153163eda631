"""How many bytes the CUDA kernels along dimensions move, and how many kernels there are: each input is read once.

A row of 32K elements is held in registers and shared memory; what is smaller than it, such as the gradient of its sum, is
not counted.
"""

from __future__ import annotations

import numpy as np
import pytest

import gradx
import gradx.nn.functional as F

pytestmark = pytest.mark.cuda

SLACK = 1.1
ROW = 32 * 1024
SOFTMAX = {"softmax": gradx.softmax, "log_softmax": gradx.log_softmax}
SPREADS = {
    "sum": gradx.sum,
    "mean": gradx.mean,
    "var": gradx.var,
    "std": gradx.std,
    "norm": lambda x, dim: gradx.norm(x, 2, dim),
    "logsumexp": gradx.logsumexp,
}
LAYOUTS = {  # of an array of the shape asked for
    "contiguous": lambda make, rows, n: make((rows, n)),
    "transposed": lambda make, rows, n: make((n, rows)).t(),
    "sliced": lambda make, rows, n: make((rows, 2 * n))[:, ::2],
}


@pytest.fixture
def measure(cuda_counters):
    """The launches of a function, and the bytes that it moves."""

    def measured(function):
        function()  # compiled at its first use
        cuda_counters.reset()
        function()
        counts = cuda_counters.counters()
        assert counts["d2d_copies"] == 0
        return counts["launches"], counts["global_load_bytes"] + counts["global_store_bytes"]

    return measured


def leaf(shape, dtype, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return gradx.tensor(values, dtype=getattr(gradx, dtype), device="cuda", requires_grad=True)


def size(x):
    return x.numel() * x.element_size()


@pytest.mark.parametrize(("dtype", "n"), [("float16", ROW), ("bfloat16", ROW), ("float32", ROW), ("float64", ROW // 2)])
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax(measure, name, dtype, n):
    x, g = leaf((2, n), dtype), leaf((2, n), dtype, 1).detach()
    launches, bytes = measure(lambda: SOFTMAX[name](x, 1))
    assert launches == 1
    assert bytes <= SLACK * 2 * size(x)
    out = SOFTMAX[name](x, 1)
    launches, bytes = measure(lambda: gradx.autograd.grad(out, x, g, retain_graph=True))
    assert launches == 1
    assert bytes <= SLACK * 3 * size(x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [5000, 12_000])
def test_softmax_of_other_layouts(measure, layout, n):
    x = LAYOUTS[layout](lambda shape: leaf(shape, "float32").detach(), 2, n).requires_grad_()
    g = gradx.ones((1, 1), device="cuda").expand(2, n)
    for dim in (0, 1):
        launches, bytes = measure(lambda dim=dim: gradx.softmax(x, dim))
        assert launches == 1
        assert bytes <= SLACK * 2 * size(x)
        out = gradx.softmax(x, dim)
        launches, bytes = measure(lambda out=out: gradx.autograd.grad(out, x, g, retain_graph=True))
        assert launches == 1
        assert bytes <= SLACK * 3 * size(x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SPREADS)
def test_reductions(measure, name, layout):
    x = LAYOUTS[layout](lambda shape: leaf(shape, "float32").detach(), 3, ROW)
    for dim in ((1,), (0, 1)):
        launches, bytes = measure(lambda dim=dim: SPREADS[name](x, dim))
        assert launches <= 2
        assert bytes <= SLACK * size(x)


def test_reduction_over_dimensions_that_are_not_adjacent(measure):
    x = leaf((20, 30, 40), "float32").detach()
    launches, bytes = measure(lambda: gradx.var(x, (0, 2)))
    assert launches == 1
    assert bytes <= SLACK * size(x)


def test_broadcasting_adds_one_sum(measure):
    x, row = leaf((40, 30, 50), "float32"), leaf((30, 1), "float32", 1)
    out = x + row
    g = gradx.ones_like(out)
    launches, bytes = measure(lambda: gradx.autograd.grad(out, row, g, retain_graph=True))
    assert launches == 1
    assert bytes <= SLACK * size(x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mse_loss(measure, layout):
    x = LAYOUTS[layout](lambda shape: leaf(shape, "float32").detach(), 3, ROW).requires_grad_()
    target = leaf((3, ROW), "float32", 1).detach()
    launches, bytes = measure(lambda: F.mse_loss(x, target))
    assert launches <= 2
    assert bytes <= SLACK * 2 * size(x)
    loss = F.mse_loss(x, target)
    g = gradx.ones_like(loss)
    assert measure(lambda: gradx.autograd.grad(loss, x, g, retain_graph=True))[0] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_cross_entropy(measure, layout, kind):
    x = LAYOUTS[layout](lambda shape: leaf(shape, "float32").detach(), 2, ROW).requires_grad_()
    inputs = size(x)
    target = gradx.tensor([5, ROW - 1], device="cuda")
    if kind == "probabilities":
        target = leaf((2, ROW), "float32", 1)
        inputs += size(target)
    launches, bytes = measure(lambda: F.cross_entropy(x, target))
    assert launches <= 3
    assert bytes <= SLACK * inputs
    loss = F.cross_entropy(x, target)
    g = gradx.ones_like(loss)
    for wanted, read in [(x, inputs), (target, size(x))]:
        if wanted.requires_grad:
            launches, bytes = measure(lambda wanted=wanted: gradx.autograd.grad(loss, wanted, g, retain_graph=True))
            assert launches == 1
            assert bytes <= SLACK * (read + size(x))
