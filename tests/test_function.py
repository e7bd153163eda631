"""autograd.Function: the same programs on torch and on gradx."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def function(m, *, name="Custom", **members):
    """A Function with these static methods."""
    return type(name, (m.autograd.Function,), {key: staticmethod(value) for key, value in members.items()})


def square(m):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

    return function(m, forward=forward, backward=backward)


def product(m):
    """x * y * scale, in the style with setup_context."""

    def forward(x, y, scale):
        return x * y * scale

    def setup_context(ctx, inputs, output):
        x, y, ctx.scale = inputs
        ctx.save_for_backward(x, y)

    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (
            g * y * ctx.scale if ctx.needs_input_grad[0] else None,
            g * x * ctx.scale if ctx.needs_input_grad[1] else None,
            None,
        )

    return function(m, forward=forward, setup_context=setup_context, backward=backward)


def first_and_second(m):
    x = leaf(m)
    y = square(m).apply(x)
    (first,) = m.autograd.grad(y.sum(), x, create_graph=True)
    return y, first, m.autograd.grad(first.sum(), x)


def two_styles(m):
    x, y = leaf(m), leaf(m, 3.0, 4.0)
    z = product(m).apply(x, y, 10)
    return z, m.autograd.grad(z.sum(), (x, y))


def partly_constant(m):
    x, y = leaf(m), m.tensor([3.0, 4.0], dtype=m.float64)
    z = product(m).apply(x, y, 10)
    z.sum().backward()
    return x.grad, y.grad


def mixed_second_derivatives(m):
    x, y = leaf(m), leaf(m, 3.0, 4.0)
    gx, gy = m.autograd.grad(product(m).apply(x, y, 10).pow(2).sum(), (x, y), create_graph=True)
    return m.autograd.grad((gx * gy).sum(), (x, y))


def names(m):
    y = square(m).apply(leaf(m))
    return y.grad_fn.name(), repr(y).replace("torch", "gradx"), y.requires_grad, y.is_leaf


def not_recorded(m):
    y = square(m).apply(m.tensor([1.0, 2.0]))
    with m.no_grad():
        z = square(m).apply(leaf(m))
    return y.requires_grad, z.requires_grad


def forward_runs_without_grad(m):
    seen = []

    def forward(ctx, x):
        seen.append((m.is_grad_enabled(), (x * 2).requires_grad, x.requires_grad))
        return x.clone()

    function(m, forward=forward, backward=lambda ctx, g: g).apply(leaf(m))
    return seen


def backward_runs_in_the_mode_of_the_walk(m):
    seen = []

    def backward(ctx, g):
        seen.append((m.is_grad_enabled(), g.requires_grad))
        return g * 2

    f = function(m, forward=lambda ctx, x: x * 2, backward=backward)
    x = leaf(m)
    m.autograd.grad(f.apply(x).sum(), x)
    m.autograd.grad(f.apply(x).sum(), x, create_graph=True)
    return seen


def several_outputs(m):
    def backward(ctx, a, b):
        return a * 2 + b * 3

    f = function(m, forward=lambda ctx, x: (x * 2, x * 3), backward=backward)
    x = leaf(m)
    a, b = f.apply(x)
    return m.autograd.grad(a.sum(), x, retain_graph=True), m.autograd.grad((a * b).sum(), x)


def missing_gradients_are_zeros(m):
    seen = []

    def backward(ctx, a, b):
        seen.append((a, b))
        return a

    f = function(m, forward=lambda ctx, x: (x * 1, m.ones(3)), backward=backward)
    x = leaf(m)
    f.apply(x)[0].sum().backward()
    return seen


def missing_gradients_are_none(m):
    seen = []

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 1, x * 2

    def backward(ctx, a, b):
        seen.append((a, b))
        return a

    x = leaf(m)
    function(m, forward=forward, backward=backward).apply(x)[0].sum().backward()
    return seen


def no_gradient_at_all(m):
    x = leaf(m)
    f = function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: None)
    (f.apply(x) + x).sum().backward()
    return x.grad


def other_arguments(m):
    def forward(ctx, x, text, number, nothing, flag=True):
        ctx.number = number
        return x * number

    f = function(m, forward=forward, backward=lambda ctx, g: (g * ctx.number, None, None, None))
    x = leaf(m)
    f.apply(x, "text", 5, None).sum().backward()
    return x.grad


def surplus_nones(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: (g, None, None)).apply(x).sum().backward()
    return x.grad


def no_tensor_among_the_outputs(m):
    x = leaf(m)
    y, text = function(m, forward=lambda ctx, x: (x * 1, "text"), backward=lambda ctx, g, t: g).apply(x)
    y.sum().backward()
    return text, x.grad


def not_differentiable(m):
    def forward(ctx, x):
        mask = x > 1
        rounded = x.round()
        ctx.mark_non_differentiable(mask, rounded)
        return x * 2, mask, rounded

    x = leaf(m)
    y, mask, rounded = function(m, forward=forward, backward=lambda ctx, g, a, b: g * 2).apply(x)
    y.sum().backward()
    return mask, mask.requires_grad, rounded.requires_grad, x.grad


def integers_are_not_differentiable(m):
    y, n = function(m, forward=lambda ctx, x: (x * 2, x.long()), backward=lambda ctx, g, h: g).apply(leaf(m))
    return y.requires_grad, n.requires_grad


def dirty(m):
    def forward(ctx, x):
        x.mul_(3)
        ctx.mark_dirty(x)
        return x

    f = function(m, forward=forward, backward=lambda ctx, g: g * 3)
    x = leaf(m)
    y = x * 1
    z = f.apply(y)
    z.sum().backward()
    return z is y, z, y.grad_fn.name(), x.grad


def dirty_view(m):
    def forward(ctx, x):
        x.mul_(3)
        ctx.mark_dirty(x)
        return x

    x = leaf(m)
    y = x * 1
    function(m, forward=forward, backward=lambda ctx, g: g * 3).apply(y[:1])
    (y * y).sum().backward()
    return y, x.grad


def dirty_leaf(m):
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    function(m, forward=forward, backward=lambda ctx, g: g).apply(leaf(m))


def dirty_not_returned(m):
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x * 2

    function(m, forward=forward, backward=lambda ctx, g: g).apply(leaf(m) * 1)


def input_returned(m):
    f = function(m, forward=lambda ctx, x: x, backward=lambda ctx, g: g * 5)
    x = leaf(m)
    y = f.apply(x)
    y.sum().backward()
    return y is x, y.requires_grad, x.is_leaf, y.grad_fn.name(), x.grad


def view_of_an_input_returned(m):
    f = function(m, forward=lambda ctx, x: x[:1], backward=lambda ctx, g: m.stack([g[0] * 5, g[0] * 0]))
    x = leaf(m)
    y = f.apply(x)
    y.sum().backward()
    return y, x.grad


def saved_output(m):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y

    x = leaf(m)
    f = function(m, forward=forward, backward=backward)
    (first,) = m.autograd.grad(f.apply(x).sum(), x, create_graph=True)
    return first, m.autograd.grad(first.sum(), x)


def saved_intermediate_has_no_history(m):
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y * 1

    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y

    x = leaf(m)
    (first,) = m.autograd.grad(function(m, forward=forward, backward=backward).apply(x).sum(), x, create_graph=True)
    return m.autograd.grad(first.sum(), x, allow_unused=True)


def saved_none(m):
    def forward(ctx, x):
        ctx.save_for_backward(x, None)
        return x * 1

    def backward(ctx, g):
        return g * (ctx.saved_tensors[1] is None)

    x = leaf(m)
    function(m, forward=forward, backward=backward).apply(x).sum().backward()
    return x.grad


def saved_no_tensor(m):
    def forward(ctx, x):
        ctx.save_for_backward("text")
        return x

    function(m, forward=forward).apply(leaf(m))


def saved_and_changed(m):
    x = leaf(m) * 1
    y = square(m).apply(x)
    x.add_(1)
    y.sum().backward()


def saved_on_the_node(m):
    y = square(m).apply(leaf(m))
    return y.grad_fn.saved_tensors


def attributes_on_the_node(m):
    def forward(ctx, x):
        ctx.mine = 5
        return x * 1

    return function(m, forward=forward, backward=lambda ctx, g: g).apply(leaf(m)).grad_fn.mine


def twice(m):
    y = square(m).apply(leaf(m)).sum()
    y.backward()
    y.backward()


def twice_where_nothing_is_saved(m):
    x = leaf(m)
    y = function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: g).apply(x).sum()
    y.backward()
    y.backward()
    return x.grad


def too_few(m):
    f = function(m, forward=lambda ctx, x, y: x * y, backward=lambda ctx, g: g)
    f.apply(leaf(m), leaf(m)).sum().backward()


def too_many(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: (g, g)).apply(x).sum().backward()


def wrong_shape(m):
    f = function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: m.ones(3, dtype=m.float64))
    f.apply(leaf(m)).sum().backward()


def shape_that_is_summed(m):
    x = leaf(m)
    f = function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: m.ones(3, 2, dtype=m.float64))
    f.apply(x).sum().backward()
    return x.grad


def other_dtype(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: m.ones(2)).apply(x).sum().backward()
    return x.grad


def gradient_for_a_number(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x, n: x * n, backward=lambda ctx, g: (g, g)).apply(x, 3).sum().backward()


def gradient_is_no_tensor(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: 5).apply(x).sum().backward()


def error_in_backward(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, backward=lambda ctx, g: 1 / 0).apply(x).sum().backward()


def no_backward(m):
    function(m, forward=lambda ctx, x: x * 1).apply(leaf(m)).sum().backward()


def no_forward(m):
    function(m).apply(leaf(m))


def instance(m):
    square(m)()(leaf(m))


def vjp_in_the_place_of_backward(m):
    x = leaf(m)
    function(m, forward=lambda ctx, x: x * 1, vjp=lambda ctx, g: g * 3).apply(x).sum().backward()
    return x.grad


def once(m):
    x = leaf(m)
    backward = m.autograd.function.once_differentiable(lambda ctx, g: g * 2)
    f = function(m, forward=lambda ctx, x: x * 2, backward=backward)
    (first,) = m.autograd.grad(f.apply(x).sum(), x, create_graph=True)
    return first, first.requires_grad


def once_and_twice(m):
    x = leaf(m)
    backward = m.autograd.function.once_differentiable(lambda ctx, g: g * 2)
    f = function(m, forward=lambda ctx, x: x * 2, backward=backward)
    (first,) = m.autograd.grad((f.apply(x) ** 2).sum(), x, create_graph=True)
    first.sum().backward()


def nested(m):
    outer_f = square(m)

    def forward(ctx, x):
        with m.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.y = outer_f.apply(ctx.x).exp()
        return ctx.y.detach()

    def backward(ctx, g):
        ctx.y.backward(g)  # a backward pass within a backward pass
        return ctx.x.grad

    x = leaf(m)
    function(m, forward=forward, backward=backward).apply(x * 2).sum().backward()
    return x.grad


def saved_hooks(m):
    x = leaf(m)
    with m.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t / 2 * 3):
        y = square(m).apply(x)
    y.sum().backward()
    return x.grad


PROGRAMS = [
    value
    for value in list(globals().values())
    if getattr(value, "__module__", "") == __name__ and value not in (leaf, function, square, product)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)


def test_no_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(gradx)
        y = square(gradx).apply(x)
        node, array = weakref.ref(y.grad_fn), weakref.ref(y.array)
        y.sum().backward()
        del y
        assert node() is None and array() is None
    finally:
        gc.enable()


def test_a_kernel_of_ones_own_on_numpy():
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return gradx.from_numpy(np.sinc(x.detach().numpy()))

    def backward(ctx, g):
        x = ctx.saved_tensors[0].detach().numpy()
        return g * gradx.from_numpy((np.cos(np.pi * x) - np.sinc(x)) / x)

    x = leaf(gradx, 0.5, 1.5)
    sinc = function(gradx, forward=forward, backward=backward)
    assert gradx.autograd.gradcheck(sinc.apply, x)


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["raw", "elementwise"])
def test_a_kernel_of_ones_own_on_cuda(kind):
    import cupy

    if kind == "raw":
        source = """extern "C" __global__ void cube(const double* x, double* y, int n) {
            int i = blockDim.x * blockIdx.x + threadIdx.x;
            if (i < n) y[i] = x[i] * x[i] * x[i];
        }"""
        raw = cupy.RawKernel(source, "cube")

        def cube(x):
            y = cupy.empty_like(x)
            raw(((x.size + 127) // 128,), (128,), (x, y, np.int32(x.size)))
            return y
    else:
        cube = cupy.ElementwiseKernel("T x", "T y", "y = x * x * x", "cube")

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return gradx.as_tensor(cube(x.array))

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g

    x = gradx.tensor([1.0, 2.0, 3.0], dtype=gradx.float64, device="cuda", requires_grad=True)
    y = function(gradx, forward=forward, backward=backward).apply(x)
    (first,) = gradx.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = gradx.autograd.grad(first.sum(), x)
    assert y.tolist() == [1, 8, 27]
    assert first.tolist() == [3, 12, 27]
    assert second.tolist() == [6, 12, 18]
