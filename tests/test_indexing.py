"""Indexing of every kind, and its gradients, as torch does it."""

from __future__ import annotations

import numpy as np
import pytest
from twin import same

import gradx

# Each index is a function of the library, for those that hold tensors.
INDICES = {
    "int": lambda m: 1,
    "negative int": lambda m: -1,
    "ints": lambda m: (1, 2, -3),
    "slice": lambda m: slice(1, 3),
    "slices": lambda m: (slice(None), slice(1, None, 2)),
    "slice beyond the end": lambda m: slice(1, 100),
    "empty slice": lambda m: slice(2, 1),
    "negative slice": lambda m: slice(-2, -1),
    "None": lambda m: None,
    "None and ints": lambda m: (None, 0, None, slice(1)),
    "ellipsis": lambda m: ...,
    "ellipsis and int": lambda m: (..., 0),
    "int, ellipsis, None": lambda m: (0, ..., None),
    "ellipsis for nothing": lambda m: (0, ..., 1, 2),
    "empty tuple": lambda m: (),
    "True": lambda m: True,
    "False": lambda m: False,
    "True and int": lambda m: (True, 1),
    "numpy int": lambda m: np.int64(1),
    "0-d tensor": lambda m: m.tensor(2),
    "0-d tensor and slice": lambda m: (slice(1), m.tensor(-1)),
    "list": lambda m: [0, 2],
    "list in tuple": lambda m: ([0, 2],),
    "list, negative": lambda m: [-1, 0, -1],
    "empty list": lambda m: [],
    "list of bools": lambda m: [True, False, True, False],
    "nested list": lambda m: [[0, 1], [2, 0]],
    "range": lambda m: range(2),
    "tensor": lambda m: m.tensor([2, 0, 2]),
    "tensor, negative": lambda m: m.tensor([-1, -2]),
    "tensor, two dimensions": lambda m: m.tensor([[0, 1], [3, 2]]),
    "tensor, int32": lambda m: m.tensor([2, 0], dtype=m.int32),
    "tensor, empty": lambda m: m.tensor([], dtype=m.int64),
    "tensor and slice": lambda m: (m.tensor([0, 1]), slice(1)),
    "slice and tensor": lambda m: (slice(1, 3), m.tensor([0, 2])),
    "adjacent tensors": lambda m: (slice(None), m.tensor([0, 1]), m.tensor([2, 4])),
    "leading tensors": lambda m: (m.tensor([0, 1]), m.tensor([2, 1])),
    "separated tensors": lambda m: (m.tensor([0, 1]), slice(None), m.tensor([2, 4])),
    "tensor and int": lambda m: (m.tensor([0, 1]), 1),
    "int and tensor": lambda m: (1, m.tensor([0, 1])),
    "int, slice, tensor": lambda m: (1, slice(None), m.tensor([0, 1])),
    "slice, int, tensor": lambda m: (slice(None), 1, m.tensor([0, 1])),
    "tensor, slice, int": lambda m: (m.tensor([0, 1]), slice(None), 1),
    "tensor, None, tensor": lambda m: (m.tensor([0, 1]), None, m.tensor([1, 2])),
    "None and tensor": lambda m: (None, m.tensor([0, 1])),
    "tensor and None": lambda m: (m.tensor([0, 1]), None),
    "ellipsis and tensor": lambda m: (..., m.tensor([0, 4])),
    "tensors that broadcast": lambda m: (m.tensor([[0], [1]]), m.tensor([0, 2])),
    "0-d tensor and tensor": lambda m: (m.tensor(1), m.tensor([0, 2])),
    "tensor and list": lambda m: (m.tensor([0, 1]), [1, 2]),
    "mask of all dimensions": lambda m: m.arange(60).reshape(4, 3, 5) % 7 == 0,
    "mask of the first dimension": lambda m: m.tensor([True, False, True, True]),
    "mask of two dimensions": lambda m: m.arange(12).reshape(4, 3) > 6,
    "mask in the middle": lambda m: (slice(None), m.tensor([True, False, True])),
    "mask at the end": lambda m: (..., m.tensor([True, False, True, False, False])),
    "mask and tensor": lambda m: (m.tensor([True, False, True, False]), m.tensor([0, 2])),
    "mask and int": lambda m: (m.tensor([True, False, True, False]), 1),
    "mask without true": lambda m: m.zeros(4, dtype=m.bool),
    "0-d mask, true": lambda m: m.tensor(True),
    "0-d mask, false": lambda m: m.tensor(False),
    "0-d mask and slice": lambda m: (m.tensor(True), slice(1)),
    "numpy array": lambda m: np.array([0, 2]),
    "numpy mask": lambda m: np.array([True, False, False, True]),
    # errors
    "out of range": lambda m: 4,
    "out of range, negative": lambda m: -5,
    "out of range in the second dimension": lambda m: (0, 3),
    "tensor out of range": lambda m: m.tensor([0, 4]),
    "tensor out of range, negative": lambda m: m.tensor([-5]),
    "too many": lambda m: (0, 0, 0, 0),
    "too many tensors": lambda m: (m.tensor([0]),) * 4,
    "float": lambda m: 1.0,
    "float tensor": lambda m: m.tensor([1.0]),
    "negative step": lambda m: slice(None, None, -1),
    "zero step": lambda m: slice(None, None, 0),
    "float slice": lambda m: slice(1.0, 2),
    "mask of the wrong shape": lambda m: m.tensor([True, False]),
    "mask of the wrong shape, two dimensions": lambda m: m.zeros((4, 2), dtype=m.bool),
    "tensors that do not broadcast": lambda m: (m.tensor([0, 1]), m.tensor([0, 1, 2])),
}


