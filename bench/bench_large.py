"""Large arrays on the CPU, forward and backward: gradx against torch, in time and in peak memory.

    python bench/bench_large.py                            # the table of times, then that of memory
    python bench/bench_large.py --sizes 8192x2048 --kernels softmax,mse --rounds 20

Times: both libraries in one process, in turn, the best of many rounds, torch with one thread per core. A ratio is torch's
time over gradx's: above 1, gradx is faster. On a busy machine only the ratios mean anything.

Memory: each library and kernel in a process of its own; what the resident set grows by at its peak (`VmHWM` in
/proc/self/status, reset after the inputs are made) over several steps. Everything counts: temporaries, results, gradients,
and what a pool keeps for later. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[], object]
SIZES = ("512x256", "2048x1024", "8192x2048")


def _chain(t: Any, a: Any) -> Any:
    return t.exp(t.tanh(a)) * a


# Functions of a namespace, gradx or torch, and of matrices.
CASES: dict[str, Callable[..., Any]] = {
    "mul": lambda t, a, b: a * b,
    "softmax": lambda t, a: t.nn.functional.softmax(a, dim=-1),
    "mse": lambda t, a, b: t.nn.functional.mse_loss(a, b),
    "sum": lambda t, a: t.sum(a, dim=-1),
    "log_softmax": lambda t, a: t.nn.functional.log_softmax(a, dim=-1),
    "chain": _chain,
    "var": lambda t, a: t.var(a, dim=-1),
    "amax": lambda t, a: t.amax(a, dim=-1),
    "logsumexp": lambda t, a: t.logsumexp(a, dim=-1),
}
MORE: dict[str, Callable[..., Any]] = {
    "sum_all": lambda t, a: t.sum(a),
    "sum_columns": lambda t, a: t.sum(a, dim=0),
    "mean_all": lambda t, a: t.mean(a),
    "softmax_columns": lambda t, a: t.nn.functional.softmax(a, dim=0),
    "relu": lambda t, a: t.relu(a),
    "sigmoid": lambda t, a: t.sigmoid(a),
    "add_bias": lambda t, a: a + a[0],
    "norm": lambda t, a: t.norm(a),
    "std": lambda t, a: t.std(a, dim=-1),
    "var_all": lambda t, a: t.var(a),
}
BINARY = {"mul": 2, "mse": 2}


def step_of(library: Any, name: str, size: str) -> Step:
    """One forward and backward pass of a kernel."""
    rng = np.random.default_rng(0)
    shape = tuple(map(int, size.split("x")))
    arrays = [rng.standard_normal(shape, dtype=np.float32) for _ in range(BINARY.get(name, 1))]
    tensors = [library.as_tensor(array).requires_grad_() for array in arrays]
    function = (CASES | MORE)[name]
    result = function(library, *tensors).shape
    gradient = library.as_tensor(rng.standard_normal(tuple(result), dtype=np.float32)) if result else None

    def step() -> object:
        return library.autograd.grad(function(library, *tensors), tensors, gradient)

    return step


def best(steps: list[Step], rounds: int) -> list[float]:
    """The shortest time of each step in seconds, taken in turn."""
    shortest = [math.inf] * len(steps)
    for step in steps:
        step()
    start = time.perf_counter()
    step()
    calls = max(1, int(0.003 / (time.perf_counter() - start)))
    for _ in range(rounds):
        for i, step in enumerate(steps):
            time.sleep(0.01)  # torch's threads spin for some time before they sleep, on cores that the other needs
            step()  # the caches hold the other's arrays
            start = time.perf_counter()
            for _ in range(calls):
                step()
            shortest[i] = min(shortest[i], (time.perf_counter() - start) / calls)
    return shortest


def times(names: list[str], sizes: list[str], rounds: int) -> None:
    """Print the table of ratios, with the milliseconds of both libraries."""
    import torch

    import gradx

    print(f"torch/gradx, forward + backward, float32; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':16}" + "".join(f"{size:>26}" for size in sizes))
    ratios: dict[str, list[float]] = {size: [] for size in sizes}
    for name in names:
        row = f"{name:16}"
        for size in sizes:
            ours, theirs = best([step_of(library, name, size) for library in (gradx, torch)], rounds)
            ratios[size].append(theirs / ours)
            row += f"{theirs / ours:8.2f} ({theirs * 1e3:6.2f}/{ours * 1e3:6.2f})"
        print(row, flush=True)
    means = [math.exp(sum(map(math.log, ratios[size])) / len(names)) for size in sizes]
    print(f"{'geometric mean':16}" + "".join(f"{mean:8.2f}{'':18}" for mean in means))
    print(f"{'lowest':16}" + "".join(f"{min(ratios[size]):8.2f}{'':18}" for size in sizes))


def _resident(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak(library_name: str, name: str, size: str) -> None:
    """Print by how many bytes the resident set grows at its peak; runs in a process of its own."""
    library = importlib.import_module(library_name)
    step_of(library, name, "64x64")()  # what is loaded at the first call
    step = step_of(library, name, size)
    gc.collect()
    if library_name == "gradx":
        library.cpu.empty_cache()  # of what `step_of` has computed
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(4):
        step()
    print(_resident("VmHWM") - before)


def memory(names: list[str], size: str) -> None:
    """Print the peak of each kernel, in multiples of one input."""
    unit = math.prod(map(int, size.split("x"))) * 4
    print(f"\npeak memory of forward + backward, in inputs of {unit / 2**20:.0f} MiB")
    print(f"{'':16}{'torch':>8}{'gradx':>8}")
    for name in names:
        peaks = []
        for library in ("torch", "gradx"):
            command = [sys.executable, __file__, "--peak", library, "--kernels", name, "--sizes", size]
            peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / unit)
        print(f"{name:16}{peaks[0]:8.2f}{peaks[1]:8.2f}{'  more than torch' if peaks[1] > peaks[0] + 0.02 else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default=",".join(CASES), help=f"of {', '.join(CASES | MORE)}")
    parser.add_argument("--sizes", default=",".join(SIZES), help="rows x columns; memory is measured at the last")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=["times", "memory"])
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names, sizes = arguments.kernels.split(","), arguments.sizes.split(",")
    if arguments.peak:
        peak(arguments.peak, names[0], sizes[0])
        return
    if arguments.only != "memory":
        times(names, sizes, arguments.rounds)
    if arguments.only != "times":
        memory(names, sizes[-1])


if __name__ == "__main__":
    main()
