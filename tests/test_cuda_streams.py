"""Streams and events: what runs where, and what waits for what."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from random import Random

import pytest

import gradx
from gradx import cuda
from gradx.backends import backend_for
from gradx.engine import running

pytestmark = pytest.mark.cuda


@pytest.fixture
def s():
    return cuda.Stream()


@pytest.fixture
def two_devices():
    if cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")


@pytest.fixture
def waits(monkeypatch):
    """Each wait of one stream for another in a backward pass, as a pair of handles."""
    backend = backend_for(gradx.device("cuda"))
    seen, wait = [], backend.wait_stream

    def spy(where, stream, other):
        seen.append(tuple(0 if each is None else each.ptr for each in (stream, other)))
        wait(where, stream, other)

    monkeypatch.setattr(backend, "wait_stream", spy)
    return seen


class Double(gradx.autograd.Function):
    """Twice its input; notes the device and the stream of its backward pass."""

    @staticmethod
    def forward(ctx, x, log):
        ctx.log = log
        return x * 2

    @staticmethod
    def backward(ctx, g):
        ctx.log.append(here())
        return g * 2, None


def here():
    """The current device, and the handle of the current stream as CuPy knows it."""
    import cupy

    return cuda.current_device(), cupy.cuda.get_current_stream().ptr


def leaf(*values, device="cuda"):
    return gradx.tensor(values, device=device, requires_grad=True)


# ---- streams -------------------------------------------------------------------------------------------------


def test_a_stream(s):
    assert s.device == gradx.device("cuda:0")
    assert s.cuda_stream == s.cupy.ptr != 0
    assert s.priority == 0
    assert s != cuda.Stream() and s == s and s != s.cuda_stream
    assert s == cuda.ExternalStream(s.cuda_stream) and hash(s) == hash(cuda.ExternalStream(s.cuda_stream, device=0))
    assert repr(s) == f"<gradx.cuda.Stream device=cuda:0 cuda_stream={s.cuda_stream:#x}>"
    assert s.__cuda_stream__() == (0, s.cuda_stream)
    s.synchronize()
    assert s.query() is True


def test_streams_come_from_a_pool():
    assert len({cuda.Stream().cuda_stream for _ in range(100)}) == 32


def test_the_default_stream():
    assert cuda.current_stream() == cuda.default_stream() == cuda.default_stream("cuda:0")
    assert cuda.default_stream().cuda_stream == 0


def test_a_block_sets_the_stream_and_restores_it(s):
    other = cuda.Stream()
    with cuda.stream(s):
        assert cuda.current_stream() == s and here() == (0, s.cuda_stream)
        with other:
            assert cuda.current_stream() == other
            with cuda.stream(None):
                assert cuda.current_stream() == other
        assert cuda.current_stream() == s
        with pytest.raises(KeyError), cuda.stream(other):
            raise KeyError
        assert cuda.current_stream() == s
    assert cuda.current_stream() == cuda.default_stream()


def test_set_stream(s):
    cuda.set_stream(None)
    assert cuda.current_stream() == cuda.default_stream()
    cuda.set_stream(s)
    assert here() == (0, s.cuda_stream)
    cuda.set_stream(cuda.default_stream())
    assert here() == (0, 0)


def test_streams_are_of_each_thread(s):
    seen = []
    with cuda.stream(s):
        thread = threading.Thread(target=lambda: seen.append(here()))
        thread.start()
        thread.join()
    assert seen == [(0, 0)]


def test_the_stream_of_cupy_counts(s):
    with s.cupy:
        assert cuda.current_stream() == s


def test_a_stream_of_another_device(two_devices, s):
    there = cuda.Stream(1)
    assert there.device == cuda.Stream("cuda:1").device == gradx.device("cuda:1")
    with cuda.stream(s), cuda.stream(there):
        assert here() == (1, there.cuda_stream)
        assert cuda.current_stream(0) == s
    assert here() == (0, 0)
    assert cuda.current_stream(1) == cuda.default_stream(1) != cuda.default_stream(0)


# ---- events --------------------------------------------------------------------------------------------------


def test_an_event(s):
    event = cuda.Event()
    assert event.query() is True and event.cuda_event == 0 and "uninitialized" in repr(event)
    event.wait()
    event.synchronize()
    event.record(s)
    assert event.cuda_event != 0 and f"{event.cuda_event:#x}" in repr(event)
    event.wait()
    cuda.current_stream().wait_event(event)
    event.synchronize()
    assert event.query() is True
    assert s.record_event(event) is event
    s.wait_stream(cuda.current_stream())


def test_elapsed_time():
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    with pytest.raises(ValueError, match=r"Both events must be recorded before calculating elapsed time\."):
        start.elapsed_time(end)
    start.record()
    gradx.ones(1000, device="cuda").sum()
    end.record()
    end.synchronize()
    assert 0 <= start.elapsed_time(end) < 60_000
    with pytest.raises(ValueError, match=r"Both events must be created with argument 'enable_timing=True'\."):
        start.elapsed_time(cuda.Event())


def test_an_event_belongs_to_one_device(two_devices):
    event = cuda.current_stream(0).record_event()
    with pytest.raises(RuntimeError, match=r"Event device 0 does not match recording stream's device 1"):
        event.record(cuda.current_stream(1))
    cuda.current_stream(1).wait_event(event)


# ---- the stream of a backward pass ---------------------------------------------------------------------------


def test_rules_run_on_the_stream_of_the_forward_operation(s, waits):
    x, log = leaf(1.0, 2.0), []
    first = Double.apply(x, log)
    s.wait_stream(cuda.current_stream())
    with cuda.stream(s):
        second = Double.apply(first, log)
    cuda.current_stream().wait_stream(s)
    Double.apply(second, log).sum().backward()
    assert log == [(0, 0), (0, s.cuda_stream), (0, 0)]
    assert waits == [(s.cuda_stream, 0), (0, s.cuda_stream), (0, s.cuda_stream)]  # there, back, and at the end
    assert x.grad.tolist() == [8, 8]
    assert here() == (0, 0)


def test_operations_of_gradx_and_in_place_changes_remember_their_stream(s):
    """A hook on a tensor runs where the tensor's gradient arrives."""
    x, log = leaf(1.0, 2.0), []
    with cuda.stream(s):
        y = x * 3
        y[0] = 5.0
    y.register_hook(lambda g: log.append(here()))
    (y * 2).sum().backward()
    assert log == [(0, s.cuda_stream)]
    assert x.grad.tolist() == [0, 6]


