"""Pinned memory, and copies that the host does not wait for.

That a copy is left to the stream shows in a graph: what a stream does while it is captured happens at the graph's launch.
"""

from __future__ import annotations

import contextlib
import gc
import weakref

import numpy as np
import pytest
from twin import same

import gradx
from gradx.backends.cuda.status import diagnose

no_cuda = pytest.mark.skipif(diagnose().usable, reason="there is a CUDA device")


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@contextlib.contextmanager
def captured(cupy):
    """A list that holds, afterwards, the graph of what was given to the current stream within."""
    graph = []
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        yield graph
        graph.append(stream.end_capture())
    stream.synchronize()


PROGRAMS = {
    "pin_memory": lambda m: m.ones(3).pin_memory(),
    "empty": lambda m: m.empty(3, pin_memory=True),
    "zeros": lambda m: m.zeros(3, pin_memory=True),
    "ones": lambda m: m.ones((3,), pin_memory=True),
    "full": lambda m: m.full((3,), 2.0, pin_memory=True),
    "tensor": lambda m: m.tensor([3.0], pin_memory=True),
    "rand": lambda m: m.rand(3, pin_memory=True),
    "randn": lambda m: m.randn(3, pin_memory=True),
    "randint": lambda m: m.randint(3, (3,), pin_memory=True),
}
SETTLED = {
    "not pinned": lambda m: (m.ones(3).is_pinned(), m.ones(3, pin_memory=False).is_pinned()),
    "to the same place": lambda m: (lambda t: t.to("cpu", non_blocking=True) is t)(m.ones(3)),
    "to, by position": lambda m: (lambda t: t.to("cpu", m.float32, True) is t)(m.ones(3)),
    "to, copied, by position": lambda m: (lambda t: t.to("cpu", m.float32, True, True) is t)(m.ones(3)),
    "copy_": lambda m: m.zeros(3).copy_(m.ones(3), non_blocking=True),
    "copy_, cast": lambda m: m.zeros(3).copy_(m.ones(3, dtype=m.float64), True),
}


@no_cuda
@pytest.mark.parametrize("name", PROGRAMS)
def test_without_cuda_as_torch(name):
    same(PROGRAMS[name])
    with pytest.raises(RuntimeError) as error:
        PROGRAMS[name](gradx)
    assert str(error.value).endswith(f" {diagnose().cause} {diagnose().fix}")


@pytest.mark.parametrize("name", SETTLED)
def test_on_the_cpu_as_torch(name):
    same(SETTLED[name])


@pytest.mark.cuda
@pytest.mark.parametrize("name", PROGRAMS)
def test_pinned(name):
    t = PROGRAMS[name](gradx)
    assert t.is_pinned()
    assert t.device == gradx.device("cpu")
    assert t.pin_memory() is t
    assert t[1:].is_pinned()
    assert tuple(t.__dlpack_device__()) == (3, 0)
    assert not t.clone().is_pinned()


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [gradx.float32, gradx.float16, gradx.bool, gradx.complex128])
def test_round_trip(shape, dtype):
    ours = gradx.ones(shape, dtype=dtype)
    pinned = ours.pin_memory()
    there = pinned.to("cuda", non_blocking=True)
    back = there.to("cpu", non_blocking=True)
    gradx.cuda.synchronize()
    assert ours.numel() == 0 or (pinned.is_pinned() and back.is_pinned())
    for t in (pinned, there, back):
        assert (t.shape, t.dtype, t.tolist()) == (ours.shape, ours.dtype, ours.tolist())


@pytest.mark.cuda
def test_layouts():
    ours = gradx.arange(12.0).reshape(3, 4)
    for view in (ours.t(), ours[:, ::2], ours.expand(2, 3, 4)):
        pinned = view.pin_memory()
        assert pinned.is_pinned()
        there = pinned.cuda(non_blocking=True)
        back = there.t().cpu() if there.dim() == 2 else there.cpu()
        assert pinned.tolist() == view.tolist()
        assert (back.t() if there.dim() == 2 else back).tolist() == view.tolist()


@pytest.mark.cuda
def test_gradients_flow_through():
    x = gradx.tensor([1.0, 2.0], requires_grad=True)
    pinned = x.pin_memory()
    assert pinned.grad_fn.name() == "PinMemoryBackward0"
    (pinned.cuda(non_blocking=True) ** 2).sum().backward()
    assert x.grad.tolist() == [2, 4]
    y = gradx.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    back = y.to("cpu", non_blocking=True)
    gradx.cuda.synchronize()
    (back**2).sum().backward()
    assert y.grad.tolist() == [2, 4]
    assert y.grad.is_cuda


@pytest.mark.cuda
def test_what_cannot_be_pinned():
    with pytest.raises(
        RuntimeError, match=r"^cannot pin 'gradx\.cuda\.FloatTensor' only dense CPU tensors can be pinned"
    ):
        gradx.ones(1, device="cuda").pin_memory()
    with pytest.raises(RuntimeError, match=r"^Only dense CPU tensors can be pinned"):
        gradx.ones(1, device="cuda", pin_memory=True)
    assert not gradx.ones(1, device="cuda").is_pinned()


