"""Time every kernel forward and backward, on CPU and GPU, and set it against the memory's copy bandwidth."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import gradx
from gradx.cli import gpu_report
from gradx.cli.info import cores, machine
from gradx.cli.kernels import KERNELS, Kernel
from gradx.cli.report import Report, Result, Row, Size, show
from gradx.cli.timing import QUICK, THOROUGH, Effort, clock_for, copy_bandwidth, measure

DIRECTIONS = ("forward", "backward")
SIZES: list[Size] = [(512, 256), (4096, 1024)]


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    devices: list[str]
    kernels: list[Kernel]
    sizes: list[Size]
    effort: Effort
    directions: tuple[str, ...] = DIRECTIONS
    rival: str | None = None
    threads: int | None = None  # the rival's; by default one per core

    def __len__(self) -> int:
        """The number of measurements, for a progress bar."""
        return len(self.devices) * len(self.sizes) * len(self.kernels) * len(self.directions)


def execute(plan: Plan, advance: Callable[[str], None]) -> Report:
    """Measure all that `plan` asks for; call `advance` with a few words before each measurement."""
    facts = machine() | {"load average": f"{os.getloadavg()[0]:.1f}"}  # other work on the machine spoils the figures
    libraries: dict[str, Any] = {"gradx": gradx}
    if plan.rival:
        libraries[plan.rival] = rival = importlib.import_module(plan.rival)
        rival.set_num_threads(plan.threads or cores())
        facts[plan.rival] = rival.__version__
        facts[f"{plan.rival} threads"] = str(rival.get_num_threads())
    rows = {
        (size, kernel.name, direction): Row(kernel.name, size, direction, 0)
        for size in plan.sizes
        for kernel in plan.kernels
        for direction in plan.directions
    }
    report = Report(facts, {}, list(rows.values()))
    for device in plan.devices:
        clock = clock_for(device)
        bandwidth = report.copy_gb_per_s[device] = copy_bandwidth(device, clock, plan.effort)
        present = {name: library for name, library in libraries.items() if _runs_on(library, device)}
        for (size, name, direction), row in rows.items():
            advance(f"{name} {direction} on {device}")
            row.compulsory_bytes, calls = prepare(KERNELS[name], size, direction, device, present)
            timings = measure(list(calls.values()), clock, plan.effort)
            for library_name, timing in zip(calls, timings, strict=True):
                speed = row.compulsory_bytes / timing.median / 1e9 if row.compulsory_bytes else None
                share = None if speed is None else speed / bandwidth
                row.results.append(Result(library_name, device, timing, speed, share))
    return report


def _runs_on(library: Any, device: str) -> bool:
    return device == "cpu" or bool(library.cuda.is_available())


def prepare(
    kernel: Kernel, size: Size, direction: str, device: str, libraries: dict[str, Any]
) -> tuple[int, dict[str, Callable[[], object]]]:
    """The compulsory bytes of one pass, and for each library a function that does it on the same numbers."""
    rng = np.random.default_rng(0)
    arrays = kernel.sample(rng, *size)
    calls = {}
    moved = 0
    for name, library in libraries.items():
        inputs = kernel.tensors(library, arrays, device)
        output = kernel.function(library, *inputs)
        if direction == "forward":
            moved = kernel.forward_bytes(arrays, output)
            calls[name] = _forward(kernel, library, inputs)
        else:
            moved = kernel.backward_bytes(arrays, output)
            cotangent = rng.standard_normal(tuple(output.shape), dtype=np.float32)
            calls[name] = _backward(library, output, inputs, library.as_tensor(cotangent, device=device))
    return moved, calls


def _forward(kernel: Kernel, library: Any, inputs: list[Any]) -> Callable[[], object]:
    """One forward pass, recorded on the tape as in training."""
    return lambda: kernel.function(library, *inputs)


def _backward(library: Any, output: Any, inputs: list[Any], cotangent: Any) -> Callable[[], object]:
    """One backward pass through a graph that is already there."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    return lambda: library.autograd.grad(output, wanted, cotangent, retain_graph=True)


def run_with_progress(plan: Plan) -> Report:
    """Measure under a progress bar."""
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(plan))
        return execute(plan, lambda words: progress.update(task, advance=1, description=words))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gradx bench`."""
    names = ",".join(KERNELS)
    parser.add_argument("--device", choices=["cpu", "cuda", "all"], default="all", help="where to run")
    parser.add_argument("--vs", choices=["torch"], help="run it too, in turn with gradx, and give the ratio")
    parser.add_argument("--threads", type=int, metavar="N", help="torch's threads (one per core)")
    parser.add_argument("--kernels", type=_kernels, default=names, help=f"which, of {names}")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="rows x columns, such as 512x256,4096x1024")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter batches")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DIR",
        help="run the CUDA tests too, and the benchmark on CPU, GPU and torch; write a page and a JSON file into DIR (.)",
    )
    parser.add_argument("--tests", nargs="+", default=(), metavar="TEST", help="only these tests, for --report")


def _kernels(text: str) -> list[Kernel]:
    unknown = [name for name in text.split(",") if name not in KERNELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no kernel {', '.join(unknown)}; there are {', '.join(KERNELS)}")
    return [KERNELS[name] for name in text.split(",")]


def _sizes(text: str) -> list[Size]:
    sizes = []
    for item in text.split(","):
        rows, cross, cols = item.partition("x")
        if not (cross and rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols) > 1):
            raise argparse.ArgumentTypeError(f"'{item}' is no size; say rows x columns, such as 512x256")
        sizes.append((int(rows), int(cols)))
    return sizes


def packages(arguments: argparse.Namespace) -> dict[str, str]:
    """The optional packages the command needs, and what to install to have them."""
    return {"rich": "gradx[bench]"} | ({arguments.vs: arguments.vs} if arguments.vs else {})


def devices_for(choice: str) -> list[str]:
    """The devices of this machine that `choice` ("cpu", "cuda", "all") names; if a GPU is missing, say so."""
    if choice == "cpu" or gradx.cuda.is_available():
        return ["cpu", "cuda"] if choice == "all" else [choice]
    print(without_gpu(), gradx.cuda.diagnose().fix, file=sys.stderr)
    return ["cpu"] if choice == "all" else []


def without_gpu() -> str:
    """The sentence that says why there are no figures of a GPU."""
    return f"No GPU is used: {gradx.cuda.diagnose().cause}"


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write the JSON file if one is asked for; or make the report on a GPU."""
    reporting = arguments.report is not None
    devices = devices_for("cuda" if reporting else arguments.device)
    if not devices:
        if reporting:
            print("No report was written: it is one of a GPU.", file=sys.stderr)
        return 1
    effort = QUICK if arguments.quick else THOROUGH
    plan = Plan(devices, arguments.kernels, arguments.sizes, effort, rival=arguments.vs, threads=arguments.threads)
    if reporting:
        plan = replace(plan, devices=["cpu", "cuda"], rival=gpu_report.rival())
        return gpu_report.write(arguments.report, arguments.tests, lambda: run_with_progress(plan))
    report = run_with_progress(plan)
    show(report)
    if arguments.json:
        arguments.json.write_text(report.as_json() + "\n")
    return 0
