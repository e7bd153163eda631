"""GradScaler against torch's, step by step, on the CPU; and on CUDA against the CPU."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from twin import same

import gradx
from gradx.backends.cuda.status import Diagnosis


class Descent:
    """Gradient descent: the least that a scaler asks of an optimiser."""

    def __init__(self, m, *parameters):
        self.m, self.param_groups, self.steps = m, [{"params": list(parameters)}], 0

    def step(self, *args, **kwargs):
        self.steps += 1
        with self.m.no_grad():
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.sub_(0.125 * parameter.grad)
        return self.steps, *args, *kwargs.items()


def made(m, device="cpu", **options):
    """A leaf, an optimiser of it, and a scaler."""
    weight = m.tensor([1.0, -2.0, 3.0], device=device).requires_grad_()
    return weight, Descent(m, weight), m.amp.GradScaler(device, **options)


def steps(m, factors, device="cpu", dtype="float32", **options):
    """What is known after each of several steps, in which the gradients are `factors`."""
    weight, optimizer, scaler = made(m, device, **options)
    if dtype != "float32":
        weight = weight.detach().to(getattr(m, dtype)).requires_grad_()
        optimizer = Descent(m, weight)
    known = []
    for factor in factors:
        weight.grad = None
        scaler.scale((weight * factor).sum()).backward()
        scaled = weight.grad.clone()
        returned = scaler.step(optimizer, 1, two=3)
        scaler.update()
        known += [scaled, weight.grad, weight.detach().clone(), returned]
        known += [scaler.get_scale(), scaler._get_growth_tracker()]
    return known


NAN, INF = float("nan"), float("inf")
PLANS = [
    ([1.0, 2.0, 3.0], {}),
    ([1.0] * 7, {"growth_interval": 3, "init_scale": 4.0}),
    ([1.0, INF, 1.0, 1.0, NAN, -INF, 1.0], {"growth_interval": 2, "init_scale": 1024.0}),
    ([1.0, INF, 1.0], {"growth_factor": 1.1, "backoff_factor": 0.3, "growth_interval": 1, "init_scale": 3.3}),
    ([0.0, 0.0], {"growth_interval": 1, "init_scale": 2.0**127}),  # the scale would become inf
    ([1.0], {"enabled": False}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("factors", "options"), PLANS)
def test_steps(factors, options, dtype):
    same(lambda m: steps(m, factors, dtype=dtype, **options))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("factors", "options"), PLANS)
def test_steps_on_cuda(factors, options, dtype):
    for cuda, cpu in zip(
        steps(gradx, factors, "cuda", dtype, **options), steps(gradx, factors, "cpu", dtype, **options), strict=True
    ):
        if isinstance(cpu, gradx.Tensor):
            assert cuda.is_cuda and cuda.dtype is cpu.dtype
            cuda, cpu = cuda.tolist(), cpu.tolist()
        np.testing.assert_equal(cuda, cpu)


def many(m, device, place=None, value=NAN):
    """Whether there is a step with more gradients than go into one launch, of all sizes, layouts and dtypes."""
    leaves = [m.ones(n, device=device) for n in range(150)]
    leaves += [m.ones(3, n, device=device).t().detach() for n in (5, 200_000)]
    leaves += [m.ones(7, 9, device=device)[::2, ::2].detach(), m.ones(70_000, dtype=m.float64, device=device)]
    for leaf in leaves:
        leaf.requires_grad_()
    optimizer, scaler = Descent(m, *leaves), m.amp.GradScaler(device, init_scale=4.0)
    scaler.scale(sum(leaf.sum().float() for leaf in leaves)).backward()
    leaves[152].grad = (m.ones(7, 9, device=device) * 4)[::2, ::2]  # with gaps in memory
    if place is not None:
        leaves[place].grad[..., -1] = value
    scaler.step(optimizer)
    return optimizer.steps, [leaf.grad.sum().item() for leaf in leaves if leaf.numel()]


@pytest.mark.parametrize("place", [None, 1, 149, 150, 151, 152, 153])
@pytest.mark.parametrize("value", [NAN, INF])
def test_many_gradients(place, value, device):
    known = many(gradx, device, place, value)
    np.testing.assert_equal(known, many(gradx, "cpu", place, value))
    assert known[0] == (place is None)


def looked_at(m):
    """Gradients unscaled, and changed, before the step."""
    weight, optimizer, scaler = made(m)
    scaler.scale((weight * weight).sum()).backward()
    scaler.unscale_(optimizer)
    before = weight.grad.clone()
    weight.grad.clamp_(-1, 1)
    scaler.step(optimizer)
    scaler.update()
    return before, weight, scaler.get_scale()


def two_optimizers(m):
    """One finds inf and does not step, the other does; the scale falls once."""
    (a, first, scaler), (b, second, _) = made(m), made(m)
    for loss in scaler.scale([(a * INF).sum(), b.sum()]):
        loss.backward()
    returned = scaler.step(first), scaler.step(second)
    scaler.update()
    return *returned, a, b, scaler.get_scale()


def containers(m):
    a, _, scaler = made(m, init_scale=8.0)
    given = (a, [a * 2, (a,)])
    scaled = scaler.scale(given)
    lazy = scaler.scale(iter([a]))
    return scaled, list(lazy), type(scaled), type(scaled[1]), isinstance(lazy, list)


def saved(m):
    weight, optimizer, scaler = made(m, init_scale=16.0, growth_interval=2)
    empty = scaler.state_dict()
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    state = scaler.state_dict()
    _, _, other = made(m)
    other.load_state_dict(state)
    weight, optimizer, third = made(m)
    third.scale(weight.sum())
    third.load_state_dict(state)
    copied = pickle.loads(pickle.dumps(scaler)).state_dict()
    states = [sorted(s.items()) for s in (empty, state, other.state_dict(), third.state_dict(), copied)]
    return states, m.amp.GradScaler("cpu", enabled=False).state_dict() == {}


def settings(m):
    _, _, scaler = made(m, growth_factor=3.0, backoff_factor=0.25, growth_interval=7)
    before = scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval(), scaler.get_scale()
    scaler.set_growth_factor(4.0), scaler.set_backoff_factor(0.5), scaler.set_growth_interval(9)
    after = scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval(), scaler.is_enabled()
    return before, after


def new_scales(m):
    weight, _, scaler = made(m)
    scaler.scale(weight)
    scaler.update(3.0)
    first = scaler.get_scale()
    scaler.update(m.tensor(5.0))
    return first, scaler.get_scale(), scaler.scale(weight)


def disabled(m):
    weight, optimizer, scaler = made(m, enabled=False)
    loss = weight.sum()
    kept = scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    returned = scaler.step(optimizer, 1)
    scaler.update()
    scaler.load_state_dict({})
    return kept, returned, weight, scaler.get_scale(), scaler.is_enabled(), scaler._get_growth_tracker()


def under_autocast(m):
    """As it is meant: the loss in lower precision, the scaler, an optimiser."""
    weight, optimizer, scaler = made(m, init_scale=256.0)
    for _ in range(3):
        weight.grad = None
        with m.autocast("cpu", m.float16):
            loss = m.nn.functional.mse_loss(m.ones(2, 3) @ weight, m.zeros(2))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return weight, weight.grad, scaler.get_scale()


@pytest.mark.parametrize(
    "program", [looked_at, two_optimizers, containers, saved, settings, new_scales, disabled, under_autocast]
)
def test_programs(program):
    same(program, rtol=2e-3 if program is under_autocast else 0.0)


def unscaled_twice(m):
    weight, optimizer, scaler = made(m)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    scaler.unscale_(optimizer)


def unscaled_after_step(m):
    weight, optimizer, scaler = made(m)
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    scaler.unscale_(optimizer)


def stepped_twice(m):
    weight, optimizer, scaler = made(m)
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    scaler.step(optimizer)


def no_gradients(m):
    weight, optimizer, scaler = made(m)
    scaler.scale(weight.sum())
    scaler.step(optimizer)


def half_gradients(m):
    _, _, scaler = made(m)
    weight = m.ones(2, dtype=m.float16).requires_grad_()
    scaler.scale(weight.float().sum() * 0).backward()
    scaler.unscale_(Descent(m, weight))


def no_tensor(m):
    weight, _, scaler = made(m)
    scaler.scale(weight)
    scaler.unscale_(Descent(m, 3))


def closure(m):
    _, optimizer, scaler = made(m)
    scaler.step(optimizer, closure=lambda: None)


def update_without_step(m):
    weight, _, scaler = made(m)
    scaler.scale(weight)
    scaler.update()


def scale_that_requires_grad(m):
    weight, _, scaler = made(m)
    scaler.scale(weight)
    scaler.update(m.tensor(1.0, requires_grad=True))


def scale_of_two(m):
    weight, _, scaler = made(m)
    scaler.scale(weight)
    scaler.update(m.ones(2))


def pickled_within_an_iteration(m):
    weight, optimizer, scaler = made(m)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    pickle.dumps(scaler)


@pytest.mark.parametrize(
    "program",
    [
        unscaled_twice,
        unscaled_after_step,
        stepped_twice,
        no_gradients,
        half_gradients,
        no_tensor,
        closure,
        update_without_step,
        scale_that_requires_grad,
        scale_of_two,
        pickled_within_an_iteration,
        lambda m: made(m)[2].step(made(m)[1]),
        lambda m: made(m)[2].unscale_(made(m)[1]),
        lambda m: made(m)[2].update(),
        lambda m: made(m)[2].scale(3),
        lambda m: made(m)[2].scale([m.ones(1), 3]),
        lambda m: made(m)[2].load_state_dict({}),
        lambda m: made(m, growth_factor=1.0),
        lambda m: made(m, backoff_factor=1.0),
    ],
)
def test_errors(program):
    same(program)


def test_name_at_the_top():
    same(lambda m: m.GradScaler is m.amp.GradScaler)


def test_cuda_without_cuda_is_disabled(monkeypatch):
    monkeypatch.setattr("gradx.amp.grad_scaler.diagnose", lambda: Diagnosis(False, "No driver.", "Install one."))
    with pytest.warns(UserWarning, match="GradScaler is enabled, but CUDA is not available"):
        scaler = gradx.amp.GradScaler("cuda")
    assert not scaler.is_enabled()


@pytest.mark.cuda
def test_losses_and_gradients_on_several_devices():
    weight, optimizer, scaler = made(gradx, "cuda", init_scale=8.0)
    other = gradx.ones(2, requires_grad=True)
    optimizer.param_groups[0]["params"].append(other)
    loss = scaler.scale(weight.sum() + (other * INF).sum().cuda())
    loss.backward()
    assert scaler.step(optimizer) is None and optimizer.steps == 0
    assert weight.grad.tolist() == [1.0] * 3
    scaler.update()
    assert scaler.get_scale() == 4.0
