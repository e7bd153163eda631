"""The `out=` of functions, on torch and on gradx."""

from __future__ import annotations

import itertools

import pytest
from twin import same

import gradx

CALLS = {
    "mul": lambda m, a, out: m.mul(a, a, out=out),
    "add": lambda m, a, out: m.add(a, a, alpha=2, out=out),
    "sub": lambda m, a, out: m.sub(a, 3, out=out),
    "div": lambda m, a, out: m.div(a, 2, out=out),
    "exp": lambda m, a, out: m.exp(a, out=out),
    "maximum": lambda m, a, out: m.maximum(a, a * 0.5, out=out),
    "sum": lambda m, a, out: m.sum(a.reshape(1, 3), 0, out=out),
    "matmul": lambda m, a, out: m.matmul(m.eye(3), a, out=out),
    "none": lambda m, a, out: m.mul(a, a, out=None),
}
OUTS = {
    "fitting": lambda m: m.zeros(3),
    "empty": lambda m: m.zeros(0),
    "a view": lambda m: m.zeros(3, 2)[:, 0],
    "whole numbers": lambda m: m.zeros(3, dtype=m.int64),
    "to be differentiated": lambda m: m.zeros(3, requires_grad=True),
}


# Torch's sum computes in the dtype of `out`, and the error of its matmul names an inner function.
OTHERWISE = {("sum", "whole numbers"), ("matmul", "whole numbers")}


@pytest.mark.parametrize(("call", "out"), [pair for pair in itertools.product(CALLS, OUTS) if pair not in OTHERWISE])
def test_as_in_torch(call, out):
    def program(m):
        made = OUTS[out](m)
        base = made._base
        result = CALLS[call](m, m.tensor([1.0, -2.0, 3.0]), made)
        return result, result is made, made, made._version, base

    same(program, rtol=1e-6)


def of_a_leaf(m):
    m.mul(m.ones(2, requires_grad=True), 2, out=m.zeros(2))


def of_a_leaf_under_no_grad(m):
    with m.no_grad():
        return m.mul(m.ones(2, requires_grad=True), 2, out=m.zeros(2))


def into_a_number(m):
    m.exp(m.ones(2), out=3)


def what_was_saved(m):
    x = m.ones(2, requires_grad=True)
    y = x * 2
    z = (y * y).sum()
    with m.no_grad():
        m.mul(y, 3, out=y)
    z.backward()


@pytest.mark.parametrize("program", [of_a_leaf, of_a_leaf_under_no_grad, into_a_number, what_was_saved])
def test_gradients(program):
    same(program)


def test_another_shape_is_taken_with_a_warning():
    out = gradx.zeros(2)
    with pytest.warns(UserWarning, match="An output with one or more elements was resized"):
        gradx.mul(gradx.ones(3), 2, out=out)
    assert out.tolist() == [2, 2, 2]
