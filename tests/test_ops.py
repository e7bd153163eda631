"""Every operation × sample × dtype × device: value, gradient and second gradient against torch, and against differences."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest
import torch
from calls import (
    CASES,
    DIFFERENTIABLE,
    arguments,
    arrays_for,
    gradients,
    gradx_leaf,
    host,
    leaves,
    oracle,
    outputs,
    torch_leaf,
    torch_tensor,
    weighted,
)

import gradx
from gradx.samples import TABLE

TOLERANCE = {  # relative and absolute: a few units in the last place of sums of a dozen terms
    # One unit: 2**-7, of 8 binary digits. Absolute too: functions of several operations add terms of magnitude 1, each of
    # which is rounded, where torch rounds once.
    ml_dtypes.bfloat16: (8e-3, 8e-3),
    np.float16: (4e-3, 4e-3),
    np.float32: (1e-5, 2e-6),
    np.float64: (1e-12, 1e-13),
}
DTYPES = [ml_dtypes.bfloat16, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "i"), CASES)
def test_value(name, i, dtype, device):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    arrays = arrays_for(name, i, dtype)
    expected = oracle(entry)(*arguments(sample, [torch_tensor(a) for a in arrays]), **sample.kwargs)
    result = entry.function(*arguments(sample, [gradx.tensor(a, device=device) for a in arrays]), **sample.kwargs)
    for ours, theirs in zip(outputs(result), outputs(expected), strict=True):
        assert ours.device.type == device
        assert str(ours.dtype).removeprefix("gradx.") == str(theirs.dtype).removeprefix("torch.")
        assert tuple(ours.shape) == tuple(theirs.shape)
        rtol, atol = TOLERANCE[dtype]
        np.testing.assert_allclose(host(ours), host(theirs), rtol, atol)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_gradients(name, i, dtype, device):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    arrays = arrays_for(name, i, dtype)
    results = []
    for module, function, make in (
        (torch, oracle(entry), torch_leaf),
        (gradx, entry.function, gradx_leaf(device)),
    ):
        tensors, wanted = leaves(sample, arrays, make)
        call = functools.partial(function, *arguments(sample, tensors), **sample.kwargs)
        results.append(gradients(module, call, wanted))
    rtol, atol = TOLERANCE[dtype]
    for theirs, ours in zip(*results, strict=True):
        if ours is None or theirs is None:
            known = ours if theirs is None else theirs
            assert known is None or not host(known).any()  # torch returns None where we return zeros, or the other way
            continue
        assert host(ours).dtype == host(theirs).dtype
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(host(ours), host(theirs), 10 * rtol, 10 * atol)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_gradients_against_differences(name, i, order, device):
    """Central differences in float64, of the function and, for order 2, of its gradient."""
    entry, sample = TABLE[name], TABLE[name].samples[i]
    arrays = arrays_for(name, i, np.float64)
    tensors, wanted = leaves(sample, arrays, gradx_leaf(device))

    def function():
        outs, weights = weighted(gradx, entry.function(*arguments(sample, tensors), **sample.kwargs))
        total = sum((out * weight).sum() for out, weight in zip(outs, weights, strict=True))
        if order == 2:
            found = gradx.autograd.grad(total, wanted, create_graph=True)
            total = gradx.stack([(g * (k + 1.0)).sin().sum() for k, g in enumerate(found)]).sum()
        return total

    total = function()
    if not total.requires_grad:
        assert order == 2  # a gradient that is constant
        return
    found = gradx.autograd.grad(total, wanted, allow_unused=order == 2, materialize_grads=order == 2)
    step = 1e-6
    for leaf, gradient in zip(wanted, found, strict=True):
        numeric = np.zeros(leaf.shape)
        for place in np.ndindex(*leaf.shape):
            sides = []
            for sign in (1, -1):
                with gradx.no_grad():
                    leaf[place] += sign * step
                sides.append(function().item())
                with gradx.no_grad():
                    leaf[place] -= sign * step
            numeric[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(host(gradient), numeric, rtol=1e-6, atol=1e-7)


# Written with other operations here, by a kernel of its own in torch: the last of them names the node.
COMPOSED = """smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits""".split()
PATHS = [("cumsum", 2), ("softmax", 3), ("log_softmax", 3)]  # a scalar is given a dimension first
PATHS += [
    ("matmul", 3),
    ("matmul", 4),
    ("matmul", 5),
    ("linear", 1),
    ("norm", 2),
    ("norm", 4),
    ("cross_entropy", 3),
    ("cross_entropy", 4),
]  # other factors


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, i in DIFFERENTIABLE if name not in COMPOSED])
def test_nodes_are_named_as_in_torch(name, i):
    if (name, i) in PATHS:
        pytest.skip("computed in other steps than torch's")
    entry, sample = TABLE[name], TABLE[name].samples[i]
    names = []
    for function, make in ((oracle(entry), torch_leaf), (entry.function, gradx_leaf("cpu"))):
        tensors, _ = leaves(sample, arrays_for(name, i, np.float64), make)
        out = outputs(function(*arguments(sample, tensors), **sample.kwargs))[0]
        names.append(out.grad_fn.name())
    assert names[1] == names[0]
