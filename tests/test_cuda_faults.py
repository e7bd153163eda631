"""No memory left, kernels that do not compile, libraries that are missing: one clear error, and life goes on."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
import torch

import gradx
from gradx.backends import first_use

MIB = 1 << 20


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture
def limit(cupy):
    """Sets how many bytes more than now arrays of the current device may occupy."""
    pool = cupy.get_default_memory_pool()
    before = pool.get_limit()
    fillers = []

    def set_limit(more):
        gc.collect()
        pool.free_all_blocks()
        pool.set_limit(max(1, pool.total_bytes()))
        size = 1 << 30
        while size >= 512:  # what is free beside arrays of former tests would be given out without a look at the limit
            try:
                fillers.append(cupy.cuda.alloc(size))
            except cupy.cuda.memory.OutOfMemoryError:
                size //= 2
        pool.set_limit(pool.total_bytes() + more)

    yield set_limit
    pool.set_limit(before)


def big(*, device="cuda", **options):
    return gradx.ones(MIB, device=device, **options)  # 4 MiB


# ---- no memory ---------------------------------------------------------------------------------------------


def test_the_error_has_torchs_names():
    assert gradx.cuda.OutOfMemoryError is gradx.OutOfMemoryError
    assert gradx.OutOfMemoryError.__mro__[1] is torch.OutOfMemoryError.__mro__[1] is RuntimeError


WAYS = {
    "an operation": lambda x: x + 1,
    "a reduction": lambda x: x.sum(),
    "a product": lambda x: x.reshape(1024, 1024) @ x.reshape(1024, 1024),
    "a creation": lambda x: gradx.zeros(5 * MIB, device="cuda"),
    "empty": lambda x: gradx.empty(5 * MIB, device="cuda"),
    "arange": lambda x: gradx.arange(MIB, device="cuda"),
    "an upload": lambda x: gradx.ones(MIB).cuda(),
    "an upload from pinned memory": lambda x: gradx.ones(MIB).pin_memory().cuda(non_blocking=True),
    "clone": lambda x: x.clone(),
    "tensor": lambda x: gradx.tensor(x.array),
    "a download that is made contiguous first": lambda x: x.reshape(1024, 1024).t().tolist(),
    "in place": lambda x: x.add_(1),
}


@pytest.mark.cuda
@pytest.mark.parametrize("way", WAYS)
def test_out_of_memory(limit, way):
    x = big()
    limit(0)
    with pytest.raises(gradx.cuda.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate "):
        WAYS[way](x)
    limit(64 * MIB)
    WAYS[way](x)
    assert x.sum().item() == MIB * (2 if way == "in place" else 1)


@pytest.mark.cuda
def test_what_the_error_says(cupy, limit):
    x = big()
    limit(MIB)
    with pytest.raises(RuntimeError) as error:
        gradx.zeros(5 * MIB, device="cuda")
    pool = cupy.get_default_memory_pool()
    total = cupy.cuda.runtime.memGetInfo()[1]
    message = str(error.value)
    assert "Tried to allocate 20.00 MiB. GPU 0 has a total capacity of " in message
    assert f"capacity of {total / 2**30:.2f} GiB of which " in message
    assert f" MiB allowed; Of the allocated memory {pool.used_bytes() / MIB:.2f} MiB is held by arrays, and " in message
    assert "is held by CuPy's memory pool but unallocated. Let go of tensors" in message
    assert error.value.__suppress_context__
    assert x.sum().item() == MIB


@pytest.mark.cuda
def test_more_than_any_device_has():
    with pytest.raises(
        gradx.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate 4096\.00 GiB\. GPU 0 has"
    ):
        gradx.empty(2**40, device="cuda")


@pytest.mark.cuda
def test_what_the_pool_keeps_is_used_first(limit):
    limit(9 * MIB)
    pieces = [gradx.empty(MIB // 4, device="cuda") for _ in range(8)]  # 8 times 1 MiB, in blocks of their own
    del pieces
    assert gradx.ones(2 * MIB, device="cuda").sum().item() == 2 * MIB


@pytest.mark.cuda
def test_the_device_is_the_one_without_memory(cupy):
    if gradx.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    x = big(device="cuda:1")
    with cupy.cuda.Device(1):
        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        pool.set_limit(pool.total_bytes())
    try:
        for attempt in (lambda: x * 2, lambda: big(device="cuda:1"), lambda: x.clone(), lambda: big().to("cuda:1")):
            with pytest.raises(gradx.OutOfMemoryError, match=r"GPU 1 has a total capacity"):
                attempt()
        assert gradx.cuda.current_device() == 0
        x.requires_grad_()
    finally:
        with cupy.cuda.Device(1):
            pool.set_limit(0)
    y = (x * x).sum()
    with cupy.cuda.Device(1):
        pool.free_all_blocks()
        pool.set_limit(pool.total_bytes())
    try:
        with pytest.raises(gradx.OutOfMemoryError, match=r"GPU 1 has a total capacity"):
            y.backward(retain_graph=True)
    finally:
        with cupy.cuda.Device(1):
            pool.set_limit(0)
    y.backward()
    assert x.grad.sum().item() == 2 * MIB


@pytest.mark.cuda
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_pass_that_runs_out_half_way(limit, create_graph):
    """As in torch when a backward pass fails there: what has been accumulated stays, the rest can be had later."""

    def run(m, device, fail, recover):
        a = m.ones(MIB, device=device, requires_grad=True)
        b = m.ones(MIB, device=device, requires_grad=True)
        y = a * 2
        loss = (y.exp() * b).sum()
        handle = y.register_hook(lambda g: fail())
        with pytest.raises(RuntimeError) as error:
            loss.backward(retain_graph=True, create_graph=create_graph)
        handle.remove()
        recover()
        found = [a.grad is None, b.grad.sum().item() / MIB]
        small = m.ones(3, device=device, requires_grad=True)
        (small * small).sum().backward()
        loss.backward()
        return [*found, small.grad.tolist(), *(t.grad.sum().item() / MIB for t in (a, b))], error.value

    def fail():
        raise RuntimeError("CUDA out of memory.")

    ours, error = run(gradx, "cuda", lambda: limit(0), lambda: limit(1 << 30))
    theirs, _ = run(torch, "cpu", fail, lambda: None)
    assert type(error) is gradx.OutOfMemoryError
    np.testing.assert_allclose(np.hstack(ours), np.hstack(theirs), rtol=1e-6)


@pytest.mark.cuda
def test_the_graph_of_a_failed_operation_is_as_it_was(limit):
    x = big(requires_grad=True)
    y = x * 3
    limit(0)
    with pytest.raises(gradx.OutOfMemoryError):
        (y * y).sum()
    limit(1 << 30)
    y.sum().backward()
    assert x.grad.sum().item() == 3 * MIB


# ---- kernels that do not compile, libraries that are missing --------------------------------------------------


@pytest.mark.cuda
def test_a_kernel_that_does_not_compile(cupy, monkeypatch):
    from gradx.backends import cupy_backend
    from gradx.backends.cuda import fusion as cuda_fusion

    monkeypatch.setattr(cuda_fusion, "_PREAMBLE", "nonsense of a headers;")
    kernel = cupy_backend.CupyBackend().kernel("sigmoid")
    with pytest.raises(
        RuntimeError, match=r"^The CUDA kernel of sigmoid could not be compiled: error.*gradx info.*pip"
    ) as error:
        kernel(cupy.ones(3))
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert cupy_backend.CupyBackend().kernel("sigmoid")(cupy.zeros(3)).tolist() == [0.5] * 3


@pytest.mark.cuda
def test_a_rule_that_does_not_compile(cupy, monkeypatch):
    from gradx.backends import backend_for
    from gradx.backends.cuda import fusion as cuda_fusion

    monkeypatch.setattr(cuda_fusion, "_PREAMBLE", "nonsense of a headers;")
    x = gradx.ones(3, device="cuda", requires_grad=True)
    rule = backend_for(x.device).fuse(lambda g, x: g * x * x, "cube_backward", frozenset())

    class Cube(gradx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return gradx.as_tensor(rule(g.array, g.array))

    with pytest.raises(RuntimeError, match=r"^The CUDA kernel of cube_backward could not be compiled: error"):
        Cube.apply(x).sum().backward()


@pytest.mark.cuda
def test_the_compilers_word_on_a_users_kernel_is_left_alone(cupy):
    class Wrong(gradx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return gradx.as_tensor(cupy.ElementwiseKernel("T x", "T y", "y = nonsense", "mine")(g.array))

    x = gradx.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(cupy.cuda.compiler.CompileException, match="nonsense"):
        Wrong.apply(x).sum().backward()


MISSING = """
import sys
import gradx
x = gradx.ones(2, 2, device="cuda")
sys.modules["cupy_backends.cuda.libs.cublas"] = None  # importing it now fails as if it were not there
try:
    x @ x
