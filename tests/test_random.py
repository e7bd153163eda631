"""Random numbers: Philox's known answers, distributions, generators, and the same bits on both devices."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from statistics import NormalDist

import ml_dtypes  # noqa: F401  NumPy knows "bfloat16" from it
import numpy as np
import pytest
from twin import same

import gradx
import gradx.nn.functional as F
from gradx import cuda
from gradx.backends import backend_for
from gradx.backends.kernels.philox import CHUNK, FEW, State, philox
from gradx.backends.kernels.quantile import quantile

CPU = gradx.device("cpu")
KERNELS = backend_for(CPU)
REAL = [gradx.float16, gradx.bfloat16, gradx.float32, gradx.float64]
WHOLE = [gradx.uint8, gradx.int8, gradx.int16, gradx.int32, gradx.int64, gradx.bool]
NORMAL = NormalDist()

# Random123's kat_vectors, "philox4x32 10": counter, key, answer.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.fixture(autouse=True)
def _own_sequence():
    """Leave the sequence of random numbers as it was."""
    with gradx.random.fork_rng():
        gradx.manual_seed(1234)
        yield


def bits(tensor):
    """The elements of a tensor as bytes, with its shape and dtype."""
    return tuple(tensor.shape), tensor.dtype, tensor.detach().cpu().numpy().tobytes()


def word(seed, i):
    """Word i of a sequence, by the definition."""
    block = i // 4
    return philox((block % 2**32, block >> 32, 0, 0), (seed % 2**32, seed >> 32))[i % 4]


# ---- the words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, answer):
    assert philox(counter, key) == answer
    many = philox(tuple(np.full(3, c, np.uint64) for c in counter), key)
    assert [words.tolist() for words in many] == [[a] * 3 for a in answer]


@pytest.mark.parametrize("count", [1, 3, 4, 4 * FEW, 4 * FEW + 1, 4 * CHUNK + 5])
@pytest.mark.parametrize("block", [0, CHUNK - 2, 2**32 - 3, 2**62 - 2])
def test_each_word_is_a_function_of_the_seed_and_its_place(count, block):
    seed = 0x0123456789ABCDEF
    drawn = KERNELS.uniform((count,), 0, 1, np.dtype(np.float32), State(seed, 4 * block), CPU)
    for i in {0, 1, 7, 9, 4 * FEW, count - 1} & set(range(count)):
        assert drawn[i] * 2**24 == word(seed, (4 * block + i) % 2**64) >> 8


def test_numbers_of_64_bits_are_two_words_of_which_the_second_is_the_upper():
    drawn = KERNELS.uniform((3,), 0, 1, np.dtype(np.float64), State(5, 0), CPU)
    assert [int(x * 2**53) for x in drawn] == [(word(5, 2 * i) | word(5, 2 * i + 1) << 32) >> 11 for i in range(3)]


def test_draws_follow_each_other_in_whole_blocks():
    whole = gradx.rand(12).tolist()
    for pieces in ((4, 8), (8, 4), (4, 4, 4)):
        gradx.manual_seed(1234)
        assert [x for n in pieces for x in gradx.rand(n).tolist()] == whole
    gradx.manual_seed(1234)
    assert gradx.rand(3).tolist() + gradx.rand(1).tolist() == whole[:3] + whole[4:5]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: gradx.rand(5), 8),
        (lambda: gradx.rand(4, dtype=gradx.float16), 4),
        (lambda: gradx.rand(5, dtype=gradx.float64), 12),
        (lambda: gradx.rand(3, dtype=gradx.complex64), 8),
        (lambda: gradx.randn(2, 2), 4),
        (lambda: gradx.randint(9, (3,)), 8),
        (lambda: gradx.randperm(4), 8),
        (lambda: gradx.rand(0), 0),
        (lambda: F.dropout(gradx.ones(6, dtype=gradx.float64)), 8),
        (lambda: gradx.ones(4).bernoulli_(), 4),
        (lambda: gradx.bernoulli(gradx.full((4,), 0.5, dtype=gradx.float64)), 8),
    ],
)
def test_offsets_advance_by_a_fixed_rule(draw, words):
    before = gradx.default_generator.get_offset()
    draw()
    assert gradx.default_generator.get_offset() - before == words


# ---- distributions ---------------------------------------------------------------------------------------------------


def distance(sample, distribution):
    """Kolmogorov's and Smirnov's statistic, times the root of the sample's size: above 2.2 once in 8000 times."""
    ordered = np.sort(sample)
    n = len(ordered)
    exact = np.array([distribution(x) for x in ordered.tolist()])
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - exact), np.max(exact - steps[:-1]))


