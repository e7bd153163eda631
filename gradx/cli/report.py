"""What a benchmark found, and how it is told: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gradx.cli.timing import Timing

if TYPE_CHECKING:
    from rich.table import Table

Size = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Result:
    """How fast one library ran one pass on one device."""

    library: str
    device: str
    timing: Timing
    gb_per_s: float | None  # compulsory bytes over the median time; None where no byte must move
    of_copy_bandwidth: float | None  # the same as a share of the device's copy bandwidth; above 1 in cache


@dataclass
class Row:
    """One kernel, one size, one direction, by everyone who ran it."""

    kernel: str
    size: Size
    direction: str
    compulsory_bytes: int
    results: list[Result] = field(default_factory=list)

    def find(self, library: str, device: str) -> Result | None:
        """The result of `library` on `device`, if it ran there."""
        return next((r for r in self.results if (r.library, r.device) == (library, device)), None)

    @property
    def speedup(self) -> float | None:
        """How many times faster gradx is on CUDA than on the CPU."""
        return _ratio(self.find("gradx", "cpu"), self.find("gradx", "cuda"))

    def torch_ratio(self, device: str) -> float | None:
        """gradx's time over torch's on `device`: below 1, gradx is faster."""
        return _ratio(self.find("gradx", device), self.find("torch", device))


@dataclass
class Report:
    """A whole run: the machine, each device's copy bandwidth in GB/s, and the rows."""

    machine: dict[str, str]
    copy_gb_per_s: dict[str, float]
    rows: list[Row]

    def as_json(self) -> str:
        """`as_dict` in JSON."""
        return json.dumps(self.as_dict(), indent=1)

    def as_dict(self) -> dict[str, Any]:
        """Every figure of the tables, times in seconds."""
        rows = [
            asdict(row)
            | {
                "speedup_cuda_over_cpu": row.speedup,
                "gradx_over_torch": {device: row.torch_ratio(device) for device in self.copy_gb_per_s},
            }
            for row in self.rows
        ]
        return {"machine": self.machine, "copy_gb_per_s": self.copy_gb_per_s, "rows": rows}


def _ratio(numerator: Result | None, denominator: Result | None) -> float | None:
    if numerator is None or denominator is None:
        return None
    return numerator.timing.median / denominator.timing.median


def grids(report: Report) -> Iterator[tuple[Size, list[str], list[list[str]]]]:
    """For each size the titles of the columns and the rows: times in microseconds, median ± interquartile range."""
    devices = list(report.copy_gb_per_s)
    for size in dict.fromkeys(row.size for row in report.rows):
        rows = [row for row in report.rows if row.size == size]
        compared = [d for d in devices if any(row.find("torch", d) for row in rows)]
        titles = [title for device in devices for title in (f"{device} µs", "GB/s", "of copy")]
        titles += ["cuda speed-up"] if len(devices) > 1 else []
        titles += [title for device in compared for title in (f"torch {device} µs", "gradx/torch")]
        cells = [[row.kernel, row.direction, *_cells(row, devices, compared)] for row in rows]
        yield size, ["kernel", "pass", *titles], cells


def tables(report: Report) -> Iterator[Table]:
    """One table for each size."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    for size, titles, rows in grids(report):
        table = Table(*titles[:2], title=f"{size[0]}x{size[1]} float32", title_justify="left", box=SIMPLE_HEAD)
        for title in titles[2:]:
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        yield table


def _cells(row: Row, devices: list[str], compared: list[str]) -> Iterator[str]:
    for device in devices:
        result = row.find("gradx", device)
        yield _microseconds(result)
        yield _number(result.gb_per_s if result else None, "{:.1f}")
        yield _number(result.of_copy_bandwidth if result else None, "{:.0%}")
    if len(devices) > 1:
        yield _number(row.speedup, "{:.2f}x")
    for device in compared:
        yield _microseconds(row.find("torch", device))
        yield _number(row.torch_ratio(device), "{:.2f}")


def _microseconds(result: Result | None) -> str:
    if result is None:
        return "-"
    return f"{result.timing.median * 1e6:,.1f} ± {result.timing.iqr * 1e6:,.1f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def show(report: Report) -> None:
    """Print the machine and the tables."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, 180)  # a narrower terminal wraps the lines, and no figure is cut off
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()), highlight=False)
    for device, bandwidth in report.copy_gb_per_s.items():
        console.print(f"copy bandwidth of {device}: {bandwidth:.1f} GB/s", highlight=False)
    for table in tables(report):
        console.print(table)
