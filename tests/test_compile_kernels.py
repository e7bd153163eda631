"""What bench/compile_kernels.py reads in NVRTC's log, and what it says against a kernel."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "compile_kernels.py"

LOG = """\
kernel.cu(3): warning #177-D: variable "y" was declared but never referenced

ptxas info    : 12 bytes gmem, 24 bytes cmem[4]
ptxas info    : Compiling entry function 'softmax' for 'sm_80'
ptxas info    : Function properties for softmax
ptxas         .     32 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 32 bytes cumulative stack size, 256 bytes smem, 392 bytes cmem[0]
ptxas info    : Compile time = 131.374 ms
ptxas info    : Compiling entry function '_Z5scaleIfEvPT_' for 'sm_80'
ptxas info    : Function properties for _Z5scaleIfEvPT_
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 18 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compile time = 2.1 ms
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_kernels", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["compile_kernels"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(tool: ModuleType, owner: str = "gradx") -> Any:
    source = 'extern "C" __global__ void __launch_bounds__(8 * 4)\nsoftmax(const float* x) {}'
    return tool.Program(owner, [], ["-std=c++17", "-DLANES=8", "-DLOG=0"], [], source)


def test_a_program_knows_its_kernel(tool: ModuleType) -> None:
    source = "__global__ void one(int n) {}\n__global__ void __launch_bounds__(8) two(int n) {}"
    assert program(tool).kernel() == "softmax"
    assert tool.Program("gradx", [], [], [], source).kernel() == "one"
    assert tool.Program("gradx", [], ["-DTWO"], [], source).kernel() == "two"


def test_the_log_is_read(tool: ModuleType) -> None:
    assert list(tool.parse(LOG)) == [
        tool.Usage("softmax", registers=64, spilled=20, shared=256),
        tool.Usage("_Z5scaleIfEvPT_", registers=18, spilled=0, shared=0),
    ]
    assert list(tool.parse("kernel.cu(1): error: expected a ';'")) == []


def test_a_spill_beyond_what_is_allowed_is_a_fault(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tool.outcome(program(tool), 80, 0, LOG)
    fault = "sm_80 softmax LANES=8 LOG=0\n    spills 20 bytes, with 64 registers"
    for allowed, faults in [
        ([], [fault]),
        ([tool.Allowance(r"sm_80 softmax .*LOG=0", 20, "tested")], []),
        ([tool.Allowance(r"sm_80 softmax .*LOG=0", 16, "tested")], [fault]),
        ([tool.Allowance(r"sm_90 softmax ", 20, "tested")], [fault]),
    ]:
        monkeypatch.setattr(tool, "ALLOWED", allowed)
        assert list(outcome.faults()) == faults


def test_every_allowance_has_a_reason(tool: ModuleType) -> None:
    assert all(allowance.reason and allowance.bytes > 0 for allowance in tool.ALLOWED)


@pytest.mark.parametrize(("status", "log"), [(6, "kernel.cu(1): error: expected a ';'"), (0, "")])
def test_what_does_not_compile_is_a_fault(tool: ModuleType, status: int, log: str) -> None:
    [fault] = tool.outcome(program(tool), 75, status, log).faults()
    assert fault.startswith(f"sm_75 softmax LANES=8 LOG=0\n    NVRTC's status is {status}")
    assert fault.endswith(log)


def test_the_table_shows_the_most_of_any(tool: ModuleType) -> None:
    lines = [line.split() for line in tool.table([tool.outcome(program(tool), arch, 0, LOG) for arch in (90, 75)])]
    assert lines[0][-4:] == ["programs", "shared", "sm_75", "sm_90"]
    assert lines[1:] == [
        ["_Z5scaleIfEvPT_", "1", "0", "18", "18"],
        ["softmax", "1", "256", *"64 + 20".split(), *"64 + 20".split()],
    ]


def test_kernels_of_cupy_are_left_out_unless_asked_for(tool: ModuleType, tmp_path: Path) -> None:
    for owner in ("gradx", "CuPy"):
        (tmp_path / f"{owner}.json").write_text(json.dumps(vars(program(tool, owner))))
    assert [p.owner for p in tool.read(tmp_path, everyone=False)] == ["gradx"]
    assert [p.owner for p in tool.read(tmp_path, everyone=True)] == ["CuPy", "gradx"]


def test_a_folder_without_kernels_is_a_failure(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([str(tmp_path)]) == 1
    assert "record_kernels.py writes them" in capsys.readouterr().err
