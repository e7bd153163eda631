"""Run the CUDA tests in a process of their own, and read what pytest says of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradx.cli.scrub import ROOT

_LONGEST = 8000  # characters of one traceback, or of the output's end: the last ones tell most


@dataclass(frozen=True)
class Failure:
    """A test that failed, or that could not be set up ("error")."""

    test: str
    kind: str
    message: str
    traceback: str


@dataclass
class Skipped:
    """How many tests were left out for one reason."""

    reason: str
    count: int


@dataclass
class Suite:
    """What became of the tests. `why_not` is a sentence where they did not run, else empty."""

    why_not: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    skips: list[Skipped] = field(default_factory=list)
    output_tail: str = ""  # where pytest ended before it could report


def counts(tests: Mapping[str, Any]) -> str:
    """The fields of a `Suite` in words: "812 passed, 1 failed, 3 skipped", or why there are none."""
    words = {"passed": "passed", "failed": "failed", "errors": "with errors", "skipped": "skipped"}
    known = ", ".join(f"{tests[kind]} {word}" for kind, word in words.items() if tests[kind])
    return tests["why_not"] or known or "no test was found"


def run_suite(tests: Sequence[str] = (), root: Path = ROOT) -> Suite:
    """Run the tests marked ``cuda`` of the checkout at `root`: all, or the files and tests named.

    Where there are no tests, as in an installed package, or no pytest, the result says so.
    """
    if not (root / "tests").is_dir():
        return Suite(why_not="The tests did not run: they are in a clone of the repository, not in the package.")
    if importlib.util.find_spec("pytest") is None:
        return Suite(why_not="The tests did not run: pytest is not installed (pip install 'gradx[test]').")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        options = ["-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={file}"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests], cwd=root, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        suite = read_junit(file.read_text()) if file.exists() else Suite(why_not="pytest ended without a report.")
    suite.exit_code, suite.seconds = done.returncode, seconds
    if suite.why_not or done.returncode not in (0, 1):
        suite.output_tail = (done.stdout + done.stderr)[-_LONGEST:]
    return suite


def read_junit(text: str) -> Suite:
    """The counts and the failures in pytest's report in JUnit's XML."""
    suite = Suite()
    reasons: Counter[str] = Counter()
    for case in ElementTree.fromstring(text).iter("testcase"):
        outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if outcome is None:
            suite.passed += 1
        elif outcome.tag == "skipped":
            suite.skipped += 1
            reasons[outcome.get("message", "")] += 1
        else:
            suite.failed += outcome.tag == "failure"
            suite.errors += outcome.tag == "error"
            name = f"{case.get('classname', '')}::{case.get('name', '')}"
            traceback = (outcome.text or "")[-_LONGEST:]
            suite.failures.append(Failure(name, outcome.tag, outcome.get("message", ""), traceback))
    suite.skips = [Skipped(reason, count) for reason, count in reasons.most_common()]
    return suite
