"""Deterministic mode: the same bits on the CPU and on CUDA, for value, gradient and second gradient."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import operator
import types

import ml_dtypes
import numpy as np
import pytest
from calls import CASES, DIFFERENTIABLE, arguments, arrays_for, gradients, host, leaves, oracle, outputs, torch_tensor
from twin import same

import gradx
from gradx.samples import TABLE

VARIANTS = [
    *itertools.product((np.float32, np.float64), ("contiguous", "strided")),
    (np.float16, "contiguous"),
    (ml_dtypes.bfloat16, "contiguous"),
]


def unscaled(x: gradx.Tensor) -> None:
    scaler = gradx.amp.GradScaler("cpu")
    scaler.scale(x.sum()).backward()
    scaler.unscale_(types.SimpleNamespace(param_groups=[{"params": [x]}]))


# Calls that are not covered, and raise torch's error. No sample call of gradx.samples.TABLE is among them.
UNCOVERED = {
    "complex numbers": lambda: gradx.tensor([1 + 2j]).exp(),
    "random truth values": lambda: gradx.bernoulli(gradx.full((3,), 0.5)),
    "making complex numbers": lambda: gradx.complex(gradx.ones(2), gradx.ones(2)),
    "several values, put at the same place": lambda: operator.setitem(
        gradx.zeros(3), gradx.tensor([0, 0]), gradx.tensor([1.0, 2.0])
    ),
    "gradient scaling": lambda: unscaled(gradx.ones(2, requires_grad=True)),
    "rows of a matrix whose elements differ by a factor above 2^480": lambda: (
        gradx.tensor([[1e300, 1.0]], dtype=gradx.float64) @ gradx.ones(2, 1, dtype=gradx.float64)
    ),
}


@pytest.fixture
def _mode():
    with gradx.deterministic():
        yield


in_mode = pytest.mark.usefixtures("_mode")


def digest(results) -> list[tuple[str, tuple[int, ...], str]]:
    """Dtype, shape and SHA-256 of the elements of each result."""
    found = []
    for t in results:
        if t is None:
            found.append(None)
            continue
        array = t.detach().cpu().contiguous().array
        found.append((str(t.dtype), tuple(t.shape), hashlib.sha256(array.tobytes()).hexdigest()))
    return found


def maker(device: str, layout: str):
    def leaf(a: np.ndarray, grad: bool) -> gradx.Tensor:
        if layout == "contiguous" or not a.ndim:
            return gradx.tensor(a, device=device, requires_grad=grad)
        return gradx.tensor(np.repeat(a, 2, axis=-1), device=device)[..., ::2].detach().requires_grad_(grad)

    return leaf


@in_mode
@pytest.mark.cuda
@pytest.mark.parametrize(("name", "i"), CASES)
def test_values_are_the_same_bits(name, i):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    for dtype, layout in VARIANTS:
        found = []
        for device in ("cpu", "cuda"):
            tensors = [maker(device, layout)(a, False) for a in arrays_for(name, i, dtype)]
            found.append(digest(outputs(entry.function(*arguments(sample, tensors), **sample.kwargs))))
        assert found[0] == found[1], (dtype, layout)


@in_mode
@pytest.mark.cuda
@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_gradients_are_the_same_bits(name, i):
    """First and second gradients."""
    entry, sample = TABLE[name], TABLE[name].samples[i]
    for dtype, layout in VARIANTS[:4]:
        found = []
        for device in ("cpu", "cuda"):
            tensors, wanted = leaves(sample, arrays_for(name, i, dtype), maker(device, layout))
            call = functools.partial(entry.function, *arguments(sample, tensors), **sample.kwargs)
            found.append(digest(gradients(gradx, call, wanted)))
        assert found[0] == found[1], (dtype, layout)


PRODUCTS = "addmm bmm dot linear matmul mm".split()  # of float64 that differ that much, they raise: see UNCOVERED
HOSTILE = [0.0, -0.0, 1e-310, -5e-324, 3e-39, -1e-45, 6e-8, 1.0, -1.5, 1e4, -1e38, 1e300, math.inf, -math.inf, math.nan]


def hostile(name: str, dtype: type) -> list[np.ndarray]:
    """The elements for the first sample call of an operation, floating-point ones zeros, subnormal, infinite and so on."""
    random = np.random.default_rng(len(name))
    with np.errstate(all="ignore"):
        return [
            random.choice(np.array(HOSTILE), a.shape).astype(dtype) if a.dtype.kind in "fV" else a
            for a in arrays_for(name, 0, dtype)
        ]


@in_mode
@pytest.mark.cuda
@pytest.mark.parametrize(
    "name", [name for name in TABLE if name != "binary_cross_entropy"]
)  # it refuses such arguments
def test_hostile_arguments_give_the_same_bits(name):
    """Values and gradients, also where float32 is subnormal, which CuPy's kernels flush to zero."""
    entry, sample = TABLE[name], TABLE[name].samples[0]
    for dtype in (np.float32,) if name in PRODUCTS else (np.float32, np.float64):
        found = []
        for device in ("cpu", "cuda"):
            tensors, wanted = leaves(sample, hostile(name, dtype), maker(device, "contiguous"))
            outs = outputs(entry.function(*arguments(sample, tensors), **sample.kwargs))
            roots = [out for out in outs if out.requires_grad] if entry.differentiable else []
            if roots:
                outs += gradx.autograd.grad(roots, wanted, [out.detach() for out in roots], allow_unused=True)
            found.append(digest(outs))
        assert found[0] == found[1], dtype