@pytest.mark.parametrize("dtype", [gradx.float32, gradx.float64])
def test_distributions(dtype):
    assert distance(gradx.rand(20_000, dtype=dtype).numpy(), lambda x: x) < 2.2
    assert distance(gradx.randn(20_000, dtype=dtype).numpy(), NORMAL.cdf) < 2.2
    shifted = gradx.empty(20_000, dtype=dtype).uniform_(-3, 5).numpy()
    assert distance(shifted, lambda x: (x + 3) / 8) < 2.2
    assert distance(gradx.normal(2, 3, (20_000,), dtype=dtype).numpy(), NormalDist(2, 3).cdf) < 2.2


@pytest.mark.parametrize("dtype", REAL)
def test_moments(dtype):
    uniform, normal = (draw(40_000, dtype=dtype).double().numpy() for draw in (gradx.rand, gradx.randn))
    steps = {gradx.float16: 2**11, gradx.bfloat16: 2**8}.get(dtype, 2**24)
    error = 5 / math.sqrt(40_000)
    assert abs(uniform.mean() - (0.5 - 0.5 / steps)) < error * math.sqrt(1 / 12)
    assert abs(uniform.var() - 1 / 12) < error * math.sqrt(1 / 180)
    for power, moment in enumerate((0, 1, 0, 3), start=1):
        variance = (1, 2, 15, 96)[power - 1]
        assert abs((normal**power).mean() - moment) < error * math.sqrt(variance)
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < error


@pytest.mark.parametrize("dtype", REAL)
def test_uniform_numbers_stay_below_their_bound(dtype):
    drawn = gradx.rand(5000, dtype=dtype)
    assert drawn.min().item() >= 0 and 0.9 < drawn.max().item() < 1
    drawn = gradx.empty(20_000, dtype=dtype).uniform_(100, 101).double()  # where rounding would reach 101
    assert drawn.min().item() >= 100 and drawn.max().item() < 101
    assert gradx.empty(3, dtype=dtype).uniform_(2, 2).tolist() == [2] * 3


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 32), (np.float64, 64)])
def test_quantiles_of_the_normal_distribution(dtype, bits):
    sizes = [*np.linspace(0, 2 ** (bits - 1) - 1, 4001).astype(object), *(2 ** (bits - 1) - 2**k for k in range(bits))]
    complement = [(2 ** (bits - 1) - 1 - int(size) + 0.5) / 2**bits for size in sizes if int(size) < 2 ** (bits - 1)]
    centred = np.array([0.5 - p for p in complement])
    found = quantile(centred.astype(dtype), np.array(complement, dtype))
    expected = np.array([-NORMAL.inv_cdf(p) for p in complement])
    np.testing.assert_allclose(found, expected, rtol=1e-6 if bits == 32 else 4e-15, atol=1e-7 if bits == 32 else 1e-16)
    assert (found >= 0).all() and found.max() > (6 if bits == 32 else 9)


@pytest.mark.parametrize("count", [1, 2, 10, 2**32 - 1, 2**32, 2**32 + 1, 10**15 + 7, 2**63, 2**64 - 1])
@pytest.mark.parametrize("low", [0, -5, -(2**63)])
def test_whole_numbers_are_the_upper_half_of_a_product(low, count):
    drawn = KERNELS.integers((50,), low, count, np.dtype(np.int64), State(3, 0), CPU)
    for i, x in enumerate(drawn.tolist()):
        wide = word(3, 2 * i) | word(3, 2 * i + 1) << 32
        assert x == (low + (wide * count >> 64) + 2**63) % 2**64 - 2**63


