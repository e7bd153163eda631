"""What graphs hold and when they let go; a graph may be a million nodes long."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref

import numpy as np
import pytest
from calls import DIFFERENTIABLE, arguments, arrays_for, gradx_leaf, leaves, weighted

import gradx
import gradx.nn.functional as F
from gradx.samples import TABLE


@pytest.fixture
def no_collector():
    """Without the garbage collector, what is not freed by reference counting stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def unreachable():
    """The objects of gradx that only the garbage collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = [thing for thing in gc.garbage if type(thing).__module__.startswith("gradx")]
    gc.garbage.clear()
    return found


def test_a_chain_of_a_million_operations():
    x = gradx.ones(1, requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + 1
    assert y.item() == 1_000_001
    y.backward()
    assert x.grad.item() == 1
    node = weakref.ref(y.grad_fn)
    start = time.perf_counter()
    del y
    assert node() is None
    assert time.perf_counter() - start < 20


def test_dropping_a_long_graph_that_was_never_walked():
    y = gradx.ones(1, requires_grad=True)
    for _ in range(200_000):
        y = y * 1.0
    del y


def test_a_second_derivative_through_a_long_chain():
    x = gradx.ones(1, dtype=gradx.float64, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y * 1.0
    (first,) = gradx.autograd.grad(y * y, x, create_graph=True)
    (second,) = gradx.autograd.grad(first, x)
    assert (first.item(), second.item()) == (2, 2)


def step(x, w, target):
    hidden = F.softmax((x @ w).tanh(), dim=1)
    F.mse_loss(hidden, target).backward()
    (first,) = gradx.autograd.grad(F.mse_loss((x @ w).exp(), target), w, create_graph=True)
    (first * first).sum().backward()
    w.grad = None


def test_memory_returns_to_where_it_was(no_collector):
    x, target = gradx.rand(8, 4), gradx.rand(8, 3)
    w = gradx.rand(4, 3).requires_grad_()
    tracemalloc.start()
    for _ in range(1000):  # Python keeps small objects for use again, up to a number
        step(x, w, target)
    before, objects = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
    for _ in range(1000):
        step(x, w, target)
    after, more = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
    tracemalloc.stop()
    assert after - before < 5_000  # not five bytes an iteration
    assert more - objects < 50
    assert not unreachable()


def test_no_operation_makes_a_cycle(no_collector):
    kept = {}
    for name, i in DIFFERENTIABLE:
        entry, sample = TABLE[name], TABLE[name].samples[i]
        tensors, wanted = leaves(sample, arrays_for(name, i, np.float64), gradx_leaf("cpu"))
        outs, weights = weighted(gradx, entry.function(*arguments(sample, tensors), **sample.kwargs))
        kept[name, i] = weakref.ref(outs[0].grad_fn)
        gradx.autograd.grad(outs, wanted, weights, create_graph=True, allow_unused=True)
        del outs
    assert not [case for case, node in kept.items() if node() is not None]
    assert not unreachable()


def test_saved_memory_is_freed_by_the_walk():
    x = gradx.ones(10, requires_grad=True)
    y = x * 2
    z = y * y
    saved = weakref.ref(y.array)
    del y
    total = z.sum()
    total.backward(retain_graph=True)
    assert saved() is not None
    total.backward()
    assert saved() is None


def test_a_leaf_lives_as_long_as_a_graph_needs_it():
    x = gradx.ones(3, requires_grad=True)
    leaf = weakref.ref(x)
    y = x * 2
    del x
    assert leaf() is not None
    del y
    assert leaf() is None


def test_gradients_are_not_kept_by_the_engine():
    x = gradx.ones(1000, requires_grad=True)
    (gradient,) = gradx.autograd.grad((x * x).sum(), x)
    array = weakref.ref(gradient.array)
    del gradient
    assert array() is None
