"""The report on a GPU as one page of HTML that needs no network and no script."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from gradx.cli.report import Report, Row, grids
from gradx.cli.suite import counts

_ATTACH = """
Attach this page and the JSON file beside it, <code>gradx-gpu-report.json</code>, to your issue, and say what you ran
and what you expected. Neither file names your host, your user or your folders. Read them before you send them all the
same.
"""
_READING = """
Times are microseconds for one pass, median ± interquartile range; on CUDA they are told by events in the stream. GB/s
are compulsory bytes (each tensor that a pass cannot do without, once) over the median, and <i>of copy</i> is their share
of the copy bandwidth, above 100 % where data stay in cache. <i>cuda speed-up</i> is gradx's time on the CPU over its
time on the GPU. <i>gradx/torch</i> is gradx's time over torch's on the same device: below 1, gradx is faster.
"""


def page(content: Mapping[str, Any], report: Report | None) -> str:
    """The page of a report: `content` as in the JSON file, `report` the benchmark in it, if that ended."""
    title = "gradx on " + ", ".join(dict.fromkeys(gpu["name"] for gpu in content["gpus"]))
    machine = {"Host": content["machine"], "CUDA": content["cuda"]}
    gpus = {f"GPU {i}": gpu for i, gpu in enumerate(content["gpus"])}
    body = [
        _tag("h1", escape(title)),
        _tag("p", f"gradx {escape(content['machine']['gradx'])}, {escape(content['created'])}", "when"),
        _tag("div", "".join(_cards(content["tests"], report)), "cards"),
        _section("What to attach", _tag("p", _ATTACH)),
        _section("Machine", _facts(machine), _facts(gpus)),
        _section("Tests", *_tests(content["tests"])),
        _section("Benchmark", *_benchmark(report, content["benchmark_error"])),
    ]
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += _tag("title", escape(title)) + _tag("style", style)
    html = _tag("head", head) + "\n" + _tag("body", "\n".join(body))
    return f'<!doctype html>\n<html lang="en">\n{html}\n</html>\n'


def _tag(name: str, inner: str, style: str = "") -> str:
    """An element; `inner` is HTML, `style` its class."""
    attribute = f' class="{style}"' if style else ""
    return f"<{name}{attribute}>{inner}</{name}>"


def _section(title: str, *parts: str) -> str:
    return _tag("section", _tag("h2", title) + "\n".join(parts))


def _facts(groups: Mapping[str, Mapping[str, str]]) -> str:
    """Tables of names and values, side by side."""
    tables = ""
    for title, facts in groups.items():
        cells = (_tag("th", escape(name)) + _tag("td", escape(value)) for name, value in facts.items())
        tables += _tag("table", _tag("caption", title) + "".join(_tag("tr", line) for line in cells))
    return _tag("div", tables, "facts")


# ---- what to see at a glance -----------------------------------------------------------------------------


def _cards(tests: Mapping[str, Any], report: Report | None) -> Iterator[str]:
    """The figures that come first: tests, speed-up, ratio to torch, copy bandwidth."""
    bad = tests["failed"] + tests["errors"]
    if tests["why_not"]:
        yield _card("-", "tests did not run", "bad" if tests["exit_code"] else "")
    else:
        yield _card(str(tests["passed"]), "tests passed", "" if bad else "good")
        yield _card(str(bad), "tests failed", "bad" if bad else "good")
    if report is None:
        yield _card("-", "benchmark did not end", "bad")
        return
    means = {"speed-up of CUDA over CPU": _mean(row.speedup for row in report.rows)}
    means |= {
        f"of torch's time on {device}": _mean(row.torch_ratio(device) for row in report.rows)
        for device in report.copy_gb_per_s
    }
    for words, mean in means.items():
        if mean is not None:
            yield _card(f"{mean:.2f}×", f"{words}, geometric mean")
    if "cuda" in report.copy_gb_per_s:
        yield _card(f"{report.copy_gb_per_s['cuda']:,.0f}", "GB/s copied on the GPU")


def _card(figure: str, words: str, style: str = "") -> str:
    return _tag("div", _tag("b", figure) + _tag("span", escape(words)), f"card {style}".strip())


def _mean(ratios: Iterator[float | None]) -> float | None:
    """The geometric mean of those that are known; None where none is."""
    known = [ratio for ratio in ratios if ratio is not None and ratio > 0]
    return statistics.geometric_mean(known) if known else None


# ---- tests -----------------------------------------------------------------------------------------------


def _tests(tests: Mapping[str, Any]) -> Iterator[str]:
    if tests["why_not"]:
        yield _tag("p", escape(tests["why_not"]))
    else:
        yield _tag("p", f"{counts(tests)}, in {tests['seconds']:.0f} s; pytest's exit code is {tests['exit_code']}.")
    for failure in tests["failures"]:
        first = failure["message"].partition("\n")[0]
        summary = _tag("summary", _tag("code", escape(failure["test"])) + " " + escape(first))
        yield _tag("details", summary + _tag("pre", escape(failure["traceback"])))
    if tests["skips"]:
        reasons = "".join(_tag("li", f"{skip['count']} × {escape(skip['reason'])}") for skip in tests["skips"])
        yield _tag("p", "Skipped:") + _tag("ul", reasons)
    if tests["output_tail"]:
        yield _tag("p", "How pytest's output ends:") + _tag("pre", escape(tests["output_tail"]))


# ---- benchmark -------------------------------------------------------------------------------------------


def _benchmark(report: Report | None, error: str) -> Iterator[str]:
    if report is None:
        yield _tag("p", "The benchmark did not end:") + _tag("pre", escape(error))
        return
    speeds = "; ".join(f"{device}: {speed:,.1f} GB/s" for device, speed in report.copy_gb_per_s.items())
    yield _tag("p", f"Copy bandwidth, bytes read and bytes written both counted: {speeds}.")
    yield _tag("p", _READING)
    for (rows, cols), titles, cells in grids(report):
        measured = [row for row in report.rows if row.size == (rows, cols)]
        head = _tag("tr", "".join(_tag("th", escape(title)) for title in titles))
        lines = "".join(_line(titles, line, row) for line, row in zip(cells, measured, strict=True))
        table = _tag("table", _tag("thead", head) + _tag("tbody", lines), "figures")
        yield _tag("h3", f"{rows} × {cols}, float32") + _tag("div", table, "wide")


def _line(titles: list[str], cells: list[str], row: Row) -> str:
    """A row of the table: kernel and pass, then figures, ratios to torch coloured."""
    style = "first" if row.direction == "forward" else ""
    return _tag("tr", "".join(_tag("td", escape(c), _style(t, c)) for t, c in zip(titles, cells, strict=True)), style)


def _style(title: str, cell: str) -> str:
    """Above a tenth off torch's time, either way, a ratio has a colour."""
    if title != "gradx/torch" or cell == "-":
        return ""
    ratio = float(cell)
    return "good" if ratio < 0.9 else "bad" if ratio > 1.1 else ""