def test_whole_numbers_are_equally_likely():
    counts = np.bincount(gradx.randint(7, (70_000,)).numpy(), minlength=7)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 27.9  # chi-squared of 6 degrees: once in 10,000 times


@pytest.mark.parametrize("dtype", [*WHOLE, *REAL])
def test_random_fills_the_range_of_the_dtype(dtype):
    drawn = gradx.zeros(3000, dtype=dtype).random_().double()
    largest = {gradx.bool: 1, gradx.float16: 2**11, gradx.bfloat16: 2**8, gradx.float32: 2**24, gradx.float64: 2**53}
    top = largest.get(dtype) or gradx.iinfo(dtype).max
    assert drawn.min().item() >= 0 and 0.98 * top < drawn.max().item() <= top
    between = gradx.zeros(300, dtype=dtype).random_(0, 2)
    assert set(between.tolist()) == {0, 1} and between.dtype is dtype


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_events(p):
    for drawn in (
        gradx.empty(20_000).bernoulli_(p),
        gradx.bernoulli(gradx.full((20_000,), p)),
        gradx.bernoulli(gradx.zeros(20_000), p),
        gradx.empty(20_000).bernoulli_(gradx.full((20_000,), p)),
        gradx.zeros(20_000, dtype=gradx.int64).bernoulli_(p),
    ):
        assert set(drawn.tolist()) <= {0, 1}
        assert abs(drawn.double().mean().item() - p) <= 5 * math.sqrt(p * (1 - p) / 20_000)


def test_numbers_beyond_the_dtype_become_infinite_without_warnings():
    for dtype, std in ((gradx.float16, 1e9), (gradx.float32, 1e60)):
        assert set(gradx.empty(8, dtype=dtype).normal_(0, std).abs().tolist()) == {math.inf}


def test_permutations():
    assert sorted(gradx.randperm(1000).tolist()) == list(range(1000))
    firsts = [gradx.randperm(4)[0].item() for _ in range(4000)]
    assert ((np.bincount(firsts, minlength=4) - 1000) ** 2 / 1000).sum() < 21.1
    assert gradx.randperm(0).tolist() == []


def test_normal_numbers_of_many_means():
    mean, std = gradx.tensor([[0.0], [100.0]]), gradx.tensor([1.0, 0.0, 2.0])
    drawn = gradx.normal(mean.expand(2, 3), std)
    assert drawn[:, 1].tolist() == [0, 100] and drawn.shape == (2, 3)
    assert gradx.normal(mean, std).shape == (2, 3)
    assert abs(gradx.normal(gradx.full((5000,), 3.0), 2.0).mean().item() - 3) < 0.15
    assert abs(gradx.normal(3.0, gradx.full((5000,), 2.0)).std().item() - 2) < 0.15


# ---- generators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("get", [gradx.get_rng_state, gradx.random.get_rng_state])
def test_the_state_is_16_bytes_and_can_be_restored(get):
    gradx.rand(7)
    state = get()
    assert state.dtype is gradx.uint8 and state.shape == (16,)
    expected = gradx.randn(5).tolist()
    gradx.set_rng_state(state)
    assert gradx.randn(5).tolist() == expected


def test_a_generator_has_a_sequence_of_its_own():
    g = gradx.Generator()
    assert g.initial_seed() == 67280421310721 and g.device == CPU
    assert g.manual_seed(9) is g and g.initial_seed() == 9
    before = gradx.get_rng_state().tolist()
    first = gradx.rand(5, generator=g).tolist()
    assert gradx.get_rng_state().tolist() == before
    gradx.manual_seed(9)
    assert gradx.rand(5).tolist() == first
    twins = [g.clone_state(), pickle.loads(pickle.dumps(g)), copy.deepcopy(g)]
    following = gradx.rand(5, generator=g).tolist()
    assert [gradx.rand(5, generator=twin).tolist() for twin in twins] == [following] * 3
    g.set_offset(0)
    assert gradx.rand(5, generator=g).tolist() == first
    g.manual_seed(9).set_state(gradx.Generator().manual_seed(10).get_state())
    assert g.initial_seed() == 10
    assert g.seed() == g.initial_seed() != 10


