"""Tensor's conversions and Python's protocols, as torch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from calls import DIFFERENTIABLE, arguments, arrays_for, gradx_leaf, leaves, oracle, outputs, torch_leaf
from twin import name, same

import gradx
from gradx.samples import TABLE

VALUES = [[], [1.5], [[2]], [1.0, 2.0], 3, 2.5, True, [0.0], [False], float("nan")]
PROTOCOLS = {
    "item": lambda m, t: t.item(),
    "tolist": lambda m, t: t.tolist(),
    "bool": lambda m, t: bool(t),
    "int": lambda m, t: int(t),
    "float": lambda m, t: float(t),
    "index": lambda m, t: [10, 20, 30, 40][t],
    "len": lambda m, t: len(t),
    "iter": lambda m, t: list(t),
    "contains": lambda m, t: 2.0 in t,
    "not": lambda m, t: not t,
    "format": lambda m, t: f"{t:.3f}" if not t.ndim else 0,
    "shape": lambda m, t: (t.shape, t.size(), t.ndim, t.dim(), t.numel(), t.nelement(), t.element_size()),
    "stride": lambda m, t: (t.stride() if t.numel() else 0, t.is_contiguous()),
    "numpy": lambda m, t: np.asarray(t),
    "numpy in float64": lambda m, t: np.asarray(t, dtype=np.float64),
    "kind": lambda m, t: (t.is_floating_point(), t.is_complex(), t.is_cuda, t.is_leaf, t.requires_grad),
    "hash": lambda m, t: hash(t) == hash(t),
    "None": lambda m, t: (t == None, t != None),  # noqa: E711
    "string": lambda m, t: t == "a",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES)
def test_protocols(protocol, value):
    same(lambda m: PROTOCOLS[protocol](m, m.tensor(value)), message=False)


TO = {
    "dtype": lambda m, t: t.to(m.float64),
    "keyword dtype": lambda m, t: t.to(dtype=m.int64),
    "device": lambda m, t: t.to("cpu"),
    "device object": lambda m, t: t.to(m.device("cpu")),
    "device and dtype": lambda m, t: t.to("cpu", m.float16),
    "keywords": lambda m, t: t.to(device="cpu", dtype=m.float64),
    "other": lambda m, t: t.to(m.zeros(1, dtype=m.float64)),
    "non_blocking": lambda m, t: t.to("cpu", non_blocking=True),
    "same is self": lambda m, t: t.to(m.float32) is t,
    "copy is not": lambda m, t: t.to(m.float32, copy=True) is t,
    "positional flags": lambda m, t: t.to("cpu", m.float32, False, True) is t,
    "cpu": lambda m, t: t.cpu() is t,
    "casts": lambda m, t: (t.float(), t.double(), t.half(), t.int(), t.long(), t.bool()),
    "type_as": lambda m, t: t.type_as(m.tensor([1])),
    "unknown keyword": lambda m, t: t.to(colour="red"),
    "nonsense": lambda m, t: t.to([1]),
    "unknown device": lambda m, t: t.to("nonsense"),
}


@pytest.mark.parametrize("form", TO)
def test_to(form):
    same(lambda m: TO[form](m, m.tensor([1.5, -2.0])), message=False)


def test_gradients_flow_through_casts():
    def program(m):
        leaf = m.tensor([1.0, 2.0], requires_grad=True)
        return m.autograd.grad((leaf.double().half().float() ** 2).sum(), leaf)

    same(program)
    same(lambda m: m.tensor([1.0], requires_grad=True).long().requires_grad)


def test_numpy_refuses_what_it_would_forget():
    same(lambda m: m.tensor([1.0], requires_grad=True).numpy())
    same(lambda m: np.asarray(m.tensor([1.0], requires_grad=True)))
    same(lambda m: m.tensor([1.0], requires_grad=True).numpy(force=True))
    same(lambda m: m.tensor([1.0], requires_grad=True).tolist())


def test_numpy_arrays_and_scalars_among_tensors():
    same(lambda m: m.tensor([1.0, 2.0]) * np.float32(3))
    same(lambda m: np.float32(3) * m.tensor([1.0, 2.0]))
    assert (np.ones(2) + gradx.tensor([1.0, 2.0], requires_grad=True)).requires_grad
    assert isinstance(np.ones(2, np.float32) * gradx.tensor([1.0, 2.0]), gradx.Tensor)


def test_products_of_matrices_and_numpy_arrays():
    a, x = np.array([[1.0, 2.0], [3.0, 4.0]]), gradx.tensor([1.0, -1.0], dtype=gradx.float64, requires_grad=True)
    for product, slope in ((a @ x, a.sum(0)), (x @ a, a.sum(1)), (gradx.mm(a, x[:, None]), a.sum(0))):
        np.testing.assert_array_equal(gradx.autograd.grad(product.sum(), x)[0].numpy(), slope)
    with pytest.raises(RuntimeError, match="same dtype"):
        a.astype(np.float32) @ x


def test_products_with_what_is_no_array():
    x = gradx.ones(2)
    for make in (
        lambda: x @ "a",
        lambda: [1.0, 2.0] @ x,
        lambda: x @ torch.ones(2),
        lambda: gradx.mm(x[None], torch.ones(2, 2)),
    ):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.tensor([1.0, 2.0], requires_grad=True),
        lambda m: m.tensor([1.0], requires_grad=True) * 2,
        lambda m: m.tensor([1, 2]),
        lambda m: m.tensor(1.5, dtype=m.float64),
        lambda m: m.tensor([[True, False]]),
        lambda m: m.zeros(0),
        lambda m: m.arange(2000.0),
    ],
)
def test_repr(make):
    assert repr(make(gradx)).replace("gradx.", "torch.") == repr(make(torch))
    assert f"{make(gradx)}".replace("gradx.", "torch.") == f"{make(torch)}"


def test_copies():
    leaf = gradx.tensor([1.0], requires_grad=True)
    for again in (copy.deepcopy(leaf), pickle.loads(pickle.dumps(leaf))):
        assert again.tolist() == [1.0]
        assert again.requires_grad
        assert again is not leaf


@pytest.mark.parametrize(("operation", "i"), DIFFERENTIABLE)
def test_results_require_grad_as_torch_s_do(operation, i):
    entry, sample = TABLE[operation], TABLE[operation].samples[i]
    arrays = arrays_for(operation, i, np.float64)
    recorded = []
    for function, make in ((oracle(entry), torch_leaf), (entry.function, gradx_leaf("cpu"))):
        tensors, _ = leaves(sample, arrays, make)
        out = outputs(function(*arguments(sample, tensors), **sample.kwargs))[0]
        recorded.append((out.requires_grad, out.is_leaf, name(out.dtype)))
    assert recorded[0] == recorded[1]
