"""Autocast: the dtype of every operation's result against torch's, on the CPU by running it, for CUDA by fake tensors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from calls import CASES, arguments, arrays_for, host, oracle, outputs, torch_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from twin import same, sentence

import gradx
from gradx.autocasting import CastingOp, lists
from gradx.backends.cuda.status import Diagnosis
from gradx.op import OPS, Op
from gradx.samples import TABLE

INPUTS = {  # the dtype of the n-th floating-point input, in a block for `lower`
    "lower": lambda n, lower: lower,
    "single": lambda n, lower: np.float32,
    "lower first": lambda n, lower: (lower, np.float32)[n % 2],
    "single first": lambda n, lower: (np.float32, lower)[n % 2],
    "double": lambda n, lower: np.float64,
    "float16": lambda n, lower: np.float16,
}
LOWER = ["float16", "bfloat16"]


def inputs(name, i, kind, lower):
    """The arrays of a sample call, with mixed dtypes."""
    arrays, lower = arrays_for(name, i, np.float32), getattr(gradx, lower).dtype
    return [a.astype(INPUTS[kind](n, lower)) if a.dtype.kind == "f" else a for n, a in enumerate(arrays)]


def dtype_names(call):
    """The dtypes of what `call` gives; of an error, its first sentence."""
    try:
        return [str(out.dtype).rpartition(".")[2] for out in outputs(call())]
    except (RuntimeError, NotImplementedError) as error:
        return sentence(str(error))


def on_fake_cuda(name, i, arrays):
    """A sample call on torch's fake CUDA tensors, which have dtypes and no elements."""
    entry, sample = TABLE[name], TABLE[name].samples[i]
    dtypes = [getattr(torch, a.dtype.name) for a in arrays]
    tensors = [torch.empty(a.shape, dtype=d, device="cuda") for a, d in zip(arrays, dtypes, strict=True)]
    return oracle(entry)(*arguments(sample, tensors), **sample.kwargs)


@pytest.fixture
def fake_cuda():
    """Torch's autocast on CUDA, where there need not be CUDA."""
    torch.set_autocast_enabled("cuda", True)
    with FakeTensorMode():
        yield
    torch.set_autocast_enabled("cuda", False)
    torch.set_autocast_dtype("cuda", torch.float16)


@pytest.mark.parametrize("lower", LOWER)
@pytest.mark.parametrize(("name", "i"), CASES)
def test_cuda_lists(name, i, lower, device, fake_cuda, monkeypatch):
    """Torch's lists for CUDA. On the CPU, where they are not in force, they are put in the place of the CPU's."""
    monkeypatch.setitem(lists.LISTS, "cpu", lists.CUDA)
    torch.set_autocast_dtype("cuda", getattr(torch, lower))
    for kind in INPUTS:
        entry, sample, arrays = TABLE[name], TABLE[name].samples[i], inputs(name, i, kind, lower)
        theirs = dtype_names(lambda: on_fake_cuda(name, i, arrays))
        with gradx.autocast(device, getattr(gradx, lower)):
            tensors = [gradx.tensor(a, device=device) for a in arrays]
            ours = dtype_names(lambda: entry.function(*arguments(sample, tensors), **sample.kwargs))
        assert ours == theirs, kind


@pytest.mark.parametrize("lower", LOWER)
@pytest.mark.parametrize(("name", "i"), CASES)
def test_cpu_lists(name, i, lower):
    """Torch's lists for the CPU, and its results: those in float32 to the precision of float32."""
    for kind in INPUTS:
        if name == "layer_norm" and i == 1 and "first" in kind:
            continue  # torch takes no parameters of two dtypes
        entry, sample, arrays = TABLE[name], TABLE[name].samples[i], inputs(name, i, kind, lower)
        results = []

        def run(module, function, sample=sample, arrays=arrays, results=results):
            make = torch_tensor if module is torch else gradx.tensor
            with module.autocast("cpu", getattr(module, lower)):
                result = function(*arguments(sample, [make(a) for a in arrays]), **sample.kwargs)
            results.append(outputs(result))
            return result

        theirs = dtype_names(lambda: run(torch, oracle(entry)))
        assert dtype_names(lambda: run(gradx, entry.function)) == theirs, kind
        for others, ours in zip(*results, strict=True) if results else ():
            eps = float(gradx.finfo(ours.dtype).eps) if ours.dtype.is_floating_point else 0
            rtol, atol = (4 * eps, 4 * eps) if ours.dtype in (gradx.float16, gradx.bfloat16) else (1e-5, 2e-6)
            np.testing.assert_allclose(host(ours), host(others), rtol, atol, err_msg=kind)


