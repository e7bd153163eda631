"""Large arrays on the CPU: blocks give what whole arrays give, whatever the number of threads; memory comes from a pool."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from calls import (
    CASES,
    DIFFERENTIABLE,
    arguments,
    arrays_for,
    gradx_leaf,
    host,
    leaves,
    oracle,
    outputs,
    torch_leaf,
    torch_tensor,
    weighted,
)
from test_ops import DTYPES, TOLERANCE
from twin import same

import gradx
import gradx.op
from gradx.backends.cpu import kernels as cpu_kernels
from gradx.backends.cpu import memory as cpu_memory
from gradx.backends.cpu import threads as cpu_threads
from gradx.backends.cpu import tiles as cpu_tiles
from gradx.samples import TABLE


@pytest.fixture(params=[1, 3, 8])
def all_large(request, monkeypatch):
    """Every array counts as large, and blocks have a few elements."""
    for module in (gradx.op, cpu_tiles, cpu_kernels):
        monkeypatch.setattr(module, "LARGE", 1)
    for module in (cpu_tiles, cpu_kernels):
        monkeypatch.setattr(module, "BLOCK", request.param)
    monkeypatch.setattr(cpu_tiles, "_LIGHT", 1)
    monkeypatch.setattr(cpu_kernels, "_WORTH", 1)
    monkeypatch.setattr(cpu_memory, "SMALLEST", 16)


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back in the end."""
    before = gradx.get_num_threads()
    yield gradx.set_num_threads
    gradx.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "i"), CASES)
def test_values_in_blocks(name, i, dtype, all_large):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    arrays = arrays_for(name, i, dtype)
    expected = oracle(entry)(*arguments(sample, [torch_tensor(a) for a in arrays]), **sample.kwargs)
    result = entry.function(*arguments(sample, [gradx.tensor(a) for a in arrays]), **sample.kwargs)
    for ours, theirs in zip(outputs(result), outputs(expected), strict=True):
        assert host(ours).dtype == host(theirs).dtype
        assert host(ours).shape == host(theirs).shape
        np.testing.assert_allclose(host(ours), host(theirs), *TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_gradients_in_blocks(name, i, dtype, all_large):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    found = []
    for module, function, make in ((torch, oracle(entry), torch_leaf), (gradx, entry.function, gradx_leaf("cpu"))):
        tensors, wanted = leaves(sample, arrays_for(name, i, dtype), make)
        outs, weights = weighted(module, function(*arguments(sample, tensors), **sample.kwargs))
        found.append(module.autograd.grad(outs, wanted, weights, allow_unused=True))
    for theirs, ours in zip(*found, strict=True):
        if ours is None or theirs is None:
            known = ours if theirs is None else theirs
            assert known is None or not host(known).any()
            continue
        assert host(ours).dtype == host(theirs).dtype
        rtol, atol = TOLERANCE[dtype]
        np.testing.assert_allclose(host(ours), host(theirs), 10 * rtol, 10 * atol)


# ---- real sizes ------------------------------------------------------------------------------------------------------


def large(seed=0, shape=(1200, 400), dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


FUNCTIONS = {
    "mul": lambda m, a, b: a * b,
    "bias": lambda m, a, b: a + b[0],
    "column": lambda m, a, b: a * b[:, :1],
    "transposed": lambda m, a, b: a.T * b.T,
    "relu": lambda m, a, b: m.relu(a),
    "sigmoid": lambda m, a, b: m.sigmoid(a),
    "chain": lambda m, a, b: m.exp(m.tanh(a)) * a,
    "maximum": lambda m, a, b: m.maximum(a, b),
    "clamp": lambda m, a, b: m.clamp(a, -1, 0.5),
    "softmax": lambda m, a, b: m.nn.functional.softmax(a, dim=-1),
    "softmax 0": lambda m, a, b: m.nn.functional.softmax(a, dim=0),
    "log_softmax": lambda m, a, b: m.nn.functional.log_softmax(a, dim=-1),
    "mse": lambda m, a, b: m.nn.functional.mse_loss(a, b),
    "mse sum": lambda m, a, b: m.nn.functional.mse_loss(a, b, reduction="sum"),
    **{
        f"{name} {dim}": lambda m, a, b, name=name, dim=dim: getattr(m, name)(a, dim=dim)
        for name in ("sum", "mean", "amax", "var", "std", "logsumexp", "norm")
        for dim in (0, 1, (0, 1))
    },
    "cross_entropy": lambda m, a, b: m.nn.functional.cross_entropy(a, m.arange(1200) % 400),
}


CLOSE = {np.float32: (2e-5, 1e-5), np.float64: (1e-11, 1e-13)}  # absolute: sums of a thousand terms near 1 may cancel


def first_order(m, function, *arrays):
    """The result of a function, and its gradients."""
    tensors = [m.tensor(array, requires_grad=True) for array in arrays]
    result = function(m, *tensors)
    weights = m.cos(m.arange(result.numel(), dtype=result.dtype)).reshape(result.shape)
    gradients = m.autograd.grad(result, tensors, weights, allow_unused=True)
    return [host(t) for t in (result, *gradients) if t is not None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_arrays_against_torch(name, dtype):
    arrays = large(0, dtype=dtype), large(1, dtype=dtype)
    theirs, ours = (first_order(m, FUNCTIONS[name], *arrays) for m in (torch, gradx))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, *CLOSE[dtype])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_do_not_depend_on_the_number_of_threads(name, threads):
    arrays = large(0, (3000, 400)), large(1, (3000, 400))
    found = []
    for number in (1, 2, 3):
        threads(number)
        found.append(first_order(gradx, FUNCTIONS[name.replace("cross_entropy", "softmax")], *arrays))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0])