GENERATED = [
    lambda g: gradx.rand(5, generator=g),
    lambda g: gradx.randn(5, generator=g),
    lambda g: gradx.randint(10**9, (5,), generator=g),
    lambda g: gradx.randint(-5, 10**9, (5,), generator=g),
    lambda g: gradx.randperm(20, generator=g),
    lambda g: gradx.normal(0, 1, (5,), generator=g),
    lambda g: gradx.normal(gradx.zeros(5), 1, generator=g),
    lambda g: gradx.bernoulli(gradx.full((40,), 0.5), generator=g),
    lambda g: gradx.rand_like(gradx.zeros(5), generator=g),
    lambda g: gradx.randn_like(gradx.zeros(5), generator=g),
    lambda g: gradx.randint_like(gradx.zeros(5), 10**6, generator=g),
    lambda g: gradx.zeros(5).uniform_(generator=g),
    lambda g: gradx.zeros(5).normal_(generator=g),
    lambda g: gradx.zeros(5).random_(generator=g),
    lambda g: gradx.zeros(40).bernoulli_(generator=g),
    lambda g: gradx.zeros(40).bernoulli_(gradx.full((40,), 0.5), generator=g),
    lambda g: gradx.zeros(40).bernoulli(0.5, generator=g),
]


@pytest.mark.parametrize("draw", GENERATED)
def test_every_function_draws_from_the_generator_given(draw):
    before = gradx.default_generator.place
    first = draw(gradx.Generator().manual_seed(3)).tolist()
    assert draw(gradx.Generator().manual_seed(3)).tolist() == first
    assert draw(gradx.Generator().manual_seed(4)).tolist() != first
    assert gradx.default_generator.place == before
    with pytest.raises(TypeError, match=r"argument 'generator' must be gradx\.Generator, not int"):
        draw(3)


def test_seeds():
    assert gradx.manual_seed(5) is gradx.default_generator and gradx.initial_seed() == 5
    assert gradx.seed() == gradx.initial_seed()
    for seed in (0, -1, -(2**63), 2**63, 2**64 - 1, True, 1.5, 2**64, -(2**63) - 1):
        same(lambda m, seed=seed: m.manual_seed(seed).initial_seed())
        same(lambda m, seed=seed: m.Generator().manual_seed(seed).initial_seed())
    assert gradx.rand(2).tolist() != gradx.rand(2).tolist()


def test_forks():
    expected = gradx.rand(3).tolist()
    gradx.manual_seed(1234)
    with gradx.random.fork_rng(devices=[], enabled=True):
        gradx.manual_seed(1)
        gradx.rand(10)
    assert gradx.rand(3).tolist() == expected
    gradx.manual_seed(1234)
    with gradx.random.fork_rng(enabled=False):
        gradx.rand(1)
    assert gradx.rand(3).tolist() != expected


