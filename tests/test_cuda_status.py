"""Why CUDA is not usable: each cause is told apart and comes with a fix. Needs neither CuPy nor a GPU."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from gradx.backends.cuda import status as cuda_status
from gradx.backends.cuda.status import Diagnosis


class FakeError(RuntimeError):
    """As CuPy's CUDARuntimeError: a message and a status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError: number {status}")
        self.status = status


class FakeCuda:
    """The part of CuPy's interface to the driver that the diagnosis looks at."""

    def __init__(self, driver: int = 13000, needed: int = 13020, devices: int | Exception = 1) -> None:
        self.nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 0))
        self.runtime = types.SimpleNamespace(
            driverGetVersion=lambda: driver, runtimeGetVersion=lambda: needed, getDeviceCount=self.count
        )
        self.devices = devices

    def count(self) -> int:
        if isinstance(self.devices, Exception):
            raise self.devices
        return self.devices


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[None]:
    """Nothing installed, nothing remembered."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    cuda_status.diagnose.cache_clear()
    yield
    cuda_status.diagnose.cache_clear()


def install(directory: pathlib.Path, *packages: str) -> None:
    for name in packages:
        info = directory / f"{name.replace('-', '_')}-14.0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.0.0\n")


def diagnose_with(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> Diagnosis:
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    return cuda_status.diagnose()


def test_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnose_with(monkeypatch, FakeCuda()) == Diagnosis(True, "", "")


def test_a_newer_library_of_the_same_major_version_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnose_with(monkeypatch, FakeCuda(driver=12020, needed=12090)).usable


def test_cupy_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    result = cuda_status.diagnose()
    assert not result.usable
    assert result.cause == "CuPy is not installed."
    assert "pip install 'gradx[cuda13]'" in result.fix


def test_two_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    install(tmp_path, "cupy-cuda12x", "cupy_cuda13x", "cupy-helpers")
    result = diagnose_with(monkeypatch, FakeCuda())
    assert not result.usable
    assert "2 CuPy packages" in result.cause
    assert "pip uninstall cupy-cuda12x cupy-cuda13x), then" in result.fix


def test_one_package_beside_unrelated_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    install(tmp_path, "cupy-cuda13x", "cupy-helpers", "numpy")
    assert diagnose_with(monkeypatch, FakeCuda()).usable


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "raise ImportError('\\n=====\\nlibfoo.so.13: cannot open\\n=====\\n')",
            "ImportError: libfoo.so.13: cannot open",
        ),
        (
            "import a_module_that_cupy_needs",
            "ModuleNotFoundError: No module named 'a_module_that_cupy_needs'",
        ),
        ("raise OSError", "OSError"),
    ],
)
def test_import_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, source: str, reason: str) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    (tmp_path / "cupy.py").write_text(source)
    result = cuda_status.diagnose()
    assert not result.usable
    assert result.cause == f"CuPy is installed but cannot be imported ({reason})."
    assert "pip uninstall" in result.fix


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.nvrtc = types.SimpleNamespace()  # asked for its version, it raises
    result = diagnose_with(monkeypatch, cuda)
    assert not result.usable
    assert "CuPy finds no NVRTC" in result.cause
    assert "pip install" in result.fix


@pytest.mark.parametrize(
    ("cuda", "cause", "fix"),
    [
        (FakeCuda(driver=0), "There is no NVIDIA driver.", "Install the driver"),
        (FakeCuda(driver=12040), "it is for CUDA 12.4, CuPy for 13.2.", "gradx[cuda12]"),
        (FakeCuda(devices=FakeError(35)), "driver is too old", "Update the driver"),
        (FakeCuda(devices=FakeError(100)), "shows no CUDA device", "CUDA_VISIBLE_DEVICES"),
        (FakeCuda(devices=0), "shows no CUDA device", "nvidia-smi"),
        (
            FakeCuda(devices=FakeError(999)),
            "The CUDA driver fails (FakeError: cudaError: number 999).",
            "nvidia-smi",
        ),
    ],
)
def test_driver_and_device(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, cause: str, fix: str) -> None:
    result = diagnose_with(monkeypatch, cuda)
    assert not result.usable
    assert cause in result.cause
    assert fix in result.fix


def test_the_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    first = diagnose_with(monkeypatch, FakeCuda(devices=0))
    assert diagnose_with(monkeypatch, FakeCuda()) is first


def test_importing_the_module_does_not_import_cupy() -> None:
    code = "import sys, gradx.backends.cuda.status; sys.exit('cupy' in sys.modules)"
    root = pathlib.Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
