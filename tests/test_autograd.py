"""grad and backward: the stories that users tell of torch, on torch and on gradx."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from calls import DIFFERENTIABLE, arguments, arrays_for, gradx_leaf, leaves, oracle, torch_leaf, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from twin import same

import gradx
import gradx.nn.functional as F
from gradx.samples import TABLE


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def test_the_old_loss_does_not_know_what_was_asked_later():
    x, y = gradx.tensor([1.0]), gradx.tensor([1.0])
    w = gradx.full([1], 2.0)
    loss = F.mse_loss(x * w, y)
    sentence = "element 0 of tensors does not require grad and does not have a grad_fn"
    with pytest.raises(RuntimeError, match=sentence):
        gradx.autograd.grad(loss, w)
    w.requires_grad_()
    with pytest.raises(RuntimeError, match=sentence) as error:
        gradx.autograd.grad(loss, w)
    assert "call requires_grad_() on the inputs first, and compute it again" in str(error.value)
    assert "a graph is recorded when the operations run and does not change afterwards" in str(error.value)
    (gradient,) = gradx.autograd.grad(F.mse_loss(x * w, y), w)
    assert repr(gradient) == "tensor([2.])"


def the_old_loss(m):
    x, y, w = m.tensor([1.0]), m.tensor([1.0]), m.full([1], 2.0)
    loss = m.nn.functional.mse_loss(x * w, y)
    w.requires_grad_()
    return m.autograd.grad(loss, w)


def twice_retained(m):
    x = leaf(m)
    loss = (x**2).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    return x.grad


def twice_by_grad(m):
    x = leaf(m)
    loss = (x**2).sum()
    m.autograd.grad(loss, x)
    m.autograd.grad(loss, x)


def one_element_is_a_scalar(m):
    x = leaf(m, 3.0)
    (x * 2).reshape(1, 1).backward()
    return x.grad


def softmax_with_ones(m):
    x = leaf(m, 1.0, 2.0, 3.0, 4.0)
    return m.autograd.grad(m.softmax(x, 0), x, m.ones(4, dtype=m.float64))


def three_derivatives(m):
    x = leaf(m)
    y, found = (x**5).sum(), []
    for _ in range(3):
        (y,) = m.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y)
    return found


def unused(m):
    x, z = leaf(m), leaf(m)
    return m.autograd.grad((x * 2).sum(), (x, z))


def unused_allowed(m):
    x, z = leaf(m), leaf(m)
    return m.autograd.grad((x * 2).sum(), (x, z), allow_unused=True)


def unused_materialized(m):
    x, z = leaf(m), leaf(m)
    return m.autograd.grad((x * 2).sum(), (x, z), materialize_grads=True)


def materialized_and_derived_again(m):
    x, z = leaf(m), leaf(m)
    _, gz = m.autograd.grad((x * 2).sum(), (x, z), materialize_grads=True, create_graph=True)
    return gz, gz.requires_grad


def several_outputs(m):
    x, y = leaf(m), leaf(m, 3.0, 4.0)
    outputs = (x * y, (x + y).sum(), x.exp())
    vectors = (m.ones(2, dtype=m.float64), None, m.tensor([2.0, 3.0], dtype=m.float64))
    return m.autograd.grad(outputs, (x, y), vectors)


def the_same_tensor_many_times(m):
    x = leaf(m)
    return m.autograd.grad((x * x + x / x - x + m.stack([x, x, x]).sum(0)).sum(), x)


def the_same_output_twice(m):
    x = leaf(m)
    y = (x * x).sum()
    return m.autograd.grad((y, y), x)


def the_same_input_twice(m):
    x = leaf(m)
    return m.autograd.grad((x * x).sum(), (x, x))


def intermediates_as_inputs(m):
    x = leaf(m)
    y = x * 2
    z = y.exp()
    return m.autograd.grad((z * y).sum(), (y, z, x))


def the_output_as_input(m):
    y = (leaf(m) * 2).sum()
    return m.autograd.grad(y, y)


def a_leaf_as_output(m):
    x = leaf(m)
    return m.autograd.grad(x, x, m.ones(2, dtype=m.float64))


def retained(m):
    x = leaf(m)
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    (y * y).sum().backward()
    return y.grad, y.retains_grad, x.retains_grad


def gradient_of_another_dtype(m):
    x = leaf(m)
    return m.autograd.grad(x * 2, x, m.ones(2))


def no_outputs(m):
    return m.autograd.grad((), leaf(m))


def several_tensors(m):
    x, y = leaf(m), leaf(m)
    m.autograd.backward((x.sum(), (x * y).sum()))
    return x.grad, y.grad


def several_tensors_with_gradients(m):
    x = leaf(m)
    m.autograd.backward((x * 2, x.exp()), (m.ones(2, dtype=m.float64), m.tensor([0.0, 1.0], dtype=m.float64)))
    return x.grad


def older_keyword(m):
    warnings.simplefilter("ignore")
    x = leaf(m)
    m.autograd.backward([x * 2], grad_variables=[m.ones(2, dtype=m.float64)])
    return x.grad


def both_keywords(m):
    warnings.simplefilter("ignore")
    x, g = leaf(m), m.ones(2, dtype=m.float64)
    m.autograd.backward([x * 2], [g], grad_variables=[g])


def batched(m):
    x = leaf(m)
    y = x**3
    return m.autograd.grad(y, x, m.eye(2, dtype=m.float64), is_grads_batched=True)


def batched_with_unused(m):
    x, z = leaf(m), leaf(m)
    return m.autograd.grad(x**3, (x, z), m.eye(2, dtype=m.float64), is_grads_batched=True, allow_unused=True)


def batched_and_materialized(m):
    x, z = leaf(m), leaf(m)
    return m.autograd.grad(x**3, (x, z), m.eye(2, dtype=m.float64), is_grads_batched=True, materialize_grads=True)


def batches_of_two_sizes(m):
    x, vectors = leaf(m), [m.ones(n, 2, dtype=m.float64) for n in (3, 2)]
    m.autograd.grad([x**3, x * 2], x, vectors, is_grads_batched=True)


def batch_of_none(m):
    x = leaf(m)
    m.autograd.grad(x**3, x, m.ones(0, 2, dtype=m.float64), is_grads_batched=True)


def batch_missing(m):
    x = leaf(m)
    m.autograd.grad(x**3, x, is_grads_batched=True)


def recorded_gradient_of_relu(m):
    x = leaf(m)
    (gradient,) = m.autograd.grad(x.relu().sum(), x, create_graph=True)
    return gradient, gradient.requires_grad


def shared_subgraph_walked_in_parts(m):
    x = leaf(m)
    y = x.exp()
    a, b = (y * 2).sum(), (y * y).sum()
    a.backward(retain_graph=True)
    b.backward()
    return x.grad


def shared_subgraph_freed(m):
    x = leaf(m)
    y = x.exp()
    a, b = (y * 2).sum(), (y * y).sum()
    a.backward()
    b.backward()


def nothing_saved_may_be_walked_again(m):
    x = leaf(m)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


def detached(m):
    x = leaf(m)
    return m.autograd.grad((x * x.detach()).sum(), x)


def constant_in_between(m):
    x = leaf(m)
    with m.no_grad():
        y = x * 2
    return m.autograd.grad((x * y).sum(), x), y.requires_grad


PROGRAMS = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and value is not leaf and not name.startswith("test")
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-14)


def test_older_keywords_warn():
    x = leaf(gradx)
    with pytest.warns(FutureWarning, match="only_inputs argument is deprecated"):
        gradx.autograd.grad((x * 2).sum(), x, only_inputs=False)
    with pytest.warns(FutureWarning, match="`grad_variables` is deprecated"):
        gradx.autograd.backward([x * 2], grad_variables=[gradx.ones(2, dtype=gradx.float64)])


@pytest.mark.cuda
def test_mixed_devices():
    x = gradx.ones(2, device="cuda", requires_grad=True)
    sentence = "Expected all tensors to be on the same device, but found at least two devices"
    with pytest.raises(RuntimeError, match=sentence):
        x + gradx.ones(2)
    with pytest.raises(RuntimeError, match=sentence):
        (x * 2).backward(gradx.ones(2))


@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_third_derivatives(name, i):
    """Of a function of the second, which is of a function of the first."""
    if name == "layer_norm":
        pytest.skip(
            "torch's third derivative is not that of its second: it is off the differences by 0.8, ours by 1e-8"
        )
    results = []
    entry, sample = TABLE[name], TABLE[name].samples[i]
    for module, function, make in ((torch, oracle(entry), torch_leaf), (gradx, entry.function, gradx_leaf("cpu"))):
        tensors, wanted = leaves(sample, arrays_for(name, i, np.float64), make)
        outs, weights = weighted(module, function(*arguments(sample, tensors), **sample.kwargs))
        total = sum((out.sin() * weight).sum() for out, weight in zip(outs, weights, strict=True))
        for _ in range(3):
            if not total.requires_grad:  # constant: the next derivatives are zero
                found = [module.zeros_like(x) for x in wanted]
                break
            found = module.autograd.grad(total, wanted, create_graph=True, materialize_grads=True)
            total = sum((g * (k + 1)).sin().sum() for k, g in enumerate(found))
        results.append(found)
    for theirs, ours in itertools.zip_longest(*results):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), 1e-9, 1e-9)


STEPS = {
    "sin": lambda m, x, y: x.sin(),
    "tanh": lambda m, x, y: x.tanh(),
    "sigmoid": lambda m, x, y: x.sigmoid(),
    "relu": lambda m, x, y: x.relu(),
    "abs": lambda m, x, y: x.abs(),
    "clamp": lambda m, x, y: x.clamp(-0.5, 0.5),
    "square": lambda m, x, y: (x.sin() + 2) ** 2,
    "log": lambda m, x, y: (x * x + 0.5).log(),
    "add": lambda m, x, y: x + y,
    "subtract": lambda m, x, y: 1.5 - x - y,
    "multiply": lambda m, x, y: x.sin() * y,
    "divide": lambda m, x, y: x / (y * y + 1),
    "maximum": lambda m, x, y: m.maximum(x, y),
    "where": lambda m, x, y: m.where(x > y, x * y.cos(), y),
    "transpose": lambda m, x, y: x.transpose(0, -1),
    "flatten": lambda m, x, y: x.reshape(-1),
    "unsqueeze": lambda m, x, y: x.unsqueeze(-1),
    "squeeze": lambda m, x, y: x.squeeze(),
    "flip": lambda m, x, y: x.flip(0),
    "slice": lambda m, x, y: x[..., ::2],
    "index": lambda m, x, y: x[m.tensor([0, -1, 0])],
    "expand": lambda m, x, y: x.expand(2, *x.shape),
    "stack": lambda m, x, y: m.stack([x, x.cos()], -1),
    "cat": lambda m, x, y: m.cat([x, x * x, x], 0),
    "sum": lambda m, x, y: x.sum(0, keepdim=True),
    "mean": lambda m, x, y: x.mean(-1),
    "amax": lambda m, x, y: x.amax(0),
    "softmax": lambda m, x, y: x.softmax(-1),
    "logsumexp": lambda m, x, y: x.logsumexp(0),
    "prod": lambda m, x, y: x.tanh().prod(-1, keepdim=True),
    "cumsum": lambda m, x, y: x.cumsum(0).tanh(),
    "norm": lambda m, x, y: (x.cos() + 2).norm(dim=-1),
    "matmul": lambda m, x, y: x.reshape(-1, x.shape[-1]) @ x.reshape(-1, x.shape[-1]).transpose(0, 1),
}
PLACES = st.integers(0, 13)


def run(m, steps):
    """Values, first and second gradients of a program over two leaves; each step uses two of what was made so far."""
    made = [leaf(m, *np.cos(np.arange(6.0))), leaf(m, 0.3, -1.2)]
    made[0] = made[0].reshape(3, 2)
    leaves = made[:]
    for name, i, j in steps:
        x, y = made[i % len(made)], made[j % len(made)]
        x = x if x.ndim else x.reshape(1)
        fits = all(n == k or 1 in (n, k) for n, k in zip(x.shape[::-1], y.shape[::-1], strict=False))
        result = STEPS[name](m, x, y if fits else y.sum())
        made.append(result if result.numel() < 200 else result.sum())
    total = sum((t * (k + 1)).sin().sum() for k, t in enumerate(made))
    first = m.autograd.grad(total, leaves, create_graph=True)
    return made, first, m.autograd.grad(sum((g * g).sum() for g in first), leaves)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), PLACES, PLACES), min_size=3, max_size=12))
def test_random_programs(steps):
    same(lambda m: run(m, steps), rtol=1e-9, atol=1e-9)