@pytest.mark.cuda
def test_copies_from_pinned_memory_are_the_streams(cupy):
    source, target = gradx.zeros(3).pin_memory(), gradx.zeros(3, device="cuda")
    gradx.cuda.synchronize()
    with captured(cupy) as graph:
        target.copy_(source, non_blocking=True)
    source.fill_(5)  # after the call, before the copy
    assert target.tolist() == [0, 0, 0]
    graph[0].launch()
    gradx.cuda.synchronize()
    assert target.tolist() == [5, 5, 5]


@pytest.mark.cuda
def test_copies_to_pinned_memory_are_the_streams(cupy):
    source, target = gradx.ones(3, device="cuda"), gradx.zeros(3).pin_memory()
    gradx.cuda.synchronize()
    with captured(cupy) as graph:
        target.copy_(source, non_blocking=True)
    assert target.tolist() == [0, 0, 0]
    graph[0].launch()
    gradx.cuda.synchronize()
    assert target.tolist() == [1, 1, 1]


@pytest.mark.cuda
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("non_blocking", [False, True])
def test_copy_(pin, non_blocking):
    host = gradx.arange(6.0).reshape(2, 3)
    host = host.pin_memory() if pin else host
    there = gradx.zeros(2, 3, device="cuda")
    version = there._version
    assert there.copy_(host, non_blocking) is there
    assert there._version == version + 1
    assert there.tolist() == host.tolist()
    there.copy_(host[:1], non_blocking=non_blocking)  # broadcast
    assert there.tolist() == [[0, 1, 2]] * 2
    back = gradx.zeros(2, 3)
    back = back.pin_memory() if pin else back
    back.copy_(there, non_blocking=non_blocking)
    gradx.cuda.synchronize()
    assert back.tolist() == there.tolist()
    whole = gradx.zeros(3, 2, dtype=gradx.int64)
    whole.copy_(there.t(), non_blocking=non_blocking)  # cast, and not contiguous: waited for
    assert whole.tolist() == there.t().tolist()


@pytest.mark.cuda
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_recorded_copies_keep_their_history(place):
    elsewhere = "cuda" if place == "cpu" else "cpu"
    x = gradx.tensor([1.0, 2.0], device=elsewhere, requires_grad=True)
    source = x * 3
    source = source.pin_memory() if elsewhere == "cpu" else source
    target = gradx.zeros(2, device=place).copy_(source, non_blocking=True)
    (target**2).sum().backward()
    assert x.grad.tolist() == [18, 36]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.copy_(target.detach(), non_blocking=True)
    with gradx.no_grad():
        x.copy_(gradx.ones(2, device=place), non_blocking=True)
    gradx.cuda.synchronize()
    assert x.tolist() == [1, 1]
    assert x.requires_grad


@pytest.mark.cuda
def test_a_saved_tensor_overwritten_by_such_a_copy_is_noticed():
    x = gradx.ones(2, device="cuda", requires_grad=True)
    weight = gradx.ones(2, device="cuda")
    y = (x * weight).sum()
    weight.copy_(gradx.zeros(2).pin_memory(), non_blocking=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.cuda
def test_both_ends_live_until_the_copy_is_done(cupy):
    """And no longer: the next copy lets them go."""
    source, target = gradx.ones(3, device="cuda"), gradx.empty(3, pin_memory=True)
    target.copy_(source, non_blocking=True)
    ends = [weakref.ref(t.array) for t in (source, target)]
    expected = source.tolist()
    kept = target.array[:]
    del source, target
    gc.collect()
    assert all(end() is not None for end in ends)
    gradx.cuda.synchronize()
    assert kept.tolist() == expected
    del kept
    gradx.empty(3, pin_memory=True)
    gc.collect()
    assert all(end() is None for end in ends)


@pytest.mark.cuda
def test_pinned_memory_is_used_again():
    first = gradx.empty(1000, pin_memory=True)
    place = first.data_ptr()
    del first
    assert gradx.empty(1000, pin_memory=True).data_ptr() == place


@pytest.mark.cuda
def test_pinned_memory_of_others(cupy):
    memory = cupy.cuda.alloc_pinned_memory(24)
    assert gradx.from_numpy(np.frombuffer(memory, np.float64, 3)).is_pinned()


@pytest.mark.cuda
def test_copies_on_another_device(cupy):
    if gradx.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    pinned = gradx.arange(3.0).pin_memory()
    there = pinned.to("cuda:1", non_blocking=True)
    assert there.device == gradx.device("cuda:1")
    there.copy_(pinned, non_blocking=True)
    back = gradx.empty(3, pin_memory=True).copy_(there * 2, non_blocking=True)
    gradx.cuda.synchronize(1)
    assert back.tolist() == [0, 2, 4]
    assert (there.to("cpu", non_blocking=True).is_pinned(), gradx.cuda.current_device()) == (True, 0)
