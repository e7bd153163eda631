"""In-place methods, augmented operators and assignment, as torch does them: values, histories, first and second gradients."""

from __future__ import annotations

import operator
import string

import pytest
import torch
from calls import gradients
from test_indexing import INDICES
from twin import same

import gradx

# Each method, called on a tensor of shape (2, 3); `o` is another, of shape (3,).
METHODS = {
    "add_": lambda m, t, o: t.add_(o),
    "add_ alpha": lambda m, t, o: t.add_(o, alpha=2),
    "add_ number": lambda m, t, o: t.add_(1.5),
    "add_ itself": lambda m, t, o: t.add_(t),
    "sub_": lambda m, t, o: t.sub_(o, alpha=3),
    "subtract_": lambda m, t, o: t.subtract_(o),
    "mul_": lambda m, t, o: t.mul_(o),
    "mul_ number": lambda m, t, o: t.mul_(3),
    "mul_ itself": lambda m, t, o: t.mul_(t),
    "multiply_": lambda m, t, o: t.multiply_(o),
    "div_": lambda m, t, o: t.div_(o),
    "div_ trunc": lambda m, t, o: t.div_(o, rounding_mode="trunc"),
    "div_ itself": lambda m, t, o: t.div_(t),
    "divide_": lambda m, t, o: t.divide_(o),
    "true_divide_": lambda m, t, o: t.true_divide_(o),
    "floor_divide_": lambda m, t, o: t.floor_divide_(o),
    "remainder_": lambda m, t, o: t.remainder_(o),
    "remainder_ number": lambda m, t, o: t.remainder_(0.3),
    "pow_ number": lambda m, t, o: t.pow_(3),
    "pow_": lambda m, t, o: t.pow_(o),
    "neg_": lambda m, t, o: t.neg_(),
    "negative_": lambda m, t, o: t.negative_(),
    "abs_": lambda m, t, o: t.abs_(),
    "absolute_": lambda m, t, o: t.absolute_(),
    "sign_": lambda m, t, o: t.sign_(),
    "sgn_": lambda m, t, o: t.sgn_(),
    "conj_physical_": lambda m, t, o: t.conj_physical_(),
    "reciprocal_": lambda m, t, o: t.reciprocal_(),
    "square_": lambda m, t, o: t.square_(),
    "floor_": lambda m, t, o: t.floor_(),
    "ceil_": lambda m, t, o: t.ceil_(),
    "round_": lambda m, t, o: t.round_(decimals=1),
    "trunc_": lambda m, t, o: t.trunc_(),
    "exp_": lambda m, t, o: t.exp_(),
    "expm1_": lambda m, t, o: t.expm1_(),
    "log_": lambda m, t, o: t.abs_().log_(),
    "log2_": lambda m, t, o: t.abs_().log2_(),
    "log10_": lambda m, t, o: t.abs_().log10_(),
    "log1p_": lambda m, t, o: t.abs_().log1p_(),
    "sqrt_": lambda m, t, o: t.abs_().sqrt_(),
    "rsqrt_": lambda m, t, o: t.abs_().rsqrt_(),
    "sin_": lambda m, t, o: t.sin_(),
    "cos_": lambda m, t, o: t.cos_(),
    "tan_": lambda m, t, o: t.tan_(),
    "tanh_": lambda m, t, o: t.tanh_(),
    "sigmoid_": lambda m, t, o: t.sigmoid_(),
    "relu_": lambda m, t, o: t.relu_(),
    "clamp_": lambda m, t, o: t.clamp_(-0.5, 0.6),
    "clamp_ tensors": lambda m, t, o: t.clamp_(min=o - 1, max=o),
    "clip_": lambda m, t, o: t.clip_(max=0.6),
    "zero_": lambda m, t, o: t.zero_(),
    "fill_": lambda m, t, o: t.fill_(2),
    "fill_ tensor": lambda m, t, o: t.fill_(o[0]),
    "copy_": lambda m, t, o: t.copy_(o),
    "masked_fill_": lambda m, t, o: t.masked_fill_(m.tensor([True, False, True]), 5),
    "masked_fill_ tensor": lambda m, t, o: t.masked_fill_(t.detach() > 0, o[1]),
    "eq_": lambda m, t, o: t.eq_(0.9),
    "lt_": lambda m, t, o: t.lt_(o),
    "chain": lambda m, t, o: t.mul_(o).exp_().add_(t).tanh_().mul_(t),
}
BINARY = [
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ifloordiv,
    operator.imod,
    operator.ipow,
    operator.iand,
    operator.ior,
    operator.ixor,
]


def leaf(m, shape=(2, 3), shift=0.0, **kwargs):
    """Numbers between -1.3 and 1.3, none at a kink, and of both signs."""
    numbers = m.arange(1, 1 + m.zeros(shape).numel(), dtype=m.float64)
    return (1.3 * (2.3 * numbers + shift).cos()).reshape(shape).requires_grad_()


def differentiated(m, result, wanted):
    """First and second gradients, zeros where a library knows that there is none."""
    found = gradients(m, lambda: result, wanted)
    return [m.zeros_like(w) if g is None else g for g, w in zip(found, [*wanted, *wanted], strict=True)]


