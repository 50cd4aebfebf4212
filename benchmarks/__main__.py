"""``python -m benchmarks`` and its report: one dict, shown as a table and written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases.timing import load_average, machine
from medr1kit.vqa import DataError

COLUMNS = {"name": "case", "stock_s": "stock s", "fast_s": "fast s", "ratio": "ratio", "exact": "same result"}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; bad input ends with one sentence and exit status 2."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # upstream's own, about its next version
    try:
        command(argv)
    except DataError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def command(argv: list[str] | None) -> None:
    """Read the command line, measure, print the table and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time what is fast here, on this machine."
    )
    parser.add_argument("what", choices=("grpo", "predict", "load", "audit"))
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    parser.add_argument("--repeats", type=int, help="how often each case is measured")
    flags = parser.parse_args(argv)
    if flags.repeats is not None and flags.repeats < 1:
        raise DataError(f"--repeats {flags.repeats} measures nothing; give 1 or more")
    if flags.json is not None and not flags.json.resolve().parent.is_dir():
        raise DataError(f"{str(flags.json)!r} cannot be written: there is no such folder; make it first")
    os.environ["CI"] = "1"  # no progress bars between the lines, and none that is timed
    report = run_benchmark(flags.what, repeats=flags.repeats)
    print(describe(report))
    if flags.json is not None:
        write_json(report, flags.json)
        print(f"\nwritten to {flags.json}")


def run_benchmark(what: str, *, repeats: int | None = None) -> dict[str, Any]:
    """Measure one of the benchmarks.

    Args:
        what: "grpo", "predict", "load" or "audit".
        repeats: how often each case is measured, 1 or more; None for the benchmark's own number.

    Returns:
        ``{"benchmark": what, "machine": …, "cases": [{"name", "stock_s", "fast_s", "ratio", "repeats", "exact", …}]}``.
        Seconds are CPU seconds of one thread; where there is nothing to compare with, ``stock_s`` and ``ratio`` are
        None.
    """
    measure, default = _measure_for(what)
    about = machine(threads=1)
    before = about.pop("load_average")
    cases = measure(default if repeats is None else repeats)
    return {
        "benchmark": what,
        "machine": {**about, "load_average": {"start": before, "end": load_average()}},
        "cases": cases,
    }


def _measure_for(what: str) -> tuple[Callable[[int], list[dict]], int]:
    if what == "grpo":
        from benchmarks.cases.grpo import REPEATS, measure_all
    elif what == "predict":
        from benchmarks.cases.predict import REPEATS, measure_all
    elif what == "load":
        from benchmarks.cases.load import REPEATS, measure_all
    else:
        from benchmarks.cases.audit import REPEATS, measure_all
    return measure_all, REPEATS


def describe(report: dict[str, Any]) -> str:
    """Return a report as text: the machine, a table, and a line for each case that says what it is."""
    about, cases = report["machine"], report["cases"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "torch", "transformers", "trl"))
    load = about["load_average"]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} thread, {versions}",
        f"load average {load['start']} at the start, {load['end']} at the end; CPU seconds, medians",
        "",
    ]
    rows = [list(COLUMNS.values()), *(_row(case) for case in cases)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        lines.append(
            row[0].ljust(widths[0]) + "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))
        )
    lines += ["", *(f"{case['name']}: {case['about']}" for case in cases)]
    return "\n".join(lines)


def _row(case: dict[str, Any]) -> list[str]:
    seconds = ["–" if case[name] is None else f"{case[name]:.3g}" for name in ("stock_s", "fast_s")]
    ratio = "–" if case["ratio"] is None else f"x{case['ratio']:.2f}"
    exact = {True: "yes", False: "NO", None: "–"}[case["exact"]]
    return [case["name"], *seconds, ratio, exact]


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write a report to a file."""
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
