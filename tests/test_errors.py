"""What users do wrong: gradx raises what torch raises, and says torch's sentence first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from twin import Raised, outcome, same, sentence

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def matrix(m, *shape):
    return m.ones(*(shape or (2, 3)), dtype=m.float64, requires_grad=True)


def grad(m, output, *inputs, **kwargs):
    return m.autograd.grad(output, inputs, **kwargs)


def ones(m, *shape):
    return m.ones(*shape, dtype=m.float64)


def changed(m, save, change):
    """Walk back through `save` of a tensor that `change` has changed since."""
    y = leaf(m) * 1
    z = save(m, y)
    change(m, y)
    z.sum().backward()


def walked_twice(m, make):
    x = leaf(m)
    z = make(m, x).sum()
    z.backward()
    z.backward()


ERRORS = {
    # ---- no history
    "constant": lambda m: m.ones(2).sum().backward(),
    "constant and gradient": lambda m: m.ones(2).backward(m.ones(2)),
    "second of several is constant": lambda m: m.autograd.backward([leaf(m).sum(), m.ones(1)]),
    "grad of a constant": lambda m: grad(m, m.ones(()), leaf(m)),
    "detached": lambda m: leaf(m).sum().detach().backward(),
    "through comparison": lambda m: (leaf(m) > 1).sum().backward(),
    "through argmax": lambda m: leaf(m).argmax().backward(),
    "made under no_grad": lambda m: m.no_grad()(lambda: leaf(m).sum())().backward(),
    "with respect to a constant": lambda m: grad(m, leaf(m).sum(), m.ones(2)),
    "with respect to integers": lambda m: grad(m, leaf(m).sum(), m.ones(2).long()),
    "gradient of a gradient that was not recorded": lambda m: grad(m, grad(m, leaf(m).sum(), x := leaf(m))[0], x),
    # ---- twice
    "backward twice": lambda m: walked_twice(m, lambda m, x: x * x),
    "twice through exp": lambda m: walked_twice(m, lambda m, x: x.exp()),
    "twice through a softmax": lambda m: walked_twice(m, lambda m, x: m.softmax(x, 0) * 2),
    # ---- not scalar
    "vector": lambda m: (leaf(m) * 2).backward(),
    "empty": lambda m: (leaf(m) * 2)[:0].backward(),
    "matrix": lambda m: grad(m, (x := matrix(m)) * 2, x),
    "second output is a vector": lambda m: grad(m, ((x := leaf(m)).sum(), x * 2), x),
    # ---- unused
    "unused": lambda m: grad(m, leaf(m).sum(), leaf(m)),
    "second unused": lambda m: grad(m, (x := leaf(m)).sum(), x, leaf(m)),
    "computed beside": lambda m: grad(m, (x := leaf(m)).sum(), x * 2),
    "view taken after": lambda m: grad(m, (x := leaf(m)).sum(), x[0]),
    "materialized and not allowed": lambda m: grad(
        m, (x := leaf(m)).sum(), x, allow_unused=False, materialize_grads=True
    ),
    # ---- gradients that do not fit
    "too long": lambda m: (leaf(m) * 2).backward(ones(m, 3)),
    "would broadcast": lambda m: (leaf(m) * 2).backward(ones(m, 1)),
    "vector for a scalar": lambda m: leaf(m).sum().backward(ones(m, 1)),
    "one gradient for two": lambda m: grad(m, [(x := leaf(m)) * 2, x * 3], x, grad_outputs=[ones(m, 2)]),
    "number for a gradient": lambda m: (leaf(m) * 2).sum().backward(2.0),
    "number in a list": lambda m: grad(m, (x := leaf(m)).sum(), x, grad_outputs=[2.0]),
    "array for a gradient": lambda m: grad(m, (x := leaf(m)) * 2, x, grad_outputs=[np.ones(2)]),
    "complex for real": lambda m: grad(m, (x := leaf(m)) * 2, x, grad_outputs=[m.ones(2, dtype=m.complex128)]),
    "batched but too short": lambda m: grad(
        m, (x := leaf(m)) * 2, x, grad_outputs=[ones(m, 4, 3)], is_grads_batched=True
    ),
    # ---- nonsense for outputs and inputs
    "no inputs to backward": lambda m: leaf(m).sum().backward(inputs=[]),
    "no inputs to grad": lambda m: m.autograd.grad(leaf(m).sum(), ()),
    "number as input": lambda m: m.autograd.grad(leaf(m).sum(), [1.0]),
    "string as input": lambda m: leaf(m).sum().backward(inputs=["x"]),
    # ---- changed since
    "leaf": lambda m: [(y := ((x := leaf(m)) ** 2).sum()), m.no_grad()(lambda: x.add_(1))(), y.backward()],
    "factor": lambda m: changed(m, lambda m, y: y * y, lambda m, y: y.add_(1)),
    "result of exp": lambda m: [(y := leaf(m).exp()), y.mul_(2), y.sum().backward()],
    "result of a softmax": lambda m: [(y := m.softmax(leaf(m), 0)), y.zero_(), y.sum().backward()],
    "item": lambda m: changed(m, lambda m, y: y.sin(), lambda m, y: y.__setitem__(0, 7.0)),
    "through a view": lambda m: changed(m, lambda m, y: y.log(), lambda m, y: y[:1].zero_()),
    "through detach": lambda m: changed(m, lambda m, y: y / y, lambda m, y: y.detach().add_(1)),
    "base of a saved view": lambda m: changed(m, lambda m, y: y[1:] ** 3, lambda m, y: y.fill_(1)),
    "under no_grad": lambda m: changed(m, lambda m, y: y.cos(), lambda m, y: m.no_grad()(lambda: y.neg_())()),
    "constant factor": lambda m: [(c := ones(m, 2)), (y := (leaf(m) * c).sum()), c.add_(1), y.backward()],
    "condition": lambda m: [
        (c := m.tensor([True, False])),
        (y := m.where(c, leaf(m), 0.0).sum()),
        c.zero_(),
        y.backward(),
    ],
    "matrix product": lambda m: [(w := matrix(m) * 1), (y := (w @ matrix(m, 3, 2)).sum()), w.mul_(2), y.backward()],
    "labels": lambda m: [
        (t := m.tensor([0, 1])),
        (y := m.nn.functional.nll_loss(matrix(m), t)),
        t.zero_(),
        y.backward(),
    ],
    "weights of labels": lambda m: [
        (w := ones(m, 3)),
        (y := m.nn.functional.cross_entropy(matrix(m), m.tensor([0, 1]), w)),
        w.zero_(),
        y.backward(),
    ],
    "in double backward": lambda m: [
        (y := (x := leaf(m)) * 1),
        (g := m.autograd.grad((y * y * y).sum(), x, create_graph=True)[0]),
        y.add_(1),
        g.sum().backward(),
    ],
    # ---- in place
    "leaf add_": lambda m: leaf(m).add_(1),
    "leaf +=": lambda m: leaf(m).__iadd__(1),
    "leaf item": lambda m: leaf(m).__setitem__(0, 1.0),
    "leaf slice": lambda m: leaf(m).__setitem__(slice(1), leaf(m, 1.0)),
    "leaf mask": lambda m: (x := leaf(m)).__setitem__(x > 1, 0.0),
    "leaf zero_": lambda m: leaf(m).zero_(),
    "leaf copy_": lambda m: leaf(m).copy_(ones(m, 2)),
    "view of a leaf": lambda m: leaf(m)[:1].mul_(2),
    "view of a view of a leaf": lambda m: matrix(m).t()[0].exp_(),
    "reshaped leaf": lambda m: leaf(m).reshape(2, 1).fill_(1),
    "unbound": lambda m: (matrix(m) * 1).unbind(0)[0].add_(1),
    "split": lambda m: m.split(matrix(m) * 1, 1)[1].add_(1),
    "expanded": lambda m: ones(m, 1).expand(3).add_(1),
    "integers take fractions": lambda m: m.tensor([1, 2]).add_(1.5),
    "integers divided": lambda m: m.tensor([1, 2]).div_(2),
    "grows": lambda m: ones(m, 1).add_(ones(m, 3)),
    "does not fit": lambda m: ones(m, 2).add_(ones(m, 3)),
    "fill_ with a vector": lambda m: ones(m, 2).fill_(ones(m, 2)),
    "copy_ too long": lambda m: ones(m, 2).copy_(ones(m, 3)),
    "detach_ a view": lambda m: (leaf(m) * 2)[:1].detach_(),
    # ---- asking for gradients
    "integers": lambda m: m.tensor([1, 2], requires_grad=True),
    "truth values": lambda m: m.tensor([True], requires_grad=True),
    "arange": lambda m: m.arange(3, requires_grad=True),
    "integers later": lambda m: m.tensor([1, 2]).requires_grad_(),
    "integers by attribute": lambda m: setattr(m.tensor([1, 2]), "requires_grad", True),
    "computed, switched off": lambda m: (leaf(m) * 2).requires_grad_(False),
    "retain_grad of a constant": lambda m: m.ones(2).retain_grad(),
    "hook on a constant": lambda m: m.ones(2).register_hook(print),
    "grad of another shape": lambda m: setattr(leaf(m), "grad", ones(m, 3)),
    "grad of another dtype": lambda m: setattr(leaf(m), "grad", m.ones(2)),
    "grad that is itself": lambda m: setattr(x := leaf(m), "grad", x),
    "set grad_fn": lambda m: setattr(leaf(m), "grad_fn", None),
    "set is_leaf": lambda m: setattr(leaf(m), "is_leaf", False),
    # ---- leaving the tape
    "numpy": lambda m: leaf(m).numpy(),
    "numpy of a computed one": lambda m: (leaf(m) * 2).numpy(),
    "asarray": lambda m: np.asarray(leaf(m)),
    "item of several": lambda m: leaf(m).item(),
    "truth of several": lambda m: bool(leaf(m)),
    "truth of none": lambda m: bool(ones(m, 0)),
    "float of several": lambda m: float(leaf(m)),
    "index by a fraction": lambda m: [1, 2][leaf(m, 1.0)],
    "len of a scalar": lambda m: len(leaf(m).sum()),
    "iterate over a scalar": lambda m: list(leaf(m).sum()),
    "item of a scalar": lambda m: leaf(m).sum()[0],
    # ---- shapes and dimensions
    "broadcast": lambda m: matrix(m) + ones(m, 2),
    "broadcast inside": lambda m: ones(m, 4, 2, 3) * ones(m, 5, 3),
    "matrix product 2": lambda m: matrix(m) @ matrix(m),
    "vector product": lambda m: ones(m, 2) @ ones(m, 3),
    "matrix and vector": lambda m: matrix(m) @ ones(m, 2),
    "scalar product": lambda m: ones(m) @ ones(m, 2),
    "mm of a vector": lambda m: m.mm(ones(m, 2), ones(m, 2)),
    "batches": lambda m: ones(m, 2, 2, 2) @ ones(m, 3, 2, 2),
    "dtypes of a product": lambda m: matrix(m) @ m.ones(3, 2),
    "dim 2 of 2": lambda m: matrix(m).sum(2),
    "dim -3 of 2": lambda m: m.softmax(matrix(m), -3),
    "dim twice": lambda m: matrix(m).sum((0, -2)),
    "max of nothing": lambda m: ones(m, 0).max(),
    "amax of nothing": lambda m: m.amax(ones(m, 0, 2), 0),
    "mean of integers": lambda m: m.tensor([1, 2]).mean(),
    "softmax of integers": lambda m: m.softmax(m.tensor([1, 2]), 0),
    "var of integers": lambda m: m.tensor([1, 2]).var(),
    "norm of integers": lambda m: m.tensor([1, 2]).norm(),
    "reshape": lambda m: matrix(m).reshape(4, 2),
    "reshape with two -1": lambda m: matrix(m).reshape(-1, -1),
    "reshape that does not divide": lambda m: matrix(m).reshape(4, -1),
    "reshape to -2": lambda m: matrix(m).reshape(-2, 3),
    "view of a transposed": lambda m: matrix(m).t().view(6),
    "permute too few": lambda m: matrix(m).permute(0),
    "permute twice": lambda m: matrix(m).permute(0, 0),
    "t of three": lambda m: ones(m, 2, 2, 2).t(),
    "transpose": lambda m: matrix(m).transpose(0, 2),
    "expand": lambda m: matrix(m).expand(4, 3),
    "expand to fewer": lambda m: matrix(m).expand(3),
    "unsqueeze": lambda m: matrix(m).unsqueeze(4),
    "cat of nothing": lambda m: m.cat([]),
    "cat of shapes": lambda m: m.cat([matrix(m), ones(m, 2, 2)]),
    "cat of scalars": lambda m: m.cat([ones(m), ones(m)]),
    "cat of a tensor": lambda m: m.cat(matrix(m), 5),
    "stack of nothing": lambda m: m.stack([]),
    "stack of shapes": lambda m: m.stack([matrix(m), ones(m, 2)]),
    "split by none": lambda m: m.split(matrix(m), -1),
    "split sizes": lambda m: m.split(matrix(m), [1, 2]),
    "index too large": lambda m: leaf(m)[2],
    "too many indices": lambda m: leaf(m)[0, 0],
    "index by fractions": lambda m: leaf(m)[m.tensor([0.5])],
    "index by a string": lambda m: leaf(m)["a"],
    "index beyond": lambda m: leaf(m)[m.tensor([0, 2])],
    "mask of another shape": lambda m: leaf(m)[m.tensor([True, False, True])],
    "indices that do not fit": lambda m: matrix(m)[m.tensor([0, 1]), m.tensor([0, 1, 2])],
    "negative step": lambda m: leaf(m)[::-1],
    "set too many": lambda m: ones(m, 3).__setitem__(slice(2), ones(m, 3)),
    "gather beyond": lambda m: m.gather(leaf(m), 0, m.tensor([5])),
    "where of shapes": lambda m: m.where(m.tensor([True, False, True]), leaf(m), leaf(m)),
    "clamp without bounds": lambda m: leaf(m).clamp(),
    "ragged": lambda m: m.tensor([[1.0, 2.0], [3.0]]),
    "tensor of a string": lambda m: m.tensor("a"),
    "tensor of None": lambda m: m.tensor(None),
    "tensor of strings": lambda m: m.tensor(["a"]),
    "from_numpy of a list": lambda m: m.from_numpy([1.0]),
    "zeros of a negative size": lambda m: m.zeros(-1),
    "eye of a negative size": lambda m: m.eye(-1),
    "arange backwards": lambda m: m.arange(3, 0),
    "arange by 0": lambda m: m.arange(0, 3, 0),
    "linspace of -1": lambda m: m.linspace(0, 1, -1),
    "negative shift": lambda m: m.tensor([1]) ** -1,
    "minus truth values": lambda m: -m.tensor([True]),
    "subtract truth values": lambda m: m.tensor([True]) - m.tensor([True]),
    "one minus truth values": lambda m: 1 - m.tensor([True]),
    "add a string": lambda m: leaf(m) + "a",
    "multiply by a list": lambda m: leaf(m) * [1.0, 2.0],
    "exp of a number": lambda m: m.exp(1.0),
    "sum of a list": lambda m: m.sum([1.0]),
    # ---- losses
    "mse_loss of another shape": lambda m: m.nn.functional.mse_loss(ones(m, 3), ones(m, 2)),
    "mse_loss by a wrong name": lambda m: m.nn.functional.mse_loss(ones(m, 2), ones(m, 2), reduction="median"),
    "cross_entropy beyond": lambda m: m.nn.functional.cross_entropy(matrix(m), m.tensor([0, 3])),
    "cross_entropy below": lambda m: m.nn.functional.cross_entropy(matrix(m), m.tensor([0, -1])),
    "cross_entropy of sizes": lambda m: m.nn.functional.cross_entropy(matrix(m), m.tensor([0, 1, 2])),
    "cross_entropy by int32": lambda m: m.nn.functional.cross_entropy(matrix(m), m.tensor([0, 1], dtype=m.int32)),
    "nll_loss by fractions": lambda m: m.nn.functional.nll_loss(matrix(m), ones(m, 2)),
    "nll_loss of a scalar": lambda m: m.nn.functional.nll_loss(ones(m), m.tensor(0)),
    # ---- devices
    "unknown device": lambda m: m.ones(1, device="nonsense"),
    "empty device": lambda m: m.device(""),
    "device of a negative number": lambda m: m.device("cuda:-1"),
    "device of a word": lambda m: m.device("cuda:one"),
    "default dtype of integers": lambda m: m.set_default_dtype(m.int64),
}


# Torch's message tells of what is inside torch: its C++ classes, its list of devices, its other meanings of an argument.
OTHER_WORDS = {"condition", "set grad_fn", "set is_leaf", "unknown device", "index by a string", "multiply by a list"}

# What looks like a mistake, and is none.
ACCEPTED = {
    "copy_ a number": lambda m: ones(m, 2).copy_(3.0),
    "two ellipses": lambda m: matrix(m)[..., ...],
    "add of numbers": lambda m: m.add(1.0, 2.0),
    "gather by int32": lambda m: m.gather(leaf(m), 0, m.tensor([1], dtype=m.int32)),
    "the other operand's method": lambda m: [leaf(m) + Reflected(), leaf(m) * Reflected(), leaf(m) < Reflected()],
    "one gradient for a list": lambda m: grad(m, [(x := leaf(m)) * 2], x, grad_outputs=ones(m, 2)),
    "leaf under no_grad": lambda m: m.no_grad()(lambda: leaf(m).add_(1))(),
    "leaf by data": lambda m: [(x := leaf(m)).data.add_(1), x, x._version],
    "leaf with other data": lambda m: [
        (x := leaf(m)),
        setattr(x, "data", ones(m, 3)),
        (x * x).sum().backward(),
        x.grad,
    ],
    "leaf switched off": lambda m: [(y := ((x := leaf(m)) ** 2).sum()), x.requires_grad_(False), y.backward(), x.grad],
    "input that retains": lambda m: [(y := leaf(m) * 2), y.retain_grad(), (y * y).sum().backward(inputs=[y]), y.grad],
    "sum changed in place": lambda m: [(y := (x := leaf(m)) + 1), y.mul_(3), y.sum().backward(), x.grad],
    "unused view": lambda m: grad(m, (x := leaf(m)).sum(), x[0], allow_unused=True),
}


class Reflected:
    """An operand that tensors do not know, but that knows tensors."""

    def __radd__(self, other):
        return "added"

    def __rmul__(self, other):
        return "multiplied"

    def __gt__(self, other):
        return "compared"


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("case", ERRORS)
def test_as_in_torch(case):
    """The promise is stronger than `same`: our message begins with torch's sentence, whatever follows."""
    theirs, ours = (outcome(m, ERRORS[case]) for m in (torch, gradx))
    assert isinstance(theirs, Raised), theirs
    assert isinstance(ours, Raised), f"torch raises {theirs}"
    assert issubclass(ours.error, theirs.error), f"gradx raises {ours}, torch {theirs}"
    if case not in OTHER_WORDS and theirs.error is not NotImplementedError:  # those name torch's kernels
        expected = sentence(theirs.message)
        assert ours.message.replace("torch", "gradx")[: len(expected)] == expected


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_as_in_torch(case):
    assert not isinstance(outcome(torch, ACCEPTED[case]), Raised)
    same(ACCEPTED[case])