@in_mode
@pytest.mark.cuda
@pytest.mark.parametrize(
    "name", ["exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "tanh", "erf", "rsqrt"]
)
def test_functions_give_the_same_bits(name):
    """On arguments of all magnitudes: bits from 0 to the largest number, in equal steps."""
    for dtype, bits in ((np.float32, np.int32), (np.float64, np.int64)):
        largest = np.finfo(dtype).max.view(bits)
        x = np.linspace(0, float(largest) * (1 - 2**-52), 5001).astype(bits).view(dtype)
        found = [
            digest([getattr(gradx.tensor(np.stack([x, -x]), device=device), name)()]) for device in ("cpu", "cuda")
        ]
        assert found[0] == found[1], dtype


@in_mode
@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_reductions_and_products_give_the_same_bits(dtype):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(70, 600)).astype(dtype), random.normal(size=(600, 50)).astype(dtype)
    places = random.integers(0, 40, 600)
    found = []
    for device in ("cpu", "cuda"):
        x, y = (gradx.tensor(v, device=device, requires_grad=True) for v in (a, b))
        out = [x.sum(), x.sum(0), x.mean(1), x.std(1), x.logsumexp(0), x.softmax(1), x.cumsum(1), x @ y, x.amax(1)]
        picked = y[gradx.tensor(places, device=device)]
        total = (x @ y).square().sum() + (picked * picked).sum() + x.norm()
        found.append(digest([*out, total, *gradx.autograd.grad(total, [x, y])]))
    assert found[0] == found[1]


# ---- on one device -----------------------------------------------------------------------------------------------------


@in_mode
@pytest.mark.parametrize(("name", "i"), DIFFERENTIABLE)
def test_values_are_torchs(name, i):
    entry, sample = TABLE[name], TABLE[name].samples[i]
    arrays = arrays_for(name, i, np.float32)
    expected = oracle(entry)(*arguments(sample, [torch_tensor(a) for a in arrays]), **sample.kwargs)
    result = entry.function(*arguments(sample, [gradx.tensor(a) for a in arrays]), **sample.kwargs)
    for ours, theirs in zip(outputs(result), outputs(expected), strict=True):
        assert str(ours.dtype).removeprefix("gradx.") == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_allclose(host(ours), host(theirs), 1e-5, 2e-6)


@in_mode
def test_products_do_not_depend_on_the_order():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(40, 300)), random.normal(size=(300, 30))
    order = random.permutation(300)
    first, second = (gradx.tensor(x) @ gradx.tensor(y) for x, y in ((a, b), (a[:, order], b[order])))
    assert digest([first]) == digest([second])
    np.testing.assert_allclose(first.numpy(), a @ b, rtol=1e-12, atol=1e-13)


