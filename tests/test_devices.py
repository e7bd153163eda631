"""Devices by name, defaults, and the fallback from CUDA to the CPU on a machine that has none."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
from twin import same

import gradx
from gradx.backends.cuda.status import diagnose

no_cuda = pytest.mark.skipif(diagnose().usable, reason="there is a CUDA device")


@pytest.mark.parametrize(
    "arguments",
    [
        ("cpu",),
        ("cpu:0",),
        ("cuda",),
        ("cuda:1",),
        ("cuda", 1),
        ("meta",),
        ("gpu",),
        ("CPU",),
        ("cuda:",),
        ("cuda:x",),
        ("cuda:-1",),
        ("cuda:1", 1),
        ("",),
        (":0",),
    ],
)
def test_device_strings(arguments):
    if arguments in (("gpu",), ("CPU",), ("meta",)):  # there may be a backend of that name: looked up when it is used
        gradx.device(*arguments)
        return
    same(lambda m: m.device(*arguments), message=False)


def test_device_of_a_device_and_equality():
    same(lambda m: m.device(m.device("cuda:1")))
    same(lambda m: m.device("cuda", 0) == m.device("cuda:0"))
    same(lambda m: m.device("cuda") == m.device("cuda:0"))
    same(lambda m: repr(m.device("cuda:0")))
    same(lambda m: (m.device("cuda:3").type, m.device("cuda:3").index, m.device("cpu").index))
    same(lambda m: m.zeros(1).device)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "tpu:0"])
def test_tensors_on_devices_that_do_not_exist(name):
    same(lambda m: m.zeros(1, device=name), message=False)


@no_cuda
def test_fallback_warns_once_and_tells_the_truth():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = [gradx.zeros(1, device="cuda"), gradx.ones(1).cuda(), gradx.tensor([1.0], device="cuda:1")]
    assert [t.device.type for t in made] == ["cpu"] * 3
    assert not any(t.is_cuda for t in made)
    (warning,) = caught
    assert warning.category is gradx.DeviceFallbackWarning
    assert diagnose().cause in str(warning.message)
    assert diagnose().fix in str(warning.message)


@no_cuda
@pytest.mark.parametrize(
    "make",
    [
        lambda: gradx.zeros(1, device="cuda"),
        lambda: gradx.tensor([1.0], device="cuda"),
        lambda: gradx.ones(1).cuda(),
        lambda: gradx.randn(1, device="cuda"),
        lambda: gradx.set_default_device("cuda"),
    ],
)
def test_fallback_warning_names_the_line_of_the_user(make):
    with pytest.warns(gradx.DeviceFallbackWarning) as caught:
        make()
    assert [warning.filename for warning in caught] == [__file__]


@no_cuda
@pytest.mark.parametrize("make", [lambda: gradx.zeros(1, device="cuda"), lambda: gradx.zeros(1).to("cuda:0")])
def test_error_policy(make):
    gradx.set_device_fallback("error")
    with pytest.raises(RuntimeError) as error:
        make()
    assert diagnose().cause in str(error.value)
    assert diagnose().fix in str(error.value)


@no_cuda
def test_silent_policy():
    gradx.set_device_fallback("silent")
    assert gradx.zeros(1, device="cuda").device == gradx.device("cpu")  # a warning would be an error here


def test_policies_have_names():
    with pytest.raises(ValueError, match="'warn', 'silent' or 'error'"):
        gradx.set_device_fallback("ignore")
    gradx.set_device_fallback("silent")
    assert gradx.get_device_fallback() == "silent"


def _run(program, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADX_")} | variables
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@no_cuda
@pytest.mark.parametrize("policy", ["warn", "silent", "error"])
def test_policy_from_the_environment(policy):
    result = _run("import gradx; print(gradx.zeros(1, device='cuda').device)", GRADX_DEVICE_FALLBACK=policy)
    assert (result.returncode == 0) is (policy != "error")
    assert (result.stdout == "cpu\n") is (policy != "error")
    assert ("DeviceFallbackWarning" in result.stderr) is (policy == "warn")
    assert ("RuntimeError" in result.stderr) is (policy == "error")


@no_cuda
def test_a_wrong_policy_in_the_environment_is_an_error():
    result = _run("import gradx; gradx.zeros(1, device='cuda')", GRADX_DEVICE_FALLBACK="eror")
    assert result.returncode != 0
    assert "GRADX_DEVICE_FALLBACK" in result.stderr


def test_auto_never_warns():
    assert gradx.zeros(1, device="auto").device.type == ("cuda" if diagnose().usable else "cpu")


def test_default_device():
    gradx.set_default_device("auto")
    expected = "cuda" if diagnose().usable else "cpu"
    assert gradx.get_default_device().type == expected
    for made in (
        gradx.zeros(1),
        gradx.rand(2),
        gradx.arange(3),
        gradx.tensor([1.0]),
        gradx.as_tensor([1.0]),
        gradx.eye(2),
        gradx.full((1,), 2.0),
    ):
        assert made.device.type == expected
    gradx.set_default_device("cpu")
    assert gradx.zeros(1).device == gradx.get_default_device() == gradx.device("cpu")


@pytest.mark.cuda
def test_creation_follows_the_default_device():
    import numpy as np

    gradx.set_default_device("cuda")
    assert gradx.get_default_device() == gradx.device("cuda:0")
    for made in (gradx.zeros(1), gradx.rand(2), gradx.as_tensor([1.0]), gradx.as_tensor(np.ones(2)), gradx.eye(2)):
        assert made.is_cuda
    assert gradx.from_numpy(np.ones(2)).device.type == "cpu"  # as in torch
    assert gradx.zeros(1, device="cpu").device.type == "cpu"
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        gradx.zeros(2) + gradx.zeros(2, device="cpu")
