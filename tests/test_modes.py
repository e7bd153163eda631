"""Whether operations are recorded: blocks, decorators, generators, classes and threads, on torch and on gradx."""

from __future__ import annotations

import contextlib
import functools
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
    with contextlib.ExitStack() as stack:
        for m in (torch, gradx):
            stack.enter_context(m.set_grad_enabled(request.param))
        yield request.param
        assert torch.is_grad_enabled() == gradx.is_grad_enabled() == request.param


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def test_blocks(block):
    def program(m):
        x = leaf(m)
        with block(m) as nothing:
            inside, y = m.is_grad_enabled(), x * 2
        z = x * 2
        return nothing, inside, m.is_grad_enabled(), y.requires_grad, y.is_leaf, y.grad_fn is None, z.requires_grad

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


def test_an_exception_ends_a_block(block):
    def program(m):
        with contextlib.suppress(KeyError), block(m), block(m):
            raise KeyError
        return m.is_grad_enabled()

    def passed_on(m):
        with block(m):
            raise KeyError("lost")

    same(program)
    same(passed_on)


def test_a_block_may_be_entered_again():
    """Torch's forgets the mode outside when it is entered within itself."""
    before, again = gradx.is_grad_enabled(), gradx.no_grad()
    for _ in range(2):
        with again, again:
            assert not gradx.is_grad_enabled()
        assert gradx.is_grad_enabled() == before


def test_functions(block):
    def program(m):
        @block(m)
        def double(x, *, times=1):
            """Doubles."""
            return m.is_grad_enabled(), (x * 2 * times).requires_grad

        first = double(leaf(m)), double(x=leaf(m), times=3)
        return first, double.__name__, double.__doc__, double.__wrapped__ is not None, m.is_grad_enabled()

    same(program)


@pytest.mark.parametrize("name", ["no_grad", "enable_grad"])
def test_decorators_without_parentheses(name):
    def program(m):
        @getattr(m, name)
        def double(x):
            return m.is_grad_enabled(), (x * 2).requires_grad

        @getattr(m, name)
        def count():
            yield m.is_grad_enabled()

        return double(leaf(m)), list(count()), double.__name__, m.is_grad_enabled()

    same(program)


def test_recursion_through_one_decorator(block):
    def program(m):
        seen = []

        @block(m)
        def down(n):
            seen.append(m.is_grad_enabled())
            if n:
                with m.set_grad_enabled(n % 2 == 0):
                    down(n - 1)
                seen.append(m.is_grad_enabled())

        down(3)
        return seen, m.is_grad_enabled()

    same(program)


def test_one_decorator_for_several_functions(block):
    def program(m):
        decorate = block(m)
        inner = decorate(lambda: m.is_grad_enabled())
        outer = decorate(lambda: (inner(), m.is_grad_enabled()))
        return inner(), outer(), inner(), m.is_grad_enabled()

    same(program)


def test_exceptions_pass_through_decorators(block):
    def program(m):
        @block(m)
        def fail():
            raise KeyError("lost")

        with contextlib.suppress(KeyError):
            fail()
        return m.is_grad_enabled(), fail()

    same(program)


def test_methods(block):
    def program(m):
        class Model:
            def __init__(self):
                self.weight = leaf(m)

            @block(m)
            def run(self):
                return (self.weight * 2).requires_grad

            @staticmethod
            @block(m)
            def static(x):
                return (x * 2).requires_grad

            @classmethod
            @block(m)
            def made(cls):
                return cls().run(), m.is_grad_enabled()

            @property
            @block(m)
            def doubled(self):
                return (self.weight * 2).requires_grad

        model = Model()
        return model.run(), Model.static(model.weight), Model.made(), model.doubled, m.is_grad_enabled()

    same(program)


def test_classes(block):
    """Deprecated in torch: the block holds while an object is made, not in its methods."""

    def program(m):
        warnings.simplefilter("ignore")

        @block(m)
        class Model:
            def __init__(self, x):
                self.made = m.is_grad_enabled(), (x * 2).requires_grad

            def run(self):
                return m.is_grad_enabled()

        model = Model(leaf(m))
        return model.made, model.run(), isinstance(Model, type), m.is_grad_enabled()

    same(program)


def test_classes_are_warned_about():
    words = []
    for m in (torch, gradx):
        with pytest.warns(FutureWarning) as caught:
            m.no_grad()(type("Model", (), {}))
        words.append(str(caught[0].message))
    assert words[0] == words[1]


