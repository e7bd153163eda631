"""The report on a GPU: what it finds, how it is told, and that it tells nothing of whoever made it."""

from __future__ import annotations

import getpass
import html.parser
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gradx
from gradx.cli import bench, gpu_report, main
from gradx.cli.gpu import read_smi
from gradx.cli.page import page
from gradx.cli.report import Report, Result, Row
from gradx.cli.scrub import ROOT, Scrubber
from gradx.cli.suite import Failure, Skipped, Suite, counts, read_junit, run_suite
from gradx.cli.timing import Effort, Timing

EFFORT = Effort(batches=3, batch_seconds=1e-5)
ADA = Scrubber({"/srv/ada/gradx": ".", "/srv/ada": "~", "/root": "~"}, {"ada": "<user>", "tower.example.org": "<host>"})


# ---- nothing personal ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/ada/gradx/tests/test_ops.py:7", "./tests/test_ops.py:7"),
        ("/srv/ada/notes.txt", "~/notes.txt"),
        ("in '/srv/ada'", "in '~'"),
        ("/srv/adam/x.py", ".../adam/x.py"),
        ("/rootfs/a/b", ".../a/b"),
        ("/home/bob/work/x.py", "~/work/x.py"),
        ("file:///home/bob/x.html", "file://~/x.html"),
        ("nvrtc -I/mnt/bob/lab/include -O3", "nvrtc -I.../lab/include -O3"),
        ('File "/mnt/bob/lab/run.py", line 3', 'File ".../lab/run.py", line 3'),
        ("PATH=/mnt/bob/bin:/mnt/bob/lab/bin", "PATH=.../bob/bin:.../lab/bin"),
        ("ada@tower.example.org", "<user>@<host>"),
        ("run_by_ada-2", "run_by_<user>-2"),
    ],
)
def test_paths_and_names_are_scrubbed(text: str, expected: str) -> None:
    assert ADA(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "assert 1/2 == 3/4",
        "float32/float64",
        "./tests/test_ops.py and gradx/ops/loss.py",
        "https://numpy.org/doc/stable/reference",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "adagrad, Canada, Ada",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert ADA(text) == text


def test_every_text_of_a_report_is_scrubbed_and_its_keys_are_not() -> None:
    assert ADA.all({"ada": ["by ada", 1.5, None, {"x": ("/srv/ada/y", True)}]}) == {
        "ada": ["by <user>", 1.5, None, {"x": ["~/y", True]}]
    }


def test_the_scrubber_knows_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "grace")
    monkeypatch.setattr(platform, "node", lambda: "vacuum.lab.example")
    monkeypatch.setenv("HOME", "/export/people/grace")
    text = f"{ROOT}/x.py {sys.prefix}/y.py /export/people/grace/z.py grace@vacuum.lab.example vacuum"
    assert Scrubber.of_this_machine()(text) == "./x.py <env>/y.py ~/z.py <user>@<host> <host>"


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert "<user>" not in Scrubber.of_this_machine().names.values()


