"""bfloat16, a dtype that NumPy has from the optional package ml_dtypes. Promotion is in test_promotion.py, and every
operation in test_ops.py."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from calls import host
from twin import same

import gradx

UNIT = 2**-7  # the relative distance of neighbours


def run(program: str) -> str:
    """What a program prints in a Python process of its own, which has not yet seen the dtype."""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return finished.stdout


# ---- the package -------------------------------------------------------------------------------------------


def test_importing_gradx_does_not_import_ml_dtypes():
    assert run("import sys, gradx; gradx.ones(2).sum(); print('ml_dtypes' in sys.modules)") == "False\n"


@pytest.mark.parametrize(
    "use",
    [
        "gradx.zeros(2, dtype=gradx.bfloat16)",
        "gradx.tensor([1.0], dtype='bfloat16')",
        "gradx.ones(2).bfloat16()",
        "gradx.finfo(gradx.bfloat16)",
        "gradx.promote_types(gradx.bfloat16, gradx.float32)",
        "np.zeros(2, gradx.bfloat16)",
    ],
)
def test_error_without_the_package(use):
    said = run(
        f"import sys; sys.modules['ml_dtypes'] = None\nimport gradx, numpy as np\ntry: {use}\nexcept ImportError as e: print(e)"
    )
    assert said.startswith("gradx.bfloat16 needs the package ml_dtypes")
    assert "pip install" in said and "gradx[bfloat16]" in said


def test_the_rest_works_without_the_package():
    program = """