def test_threads_never_draw_the_same_numbers():
    g = gradx.Generator().manual_seed(0)
    drawn = [[] for _ in range(8)]

    def draw(mine):
        for _ in range(50):
            mine.append(tuple(gradx.rand(4, generator=g).tolist()))

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = {block for mine in drawn for block in mine}
    alone = gradx.rand(8 * 50, 4, generator=gradx.Generator().manual_seed(0))
    assert together == {tuple(block) for block in alone.tolist()}


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        lambda m: m.Generator().set_state(m.zeros(3)),
        lambda m: m.Generator().set_state(3),
        lambda m: m.set_rng_state(3),
        lambda m: m.empty(3).uniform_(2, 1),
        lambda m: m.empty(3).uniform_(float("nan"), 1),
        lambda m: m.empty(3).uniform_(-3e38, 3e38),
        lambda m: m.empty(3, dtype=m.int64).uniform_(),
        lambda m: m.empty(3).normal_(0, -1),
        lambda m: m.empty(3, dtype=m.int64).normal_(),
        lambda m: m.normal(0.0, -1.0, (2,)),
        lambda m: m.normal(m.zeros(3), -1.0),
        lambda m: m.normal(0, -m.ones(2)),
        lambda m: m.normal(m.zeros(2, dtype=m.int64), 1.0),
        lambda m: m.normal(0, 1, (2,), dtype=m.int64),
        lambda m: m.bernoulli(m.tensor([1])),
        lambda m: m.empty(3).bernoulli_(2),
        lambda m: m.empty(3).random_(5, 5),
        lambda m: m.empty(3).random_(0),
        lambda m: m.empty(3, dtype=m.uint8).random_(0, 300),
        lambda m: m.empty(3, dtype=m.int32).random_(0, 2**40),
        lambda m: m.randint(3, 3, (1,)),
        lambda m: m.randint(0, 300, (3,), dtype=m.uint8),
        lambda m: m.randint(-5, 3, (3,), dtype=m.uint8),
        lambda m: m.randint(-200, 3, (3,), dtype=m.int8),
        lambda m: m.randint(0, 70000, (3,), dtype=m.int16),
        lambda m: m.randint(0, 3, (3,), dtype=m.bool),
        lambda m: m.randint(0, 70000, (3,), dtype=m.float16),
        lambda m: m.randint(0, 2**70, (3,)),
        lambda m: m.randint(0, 2, (3,), dtype=m.complex64),
        lambda m: m.randint_like(m.zeros(3), 0),
        lambda m: m.randperm(-1),
        lambda m: m.ones(3, requires_grad=True).uniform_(),
        lambda m: m.ones(3, requires_grad=True).bernoulli_(m.full((3,), 0.5)),
        lambda m: m.nn.functional.dropout(m.ones(4), 2.0),
        lambda m: m.nn.functional.dropout(m.ones(4, dtype=m.int64), 0.5),
        lambda m: m.nn.functional.dropout(m.ones(4, dtype=m.complex64), 0.5),
        lambda m: m.nn.functional.dropout(m.ones(4, requires_grad=True), 0.5, True, True),
    ],
)
def test_errors(program):
    same(program)


def test_errors_in_our_words():
    with pytest.raises(RuntimeError, match=r"Expected p_in >= 0 && p_in <= 1 to be true, but got false\."):
        gradx.bernoulli(gradx.tensor([0.5, 1.5]))
    with pytest.raises(RuntimeError, match=r"The size of tensor a \(3\) must match the size of tensor b \(2\)"):
        gradx.normal(gradx.zeros(3), gradx.ones(2))
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        gradx.Generator().set_state(gradx.zeros(3, dtype=gradx.uint8))
    with pytest.raises(RuntimeError, match="offset must be a multiple of 4"):
        gradx.Generator().set_offset(3)
    with pytest.raises(TypeError, match="two numbers need a size"):
        gradx.normal(2, 3)


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.uniform_(),
        lambda y: y.normal_(),
        lambda y: y.random_(),
        lambda y: y.random_(5),
        lambda y: y.random_(3, 9),
        lambda y: y.bernoulli_(0.5),
        lambda y: y.bernoulli_(y.detach()),
        lambda y: y.bernoulli(),
        lambda y: type(y).normal_(y.mul(1)),
    ],
)
def test_what_is_overwritten_has_gradient_zero(change):
    def program(m):
        x = m.full((3,), 0.5, requires_grad=True)
        y = change(x * 1)
        y.sum().backward()
        return y.grad_fn.name(), x.grad

    same(program)


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_normal_numbers_have_gradient_zero(which):
    def program(m):
        mean, std = m.zeros(3, requires_grad=True), m.ones(3, requires_grad=True)
        y = m.normal(mean if which[0] else 0.0, std if which[1] else 1.0)
        y.sum().backward()
        return y.grad_fn.name(), mean.grad is not None, std.grad is not None

    same(program)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_dropout(device, dtype, p):
    x = gradx.randn(400, dtype=dtype, device=device).requires_grad_()
    y = F.dropout(x, p)
    kept = y != 0
    assert abs(kept.double().mean().item() - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / 400)
    expected = gradx.where(kept, x.detach().double() / max(1 - p, 1e-9), 0)
    rtol = {gradx.float16: 1e-3, gradx.bfloat16: 8e-3}.get(dtype, 2e-7)
    np.testing.assert_allclose(y.detach().double().cpu().numpy(), expected.cpu().numpy(), rtol=rtol)
    assert y.grad_fn.name() == "NativeDropoutBackward0"
    (g,) = gradx.autograd.grad(y, x, gradx.ones_like(y), create_graph=True)
    assert ((g != 0) == kept).all().item()


