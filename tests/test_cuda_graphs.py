"""CUDA graphs: a replay computes what the eager step does, on the inputs there are then."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from calls import arguments, arrays_for, gradx_leaf, leaves, outputs

import gradx
import gradx.nn.functional as F
from gradx import cuda
from gradx.samples import TABLE

pytestmark = pytest.mark.cuda

NOT_PERMITTED = (
    r"CUDA error: operation not permitted when stream is capturing\..* nothing in it may wait for the device"
)


def tensors(seed, *shapes, dtype=gradx.float32):
    gradx.manual_seed(seed)
    return [gradx.randn(*shape, dtype=dtype, device="cuda") for shape in shapes]


def same(found, expected):
    found, expected = (t.detach().cpu().numpy() for t in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class Step:
    """A training step of two linear layers, with all its tensors in place."""

    def __init__(self, dtype=gradx.float32):
        self.x, self.target = tensors(0, (6, 5), (6, 3), dtype=dtype)
        self.parameters = [t.requires_grad_() for t in tensors(1, (5, 4), (4,), (4, 3), dtype=dtype)]

    def run(self):
        w, b, v = self.parameters
        loss = F.mse_loss(((self.x @ w + b).relu() @ v).softmax(1), self.target)
        loss.backward()
        with gradx.no_grad():
            for p in self.parameters:
                p.sub_(p.grad, alpha=0.5)
                p.grad.zero_()
        return loss

    def feed(self, i):
        for old, new in zip((self.x, self.target), tensors(i, self.x.shape, self.target.shape), strict=True):
            old.copy_(new)


def warm_up(function):
    """Torch's recipe: a few times on a side stream."""
    s = cuda.Stream()
    s.wait_stream(cuda.current_stream())
    with cuda.stream(s):
        for _ in range(2):
            function()
    cuda.current_stream().wait_stream(s)


@pytest.mark.parametrize(("dtype", "tolerance"), [(gradx.float32, 1e-5), (gradx.float64, 1e-12), (gradx.float16, 4e-3)])
def test_a_training_step(dtype, tolerance):
    eager, captured = Step(dtype), Step(dtype)
    expected = []
    for step in (eager, captured):
        warm_up(step.run)
    for i in range(10, 14):
        eager.feed(i)
        expected.append(eager.run().item())
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        loss = captured.run()
    before = [p.tolist() for p in captured.parameters]
    found = []
    for i in range(10, 14):
        captured.feed(i)
        g.replay()
        found.append(loss.item())
    assert found == pytest.approx(expected, rel=tolerance)  # cuBLAS may choose another algorithm in a capture
    assert len(set(found)) == 4
    for p, q, old in zip(captured.parameters, eager.parameters, before, strict=True):
        np.testing.assert_allclose(p.detach().cpu().numpy(), q.detach().cpu().numpy(), tolerance, tolerance)
        assert p.tolist() != old


def test_a_step_of_a_classifier():
    (x,) = tensors(0, (6, 5))
    target = gradx.tensor([0, 2, 1, 1, 0, 2], device="cuda")
    weights = [tensors(1, (5, 3))[0].requires_grad_() for _ in range(2)]

    def run(w):
        loss = F.cross_entropy(x @ w, target)
        (dw,) = gradx.autograd.grad(loss, w)
        with gradx.no_grad():
            w.sub_(dw)
        return loss

    g = cuda.CUDAGraph()
    with cuda.graph(g):
        loss = run(weights[1])
    eager, replayed = [], []
    for _ in range(4):
        eager.append(run(weights[0]).item())
        g.replay()
        replayed.append(loss.item())
    assert replayed == pytest.approx(eager, rel=1e-5)
    assert eager == sorted(eager, reverse=True)


@pytest.mark.parametrize("name", TABLE)
def test_every_operation_can_be_captured(name):
    """With its gradient: none waits for the device, or copies to or from the host."""
    entry, sample = TABLE[name], TABLE[name].samples[0]
    tensors, wanted = leaves(sample, arrays_for(name, 0, np.float32), gradx_leaf("cuda"))

    def run():
        results = outputs(entry.function(*arguments(sample, tensors), **sample.kwargs))
        roots = [out.real.sum() for out in results if out.requires_grad and entry.differentiable]
        return [*results, *(gradx.autograd.grad(roots, wanted, allow_unused=True) if roots else ())]

    expected = run()
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        results = run()
    g.replay()
    for result, value in zip(results, expected, strict=True):
        assert (result is None) == (value is None)
        if result is not None:
            same(result, value)


