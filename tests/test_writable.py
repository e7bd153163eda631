"""What may be changed in place and what not, and who notices: leaves, views of leaves, views of several at once, modes."""

from __future__ import annotations

import warnings

import pytest
from test_inplace import leaf
from test_views import VIEWS
from twin import same

MULTI_VIEWS = {
    "unbind": lambda t: t.unbind(0)[1],
    "split": lambda t: t.split(2)[1],
    "chunk": lambda t: t.chunk(2, 1)[0],
    "iteration": lambda t: list(t)[2],
    "view of one": lambda t: t.split(2)[0][1:],
    "one of a view": lambda t: t[1:].unbind(1)[0],
}


@pytest.mark.parametrize("view", [*VIEWS, *MULTI_VIEWS])
@pytest.mark.parametrize("kind", ["history", "leaf", "constant"])
@pytest.mark.parametrize("change", ["the view", "its base", "the view by itself", "the view by the base"])
def test_what_may_be_changed(view, kind, change):
    """Views of leaves and outputs of functions with several views may not."""

    def program(m):
        x = leaf(m, (4, 3))
        y = {"history": lambda: x * 1, "leaf": lambda: x, "constant": lambda: m.zeros(4, 3, dtype=m.float64)}[kind]()
        v = {**VIEWS, **MULTI_VIEWS}[view](y)
        if change == "its base":
            y.mul_(2 if kind != "constant" else x)
        else:
            v.add_({"the view": 1, "the view by itself": v, "the view by the base": x.sum()}[change])
        return y, v, (v * v).requires_grad

    same(program, rtol=1e-14)


@pytest.mark.parametrize("view", [*VIEWS, *MULTI_VIEWS])
@pytest.mark.parametrize("changed", ["view", "base", "view unrecorded", "base unrecorded"])
def test_views_taken_under_no_grad(view, changed):
    """Neither may change while operations are recorded. A change that is refused has not happened."""

    def program(m):
        y = leaf(m, (4, 3)) * 1
        with m.no_grad():
            v = {**VIEWS, **MULTI_VIEWS}[view](y)
        errors = []
        try:
            with m.set_grad_enabled("unrecorded" not in changed):
                (v if "view" in changed else y).mul_(2)
            v * 1  # the view is no longer what it was taken from
        except RuntimeError as error:
            errors = [str(error).partition(".")[0]]
        return errors, y, y._version, y.grad_fn.name()

    same(program)


def test_requires_grad_of_a_view_never_raises():
    """Though its history can no longer be told."""

    def program(m):
        y = leaf(m, (4, 3)) * 1
        v = y.unbind(0)[0]
        y.mul_(2)
        return v.requires_grad, v._version, v.shape

    same(program)


@pytest.mark.parametrize("question", ["grad_fn", "is_leaf"])
def test_other_questions_about_a_lost_history_raise(question):
    def program(m):
        y = leaf(m, (4, 3)) * 1
        v = y.split(2)[1]
        y.mul_(2)
        return getattr(v, question)

    same(program)


def test_versions_are_shared():
    def program(m):
        x = m.zeros(4, 3)
        others = [take(x) for take in VIEWS.values()]
        others += [x.detach(), x.clone(), x.data, x.view(-1)[1:].detach(), x.detach().view(12).data, x * 1]
        counts = []
        for i, other in enumerate([x, *others]):
            other.add_(1)
            x[0] = i
            counts.append([t._version for t in [x, *others]])
        return counts

    same(program)


@pytest.mark.parametrize("through", ["detach", "data", "no_grad", "detached view", "view of data"])
def test_changes_beside_the_tape(through):
    """Those that the version counts are noticed in the backward pass, those through .data are not."""

    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = y[1:]
        z = y * y + (v * v).sum()
        with m.set_grad_enabled(through != "no_grad"):
            target = {
                "detach": lambda: y.detach(),
                "data": lambda: y.data,
                "no_grad": lambda: v,
                "detached view": lambda: v.detach()[0],
                "view of data": lambda: v.data[0],
            }[through]()
            target.mul_(3)
        return y, v, y._version, (v * y[1:]).sum(), m.autograd.grad(z.sum(), x)

    same(program, rtol=1e-12, message=False)


def test_leaves_change_under_no_grad():
    def program(m):
        x = leaf(m, (4, 3))
        with m.no_grad():
            x.mul_(2).add_(1)
            x[0] = 7
            x.view(-1)[4:6].zero_()
            x.T.sub_(1)
        return x, x._version, x.is_leaf, x.requires_grad, m.autograd.grad((x * x).sum(), x)

    same(program)


