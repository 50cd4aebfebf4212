"""Writes the tables of `docs/speed.md` from the files in `benchmarks/speed/`, and measures those files anew if asked.

python -m benchmarks.speed_page               # tables from the files that are there
python -m benchmarks.speed_page --measure     # all benchmarks first, then the tables; growth.py is apart
python -m benchmarks.speed_page --measure grpo loss predict    # those that are compared with something
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
FOLDER, PAGE = ROOT / "benchmarks" / "speed", ROOT / "docs" / "speed.md"
BENCHMARKS = ("grpo", "loss", "predict", "load", "audit")


def measure(names: Sequence[str], repeats: int | None) -> None:
    """Run benchmarks, each in a process of its own."""
    for name in names:
        command = [sys.executable, "-m", "benchmarks", name, "--json", str(FOLDER / f"{name}.json")]
        subprocess.run(command + ([] if repeats is None else ["--repeats", str(repeats)]), check=True, cwd=ROOT)


def section(name: str) -> str:
    """The machine and the table of one benchmark, as Markdown."""
    if name == "growth":
        return table(pd.read_csv(FOLDER / "growth.csv"))
    report = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if name == "gpu":
        from benchmarks.gpu.check import as_markdown

        return as_markdown(report["rows"])
    about, load = report["machine"], report["machine"]["load_average"]
    versions = ", ".join(f"{package} {about[package]}" for package in ("python", "torch", "transformers", "trl"))
    lines = [
        f"`python -m benchmarks {name}` on {about['cpu']}, {about['cores']} cores, {about['threads']} thread;",
        f"{versions}; load average {load['start']} before and {load['end']} after. CPU seconds, medians.",
        "",
    ]
    rows = [row(case) for case in report["cases"]]
    return "\n".join(lines) + "\n" + table(pd.DataFrame(rows).dropna(axis=1, how="all"))


def row(case: dict) -> dict:
    """A case as a row of a table."""
    shown = {"case": case["name"], "what": case["about"], "stock s": case["stock_s"], "fast s": case["fast_s"]}
    shown |= {"ratio": None if case["ratio"] is None else f"**{case['ratio']:.2f}**"}
    spread = "ratio_low" in case and case["repeats"] > 1
    shown |= {"over turns": f"{case['ratio_low']:.2f} to {case['ratio_high']:.2f}" if spread else None}
    shown |= {"turns": case["repeats"], "same result": "yes" if case["exact"] else "no"}
    return shown


def table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "–" if value != value else f"{value:.3g}"
        return "–" if value is None else str(value)

    lines = [
        frame.columns.tolist(),
        ["---"] * frame.shape[1],
        *([text(v) for v in line] for line in frame.values.tolist()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(page: Path = PAGE) -> None:
    """Put each section between its two marks; one whose file is missing stays as it is."""
    content = page.read_text(encoding="utf-8")
    files = {name: FOLDER / f"{name}.json" for name in (*BENCHMARKS, "gpu")} | {"growth": FOLDER / "growth.csv"}
    for name, file in files.items():
        if file.is_file() and not (name == "gpu" and is_dry_run(file)):
            marks = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
            content = re.sub(marks, lambda m, name=name: f"{m[1]}{section(name)}\n{m[2]}", content, flags=re.DOTALL)
    page.write_text(content, encoding="utf-8")


def is_dry_run(file: Path) -> bool:
    """Whether what calls itself a check of a GPU ran on a CPU."""
    return json.loads(file.read_text(encoding="utf-8"))["rows"][0]["status"] != "measured"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs="*", choices=BENCHMARKS, help="run these benchmarks first; all, if none")
    parser.add_argument("--repeats", type=int, help="for --measure: how often each case is measured")
    flags = parser.parse_args()
    if flags.measure is not None:
        measure(flags.measure or BENCHMARKS, flags.repeats)
    write_page()


if __name__ == "__main__":
    main()
