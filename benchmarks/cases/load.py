"""Loading: a question file as large as all of Med-R1's training data, and images that are all opened and checked.

The files are made up, of Med-R1's form and with problems of its length, in a temporary folder. There is nothing to
compare with: a loader that checks less is faster and is no alternative. Only the same questions as JSON and as a table
are held against each other, in turns. ``exact`` says that every row came back as it was written.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases.timing import Seconds, alone, say, timed
from medr1kit.data.load import load_vqa
from medr1kit.vqa import LETTERS, format_problem, format_solution, parse_problem, parse_solution

REPEATS = 3
ROWS = 71_000  # Med-R1's training rows of all modalities
IMAGES = 2_000
WORDS = ("liver", "T2, N0, M0", "stain (H&E)", "Computed tomography (CT)", "no.", "left upper lobe", "cyst", "kidney")


def measure_all(repeats: int, *, rows: int | None = None, images: int | None = None) -> list[dict]:
    """Return the cases ``load_questions``, ``load_table`` and ``load_images``.

    Args:
        repeats: how often each is measured.
        rows: questions without images; None for ROWS.
        images: questions with an image each; None for IMAGES.
    """
    rows, images = rows or ROWS, images or IMAGES
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        questions = made_up(rows, [f"Images/Noise/{i}.png" for i in range(max(1, rows * 6 // 7))])
        pictured = made_up(images, draw_images(folder, images))
        as_json = Load("load_questions", f"{rows:,} rows of JSON without images", questions, write_questions)
        as_table = Load("load_table", f"{rows:,} rows of CSV, the gold as text", questions, write_table)
        size = "512 x 512, half JPEG, half PNG"
        with_images = Load("load_images", f"{images:,} rows, each with an image of {size}", pictured, write_questions)
        found = [*_in_turns([as_json, as_table], folder, repeats), *_in_turns([with_images], folder, repeats, folder)]
    _hold_against(found[1], found[0])
    return found


@dataclass
class Load:
    """Rows that are written to a file and loaded, and what that took."""

    name: str
    about: str
    rows: list[dict]
    write: Callable[[list[dict], Path], Path]
    took: list[Seconds] = field(default_factory=list)
    exact: bool = True


def _in_turns(loads: list[Load], folder: Path, repeats: int, images: Path | None = None) -> list[dict]:
    """Load the files in turns, who begins alternating, and return a case of each."""
    files = [load.write(load.rows, folder / load.name) for load in loads]
    for turn in range(repeats):
        for load, file in list(zip(loads, files))[:: 1 if turn % 2 == 0 else -1]:
            with contextlib.redirect_stdout(None):  # what was understood
                loaded, took = timed(lambda file=file: load_vqa(file, images=images))
            load.took.append(took)
            load.exact &= _as_written(loaded, load.rows)
    return [_case(load) for load in loads]


def _case(load: Load) -> dict:
    case = alone(load.name, load.took, exact=load.exact, rows=len(load.rows), about=load.about)
    case["rows_per_s"] = round(len(load.rows) / case["fast_s"])
    case["about"] += f": {case['rows_per_s']:,} rows a second"
    case["turns_s"] = [round(one.cpu, 4) for one in load.took]
    say(f"{load.name}: {case['fast_s']:.3g} s")
    return case


def _hold_against(table: dict, other: dict) -> None:
    """Add to a case how many times another's CPU seconds it took, the median and the range over turns."""
    ratios = [ours / theirs for ours, theirs in zip(table["turns_s"], other["turns_s"])]
    table["times_json"] = [round(number, 2) for number in (median(ratios), min(ratios), max(ratios))]
    table["about"] += ", {:.2f} times the seconds of JSON in the same turn ({:.2f} to {:.2f})".format(
        *table["times_json"]
    )


def _as_written(dataset: Any, rows: list[dict]) -> bool:
    columns = {"image_id": "image", "problem": "problem", "solution": "solution"}
    return all(list(dataset[ours]) == [row[theirs] for row in rows] for ours, theirs in columns.items())


def made_up(rows: int, images: Sequence[str], seed: int = 0) -> list[dict]:
    """Return rows of Med-R1's form with two to four options; the images are taken in turn."""
    rng = random.Random(seed)
    content = []
    for i in range(rows):
        options = rng.sample(WORDS, rng.choice([2, 4, 4, 4, 4]))
        problem = format_problem(f"Which of the following can be seen in image {i} of this examination?", options)
        solution = format_solution("ABCD"[rng.randrange(len(options))])
        content.append({"image": images[i % len(images)], "problem": problem, "solution": solution})
    return content


def write_questions(rows: list[dict], path: Path) -> Path:
    """Write rows as one JSON array and return the path."""
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_table(rows: list[dict], path: Path) -> Path:
    """Write the same rows as a spreadsheet has them, a column an option, and return the path."""
    import pandas as pd

    lines = []
    for row in rows:
        question, options = parse_problem(row["problem"])
        gold = options[LETTERS.index(parse_solution(row["solution"]))]
        cells = {f"option {i + 1}": text for i, text in enumerate(options)}
        lines.append({"image": row["image"], "question": question, **cells, "answer": gold})
    path = path.with_suffix(".csv")
    pd.DataFrame(lines).to_csv(path, sep=";", index=False)
    return path


def draw_images(folder: Path, count: int, side: int = 512) -> list[str]:
    """Write noisy grey images, half JPEG and half PNG; return their paths below the folder."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (side, 2 * side), dtype=np.uint8)
    (folder / "Images" / "Noise").mkdir(parents=True)
    names = [f"Images/Noise/{i}.{'jpg' if i % 2 else 'png'}" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(noise[:, i % side : i % side + side]).save(folder / name)
    return names