def test_capturing_computes_nothing():
    x = gradx.ones(3, device="cuda")
    y = gradx.zeros(3, device="cuda")
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        assert cuda.is_current_stream_capturing() is True
        y.add_(x)
    assert cuda.is_current_stream_capturing() is False
    assert y.tolist() == [0, 0, 0]
    g.replay()
    g.replay()
    assert y.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((4,), (4,)),
        ((3, 4), (4,)),
    ],
)
@pytest.mark.parametrize("dtype", [gradx.float32, gradx.float64, gradx.complex64, gradx.complex128])
def test_matrix_products_and_their_gradients(a, b, dtype):
    x, y = (t.requires_grad_() for t in tensors(0, a, b, dtype=dtype))

    def run():
        out = x @ y
        return [out, *gradx.autograd.grad(out.sum().abs(), (x, y))]

    expected = [t.detach().cpu() for t in run()]
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        results = run()
    g.replay()
    for result, wanted in zip(results, expected, strict=True):
        same(result, wanted)


def test_operands_that_lie_in_no_order():
    x, y = tensors(0, (6, 8), (8, 6))
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        a, b = x[::2, ::2] @ y[::2, ::2], y.t() @ x.t()
        c = x[:, :0] @ y[:0]
    g.replay()
    same(a, x[::2, ::2].clone() @ y[::2, ::2].clone())
    same(b, y.t().clone() @ x.t().clone())
    assert c.abs().sum().item() == 0


def test_matrix_products_of_bfloat16():
    cupy, ml_dtypes = pytest.importorskip("cupy"), pytest.importorskip("ml_dtypes")
    a = cupy.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        product = gradx.op.OPS["mm"](a, a.T)
    g.replay()
    assert product.astype("f").tolist() == [[5, 14], [14, 50]]


def test_memory_is_the_graphs_own():
    x = gradx.ones(1000, device="cuda")
    g = cuda.CUDAGraph()
    before = cuda.memory_allocated()
    with cuda.graph(g):
        y = (x * 2 + 1).exp().log()
    assert cuda.memory_allocated() == before + 4096
    others = [gradx.full((1000,), float(i), device="cuda") for i in range(50)]  # would take freed memory
    g.replay()
    assert y[0].item() == pytest.approx(3)
    assert all(other[0].item() == other[-1].item() == i for i, other in enumerate(others))


def test_memory_goes_with_the_graph():
    x = gradx.ones(100_000, device="cuda")
    gc.collect()
    cuda.empty_cache()
    before = cuda.memory_reserved()
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        y = x * 2 + 1
    assert cuda.memory_reserved() > before
    del y
    g.reset()
    gc.collect()
    assert cuda.memory_reserved() == before
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()


def test_graphs_may_share_memory():
    x = gradx.ones(1000, device="cuda")
    first, second = cuda.CUDAGraph(), cuda.CUDAGraph()
    with cuda.graph(first):
        y = x * 2
    with cuda.graph(second, pool=first.pool()):
        z = y + 1
    assert first.pool() is second.pool()
    first.replay()
    second.replay()
    assert z[0].item() == 3
    third = cuda.CUDAGraph()
    with cuda.graph(third, pool=cuda.graph_pool_handle(), stream=cuda.Stream()):
        z = y + 2
    third.replay()
    assert z[0].item() == 4


def test_streams_within_a_capture():
    x = gradx.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    s = cuda.Stream()
    g = cuda.CUDAGraph()
    with cuda.graph(g):
        s.wait_stream(cuda.current_stream())
        with cuda.stream(s):
            a = x.exp()
        b = x * 3
        cuda.current_stream().wait_stream(s)
        (dx,) = gradx.autograd.grad((a * b).sum(), x)
    g.replay()
    x0 = x.detach()
    same(dx, 3 * (x0.exp() * x0 + x0.exp()))


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: repr(x),
        lambda x: x[x > 0],
        lambda x: gradx.tensor([1.0], device="cuda"),
        lambda x: x.cpu(),
        lambda x: cuda.current_stream().synchronize(),
    ],
)
def test_what_cannot_be_captured(forbidden):
    x = gradx.ones(3, device="cuda")
    g = cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=NOT_PERMITTED), cuda.graph(g):
        y = x * 2
        forbidden(y)
    assert cuda.current_stream() == cuda.default_stream()
    assert not cuda.is_current_stream_capturing()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        g.replay()
    assert (x * 2).tolist() == [2, 2, 2]


