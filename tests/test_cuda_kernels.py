"""The fused CUDA kernels against NumPy in float64: dtypes, layouts, lengths from 0 to beyond one team's registers."""

from __future__ import annotations

import importlib.resources
import itertools
import math
import re
import warnings

import ml_dtypes  # noqa: F401  NumPy knows "bfloat16" from it
import numpy as np
import pytest

import gradx
from gradx.backends import backend_for

pytestmark = pytest.mark.cuda

DTYPES = ["float16", "bfloat16", "float32", "float64"]
# Units in the last place: halves are rounded once, the others are sums of many terms.
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-14}
SHAPES = [  # with the dimension: rows and columns, short and long, for every size of team
    ((), 0),
    ((1,), -1),
    ((5, 7), 1),
    ((5, 7), 0),
    ((0, 3), 0),
    ((0, 3), 1),
    ((3, 0), 0),
    ((300, 10), -1),
    ((3, 250), 1),
    ((3, 2000), 1),
    ((2, 8000), 1),
    ((2, 20_000), 1),
    ((2, 33_000), 1),
    ((2, 100, 33), 1),
    ((1000, 3), 0),
    ((5000, 3), 0),
    ((9, 4, 2), 1),
]


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture(scope="module")
def kernels(cupy):
    from gradx.backends.cuda import kernels as cuda_kernels

    return cuda_kernels


@pytest.fixture
def random():
    return np.random.default_rng(0)


def normal(random, shape, dtype):
    return np.asarray(3 * random.standard_normal(shape), dtype)