def test_a_leaf_accumulates_where_its_gradient_was_made(s):
    x, log = leaf(1.0), []
    x.register_post_accumulate_grad_hook(lambda t: log.append(here()))
    with cuda.stream(s):
        y = x * 3
    y.backward()
    (x * 3).backward()
    assert log == [(0, s.cuda_stream), (0, 0)]
    assert x.grad.item() == 6


def test_the_caller_waits_for_all_streams(s, waits):
    x, other = leaf(1.0, 2.0), cuda.Stream()
    with cuda.stream(s):
        a = x * 3
    with cuda.stream(other):
        b = x * 4
    caller = cuda.Stream()
    caller.wait_stream(s)
    caller.wait_stream(other)
    with cuda.stream(caller):
        (a + b).sum().backward()
        assert cuda.current_stream() == caller
    last = waits[-2:]
    assert set(last) == {(caller.cuda_stream, s.cuda_stream), (caller.cuda_stream, other.cuda_stream)}
    assert x.grad.tolist() == [7, 7]


def test_two_gradients_for_one_tensor_are_added_on_its_stream(s, waits):
    x = leaf(1.0, 2.0)
    y = x * 1
    with cuda.stream(s):
        a = y * 3
    b = y * 4
    (a + b).sum().backward()
    assert waits == [(s.cuda_stream, 0), (0, s.cuda_stream), (0, s.cuda_stream)]
    assert x.grad.tolist() == [7, 7]


def test_grad_of_a_tensor_made_on_another_stream(s, waits):
    x = leaf(1.0, 2.0)
    with cuda.stream(s):
        y = x * 3
        z = y * y
    (dx,) = gradx.autograd.grad(z.sum(), x)
    assert waits[-1] == (0, s.cuda_stream)
    assert dx.tolist() == [18, 36]


