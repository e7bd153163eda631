"""gradx.cuda: with a device, and where there is none."""

from __future__ import annotations

import pytest

import gradx
from gradx import cuda
from gradx.backends.cuda_status import Diagnosis

NO_CUDA = Diagnosis(False, "There is no NVIDIA driver.", "Install it.")


@pytest.fixture
def two_devices():
    if cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(cuda, "diagnose", lambda: NO_CUDA)


def test_without_cuda_the_questions_have_answers(no_cuda):
    assert cuda.is_available() is False
    assert cuda.device_count() == 0
    assert cuda.memory_allocated() == 0


@pytest.mark.parametrize("function", [cuda.current_device, cuda.synchronize])
def test_without_cuda_the_rest_says_why(no_cuda, function):
    with pytest.raises(RuntimeError, match=r"There is no NVIDIA driver\. Install it\."):
        function()


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
