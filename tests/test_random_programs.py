"""Random programs of views, in-place and other operations do on gradx what they do on torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from twin import Raised, outcome, sentence

import gradx

SHAPE = (3, 4)

VIEWS = {
    "slice": lambda m, t: t[1:],
    "step": lambda m, t: t[..., ::2],
    "row": lambda m, t: t[0],
    "transpose": lambda m, t: t.transpose(0, -1),
    "unsqueeze": lambda m, t: t.unsqueeze(0),
    "flatten": lambda m, t: t.view(-1) if t.is_contiguous() else t[:1],
    "narrow": lambda m, t: t.narrow(-1, 0, 2),
    "detach": lambda m, t: t.detach(),
    "expand": lambda m, t: t.expand(2, *t.shape),
    "unbind": lambda m, t: t.unbind(0)[-1],
    "split": lambda m, t: t.split(2)[0],
}
FRESH = {
    "mul": lambda m, t, o: t * o,
    "add": lambda m, t, o: t + o * 2,
    "sin": lambda m, t, o: t.sin(),
    "exp": lambda m, t, o: (t * 0.1).exp(),
    "sum": lambda m, t, o: t.sum(0, keepdim=True),
    "softmax": lambda m, t, o: m.softmax(t, -1),
    "relu": lambda m, t, o: t.relu(),
    "clone": lambda m, t, o: t.clone(),
    "max": lambda m, t, o: t.amax(-1, keepdim=True),
    "matmul": lambda m, t, o: t.reshape(-1, t.shape[-1]) @ t.reshape(-1, t.shape[-1]).transpose(0, 1),
    "where": lambda m, t, o: m.where(t > 0, t, o),
}
INPLACE = {
    "add_": lambda m, t, o: t.add_(o),
    "mul_": lambda m, t, o: t.mul_(o),
    "sin_": lambda m, t, o: t.sin_(),
    "exp_": lambda m, t, o: t.mul_(0.1).exp_(),
    "tanh_": lambda m, t, o: t.tanh_(),
    "relu_": lambda m, t, o: t.relu_(),
    "zero_": lambda m, t, o: t.zero_(),
    "copy_": lambda m, t, o: t.copy_(o),
    "fill_": lambda m, t, o: t.fill_(1.5),
    "pow_": lambda m, t, o: t.pow_(2),
    "setitem": lambda m, t, o: t.__setitem__(0, 2.5),
    "set slice": lambda m, t, o: t.__setitem__((Ellipsis, slice(1, None)), t[..., :-1] * 2),
    "set row": lambda m, t, o: t.__setitem__(-1, o[0]),
    "masked_fill_": lambda m, t, o: t.masked_fill_(t.detach() > 0.5, 0.25),
    "iadd": lambda m, t, o: t.__iadd__(1),
}

STEP = st.tuples(
    st.sampled_from(
        [("view", name) for name in VIEWS]
        + [("fresh", name) for name in FRESH]
        + [("inplace", name) for name in INPLACE] * 2
    ),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from(["", "", "", "", "no_grad"]),
)


def run(m, steps):
    """What the program computes, and the gradients of its leaves."""
    values = np.linspace(-1, 1, 12).reshape(SHAPE)
    a = m.tensor(values, requires_grad=True)
    b = m.tensor(np.cos(values * 3), requires_grad=True)
    c = m.tensor(values[::-1].copy())
    made = [a, b, c, a * 1, b.clone(), c.clone()]
    for (kind, name), i, j, mode in steps:
        t, o = made[i % len(made)], made[j % len(made)]
        if kind != "view" and o is not t:
            o = o.clone()  # torch refuses some operands that share memory, and looks at the memory first
        if kind == "inplace" and 0 in t.stride():
            t = t.clone()  # torch makes exceptions, by operation, for elements that share memory
        _ = t.grad_fn  # torch takes a view whose base has changed for a leaf, until somebody asks
        try:
            with m.no_grad() if mode and kind != "view" else m.enable_grad():
                if kind == "view":
                    made.append(VIEWS[name](m, t))
                elif kind == "fresh":
                    made.append(FRESH[name](m, t, o))
                else:
                    INPLACE[name](m, t, o)
        except (RuntimeError, IndexError) as error:
            made.append(c)
            yield sentence(str(error)) if "shape" not in str(error) and "size" not in str(error).lower() else "misfit"
    yield [t.requires_grad for t in made]
    yield [t._version for t in made]
    yield [t.detach() for t in made]
    total = sum((t * (k + 1)).sum() for k, t in enumerate(made) if t.requires_grad)
    yield m.autograd.grad(total, (a, b), allow_unused=True)


def words(message):
    """The sentence, without the names of nodes, which views have other ones of."""
    return sentence(message).partition("operation: [")[0]


def both(steps):
    return [outcome(m, lambda m: list(run(m, steps))) for m in (torch, gradx)]


def alike(x, y):
    if isinstance(x, np.ndarray):
        return x.shape == y.shape and np.allclose(x, y, 1e-9, 1e-9, equal_nan=True)
    if isinstance(x, tuple) and isinstance(y, tuple) and len(x) == len(y):
        return all(map(alike, x, y))
    return x == y


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12))
def test_random_programs(steps):
    theirs, ours = both(steps)
    if isinstance(theirs, Raised) or isinstance(ours, Raised):
        assert isinstance(theirs, Raised) and isinstance(ours, Raised), (theirs, ours)
        assert words(ours.message) == words(theirs.message)
    else:
        assert alike(theirs, ours), (theirs, ours)