@in_mode
def test_sums_into_places_do_not_depend_on_the_order():
    random = np.random.default_rng(0)
    g, places = random.normal(size=300) * np.exp2(random.integers(-90, 90, 300)), random.integers(0, 7, 300)
    found = []
    for order in (np.arange(300), random.permutation(300)):
        x = gradx.zeros(7, dtype=gradx.float64, requires_grad=True)
        x[gradx.tensor(places[order])].backward(gradx.tensor(g[order]))
        found.append(digest([x.grad]))
    assert found[0] == found[1]


@in_mode
def test_python_numbers_may_be_whole(device):
    x = gradx.tensor([7.5, -7.5], device=device)
    assert (x % 2).tolist() == [1.5, 0.5] and (7 % x).tolist() == [7.0, -0.5]
    assert (x // 2).tolist() == [3.0, -4.0] and (x // True).tolist() == [7.0, -8.0]
    assert (x.abs() ** 2).tolist() == [56.25, 56.25] and (2**x).tolist() == pytest.approx([181.01933, 0.0055242717])


@in_mode
def test_large_arrays_are_computed_as_small_ones():
    x = gradx.linspace(-5, 5, 200_000)
    whole, parts = (x.exp() * x).sin(), [(part.exp() * part).sin() for part in x.split(1000)]
    assert digest([whole]) == digest([gradx.cat(parts)])


@in_mode
def test_gradients_accumulate_in_place():
    x = gradx.ones(3, requires_grad=True)
    (x * 2).sum().backward()
    before = x.grad
    (x.exp() * x).sum().backward()
    assert x.grad is before and not before.requires_grad
    np.testing.assert_allclose(before.numpy(), 2 + 2 * math.e, rtol=1e-6)


@in_mode
def test_writes_into_another_dtype_round_once(device):
    """To bfloat16 from float64: by way of float32, numbers just above the middle of two would be rounded twice."""
    x = gradx.tensor([1 + 2**-8 + 2**-40, 3e-39], dtype=gradx.float64, device=device)
    out = gradx.zeros(2, dtype=gradx.bfloat16, device=device)
    out.copy_(x)
    assert out.tolist() == [1 + 2**-7, 33 * 2.0**-133]
    assert gradx.add(x, 0, out=gradx.zeros(2, dtype=gradx.bfloat16, device=device)).tolist() == out.tolist()


@in_mode
@pytest.mark.parametrize("what", UNCOVERED)
def test_what_is_not_covered_raises(what):
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation, but you set"):
        UNCOVERED[what]()
    gradx.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning, match=r"'torch.use_deterministic_algorithms\(True, warn_only=True\)'"):
        UNCOVERED[what]()


def test_the_mode_is_torchs():
    def program(module):
        found = []
        for mode, options in ((True, {}), (True, {"warn_only": True}), (False, {})):
            module.use_deterministic_algorithms(mode, **options)
            found.append(module.are_deterministic_algorithms_enabled())
            found.append(module.is_deterministic_algorithms_warn_only_enabled())
        module.use_deterministic_algorithms(1)
        return found

    same(program)


def test_the_mode_ends_with_its_block():
    x = gradx.linspace(0, 3, 50)
    before = digest([x.exp().sin()])
    with pytest.raises(ZeroDivisionError), gradx.deterministic():
        with gradx.deterministic(warn_only=True):
            assert gradx.is_deterministic_algorithms_warn_only_enabled()
        assert not gradx.is_deterministic_algorithms_warn_only_enabled()
        x.exp()
        raise ZeroDivisionError
    assert not gradx.are_deterministic_algorithms_enabled()
    assert digest([x.exp().sin()]) == before


def test_graphs_of_the_other_mode_are_walked_in_this_one():
    x = gradx.tensor([0.3, 0.7], requires_grad=True)
    y = x.sin().exp().sum()
    with gradx.deterministic():
        y.backward()
        z = x.sin().exp().sum()
    first, x.grad = x.grad, None
    z.backward()
    np.testing.assert_allclose(first.numpy(), x.grad.numpy(), rtol=1e-6)
