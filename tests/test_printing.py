"""The text of `gradx.printing` is torch's, to the character, with "gradx." where torch prints "torch."."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gradx import printing

FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)

# Where a rule changes its mind: signs, thresholds of scientific notation, rounding, subnormals, limits.
HOSTILE = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1 / 3, 99999.99995, 0.99995, 1e-4, 9.9999e-5, 1.0001e-4),
    *(1e3, 1000.5, 999.0, 1001.0, 1e8, 1.00000001e8, -1e8, 65504.0, 6e-8, 1e-45, 5e-324, 1e38, 1e300, 1e308),
    *(math.inf, -math.inf, math.nan, -math.nan, 123456789.0, 2.0**53, -7.0, 12345.678, -0.001, 0.00005),
)
SMALL = ((), (1,), (5,), (40,), (3, 4), (1, 1, 1), (2, 3, 2), (2, 1, 2, 3))
LARGE = ((1000,), (1001,), (7, 150), (6, 200), (2, 2, 300))


@pytest.fixture(autouse=True)
def _default_options() -> Iterator[None]:
    """Each test starts from, and leaves, the default options on both sides."""
    yield
    torch.set_printoptions(profile="default")
    printing.set_printoptions(profile="default")


def set_options(**options: Any) -> None:
    torch.set_printoptions(**options)
    printing.set_printoptions(**options)


def ours(array: np.ndarray[Any, Any], **about: Any) -> str:
    """Our text of a tensor about which nothing is special but what is given."""
    plain = {"default_dtype_name": "float32", "device": None, "requires_grad": False, "grad_fn": None}
    return printing.tensor_repr(array, **{"dtype_name": array.dtype.name, **plain, **about})


def theirs(tensor: torch.Tensor) -> str:
    return repr(tensor).replace("torch.", "gradx.")


def assert_same(array: np.ndarray[Any, Any]) -> None:
    assert ours(array) == theirs(torch.from_numpy(array))


def hostile(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Random values of one of several characters, which the seed decides."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]))
    if kind in "iu":
        limits = np.iinfo(dtype)
        scale = rng.choice([10, 100, limits.max])
        return np.asarray(rng.integers(max(limits.min, -scale), scale, shape, dtype=dtype, endpoint=True))
    if kind == "c":
        parts = [hostile(rng, "float32" if dtype == "complex64" else "float64", shape) for _ in range(2)]
        array = np.empty(shape, dtype)
        array.real, array.imag = parts
        return array
    return hostile_floats(rng, dtype, shape)


def hostile_floats(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    choices: tuple[Any, ...] = (
        rng.standard_normal(shape),
        rng.standard_normal(shape) * 10.0 ** rng.uniform(-9, 9),
        rng.integers(-20, 20, shape).astype(float),
        rng.integers(-2_000_000_000, 2_000_000_000, shape).astype(float),
        10.0 ** rng.uniform(-3, 3, shape),
        rng.choice(HOSTILE, shape),
        rng.choice([0.0, -0.0, math.inf, -math.inf, math.nan], shape),
        np.where(rng.random(shape) < 0.2, rng.choice(HOSTILE, shape), rng.standard_normal(shape)),
    )
    with np.errstate(all="ignore"):  # overflow to inf in a narrower dtype is welcome here
        return np.asarray(choices[rng.integers(len(choices))], dtype=dtype)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([1.0, 2.0], "f4"), "tensor([1., 2.])"),
        (np.array([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
        (np.array([1.0, 2.0]), "tensor([1., 2.], dtype=gradx.float64)"),
        (np.array([True, False]), "tensor([ True, False])"),
        (np.zeros((0, 3), "f4"), "tensor([], size=(0, 3))"),
        (np.array([1 - 2j], "c8"), "tensor([1.-2.j])"),
    ],
)
def test_text_written_out(array: np.ndarray[Any, Any], text: str) -> None:
    assert ours(array) == text
    assert theirs(torch.from_numpy(array)) == text  # so that the oracle itself is checked once


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SMALL + LARGE, ids=str)
def test_random_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng([len(shape), math.prod(shape), DTYPES.index(dtype)])
    for _ in range(8):
        assert_same(hostile(rng, dtype, shape))


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_pair_of_hostile_floats(dtype: str) -> None:
    with np.errstate(over="ignore"):
        values = np.array(HOSTILE).astype(dtype)
    for first in range(len(values)):
        for second in range(first, len(values)):
            assert_same(values[[first, second]])


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("value", HOSTILE)
def test_scalars(dtype: str, value: float) -> None:
    with np.errstate(over="ignore"):
        assert_same(np.array(value, np.float32 if dtype == "complex64" else np.float64))
        for number in (complex(value, 1.5), complex(-1, value), complex(value, value), complex(0.25, -value)):
            assert_same(np.array(number, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4), (0, 0), (2000, 0)], ids=str)
def test_empty_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    assert_same(np.zeros(shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("default", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [0, 1])
def test_dtype_is_shown_unless_implied(dtype: str, default: str, size: int) -> None:
    array = np.ones(size, dtype)
    torch.set_default_dtype(getattr(torch, default))
    try:
        expected = theirs(torch.from_numpy(array))
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours(array, default_dtype_name=default) == expected


@pytest.mark.parametrize("length", range(1, 60))
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("linewidth", [80, 45, 46])  # the latter two: on either side of a second suffix's end
def test_suffixes_wrap_where_torch_wraps_them(length: int, dtype: str, linewidth: int) -> None:
    set_options(linewidth=linewidth)
    array = np.arange(length, dtype=dtype)
    assert_same(array)
    assert_same(np.stack([array, array + 1]))
    if dtype != "int32":
        leaf = torch.from_numpy(array).requires_grad_()
        assert ours(array, requires_grad=True) == theirs(leaf)
        result = leaf * 1
        assert ours(array, requires_grad=True, grad_fn="MulBackward0") == theirs(result)


@pytest.mark.parametrize("length", range(1, 60))
def test_device_comes_first_and_wraps(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch names the CPU, which may be all it has here, once it believes that another device is the default.
    monkeypatch.setattr(torch._C, "_get_default_device", lambda: "cuda")
    array = np.arange(length, dtype="f8")
    leaf = torch.from_numpy(array).requires_grad_()
    assert ours(array, device="cpu", requires_grad=True) == theirs(leaf)
    assert ours(array[:0], device="cpu") == theirs(torch.from_numpy(array[:0]))


def test_device_written_out() -> None:
    text = ours(np.array([1.0, 2.0]), device="cuda:0", requires_grad=True, grad_fn="ExpBackward0")
    assert text == "tensor([1., 2.], device='cuda:0', dtype=gradx.float64, grad_fn=<ExpBackward0>)"


@pytest.mark.parametrize("shape", [(3,), (2, 30), (2000,), (0, 2)], ids=str)
def test_prefix_of_a_subclass_indents(shape: tuple[int, ...]) -> None:
    subclass = type("Distance", (torch.Tensor,), {})
    array = np.random.default_rng(0).standard_normal(shape)
    assert ours(array, prefix="Distance") == theirs(torch.from_numpy(array).as_subclass(subclass))


@pytest.mark.parametrize("indent", [0, 7, 30, 79, 200])
def test_format_array_is_what_stands_between_the_parentheses(indent: int) -> None:
    array = np.random.default_rng(1).standard_normal((3, 2, 25))
    expected = torch._tensor_str._tensor_str(torch.from_numpy(array), indent)
    assert printing.format_array(array, indent) == expected


def test_memory_layout_does_not_matter() -> None:
    base = np.random.default_rng(2).standard_normal((30, 40))
    for view in (base.T, base[::2, 5:9], base[::-1, ::-3], np.broadcast_to(base[0], (3, 40))):
        assert ours(view) == theirs(torch.from_numpy(view.copy()))
    assert ours(base.astype(">f8"), dtype_name="float64") == theirs(torch.from_numpy(base))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 0},
        {"precision": 2},
        {"precision": 10},
        {"threshold": 0},
        {"threshold": 5},
        {"threshold": math.inf},
        {"edgeitems": 0},
        {"edgeitems": 0, "threshold": 4},
        {"edgeitems": 1, "threshold": 4},
        {"edgeitems": 5, "threshold": 20},
        {"linewidth": 0},
        {"linewidth": 20},
        {"linewidth": 200},
        {"sci_mode": True},
        {"sci_mode": False},
        {"sci_mode": True, "precision": 1, "linewidth": 40},
        {"profile": "short"},
        {"profile": "full"},
        {"profile": "short", "precision": 6, "sci_mode": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["bool", "int32", "float16", "float64", "complex64"])
def test_print_options(options: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(DTYPES.index(dtype))
    set_options(**options)
    assert printing._options._asdict() == torch._tensor_str.get_printoptions()
    for shape in ((), (3,), (11,), (4, 12), (2, 3, 9), (1002,), (0, 2)):
        for _ in range(3):
            assert_same(hostile(rng, dtype, shape))


def test_options_accumulate_but_sci_mode_does_not() -> None:
    calls: tuple[dict[str, Any], ...] = (
        {"sci_mode": True, "linewidth": 40},
        {"precision": 2},
        {"profile": "full"},
        {"edgeitems": 1},
        {"profile": "default", "threshold": 3},
    )
    for options in calls:
        set_options(**options)
        assert printing._options._asdict() == torch._tensor_str.get_printoptions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": -1}, "precision must not be negative, but is -1"),
        ({"edgeitems": -2}, "edgeitems must not be negative, but is -2"),
        (
            {"profile": "long", "precision": 1},
            "unknown profile 'long': expected one of 'default', 'short', 'full'",
        ),
    ],
)
def test_impossible_options_change_nothing(options: dict[str, Any], message: str) -> None:
    before = printing._options
    with pytest.raises(ValueError, match=message):
        printing.set_printoptions(**options)
    assert printing._options == before


def test_only_the_edges_of_a_long_array_are_copied() -> None:
    huge = np.broadcast_to(np.float32(1.5), (7, 10**6, 10**6))  # a copy of any full dimension would not fit
    assert ours(huge) == theirs(torch.tensor(1.5).expand(7, 10**6, 10**6))


def test_many_dimensions() -> None:
    for array in (np.ones((1,) * 40), np.ones((1,) * 30 + (1001,)), np.ones((2,) * 11)):
        assert_same(array)
