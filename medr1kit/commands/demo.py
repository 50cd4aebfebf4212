"""The demo: the whole of Med-R1 in a few minutes of a laptop.

The built-in model is asked about drawn images of eight modalities, then trained on one of them, once on gold
completions (SFT) and once by reinforcement (GRPO), and asked again. What is left behind is what any study leaves: two
runs, a predictions table, curves, a transfer heat map and a short report with intervals.
"""

from __future__ import annotations

import base64
import html
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from medr1kit.audits import blind_floor
from medr1kit.data.load import load_vqa
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.models.load import load_model
from medr1kit.models.predict import predict
from medr1kit.results.compare import compare, transfer_table
from medr1kit.results.runs import Run
from medr1kit.results.tables import score
from medr1kit.training.train import train_grpo, train_sft
from medr1kit.views.plots.bars import plot_accuracy
from medr1kit.views.plots.curves import plot_lengths, plot_rewards
from medr1kit.views.plots.heatmaps import plot_transfer
from medr1kit.vqa import modality_name

TRAIN_QUESTIONS = 480
_HEAD = """<!doctype html><html lang=en><meta charset=utf-8><title>medr1kit demo</title>
<style>body{font:16px sans-serif;max-width:60em;margin:2em auto} td,th{padding:.2em .6em;text-align:right}
img{max-width:100%}</style>
"""


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
        output_dir: gets ``sft/``, ``grpo/``, figures, predictions.parquet and the report.
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
    figures = _figures(folder, preds, runs)
    seconds = time.perf_counter() - started
    report = _report(preds, blind_floor(train, test), modality, format, seconds)
    path = _write(folder, report, figures)
    print(f"done in {seconds:.0f} s: {path}")
    return path


def _figures(folder: Path, preds: pd.DataFrame, runs: dict[str, Run]) -> dict[str, str]:
    """Draw and save the figures; return file name -> caption."""
    captions = {
        "transfer.png": "Change in accuracy (points) on each modality; hatched cells do not survive correction.",
        "accuracy.png": "Accuracy before and after, with 95 % intervals.",
        "rewards.png": "Rewards while GRPO was training.",
        "lengths.png": "Completion lengths while GRPO was training, in tokens.",
    }
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
    return captions


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _report(
    preds, floor, modality: str, format: ResponseFormat, seconds: float
) -> list[tuple[str, str | pd.DataFrame]]:
    """The report as headed paragraphs and tables."""
    before = preds[preds["method"] == "base"]
    rows, sentences = [], []
    for method in ("sft", "grpo"):
        after = preds[preds["method"] == method]
        for place, inside in (("in-domain", True), ("other modalities", False)):
            pair = [frame[(frame["modality"] == modality) == inside] for frame in (before, after)]
            change = compare(*pair)
            rows.append({"method": method, "tested on": place, **change.frame.iloc[0].to_dict()})
            points = f"{100 * change.difference:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            sentences.append(f"{method.upper()}, {place}: {points} on {change.n} questions.")
    setting = (
        f"The built-in tiny model was trained on {modality} phantoms in the {format.name} format and asked "
        f"{len(before)} questions about all eight modalities, before and after. One seed: the intervals cover the "
        f"choice of questions, not the luck of a training. Everything took {seconds:.0f} s."
    )
    blind = (
        f"A lookup of option texts learnt on the training questions, which sees no image, gets {floor.accuracy:.1%} "
        f"[{floor.low:.1%}, {floor.high:.1%}] of the test questions; chance is {floor.chance:.1%}."
    )
    return [
        ("What was done", setting),
        ("What changed", " ".join(sentences)),
        ("The floor", blind),
        ("Accuracy by method", score(preds, by=["method"])),
        ("Accuracy by modality", score(preds, by=["method", "modality"])),
        ("Paired changes", pd.DataFrame(rows)),
    ]


def _write(folder: Path, report: list[tuple[str, str | pd.DataFrame]], figures: dict[str, str]) -> Path:
    """Write report.md, and report.html with the figures inside."""
    markdown, page = ["# medr1kit demo\n"], ["<h1>medr1kit demo</h1>"]
    for heading, content in report:
        markdown.append(f"## {heading}\n")
        page.append(f"<h2>{html.escape(heading)}</h2>")
        if isinstance(content, str):
            markdown.append(content + "\n")
            page.append(f"<p>{html.escape(content)}</p>")
        else:
            rounded = content.round(3)
            markdown.append(f"```\n{rounded.to_string(index=False)}\n```\n")
            page.append(rounded.to_html(index=False, border=0))
    for name, caption in figures.items():
        markdown.append(f"![{caption}]({name})\n\n{caption}\n")
        picture = base64.b64encode((folder / name).read_bytes()).decode()
        image = f'<img alt="" src="data:image/png;base64,{picture}">'
        page.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    markdown.append("Drawn images, a toy model: for teaching. Not for clinical use.\n")
    (folder / "report.md").write_text("\n".join(markdown), encoding="utf-8")
    (folder / "report.html").write_text(_HEAD + "\n".join(page) + "</html>\n", encoding="utf-8")
    return folder / "report.html"
