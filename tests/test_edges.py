"""Numbers that go wrong elsewhere: ties, kinks, zeros, infinities, empty tensors, precision. Against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from twin import same

import gradx
import gradx.nn.functional as F

INF, NAN = math.inf, math.nan


def derivatives(function, *values, order=1, dtype="float64"):
    """A program: `function` of leaves with these values, the first gradients of its sum, and for order 2 the second."""

    def program(m):
        leaves = [m.tensor(value, dtype=getattr(m, dtype), requires_grad=True) for value in values]
        out = function(m, *leaves)
        found = m.autograd.grad(out.sum(), leaves, create_graph=order > 1, allow_unused=True)
        if order == 1:
            return out, *found
        total = sum((g * g).sum() for g in found)
        return out, *found, *m.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)

    return program


KINKS = [-INF, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, INF, NAN]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.relu(x),
        lambda m, x: m.abs(x),
        lambda m, x: m.sign(x),
        lambda m, x: m.clamp(x, -1, 1),
        lambda m, x: m.clamp(x, min=0.0),
        lambda m, x: m.clamp(x, max=0.0),
        lambda m, x: m.clamp(x, 2, 1),
        lambda m, x: m.sqrt(x),
        lambda m, x: m.rsqrt(x),
        lambda m, x: m.log(x),
        lambda m, x: m.log1p(x),
        lambda m, x: m.log2(x),
        lambda m, x: m.exp(x),
        lambda m, x: m.expm1(x),
        lambda m, x: m.sigmoid(x),
        lambda m, x: m.tanh(x),
        lambda m, x: m.reciprocal(x),
        lambda m, x: m.square(x),
        lambda m, x: m.floor(x),
        lambda m, x: m.round(x),
        lambda m, x: m.trunc(x),
        lambda m, x: m.sin(x),
        lambda m, x: x**0,
        lambda m, x: x**1,
        lambda m, x: x**2,
        lambda m, x: x**3,
        lambda m, x: x**0.5,
        lambda m, x: x**-1,
        lambda m, x: x**-2.0,
        lambda m, x: 0**x,
        lambda m, x: 2**x,
        lambda m, x: 1 / x,
        lambda m, x: x / 0,
        lambda m, x: m.where(x > 0, x.sqrt(), x),
        lambda m, x: m.maximum(x, m.zeros_like(x)),
        lambda m, x: m.minimum(x, m.zeros_like(x)),
        lambda m, x: x % 1.0,
    ],
)
def test_kinks_and_limits(function):
    same(derivatives(function, KINKS), rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, y: m.maximum(x, y),
        lambda m, x, y: m.minimum(x, y),
        lambda m, x, y: m.max(x, y),
        lambda m, x, y: m.clamp(x, min=y),
        lambda m, x, y: m.clamp(x, max=y),
        lambda m, x, y: m.clamp(m.zeros_like(x), x, y),
        lambda m, x, y: x**y,
        lambda m, x, y: x / y,
        lambda m, x, y: x * y,
        lambda m, x, y: x % y,
    ],
)
def test_pairs_of_special_values(function):
    left, right = (grid.ravel().tolist() for grid in np.meshgrid(KINKS, KINKS))
    same(derivatives(function, left, right), rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.amax(x, 1),
        lambda m, x: m.amin(x, 1),
        lambda m, x: m.amax(x, (0, 1)),
        lambda m, x: m.max(x),
        lambda m, x: m.min(x),
        lambda m, x: m.max(x, 1).values,
        lambda m, x: m.min(x, 0).values,
        lambda m, x: m.max(x, 1).indices * x.sum(),
        lambda m, x: m.min(x, 1, keepdim=True)[0],
    ],
)
@pytest.mark.parametrize("values", [[[1, 3, 3], [2, 2, 2]], [[NAN, 1, NAN], [INF, INF, -INF]]])
def test_ties(function, values):
    same(derivatives(function, values), rtol=1e-14)


def test_argmax_of_ties_and_nan():
    for values in ([1.0, 3.0, 3.0], [1.0, NAN, 3.0, NAN], [-INF, -INF]):
        same(lambda m: (m.argmax(m.tensor(values)), m.argmin(m.tensor(values))))
        same(lambda m: (m.max(m.tensor(values), 0), m.min(m.tensor(values), 0)))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize(
    "values",
    [
        [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]],
        [[2.0, 0.0, 4.0], [5.0, 6.0, 7.0]],
        [[2.0, 0.0, 0.0], [5.0, 6.0, 0.0]],
        [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0]],
        [[-0.0, 1e-30, 1e30], [1.0, -1.0, 2.0]],
    ],
)
def test_products_with_zeros(values, dim, order):
    arguments = () if dim is None else (dim,)
    same(derivatives(lambda m, x: m.prod(x, *arguments), values, order=order), rtol=1e-13)


def test_third_derivative_of_a_product_with_zeros():
    """d3/dx dy dz of x*y*z is 1, also where all are 0."""
    x = gradx.zeros(3, dtype=gradx.float64, requires_grad=True)
    out = x.prod()
    for place in range(3):
        (g,) = gradx.autograd.grad(out, x, create_graph=True)
        out = g[place]
    assert out.item() == 1.0


@pytest.mark.parametrize("p", [2, 1, 3, 1.5, 0.5, INF, -INF, "fro"])
@pytest.mark.parametrize("values", [[[0.0, 0.0], [3.0, -4.0]], [[0.0, 1.0], [2.0, -2.0]]])
def test_norms_at_zero(p, values):
    same(derivatives(lambda m, x: m.norm(x, p, 1), values), rtol=1e-14)
    same(derivatives(lambda m, x: m.norm(x, p), values), rtol=1e-14)


def test_zero_norm_counts():
    same(lambda m: m.norm(m.tensor([0.0, 3.0, -1.0]), 0))


def test_norm_of_zero_has_gradient_zero():
    x = gradx.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_sqrt_at_zero_has_an_infinite_gradient():
    x = gradx.zeros(1, requires_grad=True)
    x.sqrt().backward()
    assert x.grad.tolist() == [INF]


ROWS = [
    [-INF, -INF, -INF],
    [-INF, 0.0, 1.0],
    [INF, 0.0, 1.0],
    [INF, INF, 0.0],
    [1000.0, 1000.0, 999.0],
    [-1000.0, -1001.0, -1002.0],
    [NAN, 0.0, 1.0],
    [0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_of_infinities(row, dtype):
    rtol = 1e-13 if dtype == "float64" else 1e-5
    for name in ("logsumexp", "softmax", "log_softmax"):
        same(lambda m: getattr(m, name)(m.tensor(row, dtype=getattr(m, dtype)), 0), rtol=rtol)
        if name != "softmax" or not math.isinf(sum(row)):
            same(derivatives(lambda m, x: getattr(m, name)(x, 0), row, dtype=dtype), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [1.0], [1.0, 2.0], [1.0, INF]])
@pytest.mark.parametrize("correction", [0, 1, 2, 3])
def test_spread(name, values, correction):
    same(
        lambda m: getattr(m, name)(m.tensor(values, dtype=m.float64), 0, correction=correction), rtol=1e-12, atol=1e-30
    )


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [1.0, 2.0], [2.0, 2.0, 2.0]])
def test_spread_gradients(name, values):
    same(derivatives(lambda m, x: getattr(m, name)(x), values), rtol=1e-13)
    same(derivatives(lambda m, x: getattr(m, name)(x, unbiased=False), values), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("n", [3, 7, 100, 9_000, 70_000])
def test_equal_elements_have_no_spread(name, dtype, n, device):
    """Whatever the rounding of their mean, of which std's gradient would make a number that is not small."""
    for values, dim in (([0.1 * k + 1.7 for k in range(20)], 1), ([1.7], None)):
        options = {"dtype": getattr(gradx, dtype), "device": device}
        rows = (gradx.tensor(values, **options)[:, None] * gradx.ones(n, **options)).requires_grad_()
        spread = getattr(gradx, name)(rows, dim)
        (g,) = gradx.autograd.grad(spread.sum(), rows)
        assert not spread.any() and not g.any()