@pytest.mark.parametrize(
    "name", ["relu", "sigmoid", "softmax", "log_softmax", "amax 1", "logsumexp 1", "maximum", "sum 1"]
)
def test_numbers_that_are_none(name, value):
    a, b = large(0), large(1)
    a[::7, ::50] = value
    a[3] = value
    for x, y in zip(*(first_order(m, FUNCTIONS[name], a, b) for m in (gradx, torch)), strict=True):
        np.testing.assert_allclose(x, y, *CLOSE[np.float32])


def test_extrema_that_tie_share_the_gradient():
    a = np.round(large())
    for x, y in zip(*(first_order(m, FUNCTIONS["amax 1"], a, a) for m in (gradx, torch)), strict=True):
        np.testing.assert_allclose(x, y, *CLOSE[np.float32])


def test_rows_far_from_the_first_block_raise_as_the_first():
    whole = gradx.ones(600_000, dtype=gradx.int64)
    divisor = whole.clone()
    divisor[-1] = 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        whole // divisor


def test_gradients_are_added_in_place_and_leave_others_alone():
    x = gradx.ones(1024, 512, requires_grad=True)
    y = x * 2
    (y.exp().log() + y * 3).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 8, rtol=1e-6)
    kept = x.grad.numpy().copy()
    (x * 1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), kept + 1)


# ---- memory ----------------------------------------------------------------------------------------------------------


def pooled(shape=(1024, 512)):
    return gradx.ones(*shape) + 1


def test_results_are_ordinary_arrays():
    array = pooled().numpy()
    assert type(array) is np.ndarray
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    assert array.__array_interface__["data"][0] % 64 == 0
    again = pickle.loads(pickle.dumps(array))
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    for copied in (again, np.load(file), array.copy(), copy.deepcopy(array)):
        np.testing.assert_array_equal(copied, array)
        copied[0] = 5  # a copy, with memory of its own
        assert array[0, 0] == 2
    reference = weakref.ref(array)
    del array
    assert reference() is None


def test_memory_returns_with_the_last_view():
    gradx.cpu.empty_cache()
    before = gradx.cpu.memory_stats()["allocated"]
    array = pooled().numpy()
    corner = array[1:].T[:5]
    address = array.__array_interface__["data"][0]
    del array
    assert gradx.cpu.memory_stats()["allocated"] > before
    assert corner[0, 0] == 2
    del corner
    assert gradx.cpu.memory_stats()["allocated"] == before
    assert pooled().numpy().__array_interface__["data"][0] == address


def test_no_more_is_held_than_was_in_use_at_the_peak():
    gradx.cpu.empty_cache()
    for rows in range(600, 1500, 50):
        x = pooled((rows, 1024))
        stats = gradx.cpu.memory_stats()
        assert stats["allocated"] + stats["cached"] <= stats["peak"]
        del x
    gradx.cpu.empty_cache()
    assert gradx.cpu.memory_stats()["cached"] == 0


def test_a_limit_of_nothing_caches_nothing():
    before = gradx.cpu.memory_stats()["limit"]
    try:
        gradx.cpu.set_memory_limit(0)
        array = pooled().numpy()
        assert array.flags.owndata
        del array
        assert gradx.cpu.memory_stats()["cached"] == 0
    finally:
        gradx.cpu.set_memory_limit(before)
    with pytest.raises(ValueError, match="negative"):
        gradx.cpu.set_memory_limit(-1)


def test_small_results_have_memory_from_numpy():
    assert (gradx.ones(100) + 1).numpy().flags.owndata


def test_a_cycle_that_the_collector_frees_within_the_pool(monkeypatch):
    """A finaliser may run while this very thread holds the pool's lock."""
    pool = cpu_memory.Pool(1 << 30)
    array = pool.empty((1 << 20,), np.dtype(np.float32))
    with pool._lock:
        del array
    assert pool.stats()["cached"] == pool.stats()["peak"] > 0


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_number_of_threads(threads):
    threads(3)
    assert gradx.get_num_threads() == gradx.cpu.get_num_threads() == 3
    for wrong in (0, -1, 1.5, "2", True):
        same(lambda m, wrong=wrong: m.set_num_threads(wrong))


def test_an_error_in_a_thread_is_raised_where_the_work_was_called_for():
    def work(i):
        if i == 40:
            raise KeyError(i)

    for number in (1, 4):
        with pytest.raises(KeyError, match="40"):
            cpu_threads.Workers(number).run(work, 100)


def test_each_turn_is_taken_once():
    taken = []
    cpu_threads.Workers(4).run(taken.append, 1000)
    assert sorted(taken) == list(range(1000))


def test_users_threads_share_the_workers(threads):
    threads(4)
    arrays = [large(i) for i in range(6)]
    expected = [first_order(gradx, FUNCTIONS["softmax"], array, array) for array in arrays]
    with ThreadPoolExecutor(6) as executor:
        for _ in range(3):
            found = executor.map(lambda array: first_order(gradx, FUNCTIONS["softmax"], array, array), arrays)
            for ours, theirs in zip(found, expected, strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a, b)


FORKED = """
import os, warnings
import numpy as np, gradx
warnings.simplefilter("ignore")  # Python's, about threads and forks
gradx.set_num_threads(3)
x = gradx.from_numpy(np.arange(4_000_000, dtype=np.float32))
y = x * 2
child = os.fork()
if child == 0:
    z = (x * 3).exp()
    os._exit(0 if y[5].item() == 10 and z.shape == x.shape else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), y[7].item())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_and_memory_of_its_own():
    run = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["0", "14.0"]
