"""What an operation costs beyond its kernel: eight numbers, so that the kernel itself is next to nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import gradx

LIBRARIES = {"gradx": gradx, "torch": torch}


@pytest.mark.benchmark(group="add: 8 float32")
def test_numpy_add(benchmark: Any) -> None:
    a = np.ones(8, np.float32)
    benchmark(lambda: a + a)


@pytest.mark.benchmark(group="add: 8 float32")
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_add(benchmark: Any, name: str, recorded: bool) -> None:
    a = LIBRARIES[name].ones(8, requires_grad=recorded)
    benchmark(lambda: a + a)


@pytest.mark.benchmark(group="tanh(a * b).sum().backward(): 8 float32")
@pytest.mark.parametrize("name", LIBRARIES)
def test_backward(benchmark: Any, name: str) -> None:
    library = LIBRARIES[name]
    a, b = library.ones(8, requires_grad=True), library.ones(8)

    def step() -> None:
        a.grad = None
        library.tanh(a * b).sum().backward()

    benchmark(step)
