"""Checkpointing, on torch and on gradx."""

from __future__ import annotations

import gc
import weakref

import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def body(x, y=None):
    z = (x.exp() * x).sin()
    return z if y is None else z * y


def checkpoint(m, *args, **kwargs):
    return m.utils.checkpoint.checkpoint(*args, use_reentrant=False, **kwargs)


def gradient(m):
    x = leaf(m)
    checkpoint(m, body, x).sum().backward()
    return x.grad


def keyword(m):
    x, y = leaf(m), leaf(m, 3.0, 4.0)
    return m.autograd.grad(checkpoint(m, body, x, y=y).sum(), (x, y))


def second_derivative(m):
    x = leaf(m)
    (first,) = m.autograd.grad(checkpoint(m, body, x).sum(), x, create_graph=True)
    return first, m.autograd.grad(first.sum(), x)


def nested(m):
    x = leaf(m)
    return m.autograd.grad(checkpoint(m, lambda t: checkpoint(m, body, t).exp(), x * 2).sum(), x)


def counted(m):
    calls = []

    def f(x):
        calls.append(m.is_grad_enabled())
        return x.exp()

    x = leaf(m)
    y = checkpoint(m, f, x).sum()
    y.backward(retain_graph=True)
    y.backward()
    return calls, x.grad


def ends_early(m):
    seen = []

    def f(x):
        y = x.exp()
        seen.append("exp")
        z = y.sin()
        seen.append("sin")
        return z + 1

    x = leaf(m)
    checkpoint(m, f, x).sum().backward()
    return seen


def contexts(m):
    seen = []

    class Context:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            seen.append(self.name)

        def __exit__(self, *exception):
            pass

    x = leaf(m)
    checkpoint(m, body, x, context_fn=lambda: (Context("first"), Context("second"))).sum().backward()
    return seen


def more_the_second_time(m):
    calls = []

    def f(x):
        calls.append(1)
        return x.exp().sin() if len(calls) == 1 else x.exp()

    checkpoint(m, f, leaf(m)).sum().backward()


def other_shapes_the_second_time(m):
    calls = []

    def f(x):
        calls.append(1)
        return x.exp() if len(calls) == 1 else x[:1].exp()

    checkpoint(m, f, leaf(m)).sum().backward()


def error_inside(m):
    checkpoint(m, lambda x: 1 / 0, leaf(m))


def sequential(m):
    x = leaf(m)
    functions = [m.exp, m.sin, m.cos, m.tanh, lambda t: t * 2]
    y = m.utils.checkpoint.checkpoint_sequential(functions, 2, x, use_reentrant=False)
    return y, m.autograd.grad(y.sum(), x)


PROGRAMS = [
    value
    for value in list(globals().values())
    if getattr(value, "__module__", "") == __name__ and value not in (leaf, body, checkpoint)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-14)


def test_random_numbers_are_drawn_again():
    gradx.manual_seed(0)
    masks = []

    def f(x):
        masks.append(gradx.rand(3))
        return (x * masks[-1]).exp()

    x = gradx.ones(3, requires_grad=True)
    y = gradx.utils.checkpoint.checkpoint(f, x)
    after = gradx.rand(2).tolist()
    gradx.manual_seed(0)
    gradx.rand(3)
    assert gradx.rand(2).tolist() == after
    y.sum().backward()
    assert masks[0].tolist() == masks[1].tolist()


def test_what_is_saved_is_dropped():
    kept = []

    def f(x):
        y = x.exp()
        kept.append(weakref.ref(y.array))
        return y.sin()

    x = leaf(gradx)
    gc.disable()
    try:
        y = gradx.utils.checkpoint.checkpoint(f, x)
        assert kept[0]() is None
        y.sum().backward()
    finally:
        gc.enable()


def test_the_reentrant_variant_is_refused():
    with pytest.raises(ValueError, match="no re-entrant variant"):
        gradx.utils.checkpoint.checkpoint(body, leaf(gradx), use_reentrant=True)