LEAF_CHANGES = {
    "method": lambda m, x: x.add_(1),
    "operator": lambda m, x: x.__imul__(2),
    "assignment": lambda m, x: x.__setitem__(0, 1.0),
    "assignment to a mask": lambda m, x: x.__setitem__(x > 0, 1.0),
    "assignment to everything": lambda m, x: x.__setitem__(..., x.detach()),
    "view": lambda m, x: x[0].zero_(),
    "view of a view": lambda m, x: x[1:].transpose(0, 1).fill_(1),
    "zero_": lambda m, x: x.zero_(),
    "copy_": lambda m, x: x.copy_(m.zeros(4, 3)),
    "detached": lambda m, x: x.detach().zero_(),
    "detached, requires grad": lambda m, x: x.detach().requires_grad_().zero_(),
    "constant into its own view": lambda m, x: m.zeros(4, 3, dtype=m.float64)[0].requires_grad_().add_(1),
    "leaf into a constant": lambda m, x: m.zeros(4, 3, dtype=m.float64).add_(x),
    "leaf into a constant's view": lambda m, x: m.zeros(4, 3, dtype=m.float64)[1].add_(x[0]),
    "no longer requires grad": lambda m, x: x.requires_grad_(False).mul_(2),
}


@pytest.mark.parametrize("change", LEAF_CHANGES)
def test_leaves(change):
    def program(m):
        x = leaf(m, (4, 3))
        try:
            LEAF_CHANGES[change](m, x)
        except RuntimeError as error:
            return str(error).partition(".")[0], x._version
        return x, x._version, x.requires_grad, x.is_leaf

    same(program)


FLAGS = {
    "detach_": lambda m, x, y, v: y.detach_(),
    "detach_ of a view": lambda m, x, y, v: v.detach_(),
    "detach_ of a leaf": lambda m, x, y, v: x.detach_(),
    "detach_, then change": lambda m, x, y, v: y.detach_().mul_(2),
    "detach_, then take a view": lambda m, x, y, v: y.detach_()[0].mul_(x[0]),
    "requires_grad_": lambda m, x, y, v: y.requires_grad_(),
    "requires_grad_ of a view, False": lambda m, x, y, v: v.requires_grad_(False),
    "requires_grad_ of a detached view": lambda m, x, y, v: v.detach().requires_grad_(),
    "requires_grad_ of integers": lambda m, x, y, v: m.tensor([1]).requires_grad_(),
    "setting requires_grad": lambda m, x, y, v: setattr(y, "requires_grad", False),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name):
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = y[1]
        done = FLAGS[name](m, x, y, v)
        states = [(t.requires_grad, t.is_leaf, t._version) for t in (x, y, v)]
        return states, done is y, y, m.autograd.grad((v * 2).sum(), x, allow_unused=True)

    same(program)


def returning(m, rule):
    """An operation of two tensors that adds them, with `rule(ctx, g)` for its backward."""

    class Custom(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x + y

        @staticmethod
        def backward(ctx, g):
            return rule(ctx, g)

    return Custom.apply


RULES = {
    "one tensor for both": lambda ctx, g: (2 * g,) * 2,
    "a tensor and a view of it": lambda ctx, g: (lambda h: (h, h[:]))(2 * g),
    "what was saved": lambda ctx, g: ctx.saved_tensors,
    "the gradient itself": lambda ctx, g: (g, g),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("program", ["leaves", "intermediates", "twice", "into .grad", "graph"])
def test_backward_adds_in_place_only_to_what_is_its_own(rule, program):
    """What a Function of the user's returns may be used elsewhere."""

    def run(m):
        x, y = leaf(m, (4, 3)), leaf(m, (4, 3), 1.0)
        f = returning(m, RULES[rule])
        u, v = (x, y) if program == "leaves" else (x * 1, y * 1)
        before = u * 3
        (f(u, v).sum() + before.sum()).backward(retain_graph=True, create_graph=program == "graph")
        if program in ("twice", "graph"):
            (f(u, v) * u.detach()).sum().backward()
        if program == "into .grad":
            x.grad.mul_(5)
        return x, y, u, v, x.grad, y.grad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn of create_graph in backward()
        same(run, rtol=1e-14)


@pytest.mark.parametrize("start", ["sum", "given"])
@pytest.mark.parametrize("then", ["backward", "backward with graph", "zero_", "setitem"])
def test_gradients_with_a_graph_have_memory_of_their_own(start, then):
    """Though the gradient of a sum is one number, and that of a sum of two tensors one tensor."""

    def run(m):
        x, y = leaf(m, (4, 3)), leaf(m, (4, 3), 1.0)
        given = m.ones(4, 3, dtype=m.float64)
        total = x + y if start == "given" else (x + y).sum()
        total.backward(given if start == "given" else None, create_graph=True)
        if "backward" in then:
            (x * x).sum().backward(create_graph=then == "backward with graph")
        with m.no_grad():
            if then == "zero_":
                x.grad.zero_()
            elif then == "setitem":
                x.grad[0, 0] = 7
        return x.grad, y.grad, given

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(run)
