"""Straight-line code does what the general path does, runs when it should, and hands over what it is not made for."""

from __future__ import annotations

import traceback

import numpy as np
import pytest

import gradx
import gradx.nn.functional as F
from gradx.engine import _Walk
from gradx.node import OpNode
from gradx.op import OPS, Op


@pytest.fixture
def general(monkeypatch):
    """The operations that took the general path, and the nodes that were visited one by one."""
    seen: list[str] = []
    call, visit = Op.__call__, _Walk._visit
    monkeypatch.setattr(Op, "__call__", lambda op, *args: seen.append(op.name) or call(op, *args))
    monkeypatch.setattr(_Walk, "_visit", lambda walk, node, grads: seen.append(node.name()) or visit(walk, node, grads))
    return seen


def step():
    x, w = gradx.ones(2, 3), gradx.ones(4, 3, requires_grad=True)
    b = gradx.zeros(4, requires_grad=True)
    hidden = F.relu(F.linear(x, w, b)) * 0.5 + 1
    F.cross_entropy(hidden.softmax(1), gradx.tensor([1, 2])).backward()
    with gradx.no_grad():
        w -= 0.1 * w.grad


def test_a_training_step_never_takes_the_general_path(general):
    step()
    general.clear()
    step()
    assert general == []


MODES = {
    "inference": gradx.inference_mode,
    "saved tensors": lambda: gradx.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
    "mutation": gradx.autograd.graph.allow_mutation_on_saved_tensors,
    "autocast": lambda: gradx.autocast("cpu", gradx.float16),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_look_on_take_the_general_path(general, mode):
    x = gradx.ones(3)
    x * x
    general.clear()
    with MODES[mode]():
        x * x
    assert general == ["mul"]
    general.clear()
    x * x
    assert general == []


OPERANDS = {
    "other dtype": (gradx.ones(3, dtype=gradx.float64), "mul"),
    "array": (np.ones(3, np.float32), "mul"),
    "truth value": (True, None),
    "integer": (2, None),
    "number": (2.0, None),
    "complex number": (2j, "mul"),
}


@pytest.mark.parametrize("operand", OPERANDS)
def test_operands(general, operand):
    x, (other, taken) = gradx.ones(3, requires_grad=True), OPERANDS[operand]
    for _ in range(2):  # the first time it is written, the second time found
        general.clear()
        y = x * other
        assert general[:1] == ([taken] if taken else [])
        expected = OPS["mul"](x, other)
        assert (y.dtype, y.tolist(), y.grad_fn.name()) == (expected.dtype, expected.tolist(), expected.grad_fn.name())


def test_nothing_is_no_operand():
    x = gradx.ones(3)
    for _ in range(2):
        with pytest.raises(TypeError):
            gradx.mul(x, None)
        with pytest.raises(TypeError, match="unsupported operand"):
            x * None


def test_integers_do_not_take_a_float_as_it_is(general):
    assert (gradx.ones(3, dtype=gradx.int64) * 0.5).dtype is gradx.float32
    assert (gradx.ones(3, dtype=gradx.int64) * 2).dtype is gradx.int64


def test_nodes_are_those_of_the_general_path():
    x, y = gradx.rand(3).requires_grad_(), gradx.rand(3).requires_grad_()
    made, expected = (x * y).grad_fn, OPS["mul"](x, y).grad_fn
    assert type(made) is type(expected)
    assert made.run is not None
    assert expected.run is None
    for name in ("edges", "outputs", "versions", "plan"):
        assert getattr(made, name) == getattr(expected, name)
    gradient = gradx.rand(3).array
    straight, general = made.run(made, [gradient], True), expected.backward([gradient], lambda edge: True, False)
    assert [g.tolist() for g in straight] == [g.tolist() for g in general]


def test_complex_nodes_are_conjugated():
    x = gradx.tensor([1 + 2j], requires_grad=True)
    y = x * x
    assert isinstance(y.grad_fn, OpNode)
    assert y.grad_fn.run is None
    y.backward(gradx.ones(1, dtype=gradx.complex64))
    assert x.grad.tolist() == [2 - 4j]


def test_what_was_saved_is_checked_and_freed():
    x = gradx.ones(3, requires_grad=True)
    y = x * 1
    z = (y * y).sum()
    z.backward(retain_graph=True)
    z.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        z.backward()
    y = x * 1
    z = (y * y).sum()
    with gradx.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_gradients_that_others_hold_are_not_added_to():
    x, y = gradx.ones(2, requires_grad=True), gradx.ones(2, requires_grad=True)
    given = gradx.ones(2)
    ((x + y) + (x + x)).backward(given)  # addition hands on its gradient as it is
    assert (x.grad.tolist(), y.grad.tolist(), given.tolist()) == ([3, 3], [1, 1], [1, 1])


def test_errors_show_the_line():
    try:
        gradx.ones(2) * gradx.ones(3)
    except RuntimeError as error:
        assert "kernels[type(a0)](a0, a1)" in "".join(traceback.format_exception(error))
