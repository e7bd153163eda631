"""autograd.graph: what nodes show, edges, saved tensors and their hooks."""

from __future__ import annotations

import pytest
from twin import same

import gradx
from gradx.autograd import graph


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def names(m):
    x = leaf(m)
    y = (x.exp() * x).sum()
    first = y.grad_fn.next_functions[0][0]
    return y.grad_fn.name(), first.name(), [(node.name().rpartition("::")[2], nr) for node, nr in first.next_functions]


def constants_have_no_edge(m):
    return [node is None for node, _ in (leaf(m) * 2).grad_fn.next_functions]


def notes(m):
    node = (leaf(m) * 2).grad_fn
    node.metadata["mine"] = 5
    return node.metadata


def numbers_grow(m):
    a = leaf(m) * 2
    b = a * 2
    return b.grad_fn._sequence_nr() > a.grad_fn._sequence_nr()


def the_leaf_is_behind_the_last_edge(m):
    x = leaf(m)
    return (x * 2).grad_fn.next_functions[0][0].variable is x


def saved(m):
    x, y = leaf(m), leaf(m, 3.0, 4.0)
    mul, exp = (x * y).grad_fn, x.exp().grad_fn
    return mul._saved_self, mul._saved_other, exp._saved_result, (x**3).grad_fn._saved_exponent


def saved_output_has_its_history(m):
    y = leaf(m).exp()
    return y.grad_fn._saved_result.grad_fn is y.grad_fn, y.grad_fn._saved_result.requires_grad


def saved_is_the_leaf(m):
    x = leaf(m)
    return (x * x).grad_fn._saved_self is x


def saved_and_freed(m):
    y = leaf(m).exp()
    y.sum().backward()
    return y.grad_fn._saved_result


def unknown_attribute(m):
    return leaf(m).exp().grad_fn._saved_nothing


def edges(m):
    x = leaf(m)
    y = x * x
    z = y.exp()
    edge = m.autograd.graph.get_gradient_edge(y)
    at_edge = m.autograd.grad(z.sum(), edge, retain_graph=True)
    leaf_edge = m.autograd.graph.get_gradient_edge(x)
    at_leaf = m.autograd.grad(z.sum(), [leaf_edge, y], retain_graph=True)
    start = m.autograd.grad(edge, x, m.ones(2, dtype=m.float64), retain_graph=True)
    m.autograd.backward(z.sum(), inputs=[leaf_edge])
    return at_edge, at_leaf, start, x.grad


def scalar_edge_as_root(m):
    x = leaf(m)
    m.autograd.backward(m.autograd.graph.get_gradient_edge((x * x).sum()))
    return x.grad


def edge_without_gradient(m):
    return m.autograd.graph.get_gradient_edge(m.ones(2))


def packed(m):
    x, seen = leaf(m), []

    def pack(t):
        seen.append(("pack", t))
        return t * 2

    def unpack(t):
        seen.append(("unpack", t))
        return t / 2

    with m.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = x.exp()
    z = (y * y).sum()
    z.backward()
    return seen, x.grad


def packed_and_derived_twice(m):
    x = leaf(m)
    with m.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), lambda v: m.tensor(v, dtype=m.float64)):
        y = (x * x * x).sum()
    (first,) = m.autograd.grad(y, x, create_graph=True)
    return first, m.autograd.grad(first.sum(), x)


def inner_hooks_win(m):
    x, seen = leaf(m), []
    hooks = m.autograd.graph.saved_tensors_hooks
    with hooks(lambda t: seen.append("outer") or t, lambda t: t):
        with hooks(lambda t: seen.append("inner") or t, lambda t: t):
            x.exp()
        x.exp()
    x.exp()
    return seen


def packing_in_place(m):
    with m.autograd.graph.saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t):
        return leaf(m).exp()


def unpacking_no_tensor(m):
    with m.autograd.graph.saved_tensors_hooks(lambda t: 1, lambda t: t):
        y = leaf(m).exp()
    y.sum().backward()


def raw_saved(m):
    x = leaf(m)
    y = x.exp()
    y.grad_fn._raw_saved_result.register_hooks(lambda t: t * 3, lambda t: t / 3 * 2)
    y.sum().backward()
    return x.grad


def raw_saved_twice(m):
    y = leaf(m).exp()
    y.grad_fn._raw_saved_result.register_hooks(lambda t: t, lambda t: t)
    y.grad_fn._raw_saved_result.register_hooks(lambda t: t, lambda t: t)


def disabled(m):
    g = m.autograd.graph
    with g.disable_saved_tensors_hooks("not here"), g.saved_tensors_hooks(lambda t: t, lambda t: t):
        pass


def disabled_too_late(m):
    g = m.autograd.graph
    with g.saved_tensors_hooks(lambda t: t, lambda t: t), g.disable_saved_tensors_hooks("not here"):
        pass


def enabled_again(m):
    with m.autograd.graph.disable_saved_tensors_hooks("not here"):
        pass
    with m.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        return leaf(m).exp()


def on_cpu(m):
    x = leaf(m)
    with m.autograd.graph.save_on_cpu():
        y = (x * x).exp().sum()
    y.backward()
    return x.grad


def all_of_several(m):
    a, b, c, seen = leaf(m), leaf(m), leaf(m), []
    handle = m.autograd.graph.register_multi_grad_hook((a, b, c), lambda grads: seen.append(grads))
    (a * b).sum().backward()
    (a * b * c).sum().backward(inputs=[a])
    handle.remove()
    (a * b).sum().backward()
    return [[g if g is None else g.clone() for g in grads] for grads in seen]


def any_of_several(m):
    a, b, seen = leaf(m), leaf(m), []
    m.autograd.graph.register_multi_grad_hook((a, b), lambda g: seen.append(g.clone()), mode="any")
    (a * b).sum().backward()
    b.sum().backward()
    return len(seen), seen[1]


def several_in_no_mode(m):
    m.autograd.graph.register_multi_grad_hook((leaf(m),), print, mode="some")


def mutated(m):
    with m.autograd.graph.allow_mutation_on_saved_tensors():
        x = leaf(m)
        y = x.clone()
        z = (y * y).sum() + y.exp().sum()
        y.sin_()
        y[0] = 7
        w = (y * y).sum()
        return m.autograd.grad(z, x), m.autograd.grad(w, x)


PROGRAMS = [value for value in list(globals().values()) if getattr(value, "__module__", "") == __name__][1:]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)


def test_a_saved_tensor_that_was_changed():
    x = leaf(gradx)
    y = x * 2
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*version 1; expected version 0"):
        _ = z.grad_fn._saved_self


def test_packing_gets_no_history():
    """Torch hands over the tensor itself; a hook that keeps it makes a cycle there."""
    seen = []
    with graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        leaf(gradx).exp()
    assert [(t.grad_fn, t.requires_grad) for t in seen] == [(None, False)]


def test_kinds():
    x = leaf(gradx)
    assert isinstance((x * 2).grad_fn, graph.Node)
    assert isinstance(graph.get_gradient_edge(x), graph.GradientEdge)


def test_what_was_saved_is_listed():
    assert {"_saved_self", "_raw_saved_self", "_saved_other"} <= set(dir((leaf(gradx) * leaf(gradx)).grad_fn))


@pytest.mark.cuda
def test_saved_on_the_cpu():
    x = gradx.ones(3, device="cuda", requires_grad=True)
    with graph.save_on_cpu():
        y = x.exp()
    assert y.grad_fn.saved[0].value[1].device.type == "cpu"
    y.sum().backward()
    assert x.grad.device.type == "cuda"
    assert x.grad.tolist() == y.tolist()
