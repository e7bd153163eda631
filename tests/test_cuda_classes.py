"""Cross entropy on CUDA against the CPU in float64: both kinds of target, dtypes, lengths and strides."""

from __future__ import annotations

import numpy as np
import pytest

import gradx
import gradx.nn.functional as F

pytestmark = pytest.mark.cuda

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}
TURNS = {  # from the shape in memory to (N, C, d)
    "contiguous": lambda x: x,
    "transposed": lambda x: x.permute(1, 2, 0),
    "sliced": lambda x: x[:, ::2, 1::2],
}


def made(shape, device, dtype, turn, seed):
    values = np.random.default_rng(seed).random(shape) / (
        1 + 99 * seed
    )  # small targets, or the losses of halves are inf
    halved = gradx.tensor(values, dtype=getattr(gradx, dtype))  # both devices see the same rounded numbers
    exact = halved if device == "cuda" else halved.double()
    return TURNS[turn](exact.to(device)).requires_grad_()


def computed(device, dtype, turn, shape, soft, weighted, smoothing, reduction):
    """The loss and its gradients, in float64 on the CPU."""
    x = made(shape, device, dtype, turn, 0)
    classes = x.shape[1]
    weight = gradx.linspace(0.5, 2, classes, dtype=x.dtype, device=device) if weighted else None
    if soft:
        target = made(shape, device, dtype, turn, 1)
    else:
        labels = np.random.default_rng(2).integers(0, classes, (2 * x.shape[0], x.shape[2]))
        target = gradx.tensor(labels, device=device)[::2]
    loss = F.cross_entropy(x, target, weight, reduction=reduction, label_smoothing=smoothing)
    leaves = [x, target] if soft else [x]
    return [loss, *gradx.autograd.grad(loss.sum(), leaves)]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("dtype", "turn", "shape", "weighted", "smoothing", "reduction"),
    [
        ("float32", "contiguous", (3, 5, 4), True, 0.1, "mean"),
        ("float32", "transposed", (4, 3, 5), True, 0.1, "none"),
        ("float32", "sliced", (3, 10, 6), False, 0.0, "mean"),
        ("float32", "sliced", (1, 80_000, 2), False, 0.0, "sum"),
        ("float16", "contiguous", (2, 33_000, 1), False, 0.1, "none"),
        ("bfloat16", "transposed", (1, 2, 9000), True, 0.0, "none"),
        ("float64", "contiguous", (2, 33_000, 1), True, 0.1, "mean"),
        ("float64", "contiguous", (1, 12_000, 2), False, 0.0, "mean"),
    ],
)
def test_cross_entropy(soft, dtype, turn, shape, weighted, smoothing, reduction):
    options = (dtype, turn, shape, soft, weighted, smoothing, reduction)
    for found, expected in zip(computed("cuda", *options), computed("cpu", *options), strict=True):
        assert found.dtype == getattr(gradx, dtype)
        scale = float(expected.abs().max())
        np.testing.assert_allclose(
            found.detach().cpu().double().numpy() / scale, expected.detach().numpy() / scale, atol=TOLERANCE[dtype]
        )


def test_probabilities_of_what_is_not_finite():
    x = gradx.tensor([[0.0, -np.inf, 1.0], [np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0]], device="cuda")
    target = gradx.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], device="cuda")
    loss = F.cross_entropy(x, target, reduction="none").cpu().numpy()
    assert loss[0] == np.inf
    assert np.isnan(loss[1:]).all()