@pytest.mark.parametrize(("key", "table"), [("AutocastCUDA", lists.CUDA), ("AutocastCPU", lists.CPU)])
def test_lists_are_those_that_torch_registers(key, table):
    found = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    theirs = {name.removeprefix("aten::").partition(".")[0].removesuffix("_loss") for name in found}
    ours = {name.removesuffix("_loss") for name in table}
    parts = {"square", "pow_scalar", "squared_difference", "mv"}  # of torch's pow, mse_loss and matmul
    assert ours - theirs <= parts | {"cross_entropy"}  # on CUDA two operations, both listed
    assert theirs & {name.removesuffix("_loss") for name in (*OPS, *TABLE)} <= ours | {"index_put"}  # ours is in place


def with_dtypes(m, x):
    """Functions that take a dtype, and are given one."""
    functions = m.sum, m.prod, m.norm, *[lambda t, f=f, **k: f(t, 0, **k) for f in (m.cumsum, m.softmax, m.log_softmax)]
    return [f(x, dtype=getattr(m, dtype)) for f in functions for dtype in ("float16", "float32", "float64")]


def test_a_dtype_that_is_asked_for_comes_first(fake_cuda, device, monkeypatch):
    monkeypatch.setitem(lists.LISTS, "cpu", lists.CUDA)
    theirs = [str(t.dtype) for t in with_dtypes(torch, torch.ones(2, dtype=torch.float16, device="cuda"))]
    with gradx.autocast(device, gradx.float16):
        ours = [str(t.dtype) for t in with_dtypes(gradx, gradx.ones(2, dtype=gradx.float16, device=device))]
    assert ours == [name.replace("torch", "gradx") for name in theirs]


# ---- programs, the same on both --------------------------------------------------------------------------------------


def weights(m):
    """Two leaves of float32, and a batch."""
    first = m.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), requires_grad=True)
    second = m.tensor(np.linspace(1, -1, 8, dtype=np.float32).reshape(2, 4), requires_grad=True)
    return first, second, m.tensor(np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3))


def trained(m, *, inside=False):
    """The gradients of a small network, in float32, and the dtypes on the way."""
    first, second, x = weights(m)
    with m.autocast("cpu", m.float16):
        hidden = m.nn.functional.linear(x, first, m.ones(4)).tanh()
        scores = hidden @ second.t()
        loss = m.nn.functional.cross_entropy(scores, m.tensor([0, 1, 0, 1, 1]))
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    return hidden.dtype, scores.dtype, loss, first.grad, second.grad


def double_backward(m, *, inside=False):
    first, _, x = weights(m)
    with m.autocast("cpu", m.float16, enabled=inside):
        with m.autocast("cpu", m.float16):
            y = (x @ first.t()).tanh().prod()
        (slope,) = m.autograd.grad(y, first, create_graph=True)
        return slope, *m.autograd.grad((slope * slope).sum(), first)


def nested(m):
    x = m.ones(2, 2)
    with m.autocast("cpu", m.float16):
        a = x @ x
        with m.autocast("cpu", enabled=False):
            b = x @ x
            with m.autocast("cpu", m.float16):
                c = x @ x
            d = x @ x
        e = x @ x
    return [t.dtype for t in (a, b, c, d, e, x @ x)], m.is_autocast_enabled("cpu")


def again(m):
    """One block, entered twice, the second time within itself."""
    x, block = m.ones(2, 2), m.autocast("cpu", m.float16)
    with block:
        a = x @ x
    with block:
        b = x @ x
    return a.dtype, b.dtype, (x @ x).dtype


def decorated(m):
    @m.autocast("cpu", m.float16)
    def product(x):
        """A product."""
        return x @ x

    x = m.ones(2, 2)
    return product(x).dtype, (x @ x).dtype, product.__name__, product.__doc__


def raised_within(m):
    try:
        with m.autocast("cpu", m.float16):
            raise KeyError
    except KeyError:
        return m.is_autocast_enabled("cpu"), (m.ones(2, 2) @ m.ones(2, 2)).dtype


def elsewhere(m):
    """The dtype in another thread while this one is in a block."""
    found = []
    with m.autocast("cpu", m.float16):
        thread = threading.Thread(target=lambda: found.append((m.ones(2, 2) @ m.ones(2, 2)).dtype))
        thread.start()
        thread.join()
        return found[0], (m.ones(2, 2) @ m.ones(2, 2)).dtype


