"""Copies of tensors, pickled tensors, and files."""

from __future__ import annotations

import collections
import copy
import io
import os
import pickle

import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def with_gradient(m):
    x = leaf(m)
    (x * x).sum().backward()
    return x


def deep_copy(m):
    x = with_gradient(m)
    y = copy.deepcopy(x)
    with m.no_grad():
        y.add_(1)
        y.grad.add_(1)
    return x, x.grad, y, y.grad, y.requires_grad, y.is_leaf


def deep_copy_keeps_identity(m):
    x = leaf(m)
    a, b = copy.deepcopy([x, x])
    return a is b, a is x


def deep_copy_of_what_was_computed(m):
    copy.deepcopy(leaf(m) * 2)


def shallow_copy(m):
    x = leaf(m)
    y = copy.copy(x)
    return y is x, y, y.requires_grad


def pickled(m):
    x = with_gradient(m)
    y = pickle.loads(pickle.dumps(x))
    return y, y.requires_grad, y.is_leaf, y.grad


def pickled_in_every_dtype(m):
    names = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64".split()
    return [pickle.loads(pickle.dumps(m.tensor([[0, 1]], dtype=getattr(m, name)))) for name in names]


def pickled_without_elements(m):
    return pickle.loads(pickle.dumps(m.zeros(0, 3))), pickle.loads(pickle.dumps(m.tensor(2.5)))


def pickled_not_contiguous(m):
    return pickle.loads(pickle.dumps(m.arange(6).reshape(2, 3).t()))


def saved_and_loaded(m):
    file = io.BytesIO()
    m.save(
        {"x": leaf(m), "list": [1, 2.5, "text", None, (m.ones(2),)], "od": collections.OrderedDict(a=m.zeros(1))}, file
    )
    file.seek(0)
    found = m.load(file)
    return found["x"], found["x"].requires_grad, found["list"], found["od"]["a"], type(found["od"]).__name__


PROGRAMS = [
    value
    for value in list(globals().values())
    if getattr(value, "__module__", "") == __name__ and value not in (leaf, with_gradient)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program)


def test_a_path(tmp_path):
    gradx.save([gradx.ones(2)], tmp_path / "file.pt")
    assert gradx.load(str(tmp_path / "file.pt"))[0].tolist() == [1, 1]


class Evil:
    def __reduce__(self):
        return os.putenv, ("GRADX_EVIL", "1")


@pytest.mark.parametrize("thing", [Evil(), os.system], ids=["code", "function"])
def test_loading_executes_nothing(thing):
    file = io.BytesIO()
    pickle.dump({"x": gradx.ones(1), "y": thing}, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        gradx.load(file)


@pytest.mark.parametrize("content", [b"hello world", b"PK\x03\x04", b"\x93NUMPY"], ids=["text", "torch", "numpy"])
@pytest.mark.parametrize("weights_only", [True, False])
def test_files_of_others(content, weights_only, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match=r"Weights only load failed.*not one that gradx.save wrote"):
        gradx.load(tmp_path / "file", weights_only=weights_only)


def test_several_in_one_file():
    file = io.BytesIO()
    gradx.save(gradx.ones(1), file)
    gradx.save(gradx.zeros(1), file)
    file.seek(0)
    assert [gradx.load(file).item() for _ in range(2)] == [1, 0]
    with pytest.raises(EOFError):
        gradx.load(file)


def test_loading_what_one_trusts():
    file = io.BytesIO()
    pickle.dump({"x": gradx.ones(1), "f": os.path.join}, file)
    file.seek(0)
    assert gradx.load(file, weights_only=False)["f"] is os.path.join


@pytest.mark.cuda
def test_devices():
    file = io.BytesIO()
    x = gradx.ones(2, device="cuda", requires_grad=True)
    gradx.save(x, file)
    file.seek(0)
    assert gradx.load(file).device.type == "cuda"
    file.seek(0)
    there = gradx.load(file, map_location="cpu")
    assert there.device.type == "cpu" and there.requires_grad and there.is_leaf
    assert copy.deepcopy(x).device == x.device