@pytest.mark.parametrize("values", [[INF, 1.0, 2.0], [1.0, INF, 2.0], [NAN, 1.0], [INF, -INF]])
def test_the_variance_of_what_is_not_finite(values):
    same(derivatives(lambda m, x: m.var(x, 0), values))


def test_no_degrees_of_freedom():
    same(derivatives(lambda m, x: m.var(x, 0, correction=3), [1.0, 2.0, 4.0], order=1))


def test_spread_of_too_few_elements_is_nan():
    same(lambda m: m.tensor([1.0]).var())
    same(lambda m: m.tensor([]).std())
    same(lambda m: m.tensor(3.0).var())
    same(derivatives(lambda m, x: m.var(x), [1.0]))


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "mean",
        "prod",
        "var",
        "std",
        "norm",
        "amax",
        "amin",
        "max",
        "min",
        "argmax",
        "argmin",
        "any",
        "all",
        "cumsum",
        "logsumexp",
        "softmax",
    ],
)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_reductions_of_nothing(name, shape):
    if name not in ("cumsum", "logsumexp", "softmax"):
        same(lambda m: getattr(m, name)(m.zeros(*shape)), message=False)
    more = {"p": 2} if name == "norm" else {}
    for dim in range(len(shape)):
        same(lambda m, dim=dim: getattr(m, name)(m.zeros(*shape), dim=dim, **more), message=False)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "norm"])