def test_gradients_of_dropout():
    x = gradx.randn(3, 4, dtype=gradx.float64).requires_grad_()

    def function(x):
        return F.dropout(x * x, 0.4)

    def again(x):
        with gradx.random.fork_rng():
            return function(x)

    assert gradx.autograd.gradcheck(again, (x,))
    assert gradx.autograd.gradgradcheck(again, (x,))


def test_dropout_in_place_and_in_evaluation():
    x = gradx.ones(1000)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.5, inplace=True) is x and set(x.tolist()) == {0, 2}
    x = gradx.ones(50, requires_grad=True)
    y = x * 3
    F.dropout(y, 0.5, inplace=True).sum().backward()
    assert x.grad.tolist() == y.tolist()
    x = gradx.full((4,), float("inf"))
    assert F.dropout(x, 1.0).tolist() == [0] * 4


# ---- both devices ----------------------------------------------------------------------------------------------------

ON_CUDA = {}
SIZES = [(), (1,), (0, 3), (7,), (33, 5), (4 * CHUNK + 3,)]
BETWEEN = {gradx.bool: (0, 2), gradx.uint8: (3, 200), gradx.int8: (-100, 100)}


def draws(device):
    """All that can be drawn on a device, by name."""
    for size in SIZES:
        for dtype in REAL:
            form = {"dtype": dtype, "device": device}
            yield f"rand {size} {dtype}", gradx.rand(size, **form)
            yield f"randn {size} {dtype}", gradx.randn(size, **form)
            yield f"uniform_ {size} {dtype}", gradx.empty(size, **form).uniform_(-3, 0.7)
            yield f"normal_ {size} {dtype}", gradx.empty(size, **form).normal_(-3, 0.7)
            yield f"random_ {size} {dtype}", gradx.empty(size, **form).random_()
            p = gradx.rand(size, **form)
            yield f"bernoulli {size} {dtype}", gradx.bernoulli(p)
            yield f"dropout {size} {dtype}", F.dropout(p, 0.3)
            yield f"normal {size} {dtype}", gradx.normal(p - 3, p)
            x = gradx.rand(size, **form).requires_grad_()
            (g,) = gradx.autograd.grad(F.dropout(x, 0.3), x, p)
            yield f"dropout backward {size} {dtype}", g
        for dtype in (gradx.complex64, gradx.complex128):
            yield f"rand {size} {dtype}", gradx.rand(size, dtype=dtype, device=device)
            yield f"normal {size} {dtype}", gradx.normal(1, 2, size, dtype=dtype, device=device)
        for dtype in (*WHOLE, *REAL):
            low, high = BETWEEN.get(dtype, (-1000, 1000))
            yield f"randint {size} {dtype}", gradx.randint(low, high, size, dtype=dtype, device=device)
            yield f"bernoulli_ {size} {dtype}", gradx.empty(size, dtype=dtype, device=device).bernoulli_(0.2)
        for low, high in ((0, 2**32), (-7, 2**40), (-(2**63), 2**63 - 1)):
            yield f"randint {size} {low} {high}", gradx.randint(low, high, size, device=device)
    yield "randperm", gradx.randperm(1000, device=device)
    yield "dropout of a transpose", F.dropout(gradx.ones(5, 7, device=device).T, 0.5)


