"""``python -m benchmarks`` and its report: one dict, shown as a table and written as JSON.

``gpu`` has rows and a table of its own, :mod:`benchmarks.gpu`.
"""

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
    """Run the command line; bad input ends with one sentence and exit status 2, numbers that do not agree with 1."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # upstream's own, about its next version
    try:
        return 0 if command(argv) else 1
    except DataError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def command(argv: list[str] | None) -> bool:
    """Read the command line, measure, print the table and write the file; return whether a GPU's numbers agree."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time what is fast here, on this machine."
    )
    parser.add_argument("what", choices=("grpo", "loss", "predict", "load", "audit", "gpu"))
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    parser.add_argument("--repeats", type=int, help="how often each case is measured")
    parser.add_argument("--cpu", action="store_true", help="gpu: a dry run with a small model, also where a GPU is")
    flags = parser.parse_args(argv)
    if flags.repeats is not None and flags.repeats < 1:
        raise DataError(f"--repeats {flags.repeats} measures nothing; give 1 or more")
    if flags.json is not None and not flags.json.resolve().parent.is_dir():
        raise DataError(f"{str(flags.json)!r} cannot be written: there is no such folder; make it first")
    if flags.what == "gpu" and flags.repeats is not None:
        raise DataError("gpu keeps a time of its own; leave --repeats out")
    if flags.what != "gpu" and flags.cpu:
        raise DataError(f"{flags.what} runs on a CPU anyway; leave --cpu out")
    os.environ["CI"] = "1"  # no progress bars between the lines, and none that is timed
    if flags.what == "gpu":
        return check_gpu(flags.cpu, flags.json)
    report = run_benchmark(flags.what, repeats=flags.repeats)
    print(describe(report))
    if flags.json is not None:
        write_json(report, flags.json)
        print(f"\nwritten to {flags.json}")
    return True


def check_gpu(cpu: bool, file: Path | None) -> bool:
    """Measure on the first GPU, print each row as it comes and all in a table; return whether all numbers agree.

    Args:
        cpu: a dry run on the CPU.
        file: for all numbers; it is written anew after each row. None: nowhere.
    """
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL takes several for a reason to copy the model
    try:
        import torch
    except ImportError as error:
        raise DataError(f"the check of a GPU needs PyTorch: {error}") from error
    from benchmarks.gpu.check import as_markdown, measure_all

    report = {"benchmark": "gpu", "machine": machine(threads=torch.get_num_threads()), "rows": []}

    def keep(rows: list[dict]) -> None:
        report["rows"] = rows
        if file is not None:
            write_json(report, file)

    rows = measure_all("cuda" if torch.cuda.is_available() and not cpu else "cpu", keep)
    print(f"\n{as_markdown(rows)}", flush=True)
    if file is not None:
        print(f"\nwritten to {file}")
    return all(row.get("agrees") is not False for row in rows)


def run_benchmark(what: str, *, repeats: int | None = None) -> dict[str, Any]:
    """Measure one of the benchmarks.

    Args:
        what: "grpo", "loss", "predict", "load" or "audit".
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
    elif what == "loss":
        from benchmarks.cases.loss import REPEATS, measure_all
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