def test_second_derivatives_run_there_too(s):
    x, log = leaf(1.0, 2.0), []
    with cuda.stream(s):
        y = Double.apply(x, log)
        y = (y * y * y).sum()
    (dx,) = gradx.autograd.grad(y, x, create_graph=True)
    dx.register_hook(lambda g: log.append(here()))
    (ddx,) = gradx.autograd.grad(dx.sum(), x)
    assert log == [(0, s.cuda_stream)] * 2 + [(0, s.cuda_stream)]
    assert ddx.tolist() == [48, 96]


def test_a_backward_pass_called_on_another_stream(s):
    x, log = leaf(1.0, 2.0), []
    y = Double.apply(x, log).sum()
    s.wait_stream(cuda.current_stream())
    with cuda.stream(s):
        y.backward()
        assert here() == (0, s.cuda_stream)
    assert log == [(0, 0)]


def test_an_error_restores_the_stream(s):
    x = leaf(1.0)
    with cuda.stream(s):
        y = x * 3
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert here() == (0, 0) and running.walk is None


def test_checkpoints_are_computed_again_on_their_stream(s):
    x, log = leaf(1.0, 2.0), []
    with cuda.stream(s):
        y = gradx.utils.checkpoint.checkpoint(lambda t: Double.apply(t, log) * t, x, use_reentrant=False)
    y.sum().backward()
    assert log == [(0, s.cuda_stream)]
    assert x.grad.tolist() == [4, 8]


class Clocks:
    """Of each stream, how much of each stream's work comes before its next (a vector clock)."""

    def __init__(self, backend):
        self.known = defaultdict(Counter)
        self._wait = backend.wait_stream

    def wait(self, where, stream, other):
        mine, others = (0 if each is None else each.ptr for each in (stream, other))
        self.known[mine] |= self.known[others]
        self._wait(where, stream, other)

    def work(self):
        """Note a piece of work on the current stream; what identifies it is its stream and its number there."""
        _, stream = here()
        self.known[stream][stream] += 1
        return stream, self.known[stream][stream]

    def knows(self, piece):
        """Whether a piece of work comes before the next on the current stream."""
        stream, number = piece
        return self.known[here()[1]][stream] >= number


class Sum(gradx.autograd.Function):
    """The sum of two tensors. Its backward pass checks that all it needs comes before it, and notes itself."""

    @staticmethod
    def forward(ctx, a, b, clocks, needed, done):
        ctx.given = clocks, needed, done
        return a + b

    @staticmethod
    def backward(ctx, g):
        clocks, needed, done = ctx.given
        assert all(clocks.knows(piece) for each in needed for piece in each)
        done.append(clocks.work())
        return g * 1, g, None, None, None


@pytest.mark.parametrize("seed", range(20))
def test_each_rule_comes_after_those_that_made_its_gradient(seed, monkeypatch):
    """A graph of sums on random streams."""
    random = Random(seed)
    streams = [cuda.default_stream(), cuda.Stream(), cuda.Stream()]
    clocks = Clocks(backend := backend_for(gradx.device("cuda")))
    tensors = [leaf(1.0), leaf(2.0)]
    values, users = [1.0, 2.0], [[], []]
    for _ in range(12):
        i, j = random.randrange(len(tensors)), random.randrange(len(tensors))
        done, needed = [], []
        with cuda.stream(random.choice(streams)):
            tensors.append(Sum.apply(tensors[i], tensors[j], clocks, needed, done))
        users[i].append(done)
        users[j].append(done)
        users.append(needed)
        values.append(values[i] + values[j])
    root = sum(tensors[2:])
    assert root.item() == sum(values[2:])
    monkeypatch.setattr(backend, "wait_stream", clocks.wait)
    with cuda.stream(random.choice(streams)):
        clocks.work()
        root.backward()
        assert all(clocks.knows(piece) for each in users for done in each for piece in done)
    grads = [0.0 if t.grad is None else t.grad.item() for t in tensors[:2]]
    assert grads[0] + 2 * grads[1] == root.item()  # the root is linear in the leaves


