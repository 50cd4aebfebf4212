"""Loading: a question file as large as all of Med-R1's training data, and images that are all opened and checked.

The files are made up, of Med-R1's form and with problems of its length, in a temporary folder. There is nothing to
compare with: a loader that checks less is faster and is no alternative. ``exact`` says that every row came back as it
was written.
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.timing import alone, say, timed
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
        size = "512 x 512, half JPEG, half PNG"
        return [
            _case("load_questions", f"{rows:,} rows of JSON without images", questions, folder, repeats),
            _case("load_table", f"{rows:,} rows of CSV, the gold as text", questions, folder, repeats, csv=True),
            _case(
                "load_images",
                f"{images:,} rows, each with an image of {size}",
                pictured,
                folder,
                repeats,
                images=folder,
            ),
        ]


def _case(
    name: str, about: str, rows: list[dict], folder: Path, repeats: int, csv: bool = False, **arguments: Any
) -> dict:
    write = write_table if csv else write_questions
    path = write(rows, folder / f"{name}.{'csv' if csv else 'json'}")
    with contextlib.redirect_stdout(None):  # what was understood
        loaded, took = zip(*(timed(lambda: load_vqa(path, **arguments)) for _ in range(repeats)))
    same = all(_as_written(dataset, rows) for dataset in loaded)
    case = alone(name, took, exact=same, rows=len(rows), about=about)
    case["rows_per_s"] = round(len(rows) / case["fast_s"])
    case["about"] += f": {case['rows_per_s']:,} rows a second"
    say(f"{name}: {case['fast_s']:.3g} s")
    return case


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