def close(actual, expected, dtype, scale=1.0):
    """`actual`, on the device, has the dtype and shape it should, and errors within `scale` units of rounding."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(actual.get(), expected, rtol=tolerance * scale, atol=tolerance * scale)


def softmax(x, dim, log):
    x = np.asarray(x, np.float64)
    x = x.reshape(x.shape or (1,))
    if x.size == 0:
        return x
    shifted = x - x.max(axis=dim, keepdims=True)
    total = np.exp(shifted).sum(axis=dim, keepdims=True)
    return shifted - np.log(total) if log else np.exp(shifted) / total


def softmax_backward(g, out, dim, log):
    g, out = (np.asarray(a, np.float64).reshape(a.shape or (1,)) for a in (g, out))
    if log:
        return g - np.exp(out) * g.sum(axis=dim, keepdims=True)
    return out * (g - (g * out).sum(axis=dim, keepdims=True))


def cases(shapes):
    """Each shape with every dtype, and a flag either way. Long slices, whose kernels take an emulator seconds to compile,
    have another dtype for each value of the flag, in turn."""
    for (i, (shape, dim)), (j, dtype), flag in itertools.product(enumerate(shapes), enumerate(DTYPES), (False, True)):
        if math.prod(shape) < 2500 or (i + j + 2 * flag) % 4 == 0:
            yield shape, dim, dtype, flag


@pytest.mark.parametrize(("shape", "dim", "dtype", "log"), [*cases(SHAPES)])
def test_softmax(cupy, kernels, random, shape, dim, dtype, log):
    x, g = normal(random, shape, dtype), normal(random, shape, dtype)
    forward, backward = (
        (kernels.log_softmax, kernels.log_softmax_backward) if log else (kernels.softmax, kernels.softmax_backward)
    )
    out = forward(cupy.asarray(x), dim)
    close(out, softmax(x, dim, log).reshape(shape), dtype, 20 if log else 1)
    grad = backward(cupy.asarray(g), out, dim)
    # The sum of g over a slice grows with the root of its length, and its rounding error with it.
    scale = 10 * math.sqrt(max(shape, default=1))
    close(grad, softmax_backward(g, out.get(), dim, log).reshape(shape), dtype, scale)


def test_more_slices_than_the_grid_has_teams(cupy, kernels, random, monkeypatch):
    monkeypatch.setattr("gradx.backends.cuda.slices._MAX_BLOCKS", 2)
    for shape, dim in [((1000, 10), 1), ((10, 1000), 0)]:
        x = normal(random, shape, "float32")
        close(kernels.softmax(cupy.asarray(x), dim), softmax(x, dim, False), "float32")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("row", "finite"),
    [
        ([-np.inf, -np.inf, -np.inf], False),
        ([np.inf, 0.0, 1.0], False),
        ([0.0, np.nan, 1.0], False),
        ([-np.inf, 0.0, 1.0], True),
        ([80_000.0, 0.0, -80_000.0], True),
    ],
)
def test_softmax_of_what_is_not_finite(cupy, kernels, row, finite, log):
    out = (kernels.log_softmax if log else kernels.softmax)(cupy.asarray(row), 0).get()
    if not finite:
        assert np.isnan(out).all()
        return
    np.testing.assert_allclose(out, softmax(row, 0, log), rtol=1e-14)


# Views of an array of three dimensions, and of one of ten that cannot be merged: more than a kernel takes strides for.
VIEWS = [
    lambda a: a.transpose(2, 0, 1),
    lambda a: a[::2, 1::3],
    lambda a: a[:, ::-1],
    lambda a: a[:1].repeat(3, 0)[:, None].swapaxes(1, 3),
    lambda a: a[:4, :4, :4].reshape((2, 2) * 3).repeat(2, 0).transpose(0, 2, 4, 1, 3, 5),
    lambda a: a.ravel()[:128].reshape((2,) * 7)[..., None, None, None].repeat(3, 7).repeat(3, 8).repeat(3, 9)[..., ::2],
    lambda a: a.ravel()[: 2**7].reshape((2,) * 7)[(slice(None),) * 7 + (None,) * 3].transpose(*range(9, -1, -1)),
]


def spread(a):
    """`a` with its elements in every other place of memory along every dimension."""
    out = type(a)(tuple(2 * n for n in a.shape), a.dtype)[(slice(None, None, 2),) * a.ndim]
    out[...] = a
    return out


@pytest.mark.parametrize("view", VIEWS)
def test_softmax_of_strided_arrays(cupy, kernels, random, view):
    x, y = (normal(random, (6, 8, 5), "float32") for _ in range(2))
    a, b = view(x), spread(view(y))
    on_device = view(cupy.asarray(x)), spread(view(cupy.asarray(y)))
    for dim in {0, 1, a.ndim - 1}:
        close(kernels.softmax(on_device[0], dim), softmax(a, dim, False), "float32")
        close(kernels.softmax_backward(*on_device, dim), softmax_backward(a, b, dim, False), "float32", 100)


@pytest.mark.parametrize(("dtype", "columns"), [("bfloat16", False), ("float32", True), ("float64", False)])
def test_softmax_of_long_strided_slices(cupy, kernels, random, dtype, columns):
    """Some elements in registers, some in shared memory, for float64 some in memory."""
    x, y = (normal(random, (33_000, 2), dtype) for _ in range(2))
    turn = (lambda a: a) if columns else (lambda a: a.T)
    dim = 0 if columns else 1
    out = kernels.softmax_backward(turn(cupy.asarray(x)), turn(spread(cupy.asarray(y))), dim)
    close(out, softmax_backward(turn(x), turn(y), dim, False), dtype, 2000)
    close(kernels.softmax(turn(spread(cupy.asarray(x))), dim), softmax(turn(x), dim, False), dtype)


def test_indices_have_64_bits():
    """No kernel counts elements in anything smaller: its parameters say so, and `Index` is checked where it is defined."""
    folder = importlib.resources.files("gradx.backends.cuda")
    sources = [folder.joinpath(f"{name}.cu").read_text() for name in ("slices", "softmax", "reduce", "classes")]
    assert "typedef long long Index;" in sources[0]
    signatures = re.findall(r"^KERNEL \w+\((.*?)\) \{", "".join(sources[1:]), re.DOTALL | re.MULTILINE)
    assert len(signatures) == 8
    for signature in signatures:
        words = re.sub(
            r"const \w+\* __restrict__ \w+|\w+\* __restrict__ \w+|STRIDES\(\w+\)|SLICES|OTHER", "", signature
        )
        assert {word.split()[0] for word in words.split(",") if word.split()} <= {"Index", "double"}


REDUCED = [
    *(((3, 4, 5), dim) for n in range(4) for dim in itertools.combinations(range(3), n)),
    ((), ()),
    ((2, 1, 3, 1), (0, 2)),
    ((3, 1, 4, 5), (0, 2)),
    ((0, 3), (0,)),
    ((0, 3), (1,)),
    ((2, 300), (1,)),
    ((300, 5), (0,)),
    ((2, 40_000), (0, 1)),
    ((40_000, 2), (0,)),
]


@pytest.mark.parametrize(("shape", "dim", "dtype", "keepdim"), [*cases(REDUCED)])
def test_reductions(cupy, kernels, random, shape, dim, dtype, keepdim):
    x = normal(random, shape, dtype)
    on_device, wide, over = cupy.asarray(x), x.astype(np.float64), {"axis": dim, "keepdims": keepdim}
    count = math.prod(shape[d] for d in dim)
    scale = 10 * math.sqrt(count)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about empty slices
        total = wide.sum(**over)
        close(kernels.total(on_device, dim, keepdim), total, dtype, scale)
        close(kernels.total(on_device, dim, keepdim, divisor=count), total / count, dtype, scale)
        close(kernels.norm(on_device, 2, dim, keepdim), np.sqrt((wide**2).sum(**over)), dtype, scale)
        close(kernels.norm(on_device, 3, dim, keepdim), np.cbrt((abs(wide) ** 3).sum(**over)), dtype, scale)
        close(kernels.logsumexp(on_device, dim, keepdim), np.log(np.exp(wide).sum(**over)), dtype, scale)
        squares = ((wide - wide.mean(axis=dim, keepdims=True)) ** 2).sum(**over)
        for correction in (0, 1):
            var = squares / max(0, count - correction)
            found, mean = kernels.var(on_device, dim, correction, keepdim)
            close(found, var, dtype, scale)
            np.testing.assert_allclose(mean.get(), wide.mean(**over), 1e-4, scale * 1e-6)
            assert mean.dtype == np.dtype("float64" if dtype == "float64" else "float32")
            close(kernels.var(on_device, dim, correction, keepdim, root=True)[0], np.sqrt(var), dtype, scale)


@pytest.mark.parametrize(("shape", "dim"), [((2, 1_000_000), (1,)), ((1_000_000, 2), (0,)), ((2_000_000,), (0,))])
def test_long_sums_keep_their_digits(cupy, kernels, shape, dim):
    out = kernels.total(cupy.full(shape, 0.1, np.float32), dim, False).get()
    count = math.prod(shape[d] for d in dim)
    np.testing.assert_allclose(out, count * float(np.float32(0.1)), rtol=2e-7)


@pytest.mark.parametrize("view", VIEWS)
def test_reductions_of_strided_arrays(cupy, kernels, random, view):
    x = normal(random, (6, 8, 5), "float32")
    wide, on_device = view(x).astype(np.float64), view(cupy.asarray(x))
    for dim in [(0,), (1,), (0, 2), tuple(range(0, wide.ndim, 2)), tuple(range(wide.ndim))]:
        close(kernels.total(on_device, dim, False), wide.sum(axis=dim), "float32", 100)
        close(kernels.var(on_device, dim, 0, True)[0], wide.var(axis=dim, keepdims=True), "float32", 100)
        top = np.asarray(wide.max(axis=dim, keepdims=True), "float32")
        np.testing.assert_array_equal(
            kernels.ties(on_device, cupy.asarray(top), dim).get(), (wide == top).sum(axis=dim, keepdims=True)
        )


@pytest.mark.parametrize("dim", [(0, 2), (1,), (0, 1, 2)])
def test_reductions_of_what_is_expanded(cupy, kernels, random, dim):
    x = normal(random, (6, 1, 5), "float32")
    wide = np.broadcast_to(x, (6, 8, 5)).astype(np.float64)
    on_device = cupy.broadcast_to(cupy.asarray(x), wide.shape)
    close(kernels.total(on_device, dim, False), wide.sum(axis=dim), "float32", 100)


@pytest.mark.parametrize(("shape", "dim"), [((100_000, 3), (0,)), ((3, 100_000), (1,)), ((7, 50, 400), (0, 2))])
def test_long_reductions_of_strided_arrays(cupy, kernels, random, shape, dim):
    x = normal(random, shape, "float32")
    wide, on_device = x.astype(np.float64), spread(cupy.asarray(x))
    close(kernels.total(on_device, dim, False), wide.sum(axis=dim), "float32", 5000)
    close(kernels.var(on_device, dim, 1, False)[0], wide.var(axis=dim, ddof=1), "float32", 100)
    close(kernels.logsumexp(on_device, dim, False), np.log(np.exp(wide).sum(axis=dim)), "float32", 100)


def test_logsumexp_of_long_slices_that_are_not_finite(cupy, kernels):
    x = np.full((4, 100_000), -np.inf)
    x[1, 7], x[2, 90_000], x[3, 50_000] = np.inf, np.nan, 3
    np.testing.assert_array_equal(kernels.logsumexp(cupy.asarray(x), (1,), False).get(), [-np.inf, np.inf, np.nan, 3])


def test_mse_loss_of_strided_arrays(cupy, kernels, random):
    x, y = (normal(random, (6, 8, 5), "float32") for _ in range(2))
    for view in VIEWS:
        out = kernels.mse_loss(view(cupy.asarray(x)), spread(view(cupy.asarray(y))), 1)
        close(out, ((view(x).astype(np.float64) - view(y)) ** 2).sum(), "float32", 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 40_000)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mse_loss(cupy, kernels, random, shape, dtype, reduction):
    x, y = (np.asarray(random.standard_normal(shape), dtype) for _ in range(2))
    combine = {"mean": np.mean, "sum": np.sum}[reduction]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mean of nothing
        expected = np.asarray(combine((x.astype(np.float64) - y) ** 2)).astype(dtype)  # a large sum of halves is inf
    out = kernels.mse_loss(cupy.asarray(x), cupy.asarray(y), x.size if reduction == "mean" else 1)
    close(out, expected, dtype, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), [((5, 7), (1,)), ((5, 7), (0,)), ((40_000,), (0,)), ((2, 3, 4), (0, 2))])
def test_ties(cupy, kernels, random, shape, dim, dtype):
    x = random.integers(0, 4, shape).astype(dtype)
    x.flat[::11] = np.nan
    with np.errstate(invalid="ignore"):  # bfloat16's comparisons warn of NaN
        top = x.max(axis=dim, keepdims=True)
        expected = ((x == top) | (np.isnan(x) & np.isnan(top))).sum(axis=dim, keepdims=True)
    np.testing.assert_array_equal(kernels.ties(cupy.asarray(x), cupy.asarray(top), dim).get(), expected)


@pytest.fixture
def elementwise(cupy):
    """A kernel of the backend, called on arrays of the device."""
    backend = backend_for(gradx.device("cuda"))
    return lambda name, *args: backend.kernel(name)(*args)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise(cupy, elementwise, random, dtype):
    x, g = normal(random, (50,), dtype), normal(random, (50,), dtype)
    wide, weight = x.astype(np.float64), g.astype(np.float64)
    on_device = cupy.asarray(x), cupy.asarray(g)
    cases = {
        "sigmoid_backward": weight * (1 - wide) * wide,
        "tanh_backward": weight * (1 - wide * wide),
        "threshold_backward": np.where(wide > 0, weight, 0),
    }
    for name, expected in cases.items():
        close(elementwise(name, on_device[1], on_device[0]), expected, dtype, 4)
    close(elementwise("sigmoid", on_device[0]), 1 / (1 + np.exp(-wide)), dtype, 2)
    close(elementwise("rsqrt", cupy.asarray(abs(x) + 1)), 1 / np.sqrt((abs(x) + 1).astype(float)), dtype, 2)
    close(elementwise("clamp", on_device[0], -1.0, on_device[1]), np.minimum(np.maximum(x, -1), g), dtype)
    close(elementwise("floor_divide", on_device[0], on_device[1]), np.floor_divide(x, g), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["floor_divide", "div_floor", "remainder"])
def test_quotients_and_remainders_are_those_of_python(cupy, elementwise, name, dtype):
    pairs = [
        (1, 0.1),
        (-1, math.inf),
        (1, -math.inf),
        (7, 0.7),
        (-7.5, -2.5),
        (-7.5, 2),
        (1e30, 0.3),
        (-0.0, 3),
        (2, 0),
    ]
    x, y = np.array(pairs, dtype).T
    with np.errstate(all="ignore"):
        expected = (np.remainder if name == "remainder" else np.floor_divide)(x, y)
    np.testing.assert_array_equal(elementwise(name, cupy.asarray(x), cupy.asarray(y)).get(), expected)
    np.testing.assert_array_equal(elementwise(name, cupy.asarray(x[:1]), 0.1).get(), expected[:1])


def test_powers_of_a_whole_number_have_a_gradient():
    exponent = gradx.tensor([2.0, 3.0], device="cuda", requires_grad=True)
    (2**exponent).sum().backward()
    np.testing.assert_allclose(exponent.grad.cpu().numpy(), [4 * math.log(2), 8 * math.log(2)], rtol=1e-6)


def test_whole_numbers_have_no_negative_powers():
    with pytest.raises(RuntimeError, match="Integers to negative integer powers are not allowed"):
        gradx.tensor([2, 3], device="cuda") ** -1


def test_sign_of_nan_is_zero(cupy, elementwise):
    out = elementwise("sign", cupy.asarray([-3.0, -0.0, 0.0, 2.0, np.inf, np.nan]))
    np.testing.assert_array_equal(out.get(), [-1, 0, 0, 1, 1, 0])


def test_sigmoid_does_not_overflow(cupy, elementwise):
    out = elementwise("sigmoid", cupy.asarray([-1000.0, 0.0, 1000.0, np.inf, -np.inf, np.nan]))
    np.testing.assert_array_equal(out.get(), [0, 0.5, 1, 1, 0, np.nan])


def test_clamp_at_nan_and_crossed_bounds(cupy, elementwise):
    out = elementwise("clamp", cupy.asarray([np.nan, -5.0, 0.0, 5.0]), 2.0, 1.0)
    np.testing.assert_array_equal(out.get(), [np.nan, 1, 1, 1])
    out = elementwise("clamp", cupy.asarray([0.0, 1.0]), cupy.asarray([np.nan, 0.0]), 3.0)
    np.testing.assert_array_equal(out.get(), [np.nan, 1])
    out = elementwise("clamp", cupy.asarray([1, 7]), 2, 5)
    np.testing.assert_array_equal(out.get(), [2, 5])


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
@pytest.mark.parametrize(
    ("shape", "taken", "dim"), [((4, 5), (4, 3), 1), ((4, 5), (2, 5), 0), ((6,), (9,), 0), ((2, 3, 4), (2, 2, 4), 1)]
)
def test_gather_and_scatter(cupy, kernels, random, shape, taken, dim, dtype):
    x = (10 * random.standard_normal(shape)).astype(dtype)
    index = random.integers(0, shape[dim], taken)
    grid = list(np.indices(taken))
    grid[dim] = index
    out = kernels.gather(cupy.asarray(x), dim, cupy.asarray(index))
    np.testing.assert_array_equal(out.get(), x[tuple(grid)])
    assert out.dtype == x.dtype
    if dtype in ("float16", "bfloat16"):  # sums of halves are the caller's to widen
        return
    g = (10 * random.standard_normal(taken)).astype(dtype)
    expected = np.zeros(shape, dtype)
    np.add.at(expected, tuple(grid), g)
    np.testing.assert_allclose(
        kernels.scatter_add(cupy.asarray(g), shape, dim, cupy.asarray(index)).get(), expected, 1e-6
    )


def test_gather_without_dimensions(cupy, kernels):
    x, index = cupy.asarray(3.0), cupy.asarray(0)
    assert kernels.gather(x, 0, index).get() == 3
    assert kernels.scatter_add(x, (), 0, index).get() == 3


def test_gather_out_of_range_is_nan(cupy, kernels):
    out = kernels.gather(cupy.asarray([1.0, 2.0]), 0, cupy.asarray([1, 2, -1]))
    np.testing.assert_array_equal(out.get(), [2, np.nan, np.nan])


@pytest.mark.cuda
def test_truth_values_are_inverted_within_a_fused_kernel():
    backend = backend_for(gradx.device("cuda"))
    inverted = backend.fuse(lambda mask, x: ~(mask & (x > 0)), "inverted", frozenset())
    mask, x = (gradx.tensor(v, device="cuda").array for v in ([True, False, True], [1.0, 1.0, -1.0]))
    assert inverted(mask, x).tolist() == [False, True, True]
