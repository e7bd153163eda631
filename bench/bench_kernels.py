"""Each kernel forward and backward: gradx on the CPU and on a GPU, and torch. `make bench` runs it.

The figures of one group come from the same numbers and the same code. Work on a GPU is timed by CUDA events.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import pytest

import gradx
from gradx.cli.bench import DIRECTIONS, prepare
from gradx.cli.info import cores
from gradx.cli.kernels import KERNELS
from gradx.cli.timing import CudaClock

SIZE = (1024, 512)


@functools.cache
def cuda_clock() -> CudaClock:
    return CudaClock()


def cuda_seconds() -> float:
    """What pytest-benchmark reads. The clock is made at the first reading: collection touches no GPU."""
    return cuda_clock()()


ON_CUDA = [pytest.mark.cuda, pytest.mark.benchmark(timer=cuda_seconds)]


@pytest.mark.parametrize(
    ("library", "device"),
    [
        pytest.param("gradx", "cpu", id="gradx-cpu"),
        pytest.param("torch", "cpu", id="torch-cpu"),
        pytest.param("gradx", "cuda", id="gradx-cuda", marks=ON_CUDA),
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str, direction: str, library: str, device: str) -> None:
    if device == "cuda" and not gradx.cuda.is_available():
        pytest.skip(gradx.cuda.diagnose().cause)
    module = importlib.import_module(library)
    if library == "torch":
        module.set_num_threads(cores())
    benchmark.group = f"{name} {direction} {SIZE[0]}x{SIZE[1]}"
    moved, calls = prepare(KERNELS[name], SIZE, direction, device, {library: module})
    benchmark.extra_info["compulsory_bytes"] = moved
    benchmark(calls[library])