except RuntimeError as error:
    print(error)
print((x + 1).tolist())
"""


@pytest.mark.cuda
def test_a_library_that_is_missing():
    result = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True)
    first, second = result.stdout.splitlines()
    assert first.startswith("A CUDA library that mm needs could not be loaded (")
    assert "cublas" in first and "pip install" in first
    assert second == "[[2.0, 2.0], [2.0, 2.0]]"


# ---- the note about first use ----------------------------------------------------------------------------------


class Clock:
    """A clock that goes on by what each kernel takes."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(first_use.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(first_use._Tally, "seconds", 0.0)
        monkeypatch.setattr(first_use._Tally, "told", False)

    def kernel(self, seconds):
        def run(*args):
            self.now += seconds
            return args

        return run


@pytest.mark.parametrize("quiet", [None, "", "0", "1"])
def test_slow_first_calls_are_told_once(monkeypatch, capsys, quiet):
    monkeypatch.delenv("GRADX_QUIET", raising=False)
    if quiet is not None:
        monkeypatch.setenv("GRADX_QUIET", quiet)
    clock = Clock(monkeypatch)
    assert first_use.timed(clock.kernel(0.7), (1, 2)) == (1, 2)
    assert capsys.readouterr().err == ""
    first_use.timed(clock.kernel(0.7), ())
    first_use.timed(clock.kernel(5.0), ())
    told = "" if quiet == "1" else "gradx: the first calls of CUDA kernels took 1.4 s so far"
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(told)
    assert output.err.count("\n") == bool(told)


@pytest.mark.cuda
def test_only_first_calls_are_timed(cupy, monkeypatch):
    from gradx.backends.cupy_backend import CupyBackend

    seen = []
    monkeypatch.setattr(first_use, "timed", lambda function, args: seen.append(function) or function(*args))
    kernel = CupyBackend().kernel("exp")
    for _ in range(3):
        kernel(cupy.zeros(3))
    assert len(seen) == 1