@pytest.mark.parametrize("where", ["whole", "view"])
@pytest.mark.parametrize("method", METHODS)
def test_method(method, where):
    def program(m):
        x, other = leaf(m, (4, 3)), leaf(m, (3,), 0.5).abs().detach().requires_grad_()
        base = x * 1
        target = base[::2] if where == "view" else base
        returned = METHODS[method](m, target, other)
        return returned is target, target, base, base._version, *differentiated(m, base, [x, other])

    same(program, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["logical_not_", "logical_and_", "logical_or_", "logical_xor_", "ne_", "ge_"])
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_truth_values_in_place(method, dtype):
    """They are numbers of the tensor's own dtype. (Torch's logical ones leave the history as it was, which is wrong.)"""

    def program(m):
        x = m.tensor([0, 1, 2]).to(getattr(m, dtype))
        operands = () if method == "logical_not_" else (m.tensor([1, 1, 0]),)
        return getattr(x, method)(*operands) is x, x, x._version

    same(program)


def test_every_operation_that_torch_has_in_place_has_a_method():
    names = [name for name in dir(gradx.Tensor) if name[0] in string.ascii_letters and not name.endswith("_")]
    missing = {name for name in names if hasattr(torch.Tensor, f"{name}_") and not hasattr(gradx.Tensor, f"{name}_")}
    assert missing == {
        "squeeze",
        "t",
        "transpose",
        "unsqueeze",
    }  # other views of the tensor would take it for what it was


@pytest.mark.parametrize("other", [2, True, 1.5, "int", "float", "double", "bool", "0-d double", "0-d int"])
@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float64", "bool"])
@pytest.mark.parametrize("operation", BINARY, ids=lambda f: f.__name__)
def test_operators_keep_the_dtype_or_raise(operation, dtype, other):
    def program(m):
        before = x = m.tensor([1, 0, 3]).to(getattr(m, dtype))
        operand = other
        if isinstance(other, str):
            operand = m.tensor(1 if "0-d" in other else [1, 1, 2]).to(getattr(m, other.split()[-1]))
        x = operation(x, operand)
        return x is before, x, x._version

    same(program, rtol=1e-6)


@pytest.mark.parametrize("operation", BINARY[:7], ids=lambda f: f.__name__)
def test_operators_have_gradients(operation):
    def program(m):
        x, other = leaf(m, (4, 3)), leaf(m, (3,))
        before = y = x.abs() + 1
        y = operation(y, other.abs() + 0.5)
        return y is before, y, y._version, *differentiated(m, y, [x, other])

    same(program, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "method", ["div_", "exp_", "sqrt_", "sigmoid_", "pow_", "reciprocal_", "sin_", "floor_", "neg_"]
)
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_integers_cannot_become_floats_in_place(method, dtype):
    arguments = {"div_": (2,), "pow_": (2,)}.get(method, ())
    same(lambda m: getattr(m.ones(3, dtype=getattr(m, dtype)), method)(*arguments), rtol=1e-6)


@pytest.mark.parametrize("method", ["mul_", "div_", "fill_", "copy_", "masked_fill_", "clamp_"])
def test_gradients_are_in_the_dtype_of_what_they_belong_to(method):
    def program(m):
        x = m.tensor([0.5, 1.5], requires_grad=True)
        other = m.tensor([2.0, 3.0], dtype=m.float64, requires_grad=True)
        operands = {
            "fill_": (other[0],),
            "masked_fill_": (m.tensor([True, False]), other[1]),
            "clamp_": (None, other[0]),
        }
        y = x * 1
        getattr(y, method)(*operands.get(method, (other,)))
        return y, *differentiated(m, y, [x, other])

    same(program, rtol=1e-6)


@pytest.mark.parametrize("method", ["add_", "mul_", "pow_", "copy_", "remainder_", "floor_divide_", "clamp_", "fill_"])
@pytest.mark.parametrize("shape", [(2, 3), (3, 1, 1), (2,), (1, 3), (), (0,)], ids=str)
def test_operands_broadcast_but_the_tensor_itself_does_not(method, shape):
    """The shapes that do not broadcast at all give a sentence that ends with a number, which we go on from."""

    def program(m):
        x = m.ones(1, 3)
        getattr(x, method)(m.full(shape, 2.0))
        return x

    same(program, message=shape not in ((2,), (0,)))


@pytest.mark.parametrize("where", ["whole", "view"])
@pytest.mark.parametrize("value", ["number", "0-d", "fitting", "leading ones"])
@pytest.mark.parametrize("kind", [kind for kind in INDICES if kind != "float slice"])
def test_assignment(kind, value, where):
    """At every form of index: what was there has no gradient any more, what is put there gets it."""

    def program(m):
        x = leaf(m, (5, 3, 4) if where == "view" else (4, 3, 5))
        base = x * 1
        target = base.transpose(0, 2) if where == "view" else base
        index = INDICES[kind](m)
        number = leaf(m, (), 0.7)
        if value == "number":
            put = 2.5
        elif value == "0-d":
            put = number
        else:
            shape = tuple(target[index].shape)
            put = number * m.ones((1, *shape) if value == "leading ones" else shape, dtype=m.float64)
        target[index] = put
        return target, base._version, *differentiated(m, base, [x, number])

    same(program, rtol=1e-12, message=False)


