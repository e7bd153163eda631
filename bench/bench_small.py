"""What ten elements cost, forward and backward: all overhead, next to no arithmetic.

`pytest bench/bench_small.py` times each library by itself. `python bench/bench_small.py` prints the ratios: both libraries
in one process, in turns of a few milliseconds, the best turn of each counting, since other programs take their share too.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import gradx

LIBRARIES = {"gradx": gradx, "torch": torch}
Step = Callable[[], Any]


def leaves(library: Any, *shape: int, count: int = 2) -> Iterator[Any]:
    """Tensors that require grad, with the same elements in both libraries."""
    for i in range(count):
        values = np.sin(1 + i + 0.37 * np.arange(math.prod(shape))).reshape(shape)
        yield library.tensor(values.tolist(), dtype=library.float32, requires_grad=True)


def mul(library: Any) -> Step:
    a, b = leaves(library, 10)
    g = library.ones(10)

    def step() -> None:
        a.grad = b.grad = None
        (a * b).backward(g)

    return step


def softmax(library: Any) -> Step:
    (a,) = leaves(library, 10, count=1)
    g = library.ones(10)
    function = library.nn.functional.softmax

    def step() -> None:
        a.grad = None
        function(a, 0).backward(g)

    return step


def mse(library: Any) -> Step:
    a, b = leaves(library, 10)
    target = b.detach()
    function = library.nn.functional.mse_loss

    def step() -> None:
        a.grad = None
        function(a, target).backward()

    return step


def sum(library: Any) -> Step:
    (a,) = leaves(library, 10, count=1)

    def step() -> None:
        a.grad = None
        a.sum().backward()

    return step


def chain(library: Any) -> Step:
    a, b = leaves(library, 10)

    def step() -> None:
        a.grad = b.grad = None
        y = a
        for _ in range(25):
            y = (y * b + a).tanh() * 0.5
        y.sum().backward()

    return step


def mlp(library: Any, loss: str, classes: int) -> Step:
    """A training step of three layers of ten units on ten samples, with plain SGD."""
    F = library.nn.functional
    weights = [*leaves(library, 10, 10), *leaves(library, classes, 10, count=1)]
    biases = [*leaves(library, 10), *leaves(library, classes, count=1)]
    parameters = weights + biases
    (x,) = (t.detach() for t in leaves(library, 10, 10, count=1))
    labels = library.tensor([i % classes for i in range(10)])
    target = labels if loss == "cross_entropy" else x[:, :classes]
    compute = getattr(F, loss)

    def step() -> None:
        h = F.relu(F.linear(x, weights[0], biases[0]))
        h = F.relu(F.linear(h, weights[1], biases[1]))
        compute(F.linear(h, weights[2], biases[2]), target).backward()
        with library.no_grad():
            for p in parameters:
                p -= 1e-6 * p.grad
                p.grad = None

    return step


PROGRAMS: dict[str, Callable[[Any], Step]] = {
    "mul": mul,
    "softmax": softmax,
    "mse": mse,
    "sum": sum,
    "chain of 100": chain,
    "MLP step, mse": lambda library: mlp(library, "mse_loss", 10),
    "MLP step, cross entropy": lambda library: mlp(library, "cross_entropy", 4),
}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_small(benchmark: Any, program: str, name: str) -> None:
    benchmark.group = f"{program}: 10 float32, forward and backward"
    benchmark(PROGRAMS[program](LIBRARIES[name]))


def best_times(steps: dict[str, Step], seconds: float, turn: float = 0.002) -> dict[str, float]:
    """The seconds that each step takes at its best, all of them run in turns of `turn` seconds."""
    counts = {}
    for name, step in steps.items():
        for _ in range(20):
            step()
        start = time.perf_counter()
        step()
        counts[name] = max(1, int(turn / (time.perf_counter() - start)))
    best = dict.fromkeys(steps, math.inf)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, step in steps.items():
            repeats = range(counts[name])
            start = time.perf_counter()
            for _ in repeats:
                step()
            best[name] = min(best[name], (time.perf_counter() - start) / counts[name])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of gradx and torch for ten elements, and their ratios.")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(PROGRAMS)}; all by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each program (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    ratios = []
    print(f"{'forward + backward':24} {'gradx':>9} {'torch':>9}  torch / gradx")
    for program in arguments.programs or PROGRAMS:
        steps = {name: PROGRAMS[program](library) for name, library in LIBRARIES.items()}
        best = best_times(steps, arguments.seconds)
        ratios.append(best["torch"] / best["gradx"])
        print(
            f"{program:24} {best['gradx'] * 1e6:6.1f} us {best['torch'] * 1e6:6.1f} us {ratios[-1]:14.2f}", flush=True
        )
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    print(f"{'geometric mean':44} {mean:14.2f}; least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
