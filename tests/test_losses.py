"""Losses and the other names of nn.functional at their edges, against torch."""

from __future__ import annotations

import importlib

import pytest
from twin import same

INDICES = [2, 0, -100, 1]


def functional(m):
    return importlib.import_module(f"{m.__name__}.nn.functional")


def logits(m, *shape, requires_grad=True):
    size = 1
    for n in shape:
        size *= n
    return m.cos(m.arange(size, dtype=m.float64) * 1.3).reshape(shape).requires_grad_(requires_grad)


def with_gradient(m, leaf, loss):
    return loss, *m.autograd.grad(loss.sum(), leaf)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore", [-100, 0])
def test_cross_entropy(reduction, weighted, smoothing, ignore):
    def program(m):
        x = logits(m, 4, 3)
        weight = m.tensor([0.5, 2.0, 1.0], dtype=m.float64) if weighted else None
        target = m.tensor([2, 0, ignore, 1])
        loss = functional(m).cross_entropy(
            x, target, weight=weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
        )
        return with_gradient(m, x, loss)

    same(program, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_targets_ignored(smoothing):
    def program(m):
        x = logits(m, 2, 3)
        loss = functional(m).cross_entropy(x, m.tensor([-100, -100]), label_smoothing=smoothing)
        return with_gradient(m, x, loss)

    same(program)


def test_no_targets_at_all():
    same(lambda m: functional(m).cross_entropy(m.zeros(0, 3), m.zeros(0, dtype=m.int64)))
    same(lambda m: functional(m).mse_loss(m.zeros(0), m.zeros(0)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_probabilities(reduction, weighted, smoothing):
    def program(m):
        x = logits(m, 2, 3, 2)
        weight = m.tensor([0.5, 2.0, 1.0], dtype=m.float64) if weighted else None
        target = m.softmax(logits(m, 2, 3, 2, requires_grad=False) * 2, 1)
        loss = functional(m).cross_entropy(x, target, weight, reduction=reduction, label_smoothing=smoothing)
        return with_gradient(m, x, loss)

    same(program, rtol=1e-12)


def test_several_dimensions_and_none():
    same(lambda m: functional(m).cross_entropy(logits(m, 2, 3, 4), m.zeros(2, 4, dtype=m.int64)), rtol=1e-13)
    same(lambda m: functional(m).cross_entropy(logits(m, 3), m.tensor(1)), rtol=1e-13)
    same(lambda m: functional(m).nll_loss(logits(m, 3), m.tensor(1)), rtol=1e-13)
    same(lambda m: functional(m).cross_entropy(logits(m, 3), m.softmax(logits(m, 3), 0)), rtol=1e-13)


def test_confident_logits():
    same(lambda m: functional(m).cross_entropy(m.tensor([[1000.0, 0.0]]), m.tensor([1])))
    same(lambda m: functional(m).cross_entropy(m.tensor([[float("-inf"), 0.0]]), m.tensor([1])))
    same(lambda m: functional(m).cross_entropy(m.tensor([[float("-inf"), 0.0]]), m.tensor([0])))


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "call",
    [
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(5, dtype=m.int64)),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.tensor([0, 1, 2, 3])),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.tensor([0, 1, 2, -1])),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4)),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4, dtype=m.int64), reduction="average"),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4, dtype=m.int64), label_smoothing=1.5),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4, 3, dtype=m.int64)),
        lambda m, F: F.cross_entropy(m.zeros(2, 4, 3), m.zeros(2, 4, dtype=m.int64)),
        lambda m, F: F.cross_entropy(m.zeros(2, 2, dtype=m.complex64), m.tensor([0, 1])),
        lambda m, F: F.cross_entropy(m.zeros(()), m.zeros((), dtype=m.int64)),
        lambda m, F: F.nll_loss(m.zeros(()), m.zeros((), dtype=m.int64)),
        lambda m, F: F.nll_loss(m.zeros(2, 3, dtype=m.int64), m.tensor([0, 1])),
        lambda m, F: F.nll_loss(m.zeros(2, 4, 3), m.zeros(2, 4, dtype=m.int64)),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4, 3), ignore_index=1),
        lambda m, F: F.cross_entropy(m.zeros(4, 3), m.zeros(4, 3), m.zeros(2)),
        lambda m, F: F.nll_loss(m.zeros(4, 3), m.zeros(4)),
        lambda m, F: F.nll_loss(m.zeros(4, 3), m.zeros(4, 2, dtype=m.int64)),
        lambda m, F: F.nll_loss(m.zeros(4, 3), m.zeros(4, dtype=m.int64), weight=m.zeros(2)),
        lambda m, F: F.mse_loss(m.zeros(3), m.zeros(2)),
        lambda m, F: F.mse_loss(m.zeros(3), m.zeros(3), reduction="average"),
        lambda m, F: F.mse_loss(m.zeros(3), 1.0),
        lambda m, F: F.softmax(m.zeros(3, dtype=m.int64), 0),
        lambda m, F: F.softmax(m.zeros(3), 1),
        lambda m, F: F.dropout(m.zeros(3), p=1.5),
        lambda m, F: F.smooth_l1_loss(m.zeros(3), m.zeros(3), beta=-1.0),
        lambda m, F: F.huber_loss(m.zeros(3), m.zeros(3), delta=0),
        lambda m, F: F.one_hot(m.tensor([0, 3]), 2),
        lambda m, F: F.one_hot(m.tensor([0, -1])),
        lambda m, F: F.one_hot(m.tensor([0.0])),
        lambda m, F: F.linear(m.zeros(2, 3), m.zeros(4, 2)),
        lambda m, F: F.binary_cross_entropy(m.tensor([1.5]), m.tensor([1.0])),
        lambda m, F: F.binary_cross_entropy(m.zeros(2), m.zeros(3)),
        lambda m, F: F.binary_cross_entropy_with_logits(m.zeros(2), m.zeros(3)),
        lambda m, F: F.layer_norm(m.zeros(2, 3), (2,)),
    ],
)
def test_errors(call):
    same(lambda m: call(m, functional(m)), message=False)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_mse_broadcasts_with_a_warning():
    import gradx

    same(lambda m: functional(m).mse_loss(m.ones(2, 3), m.zeros(3)))
    with pytest.warns(UserWarning, match=r"Using a target size .* that is different to the input size"):
        gradx.nn.functional.mse_loss(gradx.ones(2, 1), gradx.zeros(2))