# ---- the tests' results --------------------------------------------------------------------------

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="6" hostname="tower.example.org">
<testcase classname="tests.test_a" name="test_one[cuda]" time="0.1" />
<testcase classname="tests.test_a" name="test_two" time="0.1" />
<testcase classname="tests.test_a" name="test_bad" time="0.1"><failure message="assert 1 &lt; 0">def test_bad():
&gt;   assert 1 &lt; 0
E   assert 1 &lt; 0</failure></testcase>
<testcase classname="tests.test_a" name="test_broken" time="0.1"><error message="failed on setup">trace</error></testcase>
<testcase classname="tests.test_a" name="test_x" time="0"><skipped type="pytest.skip" message="one GPU" /></testcase>
<testcase classname="tests.test_a" name="test_y" time="0"><skipped type="pytest.skip" message="one GPU" /></testcase>
</testsuite></testsuites>
"""


def test_junit_is_read() -> None:
    suite = read_junit(JUNIT)
    assert (suite.passed, suite.failed, suite.errors, suite.skipped) == (2, 1, 1, 2)
    bad, broken = suite.failures
    assert bad == Failure(
        "tests.test_a::test_bad", "failure", "assert 1 < 0", "def test_bad():\n>   assert 1 < 0\nE   assert 1 < 0"
    )
    assert (broken.kind, broken.message) == ("error", "failed on setup")
    assert suite.skips == [Skipped("one GPU", 2)]
    assert counts(vars(suite)) == "2 passed, 1 failed, 1 with errors, 2 skipped"


def checkout(folder: Path, test: str) -> Path:
    """A repository with one test file."""
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text(f"import pytest\npytestmark = pytest.mark.cuda\n{test}\n")
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['cuda: needs a device']\n")
    return folder


def test_tests_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    suite = run_suite(root=checkout(tmp_path, "def test_good(): pass\ndef test_bad(): assert 1 < 0"))
    assert (suite.exit_code, suite.passed, suite.failed) == (1, 1, 1)
    assert suite.failures[0].test == "tests.test_it::test_bad"
    assert "assert 1 < 0" in suite.failures[0].traceback
    assert suite.seconds > 0


def test_only_the_tests_named_run(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "def test_good(): pass\ndef test_bad(): assert 1 < 0")
    suite = run_suite(["tests/test_it.py::test_good"], folder)
    assert (suite.exit_code, suite.passed, suite.failed) == (0, 1, 0)


def test_a_crash_of_pytest_leaves_the_end_of_its_output(tmp_path: Path) -> None:
    suite = run_suite(root=checkout(tmp_path, "def test_bad():\n    import os; print('last'); os._exit(70)"))
    assert suite.exit_code == 70
    assert counts(vars(suite)) == "pytest ended without a report."


def test_no_test_found_is_told(tmp_path: Path) -> None:
    suite = run_suite(["tests/test_other.py"], checkout(tmp_path, "def test_good(): pass"))
    assert suite.exit_code == 4
    assert counts(vars(suite)) == "no test was found"
    assert "test_other.py" in suite.output_tail


def test_an_installed_package_has_no_tests(tmp_path: Path) -> None:
    suite = run_suite(root=tmp_path)
    assert counts(vars(suite)) == "The tests did not run: they are in a clone of the repository, not in the package."


# ---- the facts -----------------------------------------------------------------------------------


def test_nvidia_smi_is_read() -> None:
    text = (
        "00000000:01:00.0, 580.82.07, 1980 MHz, 1980 MHz, 2619 MHz, 41, 118.20 W, 700.00 W\n"
        "00000000:C1:00.0, 580.82.07, [N/A], 1980 MHz, [Not Supported], 39, 70.00 W, 700.00 W\n"
    )
    states = read_smi(text)
    assert states["0000:01:00.0"]["clock at the end"] == "1980 MHz"
    assert states["0000:01:00.0"]["power limit"] == "700.00 W"
    assert set(states["0000:c1:00.0"]) == {
        "driver",
        "highest clock",
        "temperature at the end, °C",
        "power at the end",
        "power limit",
    }


# ---- the page ------------------------------------------------------------------------------------


def timing(microseconds: float) -> Timing:
    return Timing(microseconds * 1e-6, 1e-6, 3, 1)


def canned_report() -> Report:
    """mul forward: 800 µs on the CPU, 8 on the GPU; torch 400 and 16."""
    row = Row("mul", (64, 32), "forward", 24576)
    for library, device, microseconds in [
        ("gradx", "cpu", 800.0),
        ("torch", "cpu", 400.0),
        ("gradx", "cuda", 8.0),
        ("torch", "cuda", 16.0),
    ]:
        row.results.append(Result(library, device, timing(microseconds), 1.0, 0.5))
    return Report({"gradx": "0.1.0", "load average": "0.2"}, {"cpu": 20.0, "cuda": 2500.0}, [row])


def canned(suite: Suite, report: Report | None, error: str = "") -> dict[str, Any]:
    """What the JSON file says of a machine with one GPU."""
    return {
        "machine": {"gradx": "0.1.0", "processor": "Zen & Co <5>"},
        "created": "2026-11-25T22:21Z",
        "cuda": {"NVRTC": "13.0"},
        "gpus": [{"name": "NVIDIA H100", "memory": "79.1 GiB"}],
        "tests": json.loads(json.dumps(suite, default=vars)),
        "benchmark": report.as_dict() if report else None,
        "benchmark_error": error,
    }


class Reader(html.parser.HTMLParser):
    """The text of a page and the elements left open; those that load anything are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe"), tag
        assert not {"src", "href"} & dict(attributes).keys()
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)
        else:
            assert "url(" not in data
            assert "@import" not in data


