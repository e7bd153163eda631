"""gradx.cuda: with a device, and where there is none."""

from __future__ import annotations

import inspect

import pytest

import gradx
from gradx import cuda
from gradx.backends.cuda.status import Diagnosis

# Of streams by number, of torch.compile and of the profiler.
LEFT_OUT = ("kwargs", "enable_annotations", "check_input_liveness")
NO_CUDA = Diagnosis(False, "There is no NVIDIA driver.", "Install it.")


@pytest.fixture
def two_devices():
    if cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")


@pytest.fixture
def no_cuda(monkeypatch):
    for room in (cuda.devices, cuda.graphs):
        monkeypatch.setattr(room, "diagnose", lambda: NO_CUDA)


def test_without_cuda_the_questions_have_answers(no_cuda):
    assert cuda.is_available() is False
    assert cuda.is_current_stream_capturing() is False
    assert cuda.device_count() == 0
    assert cuda.memory_allocated() == cuda.max_memory_allocated() == 0
    assert cuda.memory_reserved() == cuda.max_memory_reserved() == 0
    assert cuda.memory_stats() == {}


def test_without_cuda_what_has_nothing_to_do_does_nothing(no_cuda):
    gradx.manual_seed(1)
    expected = gradx.rand(2).tolist()
    gradx.manual_seed(1)
    cuda.manual_seed(2)
    cuda.manual_seed_all(2)
    cuda.empty_cache()
    cuda.set_device(-1)
    with cuda.device(None), cuda.device(-1), cuda.device_of(gradx.ones(1)), cuda.stream(None):
        assert gradx.rand(2).tolist() == expected
    assert gradx.ones(1).get_device() == -1


@pytest.mark.parametrize(
    "function",
    [
        cuda.current_device,
        cuda.synchronize,
        cuda.Stream,
        cuda.Event,
        cuda.current_stream,
        cuda.default_stream,
        cuda.CUDAGraph,
        cuda.graph_pool_handle,
        cuda.get_device_properties,
        cuda.get_device_name,
        cuda.get_device_capability,
        cuda.mem_get_info,
        cuda.reset_peak_memory_stats,
        lambda: cuda.ExternalStream(1),
        lambda: cuda.set_device(0),
        lambda: cuda.device(0),
    ],
)
def test_without_cuda_the_rest_says_why(no_cuda, function):
    with pytest.raises(RuntimeError, match=r"There is no NVIDIA driver\. Install it\."):
        function()


def test_names_and_arguments_are_torchs():
    theirs = pytest.importorskip("torch").cuda
    for name in cuda.__all__:
        if name in ("Diagnosis", "diagnose", "stream", "Event", "OutOfMemoryError"):
            continue
        assert hasattr(theirs, name), name
        mine, other = (list(inspect.signature(getattr(face, name)).parameters) for face in (cuda, theirs))
        assert [p for p in other if p not in LEFT_OUT] == mine, name
    assert list(inspect.signature(cuda.Event).parameters) == ["enable_timing", "blocking", "interprocess"]
    assert list(inspect.signature(cuda.stream).parameters) == ["stream"]


@pytest.mark.cuda
def test_devices():
    assert cuda.is_available() is True
    assert cuda.device_count() >= 1
    assert cuda.current_device() == 0


@pytest.mark.cuda
@pytest.mark.parametrize("spec", [None, 0, "cuda", "cuda:0", gradx.device("cuda", 0)])
def test_synchronize_accepts_every_name_of_a_device(spec):
    cuda.synchronize(spec)


@pytest.mark.cuda
def test_what_a_device_is():
    properties = cuda.get_device_properties("cuda:0")
    assert properties.name == cuda.get_device_name() != ""
    assert (properties.major, properties.minor) == cuda.get_device_capability(0)
    assert properties.total_memory == cuda.mem_get_info()[1]
    assert properties.multi_processor_count > 0 and properties.warp_size == 32


@pytest.mark.cuda
def test_the_seed_is_that_of_all_devices():
    cuda.manual_seed(3)
    drawn = gradx.rand(2, device="cuda").tolist()
    gradx.manual_seed(3)
    assert gradx.rand(2).tolist() == drawn


@pytest.mark.cuda
def test_the_current_device(two_devices):
    with cuda.device(1):
        assert cuda.current_device() == 1
        assert gradx.ones(1, device="cuda").get_device() == 1
        with cuda.device(None), cuda.device(-1), cuda.device_of(gradx.ones(1)):
            assert cuda.current_device() == 1
        with cuda.device_of(gradx.ones(1, device="cuda:0")):
            assert cuda.current_device() == 0
    block = cuda.device("cuda:1")
    with block, block:
        assert cuda.current_device() == 1
    assert cuda.current_device() == 0
    cuda.set_device(gradx.device("cuda:1"))
    assert cuda.current_device() == 1
    cuda.set_device(-1)
    assert cuda.current_device() == 1
    cuda.set_device(0)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        cuda.set_device(99)
    assert cuda.current_device() == 0


@pytest.mark.cuda
def test_memory_allocated():
    before = cuda.memory_allocated()
    x = gradx.zeros(1000, device="cuda")
    assert 4000 <= cuda.memory_allocated("cuda:0") - before <= 4096
    del x
    assert cuda.memory_allocated() == before


@pytest.mark.cuda
def test_memory_is_counted_for_each_device(two_devices):
    before = cuda.memory_allocated(0), cuda.memory_allocated(1)
    x = gradx.zeros(1000, device="cuda:1")
    assert x.device == gradx.device("cuda:1")
    assert cuda.memory_allocated(0) == before[0]
    assert cuda.memory_allocated(1) > before[1]
    assert cuda.current_device() == 0


@pytest.mark.cuda
def test_a_device_that_is_not_there():
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        cuda.synchronize(99)
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        cuda.memory_allocated("cpu")


@pytest.mark.cuda
def test_operations_run_where_their_operands_are(two_devices):
    x = gradx.tensor([1.0, 2.0], device="cuda:1")
    for result in (x + 1, x.sum(), x.softmax(0), gradx.cat([x, x]), x.reshape(2, 1) @ x.reshape(1, 2), x.clone()):
        assert result.device == gradx.device("cuda:1")
    assert (x * 2).tolist() == [2, 4]
    assert cuda.current_device() == 0


@pytest.mark.cuda
def test_two_cuda_devices_do_not_mix(two_devices):
    x, y = (gradx.ones(3, device=f"cuda:{i}") for i in range(2))
    with pytest.raises(RuntimeError, match=r"on the same device.*cuda:0 and cuda:1.*move one operand of mul"):
        x * y
    assert (x.to("cuda:1") * y).tolist() == [1, 1, 1]


@pytest.mark.cuda
def test_gradients_stay_where_they_belong(two_devices):
    x = gradx.tensor([3.0], device="cuda:0", requires_grad=True)
    y = gradx.tensor([5.0], device="cuda:1", requires_grad=True)
    ((x * 2).to("cuda:1") * y / y.sqrt()).sum().backward()
    assert x.grad.device == x.device
    assert y.grad.device == y.device
    assert x.grad.item() == pytest.approx(2 * 5**0.5)
    assert y.grad.item() == pytest.approx(3 / 5**0.5)
