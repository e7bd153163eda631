"""What ``.grad`` is: its layout, its identity, its errors, and threads that share leaves."""

from __future__ import annotations

import threading

import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def the_same_tensor_is_added_to(m):
    x = leaf(m)
    (x * 2).sum().backward()
    before = x.grad
    (x * 3).sum().backward()
    return x.grad is before, before, before._version


def a_new_tensor_under_create_graph(m):
    x = leaf(m)
    (x * x).sum().backward(create_graph=True)
    before = x.grad
    (x * x).sum().backward(create_graph=True)
    return x.grad is before, before, x.grad, x.grad.requires_grad


def cleared(m):
    x = leaf(m)
    (x * 2).sum().backward()
    before = x.grad
    x.grad = None
    (x * 3).sum().backward()
    return before, x.grad


def zeroed(m):
    x = leaf(m)
    (x * 2).sum().backward()
    x.grad.zero_()
    (x * 3).sum().backward()
    return x.grad


def deleted(m):
    x = leaf(m)
    (x * 2).sum().backward()
    del x.grad
    return x.grad


def given(m):
    x = leaf(m)
    mine = m.ones(2, dtype=m.float64)
    x.grad = mine
    (x * 3).sum().backward()
    return x.grad is mine, mine


def not_shared_between_leaves(m):
    x, y = leaf(m), leaf(m)
    (x + y).sum().backward()
    x.grad.add_(1)
    return x.grad, y.grad


def not_shared_with_the_gradient_passed_in(m):
    x, g = leaf(m), m.ones(2, dtype=m.float64)
    x.backward(g)
    x.grad.add_(1)
    return x.grad, g


def not_shared_with_what_grad_returns(m):
    x = leaf(m)
    y = x * 1
    (gx, gy) = m.autograd.grad(y, (x, y), m.ones(2, dtype=m.float64))
    gx.add_(1)
    return gy


def layout_of_the_leaf(m):
    x = m.ones(2, 3).t().detach().requires_grad_()
    (x * 2).sum().backward()
    y = m.ones(4, 4)[::2, ::2].detach().requires_grad_()
    (y * 2).sum().backward()
    return x.grad.stride(), y.grad.stride()


def dtype_of_the_leaf(m):
    x = m.ones(2, requires_grad=True)
    (x.double() * 2).sum().backward()
    return x.grad


def in_two_graphs(m):
    x = leaf(m)
    a, b = (x * 2).sum(), (x * x).sum()
    b.backward()
    a.backward()
    return x.grad


def some_inputs(m):
    x, y, z = leaf(m), leaf(m), leaf(m)
    u = x * y
    (u * z).sum().backward(inputs=[x, u])
    return x.grad, y.grad, z.grad, u.grad


def one_input(m):
    x, y = leaf(m), leaf(m)
    (x * y).sum().backward(inputs=x)
    return x.grad, y.grad


def no_inputs(m):
    leaf(m).sum().backward(inputs=[])


def undefined_on_one_branch(m):
    x = leaf(m)
    values, _ = m.stack([x, x * 2]).max(0)
    (x.round() * 0 + values).sum().backward()
    return x.grad


def of_a_constant(m):
    return m.ones(2).grad


def wrong_shape(m):
    leaf(m).grad = m.ones(3, dtype=m.float64)


def wrong_dtype(m):
    leaf(m).grad = m.ones(2)


def wrong_type(m):
    leaf(m).grad = 3


def itself(m):
    x = leaf(m)
    x.grad = x


PROGRAMS = [
    value for value in list(globals().values()) if getattr(value, "__module__", "") == __name__ and value is not leaf
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)


@pytest.mark.cuda
def test_a_gradient_on_another_device():
    with pytest.raises(RuntimeError, match="attempting to assign a gradient with device type 'cuda:0'"):
        leaf(gradx).grad = gradx.ones(2, dtype=gradx.float64, device="cuda")


def in_threads(work, count=4):
    errors = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_threads_share_leaves_without_losing_a_gradient():
    shared = [gradx.ones(50, requires_grad=True) for _ in range(3)]
    total = gradx.zeros(50)

    def work(i):
        for _ in range(100):
            a, b, c = shared
            ((a * b + c) * (a + total)).sum().backward()

    in_threads(work)
    a, b, c = (x.grad.tolist() for x in shared)
    assert a == [4 * 100 * 3] * 50
    assert b == c == [4 * 100] * 50


def test_threads_build_and_differentiate_graphs_of_their_own():
    found = {}

    def work(i):
        x = gradx.full((20,), float(i + 1), dtype=gradx.float64, requires_grad=True)
        for _ in range(30):
            (first,) = gradx.autograd.grad((x**3).sum(), x, create_graph=True)
            (second,) = gradx.autograd.grad(first.sum(), x)
        found[i] = first[0].item(), second[0].item()

    in_threads(work)
    assert found == {i: (3.0 * (i + 1) ** 2, 6.0 * (i + 1)) for i in range(4)}


def test_threads_that_ask_for_one_leaf_by_grad():
    """The leaf's place in the graph is made once, whichever thread comes first."""
    x = gradx.ones(3, requires_grad=True)
    found = []

    def work(i):
        for _ in range(200):
            found.append(gradx.autograd.grad((x * i).sum(), x)[0][0].item() == i)

    in_threads(work)
    assert len(found) == 800 and all(found)


def test_modes_are_per_thread():
    seen = []
    with gradx.no_grad(), gradx.inference_mode():
        in_threads(lambda i: seen.append((gradx.is_grad_enabled(), gradx.is_inference_mode_enabled())), count=1)
    assert seen == [(True, False)]
