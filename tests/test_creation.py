"""Creation functions: values, dtypes, shared memory and errors, as torch's."""

from __future__ import annotations

import numpy as np
import pytest
from twin import same

import gradx

DATA = {
    "floats": [1.0, 2.5],
    "ints": [1, 2],
    "bools": [True, False],
    "bools and ints": [True, 2],
    "ints and floats": [1, 2.5],
    "bools and floats": [False, 0.5],
    "complex": [1.0, 2j],
    "a float": 2.5,
    "an int": 3,
    "a bool": True,
    "a complex number": 1 + 1j,
    "nothing": [],
    "nothing, nested": [[], []],
    "nested": [[1, 2, 3], [4, 5, 6]],
    "tuples": ((1.0, 2.0), (3.0, 4.0)),
    "deep": [[[1], [2]], [[3], [4]]],
    "large ints": [2**40, -(2**62)],
    "infinities": [float("inf"), float("-inf"), float("nan")],
    "float64 scalars": [np.float64(1), np.float64(2)],
    "float32 scalars": [np.float32(1), np.float32(2)],
    "int32 scalars": [np.int32(1), np.int32(2)],
    "a float64 scalar": np.float64(2.5),
    "a float32 scalar": np.float32(2.5),
    "an int16 scalar": np.int16(2),
    "a bool scalar": np.bool_(True),
    "arrays": [np.ones(2), np.zeros(2)],
    "int8 array": np.array([1, 2], np.int8),
    "bool array": np.array([True, False]),
    "float16 array": np.array([1.5], np.float16),
    "array without dimensions": np.array(1.5),
    "reversed array": np.arange(4.0)[::-1].copy(),
    "transposed array": np.arange(6.0).reshape(2, 3).T,
    "range": range(3),
    "ragged": [[1, 2], [3]],
    "ragged deep": [[[1], [2]], [[3]]],
    "a string": "abc",
    "strings": ["a", "b"],
    "None": None,
    "list with None": [1, None],
    "unsigned": np.array([1], np.uint8),
    "string array": np.array(["a"]),
    "object array": np.array([None]),
    "a dictionary": {},
    "too large": [2**70],
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("function", ["tensor", "as_tensor"])
def test_data(kind, function):
    same(lambda m: getattr(m, function)(DATA[kind]), message=kind.startswith("ragged"))


@pytest.mark.parametrize("kind", ["floats", "ints", "bools", "nothing", "float64 scalars", "int8 array", "a float"])
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]
)
def test_data_with_a_dtype(kind, dtype):
    same(lambda m: m.tensor(DATA[kind], dtype=getattr(m, dtype)))
    same(lambda m: m.as_tensor(DATA[kind], dtype=getattr(m, dtype)))


def test_default_dtype_of_data():
    gradx.set_default_dtype(gradx.float64)
    assert gradx.tensor([1.0]).dtype is gradx.float64
    assert gradx.tensor([1j]).dtype is gradx.complex128
    assert gradx.tensor([np.float32(1)]).dtype is gradx.float32
    assert gradx.zeros(1).dtype is gradx.rand(1).dtype is gradx.float64


def test_tensors_among_the_data():
    same(lambda m: m.tensor([m.tensor(1.0), m.tensor(2.0)]))
    same(lambda m: m.tensor([m.tensor(1), 2.5]))
    same(lambda m: m.tensor([m.tensor(1), m.tensor(2)]))
    same(lambda m: m.tensor([m.tensor(1.0, dtype=m.float64), 2]))
    same(lambda m: m.as_tensor([m.tensor([1]), m.tensor([2])]))
    same(lambda m: m.as_tensor([m.tensor([1, 2]), m.tensor([2, 3])]), message=False)
    same(lambda m: m.as_tensor([m.tensor([1.0, 2.0])]))


def test_requires_grad():
    same(lambda m: m.tensor([1.0], requires_grad=True).requires_grad)
    same(lambda m: m.tensor([1], requires_grad=True))
    same(lambda m: m.zeros(2, dtype=m.int64, requires_grad=True))
    same(lambda m: m.full((2,), 1.0, requires_grad=True).is_leaf)
    for function in ("zeros", "ones", "empty", "rand", "randn", "eye"):
        same(lambda m: getattr(m, function)(2, requires_grad=True).requires_grad)