def test_gradients_of_nothing(name):
    same(derivatives(lambda m, x: getattr(m, name)(x), []))


# ---- precision -------------------------------------------------------------------------------------------------------


def test_column_sum_of_twenty_million_tenths():
    tenths = gradx.from_numpy(np.full((20_000_000, 1), 0.1, np.float32))
    for total in (tenths.sum(0), tenths.reshape(-1).sum(), tenths.sum()):
        assert total.item() == pytest.approx(2_000_000, rel=1e-7)
    assert tenths.mean(0).item() == pytest.approx(0.1, rel=1e-7)


def test_column_sums_of_a_wide_matrix():
    tenths = gradx.from_numpy(np.full((2_000_000, 10), 0.1, np.float32))
    np.testing.assert_allclose(tenths.sum(0).numpy(), np.full(10, 200_000), rtol=1e-7)
    np.testing.assert_allclose(tenths.T.sum(1).numpy(), np.full(10, 200_000), rtol=1e-7)
    assert tenths.sum().item() == pytest.approx(2_000_000, rel=1e-7)


def test_sum_over_outer_dimensions_and_broadcast_gradients():
    """The gradient of a broadcast bias is such a column sum."""
    bias = gradx.zeros(10, requires_grad=True)
    rows = gradx.from_numpy(np.full((1_000_000, 10), 0.1, np.float32))
    (g,) = gradx.autograd.grad(rows + bias, bias, gradx.full_like(rows, 0.1))
    np.testing.assert_allclose(g.numpy(), np.full(10, 100_000), rtol=1e-7)
    cube = gradx.from_numpy(np.full((3000, 4, 500), 0.1, np.float32))
    np.testing.assert_allclose(cube.sum((0, 2)).numpy(), np.full(4, 150_000), rtol=1e-6)


def test_half_precision_accumulates_in_single():
    many = gradx.ones(100_000, dtype=gradx.float16)
    assert many.mean().item() == 1.0  # in half precision the sum alone would overflow
    assert (many / 16).sum().item() == 6248.0  # the nearest to 6250; adding in half precision stops at 128
    assert gradx.ones(5000, 2, dtype=gradx.float16).sum(0).tolist() == [5000.0, 5000.0]
    assert gradx.full((4,), 300.0, dtype=gradx.float16).norm().item() == 600.0  # the squares overflow
    assert many.softmax(0).sum().item() == pytest.approx(1.0, abs=0.01)
    large = gradx.full((1000,), 60000.0, dtype=gradx.float16)
    assert large.mean().item() == 60000.0
    assert F.mse_loss(large, large - 320).item() == INF  # 102,400 is beyond half precision
    assert F.mse_loss(large, large - 32).item() == 1024.0
    assert large.var().item() == 0.0
    assert gradx.logsumexp(gradx.zeros(1000, dtype=gradx.float16), 0).item() == pytest.approx(math.log(1000), rel=1e-3)


def test_softmax_of_large_numbers():
    assert gradx.softmax(gradx.tensor([1e30, 0.0]), 0).tolist() == [1.0, 0.0]
    assert gradx.log_softmax(gradx.tensor([1e30, 0.0]), 0).tolist() == [0.0, -np.float32(1e30).item()]


def test_large_integers():
    same(lambda m: m.tensor([2**53 + 1, 1]).sum())
    same(lambda m: m.tensor([100] * 10, dtype=m.int8).sum())
    same(lambda m: m.tensor([100, 100], dtype=m.int8).prod())
    same(lambda m: m.tensor([100, 100], dtype=m.uint8) + 100)
    same(lambda m: m.tensor([True, True]).sum())
    same(lambda m: m.tensor([2, 0, -1, 1]) ** m.tensor([-1, 3, -3, -2]))
    same(lambda m: m.tensor([2]) ** -1)
    same(lambda m: m.tensor([1]) // 0)
    same(lambda m: m.tensor([1]) % m.tensor([0]))
    same(lambda m: m.tensor([7, -7]) // m.tensor([2, 2]))
    same(lambda m: m.tensor([7.5, -7.5]) // 2)