# ---- generators -----------------------------------------------------------------------------------------------------


def talking(m, block, seen):
    """A decorated generator that notes the mode whenever it runs."""

    @block(m)
    def generator(start):
        note = lambda what: seen.append((what, m.is_grad_enabled()))  # noqa: E731
        try:
            note("start")
            given = yield start
            note(("given", given))
            try:
                yield given
            except ValueError:
                note("caught")
            m.set_grad_enabled(not m.is_grad_enabled())  # stays within
            yield "last"
            note("ended")
            return "result"
        finally:
            note("finally")

    return generator


def use_step_by_step(m, make, seen):
    generator = make(1)
    first = next(generator), m.is_grad_enabled()
    second = generator.send(2), m.is_grad_enabled()
    third = generator.throw(ValueError), m.is_grad_enabled()
    try:
        next(generator)
    except StopIteration as stop:
        return first, second, third, stop.value, m.is_grad_enabled(), seen


def use_to_the_end(m, make, seen):
    return list(make(1)), m.is_grad_enabled(), seen


def use_within_another(m, make, seen):
    def outer():
        return (yield from make(1))

    return list(outer()), m.is_grad_enabled(), seen


def use_and_close(m, make, seen):
    generator = make(1)
    next(generator)
    generator.close()
    return list(generator), m.is_grad_enabled(), seen


def use_and_close_before_it_starts(m, make, seen):
    generator = make(1)
    generator.close()
    return list(generator), seen


def use_and_throw(m, make, seen):
    generator = make(1)
    next(generator)
    with contextlib.suppress(KeyError):
        generator.throw(KeyError("mine"))
    return list(generator), m.is_grad_enabled(), seen


def use_and_forget(m, make, seen):
    generator = make(1)
    next(generator)
    del generator
    return m.is_grad_enabled(), seen


def use_two_at_once(m, make, seen):
    return list(zip(make(1), make(2), strict=True)), m.is_grad_enabled(), seen


def use_in_other_modes(m, make, seen):
    generator = make(1)
    with m.no_grad():
        next(generator)
        within = m.is_grad_enabled()
    with m.enable_grad():
        next(generator)
        return within, m.is_grad_enabled(), seen


USES = [value for name, value in list(globals().items()) if name.startswith("use_")]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_generators(block, use):
    def program(m):
        seen = []
        return use(m, talking(m, block, seen), seen)

    same(program)


def test_generators_that_raise(block):
    def program(m):
        @block(m)
        def generator():
            yield m.is_grad_enabled()
            raise KeyError("lost")

        running = generator()
        first = next(running)
        with contextlib.suppress(KeyError):
            next(running)
        return first, list(running), m.is_grad_enabled()

    same(program)


# ---- what a mode does -----------------------------------------------------------------------------------------------


def made_within_no_grad(m):
    with m.no_grad():
        x = m.ones(2, requires_grad=True)
        y = m.tensor([1.0]).requires_grad_()
    return x.requires_grad, x.is_leaf, y.requires_grad


def leaves_of_no_grad_can_be_asked(m):
    x = leaf(m)
    with m.no_grad():
        y = (x * 2).requires_grad_()
    with m.enable_grad():
        (x * y).sum().backward()
    return x.grad, y.grad, y.is_leaf


def update(m):
    w = leaf(m)
    with m.enable_grad():
        (w * w).sum().backward()
    with m.no_grad():
        w -= 0.1 * w.grad
        w.grad.zero_()
    return w, w.requires_grad, w.is_leaf, w.grad, w._version


def in_place_within_no_grad_keeps_history(m):
    with m.enable_grad():
        x = leaf(m)
        y = x * 2
    with m.no_grad():
        y.mul_(10)
    return y, y.requires_grad, m.autograd.grad(y, x, m.ones_like(y))


def saved_then_changed_within_no_grad(m):
    with m.enable_grad():
        y = leaf(m) * 2
        z = (y * y).sum()
    with m.no_grad():
        y.mul_(10)
    z.backward()


def views_within_no_grad(m):
    x = leaf(m)
    with m.no_grad():
        view = x[:1]
    with m.no_grad():
        view.add_(1)
    return view.requires_grad, view.is_leaf, x, x._version, view._version