def test_tensor_copies():
    array = np.zeros(2)
    made = gradx.tensor(array)
    again = gradx.tensor(made)
    array[0] = 1.0
    made[1] = 5.0
    assert made.tolist() == [0.0, 5.0]
    assert again.tolist() == [0.0, 0.0]


def test_from_numpy_and_as_tensor_share_memory():
    def program(m, make):
        array = np.zeros((2, 2))
        made = make(m)(array)
        array[0, 0] = 1.0
        made[1, 1] = 2.0
        return made, array

    same(lambda m: program(m, lambda m: m.from_numpy))
    same(lambda m: program(m, lambda m: m.as_tensor))


def test_as_tensor_shares_only_what_it_need_not_convert():
    array = np.zeros(2)
    converted = gradx.as_tensor(array, dtype=gradx.float32)
    array[0] = 1.0
    assert converted.tolist() == [0.0, 0.0]
    made = gradx.tensor([1.0], requires_grad=True)
    assert gradx.as_tensor(made) is made
    assert gradx.as_tensor(made, dtype=gradx.float64).grad_fn is not None


def test_a_tensors_own_array_is_shared_back():
    made = gradx.tensor([1.0, 2.0])
    made.numpy()[0] = 7.0
    assert made.tolist() == [7.0, 2.0]


@pytest.mark.parametrize("argument", [[1.0], 1.0, None, "a"])
def test_from_numpy_takes_arrays_only(argument):
    same(lambda m: m.from_numpy(argument))


def test_from_numpy_refuses_dtypes_without_tensors():
    same(lambda m: m.from_numpy(np.array(["a"])), message=False)
    same(lambda m: m.from_numpy(np.array([None])), message=False)


ARANGES = [
    (5,),
    (5.0,),
    (0,),
    (1, 4),
    (1, 4.0),
    (1, 10, 3),
    (10, 1, -3),
    (0, 1, 0.1),
    (1, 0, -0.25),
    (0.5, 3),
    (0, -3, -1),
    (1, 2.5, 0.3),
    (2, 2),
    (-3,),
    (3, 1),
    (1, 3, -1),
    (1, 3, 0),
    (0, 1e6, 1e5),
    (float("nan"),),
    (float("inf"),),
    (1, 2, 1e-4),
]


@pytest.mark.parametrize("bounds", ARANGES)
def test_arange(bounds):
    same(lambda m: m.arange(*bounds), rtol=2e-7, atol=1e-7)


def test_arange_keywords():
    same(lambda m: m.arange(start=1, end=4, step=2))
    same(lambda m: m.arange(end=4))
    same(lambda m: m.arange(1, 4, dtype=m.float64))
    same(lambda m: m.arange(0.5, 4, dtype=m.int64))
    same(lambda m: m.arange(3, requires_grad=True))
    same(lambda m: m.arange(3.0, requires_grad=True).requires_grad)
    same(lambda m: m.arange(m.tensor(3)))
    same(lambda m: m.arange(np.int64(3)))


