"""Whether operations are recorded: blocks, decorators, generators, classes and threads, on torch and on gradx."""

from __future__ import annotations

import contextlib
import threading
import warnings

import pytest
import torch
from twin import same

import gradx

BLOCKS = {
    "no_grad": lambda m: m.no_grad(),
    "enable_grad": lambda m: m.enable_grad(),
    "set_grad_enabled(True)": lambda m: m.set_grad_enabled(True),
    "set_grad_enabled(False)": lambda m: m.set_grad_enabled(False),
}


@pytest.fixture(params=BLOCKS)
def block(request):
    return BLOCKS[request.param]


@pytest.fixture(params=[True, False], ids=["within enable_grad", "within no_grad"], autouse=True)
def outside(request):
    """Each test runs in both modes, and must leave the mode as it was."""
    with torch.set_grad_enabled(request.param), gradx.set_grad_enabled(request.param):
        yield request.param
        assert torch.is_grad_enabled() == gradx.is_grad_enabled() == request.param


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def test_blocks(block):
    def program(m):
        x = leaf(m)
        with block(m) as nothing:
            inside, y = m.is_grad_enabled(), x * 2
        return nothing, inside, m.is_grad_enabled(), y.requires_grad, y.is_leaf, (x * 2).requires_grad

    same(program)


@pytest.mark.parametrize("inner", BLOCKS.values(), ids=BLOCKS)
def test_nested_blocks(block, inner):
    def program(m):
        seen = []
        with block(m):
            with inner(m):
                seen.append(m.is_grad_enabled())
                with block(m):
                    seen.append(m.is_grad_enabled())
                seen.append(m.is_grad_enabled())
            seen.append(m.is_grad_enabled())
        return seen, m.is_grad_enabled()

    same(program)


def test_exceptions_end_a_block_and_are_passed_on(block):
    def program(m):
        @block(m)
        def fail():
            raise KeyError("lost")

        with contextlib.suppress(KeyError), block(m), block(m):
            fail()
        return m.is_grad_enabled(), fail()

    same(program)


def test_a_block_may_be_entered_again():
    """Torch's forgets the mode outside when it is entered within itself."""
    before, again = gradx.is_grad_enabled(), gradx.no_grad()
    for _ in range(2):
        with again, again:
            assert not gradx.is_grad_enabled()
        assert gradx.is_grad_enabled() == before


def test_decorated_functions(block):
    def program(m):
        seen, decorate = [], block(m)

        @decorate
        def down(x, *, n):
            """Goes down."""
            seen.append((m.is_grad_enabled(), (x * 2).requires_grad))
            if n:
                with m.set_grad_enabled(n % 2 == 0):
                    down(x, n=n - 1)
                seen.append(m.is_grad_enabled())
            return n

        other = decorate(lambda: (down(leaf(m), n=1), m.is_grad_enabled()))
        return down(leaf(m), n=3), other(), seen, down.__name__, down.__doc__, m.is_grad_enabled()

    same(program)


@pytest.mark.parametrize("name", ["no_grad", "enable_grad"])
def test_decorators_without_parentheses(name):
    def program(m):
        @getattr(m, name)
        def double(x):
            return m.is_grad_enabled(), (x * 2).requires_grad

        return double(leaf(m)), double.__name__, m.is_grad_enabled()

    same(program)


def test_decorated_methods(block):
    def program(m):
        class Model:
            def __init__(self):
                self.weight = leaf(m)

            @block(m)
            def run(self):
                return (self.weight * 2).requires_grad

        return Model().run(), m.is_grad_enabled()

    same(program)


def test_decorated_classes(block):
    """Deprecated in torch: the block holds while an object is made, not in its methods."""

    def program(m):
        class Model:
            def __init__(self, x):
                self.made = m.is_grad_enabled(), (x * 2).requires_grad

            def run(self):
                return m.is_grad_enabled()

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            decorated = block(m)(Model)
        model = decorated(leaf(m))
        said = [(w.category.__name__, str(w.message)) for w in caught]
        return model.made, model.run(), isinstance(decorated, type), m.is_grad_enabled(), said

    same(program)


def talking(m, block, seen):
    """A decorated generator that notes the mode whenever it runs."""

    @block(m)
    def generator(start):
        seen.append(m.is_grad_enabled())
        try:
            given = yield start
            seen.append((given, m.is_grad_enabled()))
            try:
                yield given
            except ValueError:
                seen.append(("caught", m.is_grad_enabled()))
            m.set_grad_enabled(not m.is_grad_enabled())  # stays within
            yield "last"
            seen.append(m.is_grad_enabled())
            return "result"
        finally:
            seen.append(("finally", m.is_grad_enabled()))

    return generator


