"""Everything a machine with a GPU can tell about gradx, in one JSON file and one page: `gradx bench --report`.

The JSON file has these keys; version 1 keeps their meaning, and later versions only add to them.

- ``schema``: "gradx-gpu-report"; ``version``: 1; ``created``: the time in UTC, ISO 8601, to the minute.
- ``machine``: versions and processor, texts by their names; ``cuda``: versions of CuPy, driver, runtime and NVRTC, and
  where torch runs.
- ``gpus``: for each the properties and, where nvidia-smi tells, the state, texts by their names.
- ``tests``: ``why_not`` (a sentence if the tests did not run, else ""), ``exit_code`` of pytest, ``seconds``, the
  numbers ``passed``, ``failed``, ``errors``, ``skipped``; ``skips``, each with ``reason`` and ``count``;
  ``failures``, each with ``test``, ``kind`` ("failure" or "error"), ``message``, ``traceback``; ``output_tail``, if
  pytest gave no report.
- ``benchmark``: as `gradx bench --json` writes it (``machine``, ``copy_gb_per_s`` by device, and ``rows``, each with
  ``kernel``, ``size``, ``direction``, ``compulsory_bytes``, the ``results`` of each library on each device with times
  in seconds, ``speedup_cuda_over_cpu``, ``gradx_over_torch`` by device); or null, if it did not end.
- ``benchmark_error``: the traceback, if it did not end, else "".

It has no host, no user and no absolute path that is not the same on every machine: see `gradx.cli.scrub`.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradx.cli.gpu import cuda_facts, gpu_facts
from gradx.cli.info import machine
from gradx.cli.page import page
from gradx.cli.report import Report
from gradx.cli.scrub import Scrubber
from gradx.cli.suite import Suite, counts, run_suite

SCHEMA, VERSION = "gradx-gpu-report", 1
NAME = "gradx-gpu-report"


@dataclass(frozen=True)
class Benchmark:
    """What the benchmark found, or the traceback if it did not end."""

    report: Report | None
    error: str = ""


def rival() -> str | None:
    """What to compare with: torch, if it is installed."""
    return "torch" if importlib.util.find_spec("torch") else None


def torch_state() -> str:
    """Where torch runs, for the reader of the comparison."""
    if rival() is None:
        return "nowhere, it is not installed"
    return "on CUDA and on the CPU" if importlib.import_module("torch").cuda.is_available() else "on the CPU only"


def attempt(benchmark: Callable[[], Report]) -> Benchmark:
    """Run the benchmark. Its failure is a finding, too: the report is written all the same."""
    try:
        return Benchmark(benchmark())
    except Exception:
        return Benchmark(None, traceback.format_exc())


def collect(suite: Suite, benchmark: Benchmark) -> dict[str, Any]:
    """The content of the JSON file."""
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": benchmark.report.machine if benchmark.report else machine(),
        "cuda": cuda_facts() | {"torch runs": torch_state()},
        "gpus": gpu_facts(),
        "tests": asdict(suite),
        "benchmark": benchmark.report.as_dict() if benchmark.report else None,
        "benchmark_error": benchmark.error,
    }
    scrubbed: dict[str, Any] = Scrubber.of_this_machine().all(content)
    return scrubbed


def write(folder: Path, tests: Sequence[str], benchmark: Callable[[], Report]) -> int:
    """Run the tests and `benchmark`, write both files into `folder`, and say in short what came out.

    Returns 0: a test that fails is a finding, and no failure of the report.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    with console.status("running the CUDA tests; this takes some minutes"):
        suite = run_suite(tests)
    console.print(f"tests: {counts(vars(suite))}", style="red" if suite.failures or suite.exit_code else "")
    measured = attempt(benchmark)
    console.print("benchmark: done" if measured.report else "benchmark: failed, see the report")
    content = collect(suite, measured)
    files = {".json": json.dumps(content, indent=1) + "\n", ".html": page(content, measured.report)}
    for suffix, text in files.items():
        file = folder / f"{NAME}{suffix}"
        file.write_text(text, encoding="utf-8")
        console.print(f"written: {file}")
    console.print("Attach both files to the issue. They name no host, no user and no folder of yours.")
    return 0
