"""Clocks, and how a function is timed: in batches, after a warm-up, by median and interquartile range."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradx.cli.info import cores

Clock = Callable[[], float]  # returns seconds since some moment; only differences mean anything


class CudaClock:
    """The time on a CUDA device, in seconds, told by events in the current stream.

    Each reading waits until the work before it is done, so the difference of two is the time that the
    device took for what was submitted in between, gaps in which it waited for the host included.
    """

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda
        self._last = self._now()
        self._seconds = 0.0

    def __call__(self) -> float:
        # A sum of short stretches: the time between two events is a float32, in ms, coarse after minutes.
        now = self._now()
        self._seconds += self._cuda.get_elapsed_time(self._last, now) / 1e3
        self._last = now
        return self._seconds

    def _now(self) -> Any:
        event = self._cuda.Event()
        event.record()
        event.synchronize()
        return event


def clock_for(device: str) -> Clock:
    """The clock that times work on `device` ("cpu" or "cuda")."""
    return CudaClock() if device == "cuda" else time.perf_counter


@dataclass(frozen=True)
class Timing:
    """How long one call takes, in seconds."""

    median: float
    iqr: float  # interquartile range of the batches' means
    batches: int
    calls_per_batch: int


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    batches: int
    batch_seconds: float  # a batch has as many calls as fill this time, at least one


THOROUGH = Effort(batches=15, batch_seconds=5e-3)
QUICK = Effort(batches=7, batch_seconds=1e-3)


def measure(functions: Sequence[Callable[[], object]], clock: Clock, effort: Effort) -> list[Timing]:
    """Time functions against each other, batches taken in turn, so that all see the same machine."""
    calls = [_calls_per_batch(function, clock, effort.batch_seconds) for function in functions]
    samples: list[list[float]] = [[] for _ in functions]
    for _ in range(effort.batches):
        for function, count, sample in zip(functions, calls, samples, strict=True):
            sample.append(_batch(function, count, clock) / count)
    timings = []
    for sample, count in zip(samples, calls, strict=True):
        lower, median, upper = statistics.quantiles(sample, n=4, method="inclusive")
        timings.append(Timing(median, upper - lower, effort.batches, count))
    return timings


def _batch(function: Callable[[], object], count: int, clock: Clock) -> float:
    """Seconds for `count` calls."""
    start = clock()
    for _ in itertools.repeat(None, count):
        function()
    return clock() - start


def _calls_per_batch(function: Callable[[], object], clock: Clock, batch_seconds: float) -> int:
    """How many calls fill a batch. Finding out is the warm-up: kernels are compiled, pools filled."""
    function()
    count = 1
    while (seconds := _batch(function, count, clock)) < batch_seconds:
        count *= 2 if seconds <= 0 else min(8, max(2, round(batch_seconds / seconds)))
    return count


def copy_bandwidth(device: str, clock: Clock, effort: Effort, nbytes: int = 1 << 26) -> float:
    """The device's copy bandwidth in GB/s, bytes read and bytes written both counted.

    On the CPU one thread per core copies its share: one core alone does not fill the memory bus.

    Args:
        device: "cpu" or "cuda".
        clock: the device's clock.
        effort: how long to measure.
        nbytes: the size of the array copied, 64 MiB by default: larger than a processor's caches.
    """
    if device == "cuda":
        import cupy

        source = cupy.ones(nbytes, cupy.uint8)
        target = cupy.empty_like(source)
        [timing] = measure([lambda: cupy.copyto(target, source)], clock, effort)
    else:
        threads = cores()
        sources = np.array_split(np.ones(nbytes, np.uint8), threads)
        targets = np.array_split(np.empty(nbytes, np.uint8), threads)
        with ThreadPoolExecutor(threads) as pool:
            [timing] = measure([lambda: list(pool.map(np.copyto, targets, sources))], clock, effort)
    return 2 * nbytes / timing.median / 1e9
