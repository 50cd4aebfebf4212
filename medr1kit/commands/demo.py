"""The demo: the whole of Med-R1 in three to five minutes of a laptop.

The built-in model has only ever seen pictures of scanner A. It is asked about pictures of scanner B, eight modalities,
then trained on one of them, once on gold completions (SFT) and once by reinforcement (GRPO), and asked again. What it
gains there it knew before, on the other machine: *recovery, not new knowledge*. So three controls stand beside the
gains: the pictures corrected by arithmetic, without any training; shuffled pictures; and no question whose answer is
the same all over a modality. What is left behind is what any study leaves: two runs, a predictions table, figures, and
the report that ``medr1kit report`` writes of them. Its first view, what GRPO did, is also what the terminal ends with.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

from medr1kit.audits import blind_floor
from medr1kit.data.load import load_vqa
from medr1kit.data.phantoms.scanner import undo_scanner
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import path_given, whole_number
from medr1kit.models.load import load_model
from medr1kit.models.predict import predict
from medr1kit.progress import no_bars_of_datasets
from medr1kit.results.compare import transfer_table
from medr1kit.results.folders import check_folder
from medr1kit.results.numbers import percent
from medr1kit.results.runs import Run, load_run, replace_file
from medr1kit.results.tables import score
from medr1kit.training.train import train_grpo, train_sft
from medr1kit.views.page import READ_IT_SO, report_file, write_report
from medr1kit.views.page.story import CONSTANT, story_of, story_text
from medr1kit.views.plots.bars import plot_accuracy
from medr1kit.views.plots.curves import plot_lengths, plot_rewards
from medr1kit.views.plots.heatmaps import plot_transfer
from medr1kit.vqa import DataError, modality_name

if TYPE_CHECKING:
    from datasets import Dataset

SCANNER = "B"
METHODS = {"sft": (train_sft, 16), "grpo": (train_grpo, 8)}  # and questions a step of the preset
_SHUFFLED, _UNDONE = ", beside shuffled pictures", "untrained, pictures corrected by arithmetic"
FIGURES = ("transfer.png", "accuracy.png", "rewards.png", "lengths.png")


def run_demo(
    output_dir: str | Path = "runs/demo",
    modality: str = "OCT",
    format: str | ResponseFormat = "think-before",
    max_steps: int = 250,
    n: int = 960,
    seed: int = 0,
) -> Path:
    """Train the tiny model on one modality of scanner B with SFT and GRPO, test on all eight, and write a report.

    Args:
        output_dir: gets ``sft/``, ``grpo/``, figures, predictions.parquet, provenance.json and the report.
        modality: the modality to train on.
        format: the response format, or its name.
        max_steps: steps of GRPO, 8 questions each; SFT sees the same questions, each once, too, 16 a step.
        n: test questions, over all eight modalities of scanner B.
        seed: for the training data, adapters and sampling; the test questions are the same for every seed.

    Returns:
        Path of the HTML report.

    Raises:
        DataError: if ``n`` is below 16, or a name is unknown.
    """
    if n < 16:
        raise DataError(f"n={n}: too few test questions for eight modalities; ask 16 or more")
    whole_number(max_steps, "max_steps")
    folder, format, modality = path_given(output_dir, "output_dir"), format_named(format), modality_name(modality)
    _check_folder(folder)  # not after minutes of training
    started = time.perf_counter()
    questions = METHODS["grpo"][1] * max_steps
    train = load_vqa("phantoms", split="train", modality=modality, n=questions, seed=seed, scanner=SCANNER)
    test = load_vqa("phantoms", split="test", n=n, scanner=SCANNER)
    home = _home(test, modality)

    model, processor = load_model("tiny")
    print(f"1/4  asking the untrained model {len(test)} questions about scanner {SCANNER}, which it has never seen")
    tables = [predict(model, processor, test, format=format)]
    at_home = _at_home("untrained", tables[0], model, processor, home, format)
    at_home[_UNDONE] = _right(predict(model, processor, _undone(home), format=format))
    runs = {}
    for step, (name, (method, size)) in enumerate(METHODS.items(), 2):
        print(f"{step}/4  {name.upper()} on {len(train)} {modality} questions of scanner {SCANNER}, then asking again")
        model, processor = load_model("tiny")
        settings = {"format": format, "output_dir": folder / name, "seed": seed, "max_steps": -(-len(train) // size)}
        runs[name] = method(model, processor, train, **settings, overwrite=True)
        tables.append(predict(model, processor, test, format=format, output=folder / name / "predictions.parquet"))
        at_home |= _at_home(name.upper(), tables[-1], model, processor, home, format)
    preds = pd.concat(tables, ignore_index=True)
    replace_file(folder / "predictions.parquet", preds.to_parquet(index=False))
    print("4/4  writing figures and report")
    _write_figures(folder, preds, runs)
    known = _known(modality, format, seed, runs, at_home, train, test)
    known["wall clock"] = f"{time.perf_counter() - started:.0f} s for everything but this page"
    replace_file(folder / "provenance.json", json.dumps(known, indent=2) + "\n")
    path = write_report(folder)
    print(f"\n{story_text(story_of(preds, load_run(folder / 'grpo')), known[READ_IT_SO])}")
    print(f"done in {time.perf_counter() - started:.0f} s; the same and more: {path}")
    return path


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds what is not of a demo, and mark it as a demo's."""
    for name in METHODS:
        check_folder(folder / name, overwrite=True)
    mark = folder / "provenance.json"
    try:
        ours = json.loads(mark.read_text(encoding="utf-8")).get("study") == "demo"
    except (OSError, ValueError, AttributeError):
        ours = False
    there = [folder / name for name in (mark.name, "predictions.parquet", *FIGURES) if (folder / name).exists()]
    if there and not ours:
        raise DataError(f"{there[0]} was not written by a demo, which would replace it; choose another --output_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report_file(folder / "report.html")
        if not ours:
            replace_file(mark, json.dumps({"study": "demo"}) + "\n")
    except OSError as error:
        raise DataError(f"{str(folder)!r} cannot be written ({error.strerror}); choose another --output_dir") from error


# --- controls ---------------------------------------------------------------------------------------------------------


def _home(test: Dataset, modality: str) -> Dataset:
    """The questions about what is trained on whose answer is not the same for all pictures."""
    asked = zip(test["modality"], test["task"])
    return test.select([i for i, (about, task) in enumerate(asked) if about == modality and task != CONSTANT])


def _undone(home: Dataset) -> Dataset:
    """The same questions beside pictures whose contrast and magnification are scanner A's again."""
    with no_bars_of_datasets():
        return home.map(lambda row: {"image": undo_scanner(row["image"], SCANNER)}, features=home.features)


def _at_home(
    name: str, preds: pd.DataFrame, model, processor, home: Dataset, format: ResponseFormat
) -> dict[str, pd.Series]:
    """The scores of a model on the questions at home, beside their own and beside other patients' pictures."""
    shuffled = predict(model, processor, home, format=format, images="shuffled")
    return {name: _right(preds[preds["id"].isin(home["id"])]), f"{name}{_SHUFFLED}": _right(shuffled)}


def _right(preds: pd.DataFrame) -> pd.Series:
    return score(preds, by=None).iloc[0]


# --- what is written --------------------------------------------------------------------------------------------------


def _known(
    modality: str, format: ResponseFormat, seed: int, runs: dict[str, Run], at_home: dict[str, pd.Series], train, test
) -> dict:
    """What the report says of the demo, in its own words."""
    trained_on = f"{modality} of scanner {SCANNER}"
    settings = {"model": "tiny", "methods": list(runs), "formats": [format.name], "trained on": trained_on}
    settings |= {"training questions": len(train), "steps": {name: len(run.metrics) for name, run in runs.items()}}
    known = {"study": "demo", "title": "medr1kit demo", "settings": settings, "seeds": [seed]}
    known["blind floor"] = _floor(train, test)
    right = {name: percent(row["accuracy"]) for name, row in at_home.items()}
    known[READ_IT_SO] = (
        f"This is recovery, not new knowledge: before this training the model had never seen {trained_on}, but it "
        f"knew {modality} of another machine. Without training, with the scanner's contrast and magnification undone "
        f"by arithmetic, {right[_UNDONE]} are right; after SFT on the same questions {right['SFT']}; after GRPO, with "
        f"another picture beside each question, {right['GRPO' + _SHUFFLED]}."
    )
    told = {name: percent(row["accuracy"], row["low"], row["high"]) for name, row in at_home.items()}
    return known | {f"right at home, without {CONSTANT}": told}


def _write_figures(folder: Path, preds: pd.DataFrame, runs: dict[str, Run]) -> None:
    figure, axes = plt.subplots(2, 1, figsize=(8, 4), layout="constrained")
    table = transfer_table(preds)
    for ax, method in zip(axes, ("sft", "grpo")):
        plot_transfer(table[table["method"] == method], ax=ax).set_title(method.upper())
    axes[0].tick_params(labelbottom=False)  # both have the same columns
    axes[0].set_xlabel("")
    _save(figure, folder / "transfer.png")
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    plot_accuracy(score(preds, by=["modality", "method"]), ax=ax)
    _save(figure, folder / "accuracy.png")
    for name, plot in (("rewards.png", plot_rewards), ("lengths.png", plot_lengths)):
        figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
        plot(runs["grpo"].metrics, ax=ax)
        _save(figure, folder / name)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=200)  # two pixels a point
    plt.close(figure)


def _floor(train, test) -> str:
    floor = blind_floor(train, test)
    return (
        f"A lookup of option texts learned from the training questions, which sees no image, gets "
        f"{percent(floor.accuracy, floor.low, floor.high)} of the test questions; chance is {percent(floor.chance)}."
    )
