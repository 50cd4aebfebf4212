"""What a widget costs a classroom: seconds until it opens, seconds a click, memory; writes `speed/widgets.csv`.

    python -m benchmarks.widgets [--repeats 3] [--only inspect_two]     # about five minutes

Each widget is opened in a process of its own, as in the cold kernel of a student: pandas, IPython and the table are
loaded, the widget is not. *import* is what loading its modules and ipywidgets takes; *open* is making the panel with
its controls and its static page; *again* is the same once more in the warm process. A click calls the method behind a
control while the controls are there, so all that is sent to a browser is made; sending and drawing it is not in these
numbers. Memory is what the process grew by after the table was loaded, by import and by all that followed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.cases.timing import Seconds, load_average, say, timed
from medr1kit.formats import THINK_BEFORE

OUTPUT = Path(__file__).parent / "speed" / "widgets.csv"
ROWS = 20_000
STEPS, GROUPS, GROUP, LENGTH = 1_000, 4, 8, 2_000  # of the run: 32,000 completions of 2,000 characters
WORDS = [f"{a}{b}" for a in ("lesion", "ring", "dark", "liver", "fluid") for b in ("", "s", " of", " in", " and")]
IMAGES = 300
MB = 1e6


# --- what is opened ---------------------------------------------------------------------------------------------------


def answerers(count: int, rows: int = ROWS) -> pd.DataFrame:
    """Predictions of some answerers: the recorded ones, their questions repeated under new ids."""
    import medr1kit as mk

    known = mk.recorded("clinic/answers", asked="A", part=["", "machine", "task"])
    known = known[known["seed"].fillna(10).eq(10)].assign(seed=10)
    who = ["method", "format", "train_modality", "train_task"]
    kept = known[known.groupby(who, dropna=False, sort=False).ngroup() < count]
    each = rows // count
    copies = -(-each // kept["id"].nunique())
    table = pd.concat([kept.assign(id=kept["id"] + f"/{k}") for k in range(copies)], ignore_index=True)
    return table[table.groupby(who, dropna=False, sort=False).cumcount() < each].reset_index(drop=True)


def matrix() -> pd.DataFrame:
    """Predictions of models trained on one modality or task in two formats, and of the base: 18,400 rows."""
    import medr1kit as mk

    wanted = {"method": ["base", "grpo"], "format": ["no-think", "think-before"]}
    known = mk.recorded("clinic/answers", asked="A", part=["", "machine", "task"], **wanted)
    return known[known["seed"].fillna(10).eq(10)].reset_index(drop=True)


def images() -> Any:
    """Questions with an image each, of a few hundred image files."""
    from benchmarks.cases.load import draw_images, made_up, write_questions
    from medr1kit.data.load import load_vqa

    folder = Path("data")
    names = draw_images(folder, IMAGES) if not folder.exists() else None
    if names is not None:
        write_questions(made_up(ROWS, names), folder / "questions.json")
    return load_vqa(folder / "questions.json", images=folder, modality="CT")


def run() -> Path:
    """A finished run with long completions."""
    from medr1kit.results.runs import RunWriter

    path, columns = Path("run"), ["loss", "reward", "reward_std", "frac_reward_zero_std", "completions/mean_length"]
    if path.exists():
        return path
    rng = random.Random(0)
    with RunWriter(path, {"model": "tiny"}) as writer:
        for step in range(1, STEPS + 1):
            writer.metrics_row({"step": step} | {name: step / STEPS for name in columns})
            writer.rollout_rows([_rollout(step, number, rng) for number in range(GROUPS * GROUP)])
    return path


def _rollout(step: int, number: int, rng: random.Random) -> dict[str, Any]:
    """One completion of random words, so that a file does not shrink as real ones would not."""
    words = " ".join(rng.choices(WORDS, k=LENGTH // 10))[:LENGTH]
    asked = {"step": step, "id": f"CT-train-0-{(step + number // GROUP) % 50}", "rollout": number % GROUP}
    asked |= {"question": "What is shown?", "options": ["liver", "brain", "lung"], "answer": "B", "modality": "CT"}
    said = {"text": THINK_BEFORE.write("B", words), "predicted": "B", "n_tokens": 400, "truncated": False}
    return asked | {"task": "Anatomy Identification", "accuracy": 1.0, "advantage": 0.0} | said


def _inspector_clicks(panel: Any) -> dict[str, Callable[[], Any]]:
    kinds = cycle(["fixed", "broken", "all"])
    modalities = cycle(["CT", "MRI", "all"])
    texts = cycle(["ring", "liver", ""])
    return {
        "next": panel.next,
        "filter": lambda: panel.choose_kind(next(kinds)),
        "modality": lambda: panel.choose_modality(next(modalities)),
        "search": lambda: panel.search(next(texts)),
    }


def _data_clicks(panel: Any) -> dict[str, Callable[[], Any]]:
    texts = cycle(["liver", "cyst", ""])
    return {
        "next": panel.next_question,
        "page": lambda: panel.turn(1),
        "filter": lambda: panel.choose_modality("CT"),
        "search": lambda: panel.search(next(texts)),
    }


def _run_clicks(panel: Any) -> dict[str, Callable[[], Any]]:
    steps = cycle(range(1, STEPS, 7))
    return {"next": panel.next_group, "step": lambda: panel.go_to(next(steps))}


def _transfer_clicks(panel: Any) -> dict[str, Callable[[], Any]]:
    maps = cycle(range(len(panel.maps)))
    return {
        "next": panel.next_answer,
        "filter": lambda: panel.choose_kind("both wrong"),
        "cell": lambda: panel.move(1, 1),
        "map": lambda: panel.choose_map(next(maps)),
    }


def _lab_clicks(panel: Any) -> dict[str, Callable[[], Any]]:
    texts = cycle([f"<think>It is {n}.</think><answer>B</answer>" for n in range(CLICKS)])
    return {"type": lambda: panel.type(next(texts))}


CASES = {
    "inspect_two": ("2 answerers, 10,000 questions", lambda: answerers(2), "inspect_outputs", _inspector_clicks),
    "inspect_twenty": ("20 answerers, 1,000 questions", lambda: answerers(20), "inspect_outputs", _inspector_clicks),
    "transfer": ("18,400 predictions", matrix, "explore_transfer", _transfer_clicks),
    "data": (f"{ROWS:,} questions, {IMAGES} image files", images, "explore_data", _data_clicks),
    "run": (f"{STEPS * GROUPS * GROUP:,} completions of {LENGTH:,} characters", run, "explore_run", _run_clicks),
    "lab": ("nothing loaded", lambda: None, "reward_lab", _lab_clicks),
}
"""Name -> what it is, how it is loaded, the function that opens it, and its clicks."""
CLICKS = 12


# --- one widget in this process ---------------------------------------------------------------------------------------


def measure(name: str) -> dict[str, Any]:
    """Open a widget and use it; return seconds, and bytes the process grew by."""
    import IPython  # noqa: F401 - a kernel has it
    import pyarrow.parquet  # noqa: F401 - whoever loaded predictions has it

    import medr1kit as mk

    _, load, function, clicks_of = CASES[name]
    given = load()
    start = _resident()
    began = Seconds.now()
    import ipywidgets  # noqa: F401

    make = getattr(mk, function)
    imported = Seconds.now() - began
    after_import = _resident()
    panel, opened = timed(lambda: _open(make, given))
    after_open = _resident()
    found = {"import": imported, "open": opened}
    for click, act in clicks_of(panel).items():
        took = [timed(act)[1] for _ in range(CLICKS)]
        found[click] = Seconds(median(one.cpu for one in took), median(one.wall for one in took))
        found[f"{click}, slowest"] = Seconds(max(one.cpu for one in took), max(one.wall for one in took))
    after_clicks = _resident()
    panel.close()
    found["again"] = timed(lambda: _open(make, given))[1]
    pictures = getattr(panel, "pictures", None) or getattr(panel, "_pictures", None)
    return {
        "cpu": {key: one.cpu for key, one in found.items()},
        "wall": {key: one.wall for key, one in found.items()},
        "import_mb": (after_import - start) / MB,
        "open_mb": (after_open - after_import) / MB,
        "clicks_mb": (after_clicks - after_open) / MB,
        "thumbnails_kb": pictures.kept / 1e3 if pictures else 0.0,
        "table_mb": given.memory_usage(deep=True).sum() / MB if isinstance(given, pd.DataFrame) else None,
    }


def _open(make: Callable, given: Any) -> Any:
    panel = make() if given is None else make(given)
    panel._repr_mimebundle_()
    return panel


def _resident() -> int:
    """Bytes of memory that this process needs: what is free but kept in reserve is given back first, on Linux."""
    import ctypes

    import psutil
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


# --- all of them ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the command line, measure each widget in processes of its own and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="processes a widget; medians are written")
    parser.add_argument("--only", choices=CASES, help="one widget; nothing is written")
    parser.add_argument("--here", choices=CASES, help=argparse.SUPPRESS)  # what the processes are called with
    flags = parser.parse_args()
    if flags.here:
        print(json.dumps(measure(flags.here)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [flags.only] if flags.only else CASES:
            runs = [_in_a_process(name, folder) for _ in range(flags.repeats + 1)][1:]  # the first fills the disk cache
            rows.append(row(name, runs))
            say(pd.Series(rows[-1]).to_string() + "\n")
    frame = pd.DataFrame(rows)
    if not flags.only:
        frame.to_csv(OUTPUT, index=False)


def _in_a_process(name: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.widgets", "--here", name]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if result.returncode:
        raise RuntimeError(f"{name} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def row(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A widget as a row of the table: medians over its processes; CPU seconds, and wall seconds of import and open."""
    cpu = {key: median(one["cpu"][key] for one in runs) for key in runs[0]["cpu"]}
    wall = {key: median(one["wall"][key] for one in runs) for key in ("import", "open")}
    clicks = {key: cpu[key] for key in cpu if key not in ("import", "open", "again") and "slowest" not in key}
    found = {"widget": name, "about": CASES[name][0]}
    found |= {f"{key}_s": round(cpu[key], 3) for key in ("import", "open", "again")}
    found |= {f"{key}_wall_s": round(wall[key], 3) for key in wall}
    found["clicks_s"] = ", ".join(f"{key} {seconds:.3f}" for key, seconds in clicks.items())
    found["slowest_click_s"] = round(max(cpu[key] for key in cpu if "slowest" in key), 3)
    for key in ("import_mb", "open_mb", "clicks_mb", "thumbnails_kb", "table_mb"):
        known = [one[key] for one in runs if one[key] is not None]
        found[key] = round(median(known), 1) if known else None
    return found | {"repeats": len(runs), "load_average": load_average()}


if __name__ == "__main__":
    main()
