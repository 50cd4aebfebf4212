"""How long does it take to load and validate a question file as large as all of Med-R1's training data?

Writes question files of Med-R1's form, and images, to a temporary folder, loads them with `medr1kit.load_vqa`, and
prints one line a case. Needs no download:

    python benchmarks/load.py [--rows 71000] [--images 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from medr1kit.data import load_vqa
from medr1kit.vqa import format_problem, format_solution

WORDS = ["liver", "T2, N0, M0", "stain (H&E)", "Computed tomography (CT)", "no.", "left upper lobe", "cyst", "kidney"]


def write_questions(path: Path, rows: int, images: list[str]) -> Path:
    """Write rows with two to four options, of the length that Med-R1's problems have (about 19 words)."""
    rng = random.Random(0)
    content = []
    for i in range(rows):
        options = rng.sample(WORDS, rng.choice([2, 4, 4, 4, 4]))
        question = f"Which of the following can be seen in image {i} of this examination?"
        problem = format_problem(question, options)
        solution = format_solution("ABCD"[rng.randrange(len(options))])
        content.append({"image": images[i % len(images)], "problem": problem, "solution": solution})
    path.write_text(json.dumps(content))
    return path


def draw_images(folder: Path, count: int, side: int = 512) -> list[str]:
    """Write noisy grey images, half JPEG and half PNG; return their paths below the folder."""
    noise = np.random.default_rng(0).integers(0, 256, (side, 2 * side), dtype=np.uint8)
    (folder / "Images" / "Noise").mkdir(parents=True)
    names = [f"Images/Noise/{i}.{'jpg' if i % 2 else 'png'}" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(noise[:, i % side : i % side + side]).save(folder / name)
    return names


def seconds(path: Path, **arguments) -> float:
    start = time.perf_counter()
    load_vqa(path, **arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=71_000)
    parser.add_argument("--images", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = write_questions(folder / "text.json", arguments.rows, [f"Images/Noise/{i}.png" for i in range(60_000)])
        print(f"{arguments.rows} rows of JSON, no images: {seconds(path):.1f} s")
        names = draw_images(folder, arguments.images)
        path = write_questions(folder / "images.json", arguments.images, names)
        took = seconds(path, images=folder)
        print(f"{arguments.images} rows, each with an image of 512 x 512 to check: {took:.1f} s")


if __name__ == "__main__":
    main()
