"""Views and the tensors they are views of: one memory, one version, and histories that follow every change in place."""

from __future__ import annotations

import pytest
from test_inplace import differentiated, leaf
from twin import same

VIEWS = {
    "row": lambda t: t[1],
    "slice": lambda t: t[1:3],
    "steps": lambda t: t[::2, 1:],
    "element": lambda t: t[2, 1],
    "None": lambda t: t[None, 1],
    "everything": lambda t: t[...],
    "select": lambda t: t.select(-1, 0),
    "narrow": lambda t: t.narrow(0, 1, 2),
    "transpose": lambda t: t.transpose(0, 1),
    "permute": lambda t: t.permute(1, 0),
    "T": lambda t: t.T,
    "mT": lambda t: t.mT,
    "t": lambda t: t.t(),
    "unsqueeze": lambda t: t.unsqueeze(1),
    "squeeze": lambda t: t[:, :1].squeeze(1),
    "view": lambda t: t.view(2, 6),
    "reshape": lambda t: t.reshape(-1),
    "flatten": lambda t: t.flatten(),
    "expand to its own shape": lambda t: t.expand(4, 3),
    "view of a view": lambda t: t[1:].transpose(0, 1)[1],
    "view of a view of a view": lambda t: t.view(-1)[2:][::3].unsqueeze(0),
    "diagonal of a block": lambda t: t[:3].reshape(9)[::4],
}
CHANGES = {
    "mul_": lambda t, x: t.mul_(x.sum()),
    "sin_": lambda t, x: t.sin_(),
    "zero_": lambda t, x: t.zero_(),
    "copy_": lambda t, x: t.copy_(x.cos().sum()),
    "masked_fill_": lambda t, x: t.masked_fill_(t.detach() > 0, 3.0),
    "square": lambda t, x: t.mul_(t),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("taken", ["before", "after", "base changes", "other view changes"])
def test_history_follows(view, change, taken):
    """A view is changed, or its base, or a view that overlaps it; then base and view are used together."""

    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = VIEWS[view](y) if taken != "after" else None
        changed = {"before": v, "base changes": y, "other view changes": y[1:3]}
        CHANGES[change](VIEWS[view](y) if taken == "after" else changed[taken], x)
        v = VIEWS[view](y) if v is None else v
        total = (y * y).sum() + (v.exp() * 0.1).sum()
        return y, v, v._version, v.requires_grad, v.is_leaf, *differentiated(m, total, [x])

    same(program, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_base_without_history_gets_one(view, change):
    def program(m):
        x = leaf(m, (4, 3))
        y = leaf(m, (4, 3), 1.0).detach()
        v, w = VIEWS[view](y), y[0]
        CHANGES[change](v, x)
        results = y, v, w, y.requires_grad, v.requires_grad, w.requires_grad
        if y.requires_grad:
            results += tuple(differentiated(m, (y * y).sum() + v.sin().sum() + w.sum(), [x]))
        return results

    same(program, rtol=1e-11, atol=1e-12)


def test_many_views_and_changes():
    def program(m):
        x = leaf(m, (4, 3))
        y = x.sin()
        rows, columns = [y[i] for i in range(4)], [y[:, j] for j in range(3)]
        for i, row in enumerate(rows):
            row.mul_(columns[i % 3][i].clone())
            columns[(i + 1) % 3].add_(row.sum() * 0.1)
        y[1:].transpose(0, 1)[0].copy_(columns[2][1:])
        y.view(-1)[::5] = 0.25
        return y, *rows, *columns, y._version, *differentiated(m, sum((t * t).sum() for t in [y, *rows, *columns]), [x])

    same(program, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "take",
    [
        lambda t: t.expand(2, 4, 3),
        lambda t: t[:, :1].expand(4, 3),
        lambda t: t[0, 0].expand(3),
        lambda t: t.broadcast_to((2, 4, 3)),
        lambda t: t[None].expand(2, -1, -1)[:, 1],
        lambda t: t[None].expand(1, 4, 3),
    ],
)
@pytest.mark.parametrize("change", ["view", "base", "row of the view"])
def test_expanded_views(take, change):
    """They cannot be written to, but follow their base."""

    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = take(y)
        {"view": v, "base": y, "row of the view": v[0]}[change].mul_(2)
        return v, *differentiated(m, (v * v).sum(), [x])

    same(program, rtol=1e-12)


@pytest.mark.parametrize("fill", ["fill_", "fill_ tensor", "zero_", "[...]"])
@pytest.mark.parametrize("history", [True, False])
def test_filling_expanded_views(fill, history):
    """One value may be written to elements that share memory; torch finds no gradient for that, and raises."""

    def program(m):
        x = leaf(m, ())
        y = leaf(m, (4, 3)) * 1 if history else m.zeros(4, 3, dtype=m.float64)
        v = y.expand(2, 4, 3)
        {
            "fill_": lambda: v.fill_(2),
            "fill_ tensor": lambda: v.fill_(x),
            "zero_": lambda: v.zero_(),
            "[...]": lambda: v.__setitem__(..., 3.0),
        }[fill]()
        return y, m.autograd.grad(y.sum(), x, allow_unused=True) if y.requires_grad else None

    same(program, message=False)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("view", ["view", "reshape", "flatten", "view of a view"])
@pytest.mark.parametrize("change", CHANGES)
def test_gradients_may_be_laid_out_in_another_order(view, change, layout):
    """The gradient of a base comes in the strides that some rule gave it, in which it may have no such view."""

    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1 if layout == "rows" else x.transpose(0, 1) * 1
        v = VIEWS[view](y if layout == "rows" else y.transpose(0, 1))
        CHANGES[change](v, x)
        weights = leaf(m, tuple(reversed(y.shape))).detach()
        return y, *differentiated(m, (y.transpose(0, 1) * weights).sin().sum(), [x])

    same(program, rtol=1e-11, atol=1e-12)


def test_clones_keep_the_layout():
    """So that what is a view of the one is a view of the other."""

    def program(m):
        y = m.arange(6).reshape(2, 3).T.clone()
        y.T.reshape(-1)[0] = 7
        return y, y.is_contiguous()

    same(program)


@pytest.mark.parametrize("part", ["real", "imag", "view_as_real"])
def test_parts_of_complex_numbers(part):
    def program(m):
        x = m.tensor([1 + 2j, 3 - 1j], dtype=m.complex128, requires_grad=True)
        y = x * 1
        v = m.view_as_real(y)[..., 0] if part == "view_as_real" else getattr(y, part)
        v.mul_(3)[0] = 5
        y.abs().sum().backward()
        return y, v, y._version, x.grad

    same(program, rtol=1e-14)


NODES = {
    "add_": lambda m, x, y: y.add_(1),
    "mul_": lambda m, x, y: y.mul_(2),
    "div_": lambda m, x, y: y.div_(x),
    "pow_": lambda m, x, y: y.pow_(2),
    "exp_": lambda m, x, y: y.exp_(),
    "neg_": lambda m, x, y: y.neg_(),
    "relu_": lambda m, x, y: y.relu_(),
    "clamp_": lambda m, x, y: y.clamp_(0, 1),
    "zero_": lambda m, x, y: y.zero_(),
    "fill_": lambda m, x, y: y.fill_(3),
    "fill_ tensor": lambda m, x, y: y.fill_(x[0, 0]),
    "copy_": lambda m, x, y: y.copy_(x),
    "masked_fill_": lambda m, x, y: y.masked_fill_(x > 0, 1),
    "masked_fill_ tensor": lambda m, x, y: y.masked_fill_(x > 0, x[0, 0]),
    "index": lambda m, x, y: y.__setitem__(m.tensor([0]), x[0]),
    "mask": lambda m, x, y: y.__setitem__(x > 0, x[0, 0]),
    "slice": lambda m, x, y: y.__setitem__(0, x[0]),
    "view": lambda m, x, y: y[0].mul_(2),
    "everything": lambda m, x, y: y.__setitem__(..., 1),
}


@pytest.mark.parametrize("name", NODES)
def test_names_of_nodes(name):
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        NODES[name](m, x, y)
        return y.grad_fn.name().rpartition("::")[2], type(y.grad_fn).__name__

    same(program)


@pytest.mark.parametrize("retained", ["base", "view"])
@pytest.mark.parametrize("changed", ["base", "view", "both", "neither"])
def test_retained_gradients_are_of_the_tensor_as_it_is(retained, changed):
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = y[1:3]
        (y if retained == "base" else v).retain_grad()
        if changed in ("view", "both"):
            v.mul_(3)
        if changed in ("base", "both"):
            y.mul_(x)
        ((y * y).sum() + v.sum()).backward()
        return (y if retained == "base" else v).grad, x.grad

    same(program, rtol=1e-13)


@pytest.mark.parametrize("changed", ["base", "view"])
def test_hooks_see_the_tensor_they_were_set_on(changed):
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        v = y[1:3]
        seen = []
        y.register_hook(lambda g: seen.append(g))
        (y if changed == "base" else v).mul_(x[0])
        y.register_hook(lambda g: seen.append(g * 1))
        (y * y).sum().backward()
        return seen, x.grad

    same(program, rtol=1e-13)


def test_a_view_knows_its_base():
    def program(m):
        y = m.zeros(4, 3)
        v = y[1:]
        w = v.T[0]
        return y._base is None, v._base is y, w._base is y, v.detach()._base is None, y._is_view(), w._is_view()

    same(program)


def test_twice_backward_through_a_changed_base():
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 2
        y[1:].transpose(0, 1)[0].pow_(3)
        first = m.autograd.grad((y * y).sum(), x, create_graph=True)[0]
        second = m.autograd.grad((first * x).sum(), x, create_graph=True)[0]
        return first, second, m.autograd.grad(second.sum(), x)

    same(program, rtol=1e-12)