@pytest.mark.cuda
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_both_devices_draw_the_same_bits(seed):
    gradx.manual_seed(seed)
    on_cpu = {name: bits(drawn) for name, drawn in draws("cpu")}
    gradx.manual_seed(seed)
    on_cuda = {name: bits(drawn) for name, drawn in draws("cuda")}
    assert [name for name in on_cpu if on_cpu[name] != on_cuda[name]] == []


@pytest.mark.cuda
@pytest.mark.parametrize("block", [CHUNK - 2, 2**32 - 3, 2**62 - 2])
def test_both_devices_count_alike(block):
    drawn = []
    for device in ("cpu", "cuda"):
        g = gradx.Generator(device).manual_seed(0)
        g.set_offset(4 * block)
        drawn.append(bits(gradx.rand(40, generator=g, device=device)))
    assert drawn[0] == drawn[1]


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("draw", "launches"),
    [
        (lambda: gradx.rand(1000, device="cuda"), 1),
        (lambda: gradx.randn(1000, device="cuda", dtype=gradx.float16), 1),
        (lambda: gradx.randn(1000, device="cuda", dtype=gradx.complex64), 1),
        (lambda: gradx.randint(3, 9, (1000,), device="cuda"), 1),
        (lambda: gradx.normal(2, 3, (1000,), device="cuda"), 1),
        (lambda: gradx.bernoulli(ON_CUDA["p"]), 1),
        (lambda: F.dropout(ON_CUDA["p"]), 1),
        (lambda: F.dropout(ON_CUDA["p"].T), 1),
        (lambda: ON_CUDA["p"].uniform_(), 1),
        (lambda: ON_CUDA["p"].normal_(), 1),
        (lambda: ON_CUDA["p"].bernoulli_(0.5), 1),
    ],
)
def test_drawing_is_one_launch_without_copies(draw, launches, cuda_counters):
    ON_CUDA["p"] = gradx.full((20, 30), 0.5, device="cuda")
    draw()
    cuda_counters.reset()
    draw()
    counts = cuda_counters.counters()
    assert {kind: counts[kind] for kind in ("launches", "h2d_copies", "d2h_copies", "syncs")} == {
        "launches": launches,
        "h2d_copies": 0,
        "d2h_copies": 0,
        "syncs": 0,
    }


@pytest.mark.cuda
def test_the_gradient_of_dropout_is_one_launch(cuda_counters):
    x = gradx.ones(50, device="cuda", requires_grad=True)
    for _ in range(2):
        y = F.dropout(x)
        g = gradx.ones_like(y)
        cuda_counters.reset()
        gradx.autograd.grad(y, x, g)
    assert cuda_counters.counters()["launches"] == 1


@pytest.mark.cuda
def test_a_generator_draws_for_its_type_of_device():
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        gradx.rand(2, device="cuda", generator=gradx.Generator())
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        gradx.rand(2, generator=gradx.Generator("cuda"))


@pytest.mark.cuda
@pytest.mark.parametrize(
    "draw", [lambda x: gradx.rand_like(x), lambda x: F.dropout(x), lambda x: gradx.bernoulli(x), lambda x: x.normal_()]
)
def test_drawing_cannot_be_captured(draw):
    x = gradx.full((3,), 0.5, device="cuda")
    draw(x)
    graph = cuda.CUDAGraph()
    with (
        pytest.raises(
            RuntimeError, match="Random numbers cannot be drawn while capturing: every replay would draw the"
        ),
        cuda.graph(graph),
    ):
        draw(x)
    assert gradx.rand(2, device="cuda").shape == (2,)


@pytest.mark.cuda
def test_torch_cudas_functions_are_of_the_one_sequence():
    cuda.manual_seed(8)
    assert cuda.initial_seed() == gradx.initial_seed() == 8
    state = cuda.get_rng_state()
    expected = gradx.rand(3, device="cuda").tolist()
    cuda.set_rng_state(state, "cuda:0")
    assert gradx.rand(3).tolist() == expected
    cuda.seed_all()
    assert gradx.initial_seed() != 8
