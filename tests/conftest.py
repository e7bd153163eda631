"""Devices for the tests: the CPU, and CUDA where a device is visible."""

from __future__ import annotations

import importlib
import os
import warnings
import zlib
from types import ModuleType

import pytest

import gradx
from gradx.backends.cuda.status import diagnose

pytest.register_assert_rewrite("twin", "calls")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn."""
    return request.param


@pytest.fixture
def cuda_counters() -> ModuleType:
    """What counts launches, copies and bytes: a module with `counters()`, which gives a dictionary, and `reset()`."""
    name = os.environ.get("GRADX_CUDA_COUNTERS")
    if not name:
        pytest.skip("GRADX_CUDA_COUNTERS names no module that counts launches: a GPU by itself does not")
    return importlib.import_module(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one share of the tests where ``GRADX_SHARE`` says so, such as 1/2: what belongs to one operation stays together,
    since it needs the same kernels."""
    number, _, of = os.environ.get("GRADX_SHARE", "").partition("/")
    if not of:
        return

    def mine(item: pytest.Item) -> bool:
        words = [word for word in item.name.partition("[")[2].split("-") if word not in ("cpu", "cuda")]
        key = words[0] if words else item.nodeid
        return zlib.crc32(key.encode()) % int(of) == int(number) - 1

    config.hook.pytest_deselected(items=[item for item in items if not mine(item)])
    items[:] = [item for item in items if mine(item)]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not diagnose().usable:
        pytest.skip(f"no usable CUDA device: {diagnose().cause}")


@pytest.fixture(autouse=True)
def _restore():
    """Leave no default behind."""
    yield
    gradx.set_default_dtype(gradx.float32)
    gradx.set_default_device(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradx.set_device_fallback("warn")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so when no test saw a CUDA device: a green run then says nothing about CUDA."""
    ran = sum(
        "cuda" in report.keywords
        for kind in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(kind, [])
        if hasattr(report, "keywords")
    )
    skipped = sum("cuda" in getattr(report, "keywords", ()) for report in terminalreporter.stats.get("skipped", []))
    if skipped and not ran:
        terminalreporter.write_line(
            f"All {skipped} CUDA tests were skipped: {diagnose().cause} This run says nothing about CUDA.", yellow=True
        )
