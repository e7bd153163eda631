"""Hooks on tensors and on nodes: the same programs on torch and on gradx."""

from __future__ import annotations

import gc
import weakref

import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def order_of_all_kinds(m):
    x, seen = leaf(m), []
    y = x * 3
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append(("node", *inputs, *outputs)))
    y.grad_fn.register_prehook(lambda outputs: seen.append(("pre", *outputs)))
    y.register_hook(lambda g: seen.append(("tensor", g)))
    x.register_hook(lambda g: seen.append(("leaf", g)))
    x.register_post_accumulate_grad_hook(lambda p: seen.append(("accumulated", p.grad.clone())))
    (y * y).sum().backward()
    return seen, x.grad


def hooks_replace_the_gradient_in_turn(m):
    x = leaf(m)
    x.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: None)
    x.register_hook(lambda g: g + 1)
    (x * x).sum().backward()
    return x.grad


def removed_hook(m):
    x, seen = leaf(m), []
    first, second = x.register_hook(lambda g: seen.append(1)), x.register_hook(lambda g: seen.append(2))
    first.remove()
    first.remove()
    x.sum().backward()
    second.remove()
    x.sum().backward()
    return seen


def handle_as_context(m):
    x, seen = leaf(m), []
    with x.register_hook(lambda g: seen.append(1)):
        x.sum().backward()
    x.sum().backward()
    return seen


def hook_on_an_intermediate(m):
    x = leaf(m)
    y = x * x
    y.register_hook(lambda g: g * 10)
    (y + y * y).sum().backward()
    return x.grad


def hook_sees_the_accumulated_gradient_once(m):
    x, seen = leaf(m), []
    y = x.exp()
    y.register_hook(lambda g: seen.append(g.clone()))
    (y + y + y * 2).sum().backward()
    return seen


def hook_before_in_place(m):
    x, seen = leaf(m), []
    y = x * 2
    y.register_hook(lambda g: seen.append(("old", g.clone())))
    y.mul_(3)
    y.register_hook(lambda g: seen.append(("new", g.clone())))
    y.sum().backward()
    return seen, x.grad


def hook_with_grad(m):
    x = leaf(m)
    x.register_hook(lambda g: g * 5)
    return m.autograd.grad((x * x).sum(), x)


def hook_under_create_graph(m):
    x = leaf(m)
    y = x * x
    y.register_hook(lambda g: g * g + x)
    (first,) = m.autograd.grad((y * 3).sum(), x, create_graph=True)
    return first, m.autograd.grad(first.sum(), x)


def hook_runs_in_the_mode_of_the_walk(m):
    x, seen = leaf(m), []
    x.register_hook(lambda g: seen.append((m.is_grad_enabled(), g.requires_grad)))
    (x * x).sum().backward()
    m.autograd.grad((x * x).sum(), x, create_graph=True)
    return seen


def prehook_replaces(m):
    x = leaf(m)
    y = x.exp()
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] * 4,))
    y.sum().backward()
    return x.grad


def node_hook_replaces(m):
    a, b = leaf(m), leaf(m, 3.0, 4.0)
    y = a * b
    y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 2, None))
    y.sum().backward()
    return a.grad, b.grad


def node_hook_sees_none_for_constants(m):
    x, seen = leaf(m), []
    y = m.tensor([1.0, 2.0], dtype=m.float64) * x
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs, outputs)))
    y.sum().backward()
    return seen


def retained_after_hooks(m):
    x = leaf(m)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 7)
    y.sum().backward()
    return y.grad, y.retains_grad, x.grad


def retained_follows_in_place(m):
    x = leaf(m)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    return y.grad, x.grad


def post_accumulate_frees_the_gradient(m):
    x = leaf(m)

    def step(p):
        with m.no_grad():
            p -= 0.1 * p.grad
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * x).sum().backward()
    return x, x.grad


def post_accumulate_is_not_for_grad(m):
    x, seen = leaf(m), []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(1))
    m.autograd.grad(x.sum(), x)
    x.sum().backward(inputs=[x])
    return seen


def hook_on_one_of_several_outputs(m):
    x = m.arange(6, dtype=m.float64).requires_grad_()
    a, b = x.split(3)
    a.register_hook(lambda g: g * 100)
    (a * b).sum().backward()
    return x.grad


def backward_within_a_hook(m):
    x, z = leaf(m), leaf(m, 5.0)

    def hook(g):
        with m.enable_grad():
            (z * z).backward()

    x.register_hook(hook)
    (x * x).sum().backward()
    return x.grad, z.grad


PROGRAMS = [value for value in list(globals().values()) if getattr(value, "__module__", "") == __name__][1:]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)


def registering(register):
    def program(m):
        x = leaf(m)
        y = x * 2
        register(m, x, y)
        y.sum().backward()
        return x.grad

    return program


ERRORS = {
    "no gradient": lambda m, x, y: m.ones(2).register_hook(print),
    "no gradient, post": lambda m, x, y: m.ones(2).register_post_accumulate_grad_hook(print),
    "post, no leaf": lambda m, x, y: y.register_post_accumulate_grad_hook(print),
    "type": lambda m, x, y: x.register_hook(lambda g: "text"),
    "size": lambda m, x, y: x.register_hook(lambda g: m.ones(3, dtype=m.float64)),
    "broadcast": lambda m, x, y: x.register_hook(lambda g: m.ones(1, dtype=m.float64)),
    "dtype": lambda m, x, y: x.register_hook(lambda g: m.ones(2)),
    "pre type": lambda m, x, y: y.grad_fn.register_prehook(lambda g: "text"),
    "pre tensor": lambda m, x, y: y.grad_fn.register_prehook(lambda g: g[0]),
    "pre size": lambda m, x, y: y.grad_fn.register_prehook(lambda g: (m.ones(3),)),
    "pre number": lambda m, x, y: y.grad_fn.register_prehook(lambda g: ()),
    "pre none": lambda m, x, y: y.grad_fn.register_prehook(lambda g: (None,)),
    "node type": lambda m, x, y: y.grad_fn.register_hook(lambda i, o: "text"),
    "node number": lambda m, x, y: y.grad_fn.register_hook(lambda i, o: (i[0],)),
    "node too much": lambda m, x, y: y.grad_fn.register_hook(lambda i, o: (i[0], i[0])),
    "node none": lambda m, x, y: y.grad_fn.register_hook(lambda i, o: (None, None)),
    "raised": lambda m, x, y: x.register_hook(lambda g: 1 / 0),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    same(registering(ERRORS[case]))


def test_what_a_hook_keeps_is_not_changed_later():
    x = leaf(gradx)
    kept = []
    x.register_hook(kept.append)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    assert [g.tolist() for g in kept] == [[2, 2], [3, 3]]
    assert x.grad.tolist() == [5, 5]


def test_hooks_make_no_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(gradx)
        y = x * 2
        y.register_hook(lambda g: g * 2)
        y.grad_fn.register_hook(lambda i, o: None)
        y.retain_grad()
        node, tensor = weakref.ref(y.grad_fn), weakref.ref(y)
        y.sum().backward()
        del y
        assert node() is None and tensor() is None
    finally:
        gc.enable()