def test_a_stream_that_is_not_waited_for(monkeypatch):
    """CUDA's error, which not every device that these tests run on finds, is explained."""
    from gradx.backends.cuda.graphs import Capture

    end = Capture.end

    def unjoined(self):
        end(self)
        raise RuntimeError("cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work")

    monkeypatch.setattr(Capture, "end", unjoined)
    x = gradx.ones(3, device="cuda")
    fix = r"unjoined work.*current_stream\(\)\.wait_stream\(s\)"
    with pytest.raises(RuntimeError, match=fix), cuda.graph(cuda.CUDAGraph()):
        x * 2
    assert (x * 2).tolist() == [2, 2, 2]


def test_an_error_in_the_block_is_passed_on():
    g = cuda.CUDAGraph()
    with pytest.raises(KeyError), cuda.graph(g):
        raise KeyError
    assert cuda.current_stream() == cuda.default_stream()
    with cuda.graph(g):
        x = gradx.ones(3, device="cuda")
    g.replay()
    assert x.tolist() == [1, 1, 1]


def test_misuse():
    g = cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=r"CUDA graphs must be captured on a non-default stream\."):
        g.capture_begin()
    with pytest.raises(
        RuntimeError, match=r"Unknown capture error mode\. Expected `global`, `thread_local`, or `relaxed`, got x"
    ):
        g.capture_begin(capture_error_mode="x")
    with pytest.raises(RuntimeError, match="capture_end"):
        g.capture_end()
    with pytest.raises(RuntimeError, match=r"Called CUDAGraph::replay without a preceding successful capture\."):
        g.replay()
    with pytest.raises(RuntimeError, match=r"pool\(\) without a preceding successful capture"):
        g.pool()
    with cuda.graph(g):
        gradx.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match=r"This CUDAGraph instance already owns a captured graph\."), cuda.graph(g):
        pass
    assert cuda.current_stream() == cuda.default_stream()


def test_begin_and_end_by_hand(tmp_path):
    x = gradx.ones(3, device="cuda")
    g = cuda.CUDAGraph()
    with cuda.stream(cuda.Stream()):
        g.capture_begin()
        y = x * 2
        g.capture_end()
    g.replay()
    assert y.tolist() == [2, 2, 2]


# ---- make_graphed_callables ----------------------------------------------------------------------------------


def layer(x, w):
    return (x @ w).relu(), (x * 2).detach()


def head(x, v):
    return (x @ v).softmax(1)


def test_graphed_functions():
    shapes = (6, 5), (5, 4), (4, 3)
    x, w, v = (t.requires_grad_() for t in tensors(0, *shapes))
    hidden = gradx.zeros(6, 4, device="cuda", requires_grad=True)
    samples = [t.detach().clone().requires_grad_() for t in (x, w, v)]
    first, second = cuda.make_graphed_callables((layer, head), ((samples[0], samples[1]), (hidden, samples[2])))
    for i in range(1, 4):
        results = []
        for f, g in ((layer, head), (first, second)):
            x, w, v = (t.requires_grad_() for t in tensors(i, *shapes))
            y, doubled = f(x, w)
            out = g(y, v)
            (out * out).sum().backward()
            assert not doubled.requires_grad
            results.append([t.detach().clone() for t in (out, doubled, x.grad, w.grad, v.grad)])
        for eager, graphed in zip(*results, strict=True):
            same(graphed, eager)


def test_a_graphed_function_of_one_result():
    x = gradx.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    f = cuda.make_graphed_callables(lambda x, y: x * x * y, (x.detach().clone().requires_grad_(), x.detach().clone()))
    y = f(x, x.detach())
    assert y.tolist() == [1, 8]
    y.sum().backward()
    assert x.grad.tolist() == [2, 8]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        (dx,) = gradx.autograd.grad((f(x, x.detach()) ** 2).sum(), x, create_graph=True)
        dx.sum().backward()


def test_a_result_that_the_next_call_overwrites_is_not_differentiated():
    x = gradx.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    f = cuda.make_graphed_callables(lambda x: x * 3, (x.detach().clone().requires_grad_(),))
    y = f(x).exp().sin()  # exp saves its own result, not that of f
    z = f(x) ** 2
    f(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