def by_functions(m):
    x, before = m.ones(2, 2), m.get_autocast_dtype("cpu")
    m.set_autocast_dtype("cpu", m.float16)
    m.set_autocast_enabled("cpu", True)
    a = (x @ x).dtype, m.is_autocast_enabled("cpu"), m.get_autocast_dtype("cpu"), m.is_autocast_enabled("cuda")
    m.set_autocast_enabled("cpu", False)
    m.set_autocast_dtype("cpu", before)
    return *a, (x @ x).dtype, m.is_autocast_enabled("cpu")


def casts(m, **options):
    """Whether two products share the cast of a leaf, within a block, an inner block, and another block."""
    first, _, x = weights(m)

    def cast():
        return m.mm(first, x.t()).grad_fn.next_functions[0][0]

    with m.autocast("cpu", m.float16, **options):
        a = cast()
        b = cast()
        with m.autocast("cpu", m.float16, **options):
            c = cast()
        d = cast()
    with m.autocast("cpu", m.float16, **options):
        e = cast()
    return a is b, a is c, a is d, a is e, a.name()


def first_without_gradient(m):
    """A cast under no_grad is not taken for one with a gradient."""
    first, _, x = weights(m)
    with m.autocast("cpu", m.float16):
        with m.no_grad():
            x @ first.t(), m.mm(first, x.t())
        m.mm(first, x.t()).sum().backward()
    return first.grad


def others_stay(m):
    """What is not cast: float64, integers, float32 in what is not listed."""
    x = m.ones(2, 2)
    with m.autocast("cpu", m.float16):
        return (
            (x.double() @ x.double()).dtype,
            (x.long() @ x.long()).dtype,
            (x + x).dtype,
            (x @ x + x).dtype,
            x.mean().dtype,
            x.sum().dtype,
        )


def written_out(m):
    """In torch `out=` and in-place functions are not cast, neither here."""
    x, out = m.full((2, 2), 1 / 3), m.zeros(2, 2)
    with m.autocast("cpu", m.float16):
        m.matmul(x, x, out=out)
        return out, x.half().exp_().dtype


def methods_and_operators(m):
    x = m.ones(2, 2)
    with m.autocast("cpu", m.float16):
        y = [x @ x, x.matmul(x), x.mm(x), x.addmm(x, x), x[0] @ x, x @ x[0], x[0] @ x[0], x[0].dot(x[0])]
        y += [
            x.half().prod(),
            (x.half() ** 2),
            2 / x.half(),
            2 ** x.half(),
            m.cat([x, x.half()]),
            m.stack([x, x.half()]),
        ]
        return [t.dtype for t in y]


def own_function(m, cast_inputs=None, enabled=True):
    class Product(m.autograd.Function):
        @staticmethod
        @m.amp.custom_fwd(device_type="cpu", cast_inputs=cast_inputs and getattr(m, cast_inputs))
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @m.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            seen.append((m.ones(2, 2) @ m.ones(2, 2)).dtype)
            return g @ b.t(), a.t() @ g

    seen = []
    a = m.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    with m.autocast("cpu", m.float16, enabled=enabled):
        product = Product.apply(a, a.detach()) if cast_inputs else Product.apply(a.half(), a.detach().half())
    product.sum().backward()
    return product, a.grad, seen


def checkpointed(m):
    """The second run is under the same autocast as the first."""
    from importlib import import_module

    checkpoint = import_module(f"{m.__name__}.utils.checkpoint").checkpoint
    first, second, x = weights(m)
    with m.autocast("cpu", m.float16):
        y = checkpoint(lambda t: (t @ first.t()).tanh() @ second.t(), x, use_reentrant=False)
    y.sum().backward()
    return y, first.grad, second.grad