def test_assignment_at_separated_indices():
    """Integers count among the index tensors, though they take their dimension away first."""

    def program(m):
        x, value = leaf(m, (4, 3, 5)), leaf(m, (2, 3))
        y = x * 1
        y[1, :, m.tensor([0, 4])] = value.T if y[1, :, m.tensor([0, 4])].shape == (3, 2) else value
        return y, *differentiated(m, y, [x, value])

    same(program, rtol=1e-12)


@pytest.mark.parametrize("index", [0, slice(1), [0], [True, False], ...], ids=str)
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
@pytest.mark.parametrize("value", [1.9, True, 3, "0-d", "one", "two"])
def test_assigned_values_are_cast(index, dtype, value):
    """Numbers and tensors without dimensions always; others except at index tensors."""

    def program(m):
        made = {"0-d": 1.9, "one": [1.9], "two": [1.9, 2.0]}
        target = m.tensor([0, 1]).to(getattr(m, dtype))
        target[index] = m.tensor(made[value], dtype=m.float64) if value in made else value
        return target

    same(program)


@pytest.mark.parametrize("index", [0, slice(1, 3), [0, 1], (slice(None), [0]), ...], ids=str)
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), (3, 1), (2, 2)], ids=str)
def test_assigned_values_that_do_not_fit(index, shape):
    def program(m):
        target = m.zeros(4, 3)
        target[index] = m.ones(shape)
        return target

    same(program, message=False)


def test_assignment_reads_before_it_writes():
    def program(m):
        x = leaf(m, (4, 3))
        y = x * 1
        y[m.tensor([0, 1])] = y[m.tensor([1, 0])]
        y[y > 0.5] = y[y > 0.5] * 10
        y[0], y[1] = y[1] * 2, y[0] * 3
        return y, *differentiated(m, y, [x])

    same(program, rtol=1e-12)


# Operations of one tensor, then the operand or the result changes.
SAVERS = {
    "add": lambda t: t + 1,
    "mul": lambda t: t * t,
    "mul number": lambda t: t * 3,
    "div": lambda t: 1 / t,
    "pow": lambda t: t**3,
    "neg": lambda t: -t,
    "abs": lambda t: t.abs(),
    "exp": lambda t: t.exp(),
    "expm1": lambda t: t.expm1(),
    "log": lambda t: t.log(),
    "log1p": lambda t: t.log1p(),
    "sqrt": lambda t: t.sqrt(),
    "rsqrt": lambda t: t.rsqrt(),
    "reciprocal": lambda t: t.reciprocal(),
    "sin": lambda t: t.sin(),
    "cos": lambda t: t.cos(),
    "tan": lambda t: t.tan(),
    "tanh": lambda t: t.tanh(),
    "sigmoid": lambda t: t.sigmoid(),
    "relu": lambda t: t.relu(),
    "clamp": lambda t: t.clamp(0.2, 0.6),
    "sum": lambda t: t.sum(0),
    "mean": lambda t: t.mean(),
    "amax": lambda t: t.amax(0),
    "max": lambda t: t.max(0).values,
    "norm": lambda t: t.norm(),
    "var": lambda t: t.var(),
    "logsumexp": lambda t: t.logsumexp(0),
    "softmax": lambda t: t.softmax(0),
    "log_softmax": lambda t: t.log_softmax(0),
    "cumsum": lambda t: t.cumsum(0),
    "matmul": lambda t: t @ t,
    "maximum": lambda t: t.maximum(t * 2),
    "where": lambda t: t.where(t > 0.5, t * 2),
    "masked_fill": lambda t: t.masked_fill(t > 0.5, 0),
    "index": lambda t: t[[0, 1, 0]],
    "flip": lambda t: t.flip(0),
}


def changed_after(m, name, changed):
    """The gradient of an operation of which the operand or the result changes before the backward pass."""
    x = leaf(m, (3, 3)).abs().detach().requires_grad_()
    y = x * 1
    result = SAVERS[name](y)
    weighted = (result * 1).sum()
    if changed:
        (y if changed == "operand" else result).add_(1)
    return m.autograd.grad(weighted, x)


@pytest.mark.parametrize("changed", ["operand", "result"])
@pytest.mark.parametrize("name", SAVERS)
def test_what_was_saved_must_not_change(name, changed):
    same(lambda m: changed_after(m, name, changed), rtol=1e-12)


def test_the_result_of_prod_is_not_saved():
    """Torch saves it, and raises where it changes; the gradient is the same."""

    def program(m):
        x = leaf(m)
        result = x.prod()
        weighted = result * 1
        if m is gradx:
            result.add_(1)
        return m.autograd.grad(weighted, x)

    same(program, rtol=1e-12)
