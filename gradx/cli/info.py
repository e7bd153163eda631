"""Say which versions and devices there are, and whether CUDA is usable."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np

import gradx


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`gradx info` has no options."""


def packages(arguments: argparse.Namespace) -> dict[str, str]:
    """None are needed."""
    return {}


def run(arguments: argparse.Namespace) -> int:
    """Print the report. A machine without CUDA is no failure."""
    facts = machine()
    facts["CuPy"] = ", ".join(cupy_packages()) or "not installed"
    facts["devices"] = ", ".join(["cpu", *(f"cuda:{i}" for i in range(gradx.cuda.device_count()))])
    facts |= cuda_state()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0


def machine() -> dict[str, str]:
    """The facts that a timing depends on: versions, processor, cores."""
    return {
        "gradx": gradx.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "processor": processor(),
        "cores": str(cores()),
    }


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model; where Linux does not tell, its architecture."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cupy_packages() -> list[str]:
    """The installed CuPy distributions. More than one is a mistake: they overwrite each other."""
    found = {
        (distribution.metadata["Name"], distribution.version)
        for distribution in importlib.metadata.distributions()
        if (distribution.metadata["Name"] or "").partition("-")[0].lower() == "cupy"
    }
    return [f"{name} {version}" for name, version in sorted(found)]


def cuda_state() -> dict[str, str]:
    """Whether CUDA is usable, and if not, why and what to do."""
    diagnosis = gradx.cuda.diagnose()
    if diagnosis.usable:
        return {"CUDA": "usable"}
    return {"CUDA": "not usable", "cause": diagnosis.cause, "fix": diagnosis.fix}