@pytest.mark.parametrize(
    "arguments",
    [(0, 1, 5), (1, 0, 3), (-2.5, 2.5, 11), (0, 1, 1), (3, 4, 0), (0, 0, 3), (0, 1, -1), (0, 10, 7), (1, 2, 2)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_linspace(arguments, dtype):
    same(
        lambda m: m.linspace(*arguments, dtype=getattr(m, dtype)),
        rtol={"float16": 2e-3, "bfloat16": 8e-3}.get(dtype, 2e-7),
        atol=1e-7,
    )


def test_linspace_default_dtype_ends_and_integers():
    same(lambda m: m.linspace(0, 1, steps=4).dtype)
    same(lambda m: m.linspace(start=0, end=1, steps=4)[-1])
    same(lambda m: m.linspace(0, 10, 6, dtype=m.int64))


@pytest.mark.parametrize("function", ["zeros", "ones"])
@pytest.mark.parametrize(
    "size", [(2, 3), ((2, 3),), ([2, 3],), (), ((),), (0,), (3, 0), (-1,), ((2, -3),), (2.0,), ("a",)]
)
def test_constants(function, size):
    same(lambda m: getattr(m, function)(*size), message=False)


def test_constants_with_dtypes():
    for dtype in ("bool", "int8", "float16", "bfloat16", "float64", "complex64"):
        same(lambda m: m.zeros(2, dtype=getattr(m, dtype)))
        same(lambda m: m.ones((2, 2), dtype=getattr(m, dtype)))
        same(lambda m: m.full((2,), 1, dtype=getattr(m, dtype)))
        same(lambda m: m.empty(3, dtype=getattr(m, dtype)).dtype)
    same(lambda m: m.zeros(size=(2, 3)))
    same(lambda m: m.ones(size=(2,)))
    same(lambda m: m.empty(size=(2,)).shape)
    same(lambda m: m.empty(0))


@pytest.mark.parametrize("value", [1, 2.5, True, 1j, float("nan")])
def test_full(value):
    same(lambda m: m.full((2,), value))
    same(lambda m: m.full([1, 2], value))
    same(lambda m: m.full((), value))
    same(lambda m: m.full_like(m.zeros(2, dtype=m.complex64), value))
    same(lambda m: m.full(size=(2,), fill_value=value))


def test_full_errors():
    same(lambda m: m.full((-1,), 0))
    same(lambda m: m.full((2,), "a"), message=False)


def test_likes():
    for function in ("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"):
        same(lambda m: getattr(m, function)(m.zeros(2, 3, dtype=m.float64)).dtype)
        same(lambda m: getattr(m, function)(m.zeros(2, 3)).shape)
        same(lambda m: getattr(m, function)(m.zeros(2), dtype=m.float16).dtype)
        same(lambda m: getattr(m, function)(m.zeros(2), requires_grad=True).requires_grad)
    same(lambda m: m.zeros_like(m.tensor([1, 2])))
    same(lambda m: m.ones_like(m.tensor([True])))
    same(lambda m: m.ones_like(m.ones(2, requires_grad=True)).requires_grad)


@pytest.mark.parametrize("arguments", [(2,), (2, 3), (3, 2), (0,), (-1,), (2, -1)])
def test_eye(arguments):
    same(lambda m: m.eye(*arguments))


def test_eye_dtypes():
    same(lambda m: m.eye(2, dtype=m.int64))
    same(lambda m: m.eye(n=2, m=3))


def test_random_numbers_repeat_after_a_seed():
    def draw():
        gradx.manual_seed(7)
        return [gradx.rand(3), gradx.randn(2, 2), gradx.randint(5, (4,)), gradx.randperm(6)]

    for first, second in zip(draw(), draw(), strict=True):
        assert first.tolist() == second.tolist()


def test_random_numbers_are_distributed_as_they_should_be():
    gradx.manual_seed(0)
    uniform, normal = gradx.rand(20_000), gradx.randn(20_000)
    assert uniform.min().item() >= 0 and uniform.max().item() < 1
    assert abs(uniform.mean().item() - 0.5) < 0.01
    assert abs(normal.mean().item()) < 0.03
    assert abs(normal.std().item() - 1) < 0.03
    whole = gradx.randint(2, 5, (1000,))
    assert set(whole.tolist()) == {2, 3, 4}
    assert sorted(gradx.randperm(50).tolist()) == list(range(50))
    for dtype in (gradx.float16, gradx.bfloat16):
        assert 0.9 < gradx.rand(1000, dtype=dtype).max().item() < 1


def test_random_dtypes_and_sizes():
    for size in ((2, 3), ((2, 3),), (0,), ((),)):
        same(lambda m: m.rand(*size).shape)
        same(lambda m: m.randn(*size).dtype)
    same(lambda m: m.rand(2, dtype=m.float64).dtype)
    same(lambda m: m.rand(2, dtype=m.int64), message=False)
    same(lambda m: m.randn(2, dtype=m.int64), message=False)
    same(lambda m: m.randint(10, (2,)).dtype)
    same(lambda m: m.randint(0, 10, size=(2, 2), dtype=m.float32).dtype)
    same(lambda m: m.randint(3, 3, (1,)), message=False)
    same(lambda m: m.randperm(4).dtype)


def test_unknown_keywords_are_refused():
    same(lambda m: m.zeros(2, colour="red"), message=False)
    same(lambda m: m.zeros(2, dtype=3), message=False)