def test_the_page_tells_all_and_needs_no_network() -> None:
    suite = read_junit(JUNIT)
    suite.exit_code = 1
    reader = Reader(page(canned(suite, canned_report()), canned_report()))
    assert reader.open == []
    for words in [
        "gradx on NVIDIA H100",
        "Zen & Co <5>",
        "What to attach",
        "2 passed, 1 failed, 1 with errors, 2 skipped",
        "tests.test_a::test_bad assert 1 < 0",
        "> assert 1 < 0",
        "2 × one GPU",
        "cpu: 20.0 GB/s; cuda: 2,500.0 GB/s",
        "100.00× speed-up of CUDA over CPU",
        "2.00× of torch's time on cpu",
        "0.50× of torch's time on cuda",
        "mul forward 800.0 ± 1.0",
        "400.0 ± 1.0 2.00 16.0 ± 1.0 0.50",
    ]:
        assert words in reader.text


def test_ratios_to_torch_have_colours() -> None:
    text = page(canned(read_junit(JUNIT), canned_report()), canned_report())
    assert '<td class="bad">2.00</td>' in text
    assert '<td class="good">0.50</td>' in text


def test_the_page_tells_what_did_not_work() -> None:
    suite = Suite(why_not="pytest ended without a report.", exit_code=-11, output_tail="Fatal Python error <here>")
    reader = Reader(page(canned(suite, None, "MemoryError: <gone>"), None))
    assert reader.open == []
    for words in ["pytest ended without a report.", "Fatal Python error <here>", "MemoryError: <gone>"]:
        assert words in reader.text


def test_a_benchmark_that_raises_is_a_finding() -> None:
    def benchmark() -> Report:
        raise MemoryError("the device is full")

    found = gpu_report.attempt(benchmark)
    assert found.report is None
    assert found.error.endswith("MemoryError: the device is full\n")


# ---- the command ---------------------------------------------------------------------------------


def test_without_a_gpu_it_says_why_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnosis = gradx.cuda.Diagnosis(False, "There is no driver.", "Install one.")
    monkeypatch.setattr(gradx.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gradx.cuda, "diagnose", lambda: diagnosis)
    folder = tmp_path / "report"
    assert main(["bench", "--report", str(folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "No GPU is used: There is no driver. Install one.\nNo report was written: it is one of a GPU.\n"
    )
    assert not folder.exists()


def test_the_script_is_the_command() -> None:
    script = Path(__file__).parent.parent / "bench" / "gpu_report.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "usage: gradx bench" in done.stdout
    assert "--report" in done.stdout


@pytest.mark.cuda
def test_the_report_on_this_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", EFFORT)
    tests = ["tests/test_cuda_face.py"]
    options = ["--quick", "--kernels", "mul,sum", "--sizes", "8x4", "--tests", *tests]
    assert main(["bench", "--report", str(tmp_path / "new"), *options]) == 0
    out = capsys.readouterr().out
    assert "benchmark: done" in out

    texts = {path.suffix: path.read_text() for path in (tmp_path / "new").iterdir()}
    assert set(texts) == {".json", ".html"}
    content = json.loads(texts[".json"])
    assert (content["schema"], content["version"]) == ("gradx-gpu-report", 1)
    assert content["tests"]["exit_code"] == 0, content["tests"]
    assert f"tests: {content['tests']['passed']} passed" in out
    assert content["tests"]["passed"] > 5
    assert len(content["gpus"]) == gradx.cuda.device_count()
    assert content["gpus"][0]["name"] in Reader(texts[".html"]).text
    assert content["cuda"]["NVRTC"].count(".") == 1
    assert set(content["benchmark"]["copy_gb_per_s"]) == {"cpu", "cuda"}
    for row in content["benchmark"]["rows"]:
        assert {(r["library"], r["device"]) for r in row["results"]} >= {
            ("gradx", "cpu"),
            ("torch", "cpu"),
            ("gradx", "cuda"),
        }
        assert row["speedup_cuda_over_cpu"] > 0
    for text in texts.values():
        for secret in (platform.node(), str(Path.home()) + "/", str(ROOT), sys.prefix, str(tmp_path)):
            assert secret not in text