def test_copies_between_devices(two_devices, waits):
    here0, here1, log = cuda.Stream(0), cuda.Stream(1), []
    x = leaf(1.0, 2.0, device="cuda:0")
    with cuda.stream(here0):
        a = Double.apply(x, log)
    cuda.current_stream(0).wait_stream(here0)
    with cuda.stream(here1):
        b = Double.apply(a.to("cuda:1"), log)
    b.sum().backward()
    assert log == [(1, here1.cuda_stream), (0, here0.cuda_stream)]
    assert x.grad.device == x.device and x.grad.tolist() == [4, 4]
    assert set(waits[-2:]) == {(0, here0.cuda_stream), (0, here1.cuda_stream)}
    assert here() == (0, 0)


def test_a_device_block(two_devices):
    with cuda.device(1):
        x = leaf(1.0, 2.0)
        y = (x * x).to("cuda:0")
    assert x.device == gradx.device("cuda:1")
    y.sum().backward()
    assert x.grad.device == x.device and x.grad.tolist() == [2, 4]


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_on_the_default_stream_nothing_is_noted():
    program = """
import gradx
from gradx import streams
x = gradx.ones(3, device="cuda", requires_grad=True)
(x * x).sum().backward()
gradx.cuda.current_stream(), gradx.cuda.default_stream()
print(streams.seen.other, len(streams.recorded_on))
"""
    assert python(program) == ["False", "0"]


def test_a_stream_of_cupy_is_noticed_by_the_first_operation_on_it():
    program = """
import cupy, gradx

class Double(gradx.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return gradx.as_tensor(x.array + x.array)
    @staticmethod
    def backward(ctx, g):
        print(cupy.cuda.get_current_stream() == s)
        return g + g

x = gradx.ones(3, device="cuda", requires_grad=True)
s = cupy.cuda.Stream()
with s:
    y = {}
y.sum().backward()
"""
    assert python(program.format("Double.apply(x)")) == ["True"]
    hooked = "x * x; y.register_hook(lambda g: print(cupy.cuda.get_current_stream() == s))"
    assert python(program.format(hooked)) == ["True"]


# ---- memory that several streams use -------------------------------------------------------------------------


class Pending:
    """An event that happens when the test says so."""

    done = False


def test_what_another_stream_uses_is_kept_until_it_is_done(s, monkeypatch):
    from gradx.backends.cuda import devices as cuda_devices
    from gradx.backends.cuda import held as cuda_held

    cuda_held.let_go()
    event = Pending()
    monkeypatch.setattr(cuda_devices, "hold", lambda _, used: cuda_held.hold(event, used))
    x = gradx.ones(1000, device="cuda")
    before = cuda.memory_allocated()
    x.record_stream(s)
    x[1:].record_stream(s.cupy)
    del x
    assert cuda.memory_allocated() == before
    gradx.ones(1, device="cuda")
    assert cuda.memory_allocated() == before
    event.done = True
    gradx.ones(1, device="cuda")
    assert cuda.memory_allocated() == before - 4096


def test_record_stream_on_the_cpu():
    with pytest.raises(NotImplementedError, match=r"Could not run 'aten::record_stream' .* 'CPU' backend"):
        gradx.ones(1).record_stream(None)


def test_a_backward_pass_keeps_what_crossed_to_another_stream(s, monkeypatch):
    from gradx.backends.cuda import devices as cuda_devices

    kept = []
    monkeypatch.setattr(cuda_devices, "hold", lambda event, used: kept.append(used))
    x = leaf(*[1.0] * 1000)
    with cuda.stream(s):
        y = x.exp()
    (y.sin() * 2).sum().backward()
    crossed = [array for _, arrays in kept for array in arrays or ()]
    assert [array.size for array in crossed] == [1000]  # the gradient of y, made on the default stream, used on s
    assert any(saved for (_, saved), _ in kept)  # and what exp saved
    assert all(grads[0] is not None for (grads, _), _ in kept)  # and what a rule may have handed on as it was
    assert x.grad[0].item() == pytest.approx(2 * math.e * math.cos(math.e), rel=1e-5)


def test_on_one_stream_nothing_is_kept(s, monkeypatch):
    from gradx.backends.cuda import devices as cuda_devices

    monkeypatch.setattr(cuda_devices, "hold", lambda event, used: pytest.fail("kept"))
    with cuda.stream(s):
        x = leaf(1.0, 2.0)
        (x.exp() * x).sum().backward()