def test_a_gradient_that_is_not_kept_is_warned_about():
    for m in (torch, gradx):
        y = leaf(m) * 2
        with pytest.warns(UserWarning, match=r"The \.grad attribute of a Tensor that is not a leaf Tensor is being"):
            assert y.grad is None


CAUSE_AND_FIX = {  # said after torch's sentence
    "constant": "Nothing it was computed from required grad at the time: call requires_grad_() on the inputs first",
    "with respect to a constant": "Call requires_grad_() on it before computing the outputs",
    "backward twice": "Specify retain_graph=True",
    "vector": "This one has shape (2,): reduce it, for example with .sum(), or pass a gradient of that shape",
    "unused": "The outputs do not depend on it, or were computed before it required grad",
    "too long": "a gradient of the output's shape",
    "factor": "MulBackward0 saved it when it was recorded: clone() it before changing it in place",
    "labels": "clone() it before changing it in place",
    "leaf add_": "change it under gradx.no_grad(), or change a clone()",
    "view of a leaf": "Change it under gradx.no_grad()",
    "numpy": "Use tensor.detach().numpy() instead. What NumPy computes is not recorded",
    "integers": "This one would hold gradx.int64: ask for a floating-point dtype",
    "integers later": "This one holds gradx.int64: convert it with .to(gradx.float32)",
    "broadcast": "The shapes [2, 3] and [2] do not broadcast",
}


@pytest.mark.parametrize("case", CAUSE_AND_FIX)
def test_cause_and_fix(case):
    ending = outcome(gradx, ERRORS[case])
    assert isinstance(ending, Raised), ending
    assert CAUSE_AND_FIX[case] in ending.message


@pytest.mark.parametrize("operand", [[1.0], "text", object()])
@pytest.mark.parametrize("place", [0, 1])
def test_operands_that_are_no_tensors(operand, place):
    same(lambda m: m.exp(operand))
    same(lambda m: m.add(*([m.ones(2), operand] if place else [operand, m.ones(2)])), message=False)
    with pytest.raises(TypeError, match=rf"^add\(\): argument '\w+' \(position {place + 1}\) must be Tensor, not"):
        gradx.add(*([gradx.ones(2), operand] if place else [operand, gradx.ones(2)]))