def step_by_step(m, make):
    generator = make(1)
    states = [(next(generator), m.is_grad_enabled()), (generator.send(2), m.is_grad_enabled())]
    states.append((generator.throw(ValueError), m.is_grad_enabled()))
    with pytest.raises(StopIteration) as stop:
        next(generator)
    return states, stop.value.value


def closed(m, make):
    unused, generator = make(1), make(1)
    next(generator)
    unused.close()
    generator.close()
    return list(unused), list(generator)


def two_at_once(m, make):
    return list(zip(make(1), make(2), strict=True))


def continued_in_other_modes(m, make):
    generator = make(1)
    with m.no_grad():
        next(generator)
        within = m.is_grad_enabled()
    with m.enable_grad():
        next(generator)
        return within, m.is_grad_enabled()


USES = [step_by_step, closed, two_at_once, continued_in_other_modes]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_generators(block, use):
    def program(m):
        seen = []
        return use(m, talking(m, block, seen)), m.is_grad_enabled(), seen

    same(program)


def leaves_made_within_no_grad(m):
    x = leaf(m)
    with m.no_grad():
        y, z = (x * 2).requires_grad_(), leaf(m)
    with m.enable_grad():
        (x * y * z).sum().backward()
    return x.grad, y.grad, y.is_leaf, z.grad


def update_of_a_weight(m):
    w = leaf(m)
    with m.enable_grad():
        (w * w).sum().backward()
    with m.no_grad():
        w -= 0.1 * w.grad
        w.grad.zero_()
    return w, w.requires_grad, w.is_leaf, w.grad, w._version


def changed_within_no_grad(m):
    with m.enable_grad():
        x = leaf(m)
        y = x * 2
    with m.no_grad():
        y.mul_(10)
    return y, y.requires_grad, m.autograd.grad(y, x, m.ones_like(y))


def view_of_no_grad_changed_outside(m):
    with m.enable_grad():
        y = leaf(m) * 2
        with m.no_grad():
            view = y[:1]
        view.add_(1)


def walking_within_no_grad(m):
    with m.enable_grad():
        x = leaf(m)
        y = (x**3).sum()
    with m.no_grad():
        y.backward(retain_graph=True)
        (first,) = m.autograd.grad(y, x, create_graph=True)
    with m.enable_grad():
        return x.grad, x.grad.requires_grad, first.requires_grad, m.autograd.grad(first.sum(), x)


def hooks_run_in_the_mode_of_the_walk(m):
    with m.enable_grad():
        x, other, seen = leaf(m), leaf(m), []
        y = (x * x).sum()

    def hook(g):
        seen.append((m.is_grad_enabled(), (other * 2).requires_grad, g.requires_grad))
        with m.enable_grad():
            seen.append(m.autograd.grad((other**3 * g.detach()).sum(), other))

    x.register_hook(hook)
    m.autograd.grad(y, x, retain_graph=True)
    m.autograd.grad(y, x, create_graph=True)
    return seen, m.is_grad_enabled()


def a_walk_that_fails(m):
    before = m.is_grad_enabled()
    with m.enable_grad():
        x = leaf(m)
        y = (x * x).sum()
    x.register_hook(lambda g: {}["missing"])
    with contextlib.suppress(KeyError):
        m.autograd.grad(y, x, create_graph=not before)
    return m.is_grad_enabled() == before


def set_at_once(m):
    before = m.is_grad_enabled()
    block = m.set_grad_enabled(mode=not before)
    now = m.is_grad_enabled(), (leaf(m) * 2).requires_grad
    with block:
        m.set_grad_enabled(before)
        inside = m.is_grad_enabled()
    return now, inside, m.is_grad_enabled()


def set_to_a_number(m):
    m.set_grad_enabled(1)


def described(m):
    return repr(m.set_grad_enabled(m.is_grad_enabled())).rpartition(".")[2]


def threads_have_modes_of_their_own(m):
    inside, done, seen = threading.Event(), threading.Event(), []

    def other():
        seen.append(m.is_grad_enabled())
        m.set_grad_enabled(False)
        inside.set()
        done.wait(10)
        seen.append((leaf(m) * 2).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with m.enable_grad():
        seen.append((leaf(m) * 2).requires_grad)
        done.set()
        thread.join()
        return seen, m.is_grad_enabled()


FIRST = list(globals()).index("leaves_made_within_no_grad")
PROGRAMS = [value for value in list(globals().values())[FIRST:] if callable(value)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)


def test_views_within_no_grad_are_constants():
    """Torch's say that they require grad, and are leaves whose gradients nobody sees."""
    with gradx.no_grad():
        view = leaf(gradx)[:1]
    assert not view.requires_grad
    with gradx.enable_grad():
        assert not (view * 2).requires_grad