def view_of_no_grad_changed_outside(m):
    with m.enable_grad():
        y = leaf(m) * 2
        with m.no_grad():
            view = y[:1]
        view.add_(1)


def view_of_no_grad_of_a_leaf_changed_outside(m):
    with m.no_grad():
        view = leaf(m)[:1]
    with m.enable_grad():
        view.mul_(leaf(m, 2.0))


def walking_within_no_grad(m):
    with m.enable_grad():
        x = leaf(m)
        y = (x * x).sum()
    with m.no_grad():
        y.backward()
    return x.grad, x.grad.requires_grad, m.is_grad_enabled()


def deriving_twice_within_no_grad(m):
    with m.enable_grad():
        x = leaf(m)
        y = (x**3).sum()
    with m.no_grad():
        (first,) = m.autograd.grad(y, x, create_graph=True)
    with m.enable_grad():
        return first, first.requires_grad, m.autograd.grad(first.sum(), x)


def walking_what_no_grad_made(m):
    with m.no_grad():
        y = (leaf(m) * 2).sum()
    y.backward()


def hooks_run_in_the_mode_of_the_walk(m):
    with m.enable_grad():
        x, seen = leaf(m), []
        y = (x * x).sum()
    x.register_hook(lambda g: seen.append((m.is_grad_enabled(), (x * 2).requires_grad, g.requires_grad)))
    m.autograd.grad(y, x, retain_graph=True)
    m.autograd.grad(y, x, create_graph=True)
    return seen, m.is_grad_enabled()


def recording_within_a_hook(m):
    with m.enable_grad():
        x, seen = leaf(m), []
        y = (x * x).sum()

    @m.enable_grad()
    def hook(g):
        seen.extend(m.autograd.grad((x * x * x).sum(), x))

    x.register_hook(hook)
    y.backward()
    return seen, x.grad, m.is_grad_enabled()


def a_walk_that_fails_leaves_the_mode(m):
    with m.enable_grad():
        x = leaf(m)
        y = (x * x).sum()
    x.register_hook(lambda g: {}[g])
    before = m.is_grad_enabled()
    with contextlib.suppress(KeyError):
        m.autograd.grad(y, x, create_graph=not before)
    return m.is_grad_enabled() == before


def set_at_once(m):
    before = m.is_grad_enabled()
    m.set_grad_enabled(not before)
    now = m.is_grad_enabled(), (leaf(m) * 2).requires_grad
    m.set_grad_enabled(mode=before)
    return now, m.is_grad_enabled()


def set_before_the_block(m):
    block = m.set_grad_enabled(False)
    between = m.is_grad_enabled()
    with block:
        inside = m.is_grad_enabled()
    return between, inside, m.is_grad_enabled()


def set_within_a_block(m):
    with m.no_grad():
        m.set_grad_enabled(True)
        inside = m.is_grad_enabled()
    return inside, m.is_grad_enabled()


def set_to_a_number(m):
    m.set_grad_enabled(1)


def set_to_nothing(m):
    m.set_grad_enabled()


def described(m):
    with m.enable_grad():
        block = m.set_grad_enabled(True)
    return repr(block).rpartition(".")[2], str(block) == repr(block)


def under_autograd_too(m):
    names = ("no_grad", "enable_grad", "set_grad_enabled", "inference_mode")
    return [getattr(m.autograd, name) is getattr(m, name) for name in names]


def partial_functions(m):
    double = m.no_grad()(functools.partial(lambda x, by: (x * by).requires_grad, by=2))
    return double(leaf(m))


def threads_begin_recording(m):
    seen = []

    def work():
        seen.append(m.is_grad_enabled())
        m.set_grad_enabled(False)
        seen.append((leaf(m) * 2).requires_grad)

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return seen, m.is_grad_enabled()


def threads_do_not_disturb_each_other(m):
    inside, done, seen = threading.Event(), threading.Event(), []

    def other():
        with m.no_grad():
            inside.set()
            done.wait(10)
            seen.append(m.is_grad_enabled())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with m.enable_grad():
        seen.append((leaf(m) * 2).requires_grad)
        done.set()
        thread.join()
        seen.append(m.is_grad_enabled())
    return seen


FIRST = list(globals()).index("made_within_no_grad")
PROGRAMS = [value for value in list(globals().values())[FIRST:] if callable(value)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_torch(program):
    same(program, rtol=1e-15)