def source(m, **kwargs):
    return m.arange(60, dtype=m.float64, **kwargs).reshape(4, 3, 5)


@pytest.mark.parametrize("kind", INDICES)
def test_value(kind):
    same(lambda m: source(m)[INDICES[kind](m)])


@pytest.mark.parametrize("kind", INDICES)
def test_gradient(kind):
    """Elements that are taken several times get the sum of their gradients."""

    def program(m):
        leaf = source(m).requires_grad_()
        taken = leaf[INDICES[kind](m)]
        weights = m.cos(m.arange(taken.numel(), dtype=m.float64)).reshape(taken.shape)
        return m.autograd.grad((taken * weights).sum(), leaf)

    same(program, rtol=1e-14, message=False)


@pytest.mark.parametrize(
    "kind", ["list, negative", "slice and tensor", "separated tensors", "mask of two dimensions", "slices"]
)
def test_second_gradient(kind):
    def program(m):
        leaf = source(m).requires_grad_()
        (first,) = m.autograd.grad((leaf[INDICES[kind](m)] ** 3).sum(), leaf, create_graph=True)
        return m.autograd.grad((first * first).sum(), leaf)

    same(program, rtol=1e-13)


@pytest.mark.parametrize("kind", ["int", "slices", "None", "ellipsis and int", "empty tuple"])
def test_basic_indexing_gives_views(kind):
    def program(m):
        base = source(m)
        base[INDICES[kind](m)].zero_()
        return base

    same(program)


@pytest.mark.parametrize("kind", ["list", "tensor", "mask of the first dimension", "True"])
def test_advanced_indexing_gives_copies(kind):
    def program(m):
        base = source(m)
        base[INDICES[kind](m)].zero_()
        return base

    same(program)


@pytest.mark.parametrize("kind", [k for k in INDICES if k not in ("float slice",)])
def test_assignment(kind):
    def program(m):
        base = source(m)
        base[INDICES[kind](m)] = -1.0
        return base

    same(program, message=False)


def test_what_cannot_index():
    same(lambda m: source(m)["a"], message=False)
    same(lambda m: source(m)[..., ...])  # several count for one


def test_assignment_of_tensors():
    for kind in ("separated tensors", "slice and tensor", "mask of two dimensions", "tensor and slice"):

        def program(m):
            base = source(m)
            base[INDICES[kind](m)] = -base[INDICES[kind](m)] - 1
            return base

        same(program)


def test_an_index_may_change_afterwards():
    leaf = gradx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    places = gradx.tensor([0, 1])
    taken = leaf[places]
    places[0] = 2
    taken.sum().backward()
    assert leaf.grad.tolist() == [1.0, 1.0, 0.0]


def test_scalars():
    same(lambda m: m.tensor(1.0)[...])
    same(lambda m: m.tensor(1.0)[None])
    same(lambda m: m.tensor(1.0)[()])
    same(lambda m: m.tensor(1.0)[True])
    same(lambda m: m.tensor(1.0)[m.tensor(False)])
    same(lambda m: m.tensor(1.0)[0])


def test_functions_that_index():
    same(lambda m: source(m).select(1, -1))
    same(lambda m: source(m).select(1, 3))
    same(lambda m: source(m).narrow(2, 1, 3))
    same(lambda m: source(m).narrow(2, -2, 2))
    same(lambda m: source(m).narrow(2, 3, 3))
    same(lambda m: m.gather(source(m)[0], 1, m.tensor([[0, 4], [1, 1]])))
    same(lambda m: m.gather(source(m)[0], 1, m.tensor([[5]])), message=False)
    same(lambda m: m.gather(source(m)[0], 1, m.tensor([[-1]])), message=False)
    same(lambda m: m.gather(source(m)[0], 1, m.tensor([0])), message=False)
    same(lambda m: m.gather(source(m)[0], 1, m.tensor([[0.0]])), message=False)
    same(lambda m: m.index_select(source(m), 1, m.tensor([2, 0])))
    same(lambda m: m.index_select(source(m), 1, m.tensor([3])), message=False)
    same(lambda m: m.index_select(source(m), 1, m.tensor([-1])), message=False)
    same(lambda m: m.index_select(source(m), 1, m.tensor(1)).shape)
