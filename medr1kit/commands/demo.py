"""The demo: the whole of Med-R1 in a few minutes of a laptop.

The built-in model is asked about drawn images of eight modalities, then trained on one of them, once on gold
completions (SFT) and once by reinforcement (GRPO), and asked again. What is left behind is what any study leaves: two
runs, a predictions table, figures, and the report that ``medr1kit report`` writes of them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from medr1kit.audits import blind_floor
from medr1kit.data.load import load_vqa
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.models.load import load_model
from medr1kit.models.predict import predict
from medr1kit.results.compare import transfer_table
from medr1kit.results.runs import Run, replace_file
from medr1kit.results.tables import score
from medr1kit.training.train import train_grpo, train_sft
from medr1kit.views.page import check_output, write_report
from medr1kit.views.plots.bars import plot_accuracy
from medr1kit.views.plots.curves import plot_lengths, plot_rewards
from medr1kit.views.plots.heatmaps import plot_transfer
from medr1kit.vqa import modality_name

TRAIN_QUESTIONS = 480


def run_demo(
    output_dir: str | Path = "runs/demo",
    modality: str = "OCT",
    format: str | ResponseFormat = "think-before",
    max_steps: int = 60,
    n: int = 640,
    seed: int = 0,
) -> Path:
    """Train the tiny model on one modality with SFT and GRPO, test on all eight, and write a report.

    Args:
        output_dir: gets ``sft/``, ``grpo/``, figures, predictions.parquet, provenance.json and the report.
        modality: the modality to train on.
        format: the response format, or its name.
        max_steps: steps of either training.
        n: test questions, over all eight modalities.
        seed: for the training data, adapters and sampling; the test questions are the same for every seed.

    Returns:
        Path of the HTML report.
    """
    folder, format, modality = Path(output_dir), format_named(format), modality_name(modality)
    folder.mkdir(parents=True, exist_ok=True)
    check_output(folder / "report.html")  # not after minutes of training
    started = time.perf_counter()
    train = load_vqa("phantoms", split="train", modality=modality, n=TRAIN_QUESTIONS, seed=seed)
    test = load_vqa("phantoms", split="test", n=n)

    model, processor = load_model("tiny")
    print(f"1/4  asking the untrained model {len(test)} questions")
    tables = [predict(model, processor, test, format=format)]
    runs = {}
    for step, (name, method) in enumerate({"sft": train_sft, "grpo": train_grpo}.items()):
        print(f"{2 + step}/4  {name.upper()} on {len(train)} {modality} questions, then asking again")
        model, processor = load_model("tiny")
        settings = {"format": format, "output_dir": folder / name, "seed": seed, "max_steps": max_steps}
        runs[name] = method(model, processor, train, **settings, overwrite=True)
        tables.append(predict(model, processor, test, format=format, output=folder / name / "predictions.parquet"))
    preds = pd.concat(tables, ignore_index=True)
    preds.to_parquet(folder / "predictions.parquet", index=False)
    print("4/4  writing figures and report")
    _write_figures(folder, preds, runs)
    settings = {"model": "tiny", "methods": list(runs), "formats": [format.name], "trained on": modality}
    settings |= {"training questions": len(train), "steps of either training": max_steps}
    known = {"study": "demo", "settings": settings, "seeds": [seed], "blind floor": _floor(train, test)}
    known["wall clock"] = f"{time.perf_counter() - started:.0f} s for everything but this page"
    replace_file(folder / "provenance.json", json.dumps(known, indent=2) + "\n")
    path = write_report(folder)
    print(f"done in {time.perf_counter() - started:.0f} s: {path}")
    return path


def _write_figures(folder: Path, preds: pd.DataFrame, runs: dict[str, Run]) -> None:
    figure, axes = plt.subplots(2, 1, figsize=(8, 4), layout="constrained")
    table = transfer_table(preds)
    for ax, method in zip(axes, ("sft", "grpo")):
        plot_transfer(table[table["method"] == method], ax=ax).set_title(method.upper())
    _save(figure, folder / "transfer.png")
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    plot_accuracy(score(preds, by=["modality", "method"]), ax=ax)
    _save(figure, folder / "accuracy.png")
    for name, plot in (("rewards.png", plot_rewards), ("lengths.png", plot_lengths)):
        figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
        plot(runs["grpo"].metrics, ax=ax)
        _save(figure, folder / name)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _floor(train, test) -> str:
    floor = blind_floor(train, test)
    return (
        f"A lookup of option texts learnt on the training questions, which sees no image, gets {floor.accuracy:.1%} "
        f"[{floor.low:.1%}, {floor.high:.1%}] of the test questions; chance is {floor.chance:.1%}."
    )