@pytest.mark.parametrize(
    "program",
    [
        trained,
        lambda m: trained(m, inside=True),
        double_backward,
        lambda m: double_backward(m, inside=True),
        nested,
        again,
        decorated,
        raised_within,
        elsewhere,
        by_functions,
        casts,
        lambda m: casts(m, cache_enabled=False),
        first_without_gradient,
        others_stay,
        written_out,
        methods_and_operators,
        own_function,
        lambda m: own_function(m, "float16"),
        lambda m: own_function(m, "float32"),
        lambda m: own_function(m, "float16", enabled=False),
        checkpointed,
    ],
)
def test_programs(program):
    same(program, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize(
    "program",
    [
        lambda m: m.autocast(3),
        lambda m: m.autocast("cpu")(3),
        lambda m: m.amp.custom_fwd(device_type=3),
        lambda m: m.amp.custom_bwd(device_type=3),
        lambda m: m.get_autocast_dtype("cuda:0"),
        lambda m: m.amp.is_autocast_available("cpu"),
    ],
)
def test_errors(program):
    same(program)


@pytest.mark.parametrize("program", [lambda m: m.autocast("nowhere"), lambda m: m.is_autocast_enabled("nowhere")])
def test_unknown_devices(program):
    same(program, message=False)  # torch lists what it knows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dtype_that_is_not_lower_disables(dtype):
    def program(m):
        with pytest.warns(UserWarning, match="In CPU autocast, but the target dtype is not supported"):
            block = m.autocast("cpu", getattr(m, dtype))
        with block:
            return (m.ones(2, 2) @ m.ones(2, 2)).dtype, m.is_autocast_enabled("cpu"), m.get_autocast_dtype("cpu")

    same(program)


def test_cuda_without_cuda_is_disabled(monkeypatch):
    monkeypatch.setattr("gradx.amp.autocast_mode.diagnose", lambda: Diagnosis(False, "No driver.", "Install one."))
    with pytest.warns(UserWarning, match=r"CUDA is not available\. Disabling autocast\. No driver\. Install one\."):
        block = gradx.autocast("cuda")
    with block:
        assert not gradx.is_autocast_enabled("cuda")


# ---- what is gradx's own ---------------------------------------------------------------------------------------------


def test_operations_know_nothing_of_it_outside_blocks():
    listed = [OPS[name] for name in ("mm", "mse_loss", "cat")]
    assert {type(operation) for operation in listed} == {Op}
    with gradx.autocast("cpu", gradx.float16):
        with gradx.autocast("cpu", enabled=False):
            assert {type(operation) for operation in listed} == {Op}
        assert {type(operation) for operation in listed} == {CastingOp}
        assert type(OPS["add"]) is Op
    assert {type(operation) for operation in listed} == {Op}


def test_operations_cast_while_any_thread_is_in_a_block():
    ready, done = threading.Event(), threading.Event()

    def other():
        with gradx.autocast("cpu", gradx.float16):
            ready.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(10)
    with gradx.autocast("cpu", gradx.float16):
        pass
    assert type(OPS["mm"]) is CastingOp
    assert (gradx.ones(2, 2) @ gradx.ones(2, 2)).dtype is gradx.float32
    done.set()
    thread.join()
    assert type(OPS["mm"]) is Op


def test_a_leaf_that_changed_is_cast_again():
    weight = gradx.ones(2, 2, requires_grad=True)
    with gradx.autocast("cpu", gradx.float16):
        before = gradx.ones(1, 2) @ weight
        with gradx.no_grad():
            weight.mul_(2)
        after = gradx.ones(1, 2) @ weight
    assert before.tolist() == [[2, 2]] and after.tolist() == [[4, 4]]


@pytest.mark.cuda
def test_training_on_cuda():
    """Half precision where it is safe, float32 gradients, and nothing cast on the CPU by a block for CUDA."""
    first, second, x = (t.detach().cuda() for t in weights(gradx))
    first.requires_grad_(), second.requires_grad_()
    with gradx.autocast("cuda"):
        hidden = gradx.nn.functional.linear(x, first).tanh()
        scores = hidden @ second.t()
        loss = gradx.nn.functional.cross_entropy(scores, gradx.tensor([0, 1, 0, 1, 1], device="cuda"))
        assert (gradx.ones(2, 2) @ gradx.ones(2, 2)).dtype is gradx.float32
    loss.backward()
    assert (hidden.dtype, scores.dtype, loss.dtype) == (gradx.float16, gradx.float16, gradx.float32)
    exact = [t.detach().cpu().requires_grad_() for t in (first, second)]
    scores = gradx.nn.functional.linear(x.cpu(), exact[0]).tanh() @ exact[1].t()
    gradx.nn.functional.cross_entropy(scores, gradx.tensor([0, 1, 0, 1, 1])).backward()
    for ours, true in zip((first, second), exact, strict=True):
        assert ours.grad.dtype is gradx.float32
        np.testing.assert_allclose(ours.grad.numpy(force=True), true.grad.numpy(), 1e-2, 4e-3)
