"""Memory shared with NumPy, CuPy and torch: what is written through one shows in the other, and nothing is copied."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from twin import same

import gradx
from gradx.utils import dlpack

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


class Exporter:
    """An object that has DLPack's methods and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Old(Exporter):
    """One that knows nothing of DLPack's versions."""

    def __dlpack__(self, *, stream=None):
        return self.array.__dlpack__(stream=stream)


class OnDevice:
    """An object that has the CUDA array interface and nothing else."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


def shares(a, b):
    """Whether a number written to the first element of one shows in the other, both ways; each may be any array."""
    a[0] = 5
    there = float(b[0]) == 5
    b[0] = 7
    return there and float(a[0]) == 7


# ---- the CPU -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("take", [gradx.as_tensor, gradx.from_dlpack])
@pytest.mark.parametrize(
    "make", [np.zeros, torch.zeros, gradx.zeros, lambda n: Exporter(np.zeros(n)), lambda n: Old(np.zeros(n))]
)
def test_taken_without_copy(take, make):
    other = make(3)
    ours = take(other)
    assert shares(getattr(other, "array", other), ours)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_with_torch(dtype):
    theirs = torch.tensor([0, 1, 2]).to(getattr(torch, dtype))
    ours = gradx.from_dlpack(theirs)
    assert ours.dtype is gradx.dtypes.as_dtype(dtype)
    assert ours.data_ptr() == theirs.data_ptr()
    back = torch.from_dlpack(ours)
    assert back.dtype == theirs.dtype
    assert back.data_ptr() == theirs.data_ptr()


def test_views_keep_their_strides():
    base = gradx.arange(12).reshape(3, 4)
    for view in (base.t(), base[1:, ::2], base[:0], base.select(1, 2), base[2, 3]):
        theirs = torch.from_dlpack(view)
        assert tuple(theirs.shape) == tuple(view.shape)
        assert theirs.tolist() == view.tolist()
        again = gradx.from_dlpack(theirs)
        assert again.tolist() == view.tolist()
        if view.numel():
            assert theirs.stride() == view.stride() == again.stride()
            assert theirs.data_ptr() == view.data_ptr() == again.data_ptr()


@pytest.mark.parametrize("take", [np.from_dlpack, torch.from_dlpack, np.asarray])
def test_given_without_copy(take):
    ours = gradx.zeros(3)
    assert shares(ours, take(ours))


def test_memory_outlives_its_owner():
    ours = gradx.from_dlpack(np.arange(5.0))
    taken = np.from_dlpack(gradx.arange(5.0))
    assert ours.tolist() == taken.tolist() == [0, 1, 2, 3, 4]


def test_capsules():
    ours = gradx.zeros(3)
    for library in (dlpack, torch.utils.dlpack):
        taken = library.from_dlpack(dlpack.to_dlpack(ours))
        assert shares(ours, taken)  # though NumPy thinks that such a capsule is read-only
    for version in ((0, 8), (1, 0)):
        assert shares(ours, gradx.from_dlpack(ours.__dlpack__(max_version=version)))
    capsule = gradx.to_dlpack(ours)
    gradx.from_dlpack(capsule)
    with pytest.raises(RuntimeError, match=r"^from_dlpack received an invalid capsule"):
        gradx.from_dlpack(capsule)


def test_read_only_memory_stays_read_only():
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    ours = gradx.from_dlpack(fixed)
    with pytest.raises(ValueError, match="read-only"):
        ours.array[0] = 1


def test_tensor_copies_what_as_tensor_shares():
    theirs = torch.zeros(3)
    copied = gradx.tensor(theirs)
    theirs[0] = 1
    assert copied.tolist() == [0, 0, 0]
    assert copied.dtype is gradx.float32


def test_a_gradient_of_borrowed_memory():
    theirs = torch.arange(3.0)
    x = gradx.from_dlpack(theirs).requires_grad_()
    (x * x).sum().backward()
    theirs -= torch.from_dlpack(x.grad)  # a step of torch's on gradx's parameter
    assert x.tolist() == [0, -1, -2]


PROGRAMS = {
    "device": lambda m: tuple(m.zeros(1).__dlpack_device__()),
    "requires grad": lambda m: m.ones(1, requires_grad=True).__dlpack__(),
    "from requires grad": lambda m: m.from_dlpack(m.ones(1, requires_grad=True)),
    "of a result": lambda m: (2 * m.ones(1, requires_grad=True)).__dlpack__(),
    "requires grad under no_grad": lambda m: m.no_grad()(lambda: m.ones(1, requires_grad=True).__dlpack__())(),
    "stream on the CPU": lambda m: m.ones(1).__dlpack__(stream=1),
    "stream -1 on the CPU": lambda m: type(m.ones(1).__dlpack__(stream=-1)),
    "stream of no sense": lambda m: m.ones(1).__dlpack__(stream="a"),
    "not by position": lambda m: m.ones(1).__dlpack__(None),
    "copy": lambda m: m.from_dlpack(np.ones(3), copy=True),
    "no copy": lambda m: m.from_dlpack(np.ones(3), copy=False, device="cpu"),
    "device by name": lambda m: m.from_dlpack(np.ones(3), device="cpu"),
    "what is no array": lambda m: m.from_dlpack(3),
    "strings": lambda m: m.from_dlpack(np.array(["a"])),
    "to_dlpack of no tensor": lambda m: m.utils.dlpack.to_dlpack(3),
    "as_tensor": lambda m: m.as_tensor(Exporter(np.arange(3))),
    "as_tensor, cast": lambda m: m.as_tensor(Exporter(np.arange(3)), dtype=m.float64),
    "tensor": lambda m: m.tensor(Exporter(np.arange(3.0))),
    "data_ptr of nothing": lambda m: m.empty(0).data_ptr(),
    "data_ptr of data": lambda m: (lambda t: t.data_ptr() == t.data.data_ptr() == t.detach().data_ptr())(m.ones(2)),
    "data_ptr of a view": lambda m: (lambda t: t[1:].data_ptr() - t.data_ptr())(m.ones(2)),
    "cuda array interface": lambda m: m.ones(1).__cuda_array_interface__,
    "has a cuda array interface": lambda m: hasattr(m.ones(1), "__cuda_array_interface__"),
    "cuda array interface of one that requires grad": lambda m: m.ones(1, requires_grad=True).__cuda_array_interface__,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_torch(name):
    same(PROGRAMS[name], message=name not in ("not by position", "strings"))


def test_copies_are_copies():
    array = np.zeros(3)
    copied = gradx.from_dlpack(array, copy=True)
    other = np.from_dlpack(gradx.as_tensor(array), copy=True)
    array[0] = 1
    assert copied.tolist() == other.tolist() == [0, 0, 0]


def test_to_dlpack_never_detaches_silently():
    with pytest.raises(BufferError, match=r"use tensor\.detach\(\)"):  # torch gives a capsule
        gradx.to_dlpack(gradx.ones(1, requires_grad=True))


def test_memory_elsewhere():
    class Elsewhere:
        def __dlpack__(self, **options):
            raise AssertionError("nobody should ask")

        def __dlpack_device__(self):
            return (8, 0)

    with pytest.raises(RuntimeError, match="Unsupported device_type: 8"):
        gradx.from_dlpack(Elsewhere())


def test_dtypes_that_tensors_do_not_have():
    with pytest.raises(TypeError, match="uint16"):
        gradx.from_dlpack(np.zeros(3, np.uint16))


def test_a_cpu_tensor_has_no_cupy_array():
    with pytest.raises(TypeError, match=r"^can't convert cpu device type tensor to cupy\. Use Tensor\.cuda\(\)"):
        gradx.ones(1).cupy()
    with pytest.raises(
        RuntimeError, match=r"^Can't call cupy\(\) on Tensor that requires grad\. Use tensor\.detach\(\)"
    ):
        gradx.ones(1, requires_grad=True).cupy()


# ---- CUDA --------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("take", "wrap"),
    [
        *itertools.product([gradx.as_tensor, gradx.from_dlpack], [lambda a: a, Exporter, Old]),
        (gradx.as_tensor, OnDevice),
    ],
)
def test_cuda_taken_without_copy(cupy, take, wrap):
    array = cupy.zeros(3)
    ours = take(wrap(array))
    assert ours.data_ptr() == array.data.ptr
    assert shares(array, ours)
    assert ours.device == gradx.device("cuda:0")


@pytest.mark.cuda
def test_cuda_given_without_copy(cupy):
    ours = gradx.zeros(3, device="cuda")
    assert ours.cupy() is ours.array
    for take in (cupy.from_dlpack, cupy.asarray, lambda t: t.cupy(), lambda t: t.data.cupy()):
        taken = take(ours)
        assert taken.data.ptr == ours.data_ptr()
        assert shares(ours, taken)
    assert not gradx.zeros(0, device="cuda").data_ptr()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_dtypes(cupy, dtype):
    ours = gradx.ones(3, 2, dtype=gradx.dtypes.as_dtype(dtype), device="cuda").t()
    for take in (cupy.from_dlpack, cupy.asarray):
        taken = take(ours)
        assert (taken.dtype, taken.strides, taken.data.ptr) == (np.dtype(dtype), ours.array.strides, ours.data_ptr())


@pytest.mark.cuda
def test_cuda_capsules(cupy):
    ours = gradx.zeros(3, device="cuda")
    for version in (None, (0, 8), (1, 0)):
        again = gradx.from_dlpack(ours.__dlpack__(max_version=version))
        assert again.data_ptr() == ours.data_ptr()
    assert tuple(ours.__dlpack_device__()) == (2, 0)
    copied = gradx.from_dlpack(ours, copy=True)
    assert copied.data_ptr() != ours.data_ptr()
    assert gradx.from_dlpack(ours.__dlpack__(copy=True)).data_ptr() != ours.data_ptr()


@pytest.mark.cuda
def test_cuda_to_the_host_by_dlpack_is_a_copy_that_is_asked_for():
    ours = gradx.tensor([1.0, 2.0], device="cuda")
    assert np.from_dlpack(ours, device="cpu").tolist() == [1, 2]
    assert gradx.from_dlpack(ours, device="cpu").device == gradx.device("cpu")
    assert gradx.from_dlpack(np.ones(2), device="cuda").is_cuda
    with pytest.raises(ValueError, match=r"^cannot move DLPack tensor from device cpu to cuda:0 without copying\. Set"):
        gradx.from_dlpack(np.ones(2), device="cuda", copy=False)


@pytest.mark.cuda
def test_cuda_that_requires_grad():
    ours = gradx.ones(2, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^Can't call cupy\(\) on Tensor that requires grad"):
        ours.cupy()
    with pytest.raises(RuntimeError, match=r"^Can't get __cuda_array_interface__ on Variable that requires grad"):
        ours.__cuda_array_interface__  # noqa: B018
    with pytest.raises(BufferError, match=r"^Can't export tensors that require gradient"):
        ours.__dlpack__()
    assert ours.detach().cupy().tolist() == [1, 1]


@pytest.mark.cuda
def test_cuda_array_interface_names_the_current_stream(cupy):
    ours = gradx.ones(2, device="cuda")
    interface = ours.__cuda_array_interface__
    assert (interface["version"], interface["stream"], interface["data"]) == (3, 1, (ours.data_ptr(), False))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        assert ours.__cuda_array_interface__["stream"] == stream.ptr


@pytest.mark.cuda
def test_the_consumer_gets_a_capsule_for_its_stream(cupy):
    ours, consumer = gradx.ones(2, device="cuda"), cupy.cuda.Stream(non_blocking=True)
    for stream in (None, -1, 1, consumer.ptr):
        assert type(ours.__dlpack__(stream=stream)).__name__ == "PyCapsule"
    with pytest.raises(TypeError, match="stream must be"):
        ours.__dlpack__(stream=consumer)


@pytest.mark.cuda
def test_the_consumer_waits_for_our_stream(cupy):
    """What a stream that is being captured makes others wait for, is captured with it."""
    ours = gradx.ones(2, device="cuda")
    producer, consumer = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with producer:
        producer.begin_capture()
        ours.__dlpack__(stream=-1)
        assert not consumer.is_capturing()
        ours.__dlpack__(stream=consumer.ptr)
        assert consumer.is_capturing()
        producer.wait_event(consumer.record())
        producer.end_capture()


@pytest.mark.cuda
def test_our_stream_is_told_to_the_producer(cupy):
    asked = []

    class Asking(Exporter):
        def __dlpack__(self, *, stream=None, **options):
            asked.append(stream)
            return super().__dlpack__(stream=stream, **options)

    exporter = Asking(cupy.ones(2))
    gradx.from_dlpack(exporter)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        gradx.from_dlpack(exporter)
    assert asked == [1, stream.ptr]


@pytest.mark.cuda
def test_exchange_on_another_device_than_the_current_one(cupy):
    if gradx.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    with cupy.cuda.Device(1):
        array = cupy.zeros(3)
    for taken in (gradx.as_tensor(array), gradx.from_dlpack(array), gradx.as_tensor(OnDevice(array))):
        assert taken.device == gradx.device("cuda:1")
        assert tuple(taken.__dlpack_device__()) == (2, 1)
        assert cupy.from_dlpack(taken).data.ptr == array.data.ptr
        assert taken.__cuda_array_interface__["data"][0] == array.data.ptr
        assert (array * taken).device == gradx.device("cuda:1")
    assert gradx.cuda.current_device() == 0