def test_one_hot_and_dropout():
    same(lambda m: functional(m).one_hot(m.tensor([0, 2, 1])))
    same(lambda m: functional(m).one_hot(m.tensor([[0], [1]]), 4))
    same(lambda m: functional(m).dropout(m.ones(4), 0.5, training=False))
    same(lambda m: functional(m).dropout(m.ones(4), 0.0))
    same(lambda m: functional(m).dropout(m.ones(4), 1.0))


def test_dropout_keeps_the_mean():
    import gradx

    gradx.manual_seed(0)
    x = gradx.ones(20_000, requires_grad=True)
    out = gradx.nn.functional.dropout(x, 0.25)
    assert set(out.unique_values() if hasattr(out, "unique_values") else set(out.tolist())) == {0.0, out.max().item()}
    assert out.max().item() == pytest.approx(4 / 3)
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    (g,) = gradx.autograd.grad(out.sum(), x)
    assert g.tolist() == out.tolist()


@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits"]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_at_kinks(name, reduction):
    def program(m):
        x = m.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 40.0, -800.0], dtype=m.float64, requires_grad=True)
        loss = getattr(functional(m), name)(x, m.zeros_like(x), reduction=reduction)
        return with_gradient(m, x, loss)

    same(program, rtol=1e-14)


@pytest.mark.parametrize(
    "name",
    ["mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"],
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses_of_integers(name, reduction):
    def program(m):
        return getattr(functional(m), name)(m.tensor([0, 1]), m.tensor([1, 1]), reduction=reduction)

    same(program)


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "softplus", "silu", "logsigmoid", "gelu"])
def test_activations_of_integers(name):
    tanh = {"approximate": "tanh"} if name == "gelu" else {}
    for dtype in ("int64", "uint8", "bool"):
        same(lambda m, dtype=dtype: getattr(functional(m), name)(m.tensor([0, 1], dtype=getattr(m, dtype)), **tanh))


@pytest.mark.parametrize("name", ["smooth_l1_loss", "huber_loss", "mse_loss"])
def test_the_gradient_of_nan_is_nan(name):
    def program(m):
        x = m.tensor([float("nan"), 0.25, 2.0], requires_grad=True)
        loss = getattr(functional(m), name)(x, m.zeros(3), reduction="none")
        return with_gradient(m, x, loss.sum())

    same(program)


def test_binary_cross_entropy_at_its_ends():
    """Torch limits the logarithm to -100."""

    def program(m):
        x = m.tensor([0.0, 1.0, 0.25, 1.0, 0.0], dtype=m.float64, requires_grad=True)
        target = m.tensor([0.0, 1.0, 0.5, 0.0, 1.0], dtype=m.float64)
        return with_gradient(m, x, functional(m).binary_cross_entropy(x, target))

    same(program, rtol=1e-14)
