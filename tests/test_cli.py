"""The command line: what a newcomer runs first. Timings are judged by their arithmetic, not their size."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradx
from gradx.cli import bench, demo, info, main
from gradx.cli.kernels import KERNELS
from gradx.cli.timing import CudaClock, Effort, Timing, copy_bandwidth, measure

README = Path(__file__).parent.parent / "README.md"
EFFORT = Effort(batches=3, batch_seconds=1e-5)


class Diagnosis:
    """A machine without a GPU."""

    usable = False
    cause = "There is no driver."
    fix = "Install one."


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradx.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gradx.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(gradx.cuda, "diagnose", Diagnosis)


def run(*argv: str) -> int:
    return main(argv)


# ---- info and the parser -------------------------------------------------------------------------


def test_module_is_runnable() -> None:
    done = subprocess.run([sys.executable, "-m", "gradx", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gradx {gradx.__version__}\n"


def test_info_names_versions_and_devices(no_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["gradx"] == gradx.__version__
    assert facts["NumPy"] == np.__version__
    assert facts["devices"] == "cpu"
    assert (facts["CUDA"], facts["cause"], facts["fix"]) == ("not usable", Diagnosis.cause, Diagnosis.fix)


def test_info_does_not_fail_on_the_real_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    usable = re.search(r"^CUDA +usable$", capsys.readouterr().out, re.MULTILINE) is not None
    assert usable == gradx.cuda.is_available()


@pytest.mark.parametrize(
    ("command", "fix"),
    [
        ("demo", "pip install 'gradx[demo]'"),
        ("bench", "pip install 'gradx[bench]'"),
        ("bench --vs torch", "pip install 'gradx[bench]' 'torch'"),
    ],
)
def test_a_missing_package_is_one_sentence(
    command: str, fix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(*command.split()) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith(fix + "\n")


def test_the_command_line_needs_no_extra_to_start() -> None:
    extras = {"rich", "matplotlib", "sklearn", "torch", "cupy"}
    code = f"import gradx.cli, sys; print(sorted({extras} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["bench", "--kernels", "soft"],
        ["bench", "--sizes", "3"],
        ["bench", "--sizes", "0x4"],
        ["demo", "--epochs", "0"],
    ],
)
def test_senseless_arguments_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert argv[-1] in capsys.readouterr().err


# ---- timing --------------------------------------------------------------------------------------


class FakeClock:
    """Time passes only when a function says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def task(self, *seconds: float) -> Any:
        """A function that takes each of these times in turn, and the last from then on."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_measure_gives_the_median_and_spread_of_batches() -> None:
    clock = FakeClock()
    # The first two calls are the warm-up.
    [timing] = measure([clock.task(9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 9.0)], clock, Effort(batches=5, batch_seconds=0.5))
    assert timing == Timing(median=3.0, iqr=2.0, batches=5, calls_per_batch=1)


def test_measure_fills_a_batch_and_keeps_functions_apart() -> None:
    clock = FakeClock()
    fast, slow = measure([clock.task(0.25), clock.task(2.0)], clock, Effort(batches=3, batch_seconds=1.0))
    assert fast.median == 0.25
    assert fast.calls_per_batch >= 4
    assert slow == Timing(median=2.0, iqr=0.0, batches=3, calls_per_batch=1)


def test_copy_bandwidth_counts_bytes_read_and_written() -> None:
    ticks = iter(range(1000))
    # Every reading of this clock is a second later: a batch takes one second, whatever it does.
    assert copy_bandwidth("cpu", lambda: float(next(ticks)), EFFORT, nbytes=1 << 20) == pytest.approx(2 * 2**20 / 1e9)


@pytest.mark.cuda
def test_cuda_clock_goes_forward_and_agrees_with_work() -> None:
    clock = CudaClock()
    readings = [clock() for _ in range(3)]
    big = gradx.ones(256, 256, device="cuda")
    before = clock()
    for _ in range(10):
        big = big + 1
    after = clock()
    assert readings == sorted(readings)
    assert after > before


# ---- kernels and bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_do_the_same_in_gradx_and_torch(name: str) -> None:
    kernel = KERNELS[name]
    arrays = kernel.sample(np.random.default_rng(3), 5, 7)
    values = []
    for library in (gradx, torch):
        inputs = kernel.tensors(library, arrays, "cpu")
        output = kernel.function(library, *inputs)
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        gradients = library.autograd.grad(output, wanted, library.ones_like(output))
        values.append([tensor.detach().numpy() for tensor in (output, *gradients)])
    for ours, theirs in zip(*values, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("add", 3 * 24, 0),
        ("mul", 3 * 24, 5 * 24),
        ("exp", 2 * 24, 3 * 24),
        ("sum", 24 + 8, 0),
        ("amax", 24 + 8, 8 + 8 + 24 + 24),
        ("softmax", 2 * 24, 3 * 24),
        ("mse_loss", 2 * 24 + 4, 4 + 3 * 24),
        ("cross_entropy", 24 + 16 + 4, 4 + 24 + 16 + 24),
        ("matmul", 24 + 36 + 24, 24 + 2 * (24 + 36)),
    ],
)
def test_compulsory_bytes(name: str, forward: int, backward: int) -> None:
    # A 2x3 float32 matrix has 24 bytes, its rows' sums 8, a 3x3 one 36, a scalar 4, two int64 indices 16.
    libraries = {"gradx": gradx}
    assert bench.prepare(KERNELS[name], (2, 3), "forward", "cpu", libraries)[0] == forward
    assert bench.prepare(KERNELS[name], (2, 3), "backward", "cpu", libraries)[0] == backward


# ---- bench ---------------------------------------------------------------------------------------


def test_bench_json_has_the_figures_of_the_table(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", EFFORT)
    file = tmp_path / "bench.json"
    options = ["--quick", "--vs", "torch", "--threads", "1", "--kernels", "mul,sum", "--sizes", "8x4,16x4"]
    assert run("bench", *options, "--json", str(file)) == 0
    captured = capsys.readouterr()
    assert Diagnosis.cause in captured.err
    assert "cuda" not in captured.out  # no column, and no figure, of a device that is not there

    report = json.loads(file.read_text())
    assert report["machine"]["torch threads"] == "1"
    assert [(row["kernel"], row["size"], row["direction"]) for row in report["rows"]] == [
        (kernel, size, direction)
        for size in ([8, 4], [16, 4])
        for kernel in ("mul", "sum")
        for direction in ("forward", "backward")
    ]
    for row in report["rows"]:
        ours, theirs = row["results"]
        assert (ours["library"], theirs["library"]) == ("gradx", "torch")
        assert row["gradx_over_torch"]["cpu"] == ours["timing"]["median"] / theirs["timing"]["median"]
        assert row["speedup_cuda_over_cpu"] is None
        assert f"{ours['timing']['median'] * 1e6:,.1f} ± " in captured.out
        if row["compulsory_bytes"]:
            speed = row["compulsory_bytes"] / ours["timing"]["median"] / 1e9
            assert ours["gb_per_s"] == pytest.approx(speed)
            assert ours["of_copy_bandwidth"] == pytest.approx(speed / report["copy_gb_per_s"]["cpu"])
        else:
            assert ours["gb_per_s"] is None


def test_bench_on_cuda_without_a_gpu_fails_in_one_sentence(no_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--device", "cuda") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "No GPU is used: There is no driver. Install one.\n"


@pytest.mark.cuda
def test_bench_compares_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", EFFORT)
    file = tmp_path / "bench.json"
    assert run("bench", "--quick", "--kernels", "mul", "--sizes", "8x4", "--json", str(file)) == 0
    assert "cuda speed-up" in capsys.readouterr().out
    for row in json.loads(file.read_text())["rows"]:
        cpu, cuda = row["results"]
        assert (cpu["device"], cuda["device"]) == ("cpu", "cuda")
        assert row["speedup_cuda_over_cpu"] == cpu["timing"]["median"] / cuda["timing"]["median"]


# ---- demo ----------------------------------------------------------------------------------------


def test_demo_learns_draws_and_compares(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "QUICK", EFFORT)
    picture = tmp_path / "loss.png"
    assert run("demo", "--quick", "--epochs", "10", "--seed", "1", "--out", str(picture)) == 0
    out = capsys.readouterr().out
    found = re.search(r"test accuracy ([\d.]+)% on cpu", out)
    assert found is not None
    assert float(found[1]) >= 95
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "No GPU is used: There is no driver.\n" in out
    assert "cuda" not in out
    assert all(name in out for name in ("mul", "sum", "softmax", "mse_loss"))


def test_demo_that_does_not_learn_says_so(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "LEARNING_RATE", 0.0)
    assert run("demo", "--epochs", "1", "--out", str(tmp_path / "loss.png")) == 1
    assert "less than the 95%" in capsys.readouterr().err


def test_demo_on_a_device_that_is_refused(
    no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(spec: str) -> None:
        raise RuntimeError(f"Device {spec} is not usable. There is no driver.")

    monkeypatch.setattr(demo, "resolve", refuse)
    assert run("demo", "--device", "cuda", "--out", str(tmp_path / "loss.png")) == 1
    assert capsys.readouterr().err == "Device cuda is not usable. There is no driver.\n"


@pytest.mark.cuda
def test_demo_trains_alike_on_both_devices() -> None:
    losses = []
    for device in ("cpu", "cuda"):
        digits = demo.load_digits(device, seed=0)
        gradx.manual_seed(0)
        parameters = [p.detach().to(device).requires_grad_() for p in demo.initial_parameters("cpu")]
        losses.append(demo.train(digits, parameters, epochs=1, seed=0, advance=lambda words: None).losses)
        assert digits.train_images.device.type == parameters[0].device.type == device
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


# ---- the README ----------------------------------------------------------------------------------


def test_the_readme_tells_the_truth() -> None:
    outcome = doctest.testfile(str(README), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 10
    assert outcome.failed == 0


def test_processor_and_cores_are_known() -> None:
    assert info.processor()
    assert info.cores() >= 1