import sys
sys.modules['ml_dtypes'] = None
import gradx, pickle
print(gradx.bfloat16, gradx.bfloat16.itemsize, gradx.bfloat16.is_floating_point, gradx.bfloat16.is_complex)
print(pickle.loads(pickle.dumps(gradx.bfloat16)) is gradx.bfloat16, (gradx.ones(2) * 1.5).dtype)
"""
    assert run(program) == "gradx.bfloat16 2 True False\nTrue gradx.float32\n"


def test_kernels_already_in_use_learn_to_round():
    program = "import gradx; gradx.ones(2) * 1.5; print((gradx.ones(2).bfloat16() * 1.5).dtype)"
    assert run(program) == "gradx.bfloat16\n"


# ---- the dtype ---------------------------------------------------------------------------------------------


def test_names_are_those_of_torch():
    same(lambda m: m.ones(2, 2, dtype=m.bfloat16) @ m.ones(2, 2))
    same(lambda m: m.complex(m.ones(2, dtype=m.bfloat16), m.ones(2, dtype=m.bfloat16)))
    same(lambda m: m.ones(2, dtype=m.bfloat16).bitwise_and(1))
    same(lambda m: m.ones(2, dtype=m.int32).add_(m.ones(2, dtype=m.bfloat16)))
    assert repr(gradx.bfloat16) == "gradx.bfloat16"
    assert gradx.ones(1).bfloat16().element_size() == 2


@pytest.mark.parametrize("fact", ["bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_finfo(dtype, fact):
    same(lambda m: getattr(m.finfo(getattr(m, dtype)), fact))


def test_arrays_of_ml_dtypes_become_tensors_of_it():
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    for made in (gradx.tensor(array), gradx.as_tensor(array), gradx.from_numpy(array)):
        assert made.dtype is gradx.bfloat16
        assert made.tolist() == [1.5, -2.0]
    assert (
        run("import numpy as np, ml_dtypes, gradx; print(gradx.tensor(np.ones(2, ml_dtypes.bfloat16)) * 1.5)")
        == str(gradx.tensor([1.5, 1.5], dtype=gradx.bfloat16)) + "\n"
    )
    shared = gradx.as_tensor(array)
    array[0] = 7
    assert shared[0].item() == 7.0
    with pytest.raises(TypeError, match="can't convert"):
        gradx.tensor(np.ones(2, ml_dtypes.float8_e5m2))


def test_numpy_gives_an_array_of_ml_dtypes():
    x = gradx.tensor([1.5, 2.0], dtype=gradx.bfloat16)
    assert x.numpy().dtype == ml_dtypes.bfloat16
    assert np.asarray(x).dtype == ml_dtypes.bfloat16
    x.numpy()[0] = 3
    assert x.tolist() == [3.0, 2.0]


def test_numbers_round_to_nearest_even(device):
    values = [1.00390625, 1.01171875, 3.0e38, 3.4e38, 1e-40, float("nan"), float("-inf"), -0.0]
    theirs = torch.tensor(values, dtype=torch.bfloat16)
    np.testing.assert_array_equal(host(gradx.tensor(values, dtype=gradx.bfloat16, device=device)), host(theirs))
    np.testing.assert_array_equal(host(gradx.tensor(values, device=device).bfloat16()), host(theirs))


def test_conversions():
    same(lambda m: m.tensor([1.5, 2.7]).bfloat16())
    same(lambda m: m.tensor([300, -5]).to(m.bfloat16))
    same(lambda m: m.tensor([1.5, -2.7], dtype=m.bfloat16).int())
    same(lambda m: m.tensor([1.5, 0.0], dtype=m.bfloat16).bool())
    same(lambda m: m.tensor([1.5, 0.0], dtype=m.bfloat16).half())
    same(lambda m: m.tensor([1.5, 0.0], dtype=m.bfloat16).to(m.complex64))
    same(lambda m: m.tensor(1.1, dtype=m.bfloat16).item())
    same(lambda m: m.tensor([[1.1]], dtype=m.bfloat16).tolist())


def test_default_dtype():
    def program(m):
        m.set_default_dtype(m.bfloat16)
        try:
            x = m.tensor([1.0, 2.5])
            return m.get_default_dtype(), x, m.ones(2), m.tensor([1, 2]) / 2, x * 1.5, repr(m.linspace(0, 1, 3))
        finally:
            m.set_default_dtype(m.float32)

    same(program)


@pytest.mark.parametrize(
    "values", [[1.5, 2.0], [1.0, -2.0], [1.1, 2e10, 3e-8], [float("nan"), float("inf"), 0.1], [], [[0.1], [30.0]], 2.5]
)
def test_printing(values):
    theirs = repr(torch.tensor(values, dtype=torch.bfloat16)).replace("torch", "gradx")
    assert repr(gradx.tensor(values, dtype=gradx.bfloat16)) == theirs


def test_save_and_load(device):
    file = io.BytesIO()
    gradx.save(gradx.tensor([1.5, 2.0], dtype=gradx.bfloat16, device=device, requires_grad=True), file)
    file.seek(0)
    loaded = gradx.load(file)
    assert (loaded.dtype, loaded.tolist(), loaded.requires_grad) == (gradx.bfloat16, [1.5, 2.0], True)
    assert loaded.device.type == device


# ---- computing ---------------------------------------------------------------------------------------------


def test_sums_accumulate_in_float32(device):
    """In bfloat16 a sum of ones would end at 256."""
    many = gradx.ones(5000, 2, dtype=gradx.bfloat16, device=device)
    assert many.sum(0).tolist() == [4992.0, 4992.0]  # 5000, rounded
    assert many.mean().item() == 1.0
    assert many.cumsum(0)[-1].tolist() == [4992.0, 4992.0]
    assert gradx.logsumexp(gradx.zeros(1024, dtype=gradx.bfloat16, device=device), 0).item() == pytest.approx(
        np.log(1024), rel=UNIT
    )
    index = gradx.zeros(1024, dtype=gradx.int64, device=device)
    leaf = gradx.zeros(2, dtype=gradx.bfloat16, device=device, requires_grad=True)
    leaf[index].sum().backward()
    assert leaf.grad.tolist() == [1024.0, 0.0]


def test_products_of_matrices_accumulate_in_float32(device):
    row = gradx.ones(1, 1024, dtype=gradx.bfloat16, device=device)
    assert (row @ row.t()).tolist() == [[1024.0]]
    assert gradx.bmm(row[None], row.t()[None]).tolist() == [[[1024.0]]]
    assert (row @ row[0]).tolist() == [1024.0]


def test_python_numbers_keep_the_dtype(device):
    """And are not rounded themselves, as in torch."""
    x, y = (m.tensor([100.0, 3.0], dtype=m.bfloat16) for m in (gradx, torch))
    x = x.to(device)
    for compute in (
        lambda v: v * 1.001953125,
        lambda v: 1.1 - v,
        lambda v: v / 3,
        lambda v: v**1.5,
        lambda v: v.clamp(1.1, 50),
        lambda v: v.masked_fill(v > 4, 0.1),
    ):
        assert compute(x).dtype is gradx.bfloat16
        np.testing.assert_array_equal(host(compute(x)), host(compute(y)))
    assert gradx.where(x > 4, x, 0.1).dtype is gradx.bfloat16


def test_in_place(device):
    x = gradx.ones(3, dtype=gradx.bfloat16, device=device)
    memory = x.array
    x += 0.5
    x *= gradx.tensor(2.0, device=device)
    x[0] = 0.1
    assert x.array is memory and x.dtype is gradx.bfloat16
    assert x.tolist() == [0.10009765625, 3.0, 3.0]


def test_float32_is_left_alone(device):
    x = gradx.tensor([1.0, 2.0], device=device)
    half = x.bfloat16()
    assert (x * 1.1).dtype is gradx.float32
    assert (half * x).dtype is gradx.float32
    assert half.float().dtype is gradx.float32
    assert gradx.exp(x).tolist() == pytest.approx(np.exp([1.0, 2.0]).tolist(), rel=1e-6)


# ---- gradients ---------------------------------------------------------------------------------------------


def network(m, device="cpu"):
    """The loss of a network of two layers, and the gradients of its parameters."""
    random = np.random.default_rng(0)

    def leaf(*shape):
        return m.tensor(random.standard_normal(shape).tolist(), dtype=m.bfloat16, device=device, requires_grad=True)

    w1, b1, w2 = leaf(6, 5), leaf(5), leaf(5, 3)
    x = leaf(8, 6).detach()
    target = m.tensor(random.integers(0, 3, 8).tolist(), device=device)
    loss = m.nn.functional.cross_entropy((x @ w1 + b1).tanh() @ w2 * 0.5, target)
    return [loss, *m.autograd.grad(loss, (w1, b1, w2))]


def test_network(device):
    for ours, theirs in zip(network(gradx, device), network(torch), strict=True):
        assert ours.dtype is gradx.bfloat16
        scale = np.abs(host(theirs)).max()  # each element is a sum, whose terms have been rounded several times
        np.testing.assert_allclose(host(ours), host(theirs), rtol=0, atol=4 * UNIT * scale)


def test_gradients_are_of_the_dtype_of_their_tensor(device):
    half = gradx.tensor([1.5, 2.0], dtype=gradx.bfloat16, device=device, requires_grad=True)
    single = gradx.tensor([3.0, 4.0], device=device, requires_grad=True)
    first, second = gradx.autograd.grad((half * single * 1.1).sum(), (half, single), create_graph=True)
    assert (first.dtype, second.dtype) == (gradx.bfloat16, gradx.float32)
    (again,) = gradx.autograd.grad(first.sum() + (half * half).sum(), half)
    assert again.dtype is gradx.bfloat16
    (half * single).sum().backward()
    (half * 0.5).sum().backward()
    assert half.grad.dtype is gradx.bfloat16
    assert half.grad.tolist() == [3.5, 4.5]


def test_functions_and_hooks_see_bfloat16():
    seen = []

    class Half(gradx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 0.5

        @staticmethod
        def backward(ctx, g):
            seen.append(g.dtype)
            return g * 0.5

    x = gradx.ones(2, dtype=gradx.bfloat16, requires_grad=True)
    x.register_hook(lambda g: seen.append(g.dtype))
    Half.apply(x).sum().backward()
    assert seen == [gradx.bfloat16, gradx.bfloat16]
    assert re.match(r"tensor\(\[0.5000, 0.5000\], dtype=gradx.bfloat16\)", repr(x.grad))
