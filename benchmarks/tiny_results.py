"""What training does to the built-in model: the tables of `medr1kit/results/recorded/`, from a study.

    medr1kit study run studies/tiny.yaml            # every training, and its test; to runs/tiny
    python -m benchmarks.tiny_results probe         # its models on scanner B, on shuffled and on blank images
    python -m benchmarks.tiny_results tables        # medr1kit/results/recorded/*.csv from both
    python -m benchmarks.tiny_results tune          # apart: the presets, on the validation split

Every cell answers the same test questions, so before and after are compared question by question. Seeds change the
training images, the adapter's start and the sampling. What is finished is skipped.
"""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import pandas as pd
import yaml

import medr1kit as mk
from medr1kit.models.tiny.targets import WORDING
from medr1kit.progress import progress
from medr1kit.results.rationales import rationale_truth
from medr1kit.study.commands import command
from medr1kit.study.folder import cell_folder, read_record
from medr1kit.study.grid import METHODS as TRAINERS
from medr1kit.study.grid import Cell, read_study
from medr1kit.study.results import finished, read_predictions

STUDY = Path(__file__).resolve().parents[1] / "studies" / "tiny.yaml"
RUNS = Path("runs")
RECORDED = Path(mk.__file__).parent / "results" / "recorded"
MODALITIES = ("CT", "OCT", "Dermoscopy")
FORMATS = ("think-before", "think-after", "no-think")
METHODS = ("sft", "grpo")
N_TEST = 200  # questions a modality
PROBES = (("B", "right"), ("A", "shuffled"), ("A", "blank"))  # scanner and images; blank ones for the base alone
TUNING = {  # four settings each, the same number of trials for both methods: learning rate, whether the merger learns
    "sft": ((5e-4, True), (1e-3, True), (2e-3, True), (1e-3, False)),
    "grpo": ((5e-4, True), (1e-3, True), (2e-3, True), (5e-4, False)),
}


def tune() -> pd.DataFrame:
    """Train with each setting on two modalities, and test in domain on the validation split: a study a setting."""
    rows = []
    for number in range(4):
        chosen = {method: dict(zip(("learning_rate", "merger"), TUNING[method][number])) for method in METHODS}
        grid = yaml.safe_load(STUDY.read_text(encoding="utf-8")) | {"name": f"tiny-tuning-{number}", "seeds": [0]}
        grid |= {"test": grid["test"] | {"split": "val"}, "train_by": {"modality": ["OCT", "CT"]}}
        grid |= {"formats": ["think-before", "no-think"]}
        grid |= {"methods": {label: _settings(method, **chosen[method]) for label, (method, _) in TRAINERS.items()}}
        file = RUNS / f"{grid['name']}.yaml"
        RUNS.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
        root = RUNS / grid["name"]
        command(["run", str(file), "--output", str(root)])
        for cell in read_study(file).cells:
            if cell.method == "base":
                continue
            own = pd.read_parquet(cell_folder(root, cell) / "predictions.parquet").query("modality == @cell.trained_on")
            method = cell.definition["method"]
            row = {"modality": cell.trained_on, "format": cell.format, "method": method, **chosen[method]}
            row |= {"cpu_seconds": read_record(cell_folder(root, cell))["cpu_seconds"]["train"], "n": len(own)}
            rows.append(row | {"accuracy": own["correct"].mean(), "well_formed": own["well_formed"].mean()})
    return pd.DataFrame(rows).astype({"merger": int})


def _settings(method: str, learning_rate: float, merger: bool) -> dict:
    parts = {"merger": merger, "tower": False}  # the tower joined the preset after these trials
    return {"learning_rate": learning_rate, "lora": mk.PRESETS["tiny"][method]["lora"] | parts}


def probe(cell: Cell, folder: Path) -> None:
    """Ask a finished cell's model on scanner B and on wrong images: in its own modality, the base in all."""
    if (folder / "probes.parquet").exists():
        return
    model, processor = mk.load_model("tiny" if cell.method == "base" else folder)
    tables = []
    for scanner, images in PROBES if cell.method == "base" else PROBES[:2]:
        questions = _questions(cell.trained_on, scanner)
        preds = mk.predict(model, processor, questions, format=cell.format, images=images, labels=cell.labels)
        tables.append(preds.assign(scanner=scanner, images=images))
    pd.concat(tables).to_parquet(folder / "probes.parquet", index=False)


@lru_cache
def _questions(modality: str | None, scanner: str):
    n = N_TEST if modality else N_TEST * len(mk.MODALITIES)
    return mk.load_vqa("phantoms", split="test", modality=modality, n=n, scanner=scanner)


def change(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
    """Change in accuracy, averaged over seeds and paired by question, how it splits, and its spread over seeds."""
    whole = mk.compare(before, after)
    by_seed = [mk.compare(before, one).difference for _, one in after.groupby("seed")]
    lenient = [(frame["lenient_predicted"] == frame["answer"]).mean() for frame in (before, after)]
    names = ("accuracy_before", "accuracy_after", "difference", "low", "high", "low_seeds", "high_seeds")
    row = {"seeds": whole.seeds, "n": whole.n} | {name: getattr(whole, name) for name in names}
    row |= {"least_seed": min(by_seed), "most_seed": max(by_seed)}
    row |= {"repaired_format": whole.repaired_format, "changed_answer": whole.changed_answer}
    row |= {"lenient_difference": lenient[1] - lenient[0]}
    return row | {
        "well_formed_before": before["well_formed"].mean(),
        "well_formed_after": after["well_formed"].mean(),
    }


def read_all() -> pd.DataFrame:
    """All predictions of all cells, with the scanner and the images shown; SFT on the answer alone is "sft" here."""
    study, root = read_study(STUDY), RUNS / "tiny"
    probes = [pd.read_parquet(cell_folder(root, cell) / "probes.parquet") for cell in finished(study, root)]
    preds = pd.concat([read_predictions(study, root).assign(scanner="A", images="right"), *probes], ignore_index=True)
    questions = _questions(None, "A")
    facts = dict(zip(questions["id"], questions["n_facts"]))
    return preds.replace({"method": {"sft-answer": "sft"}}).assign(n_facts=preds["id"].map(facts))


def gains(preds: pd.DataFrame) -> pd.DataFrame:
    """In-domain, and on the other modalities with and without Modality Recognition, for every modality x format."""
    rows = []
    plain = preds[(preds["scanner"] == "A") & (preds["images"] == "right")]
    recognises = plain["task"] == "Modality Recognition"
    for trained_on, format, method in itertools.product(MODALITIES, FORMATS, METHODS):
        own = plain["modality"] == trained_on
        places = {"in domain": own, "in domain, other tasks than Modality Recognition": own & ~recognises}
        places |= {"elsewhere": ~own, "elsewhere, Modality Recognition": ~own & recognises}
        places |= {"elsewhere, other tasks": ~own & ~recognises}
        this = (plain["format"] == format) & (plain["method"] == method) & (plain["train_modality"] == trained_on)
        base = (plain["format"] == format) & (plain["method"] == "base")
        for place, rows_there in places.items():
            head = {"train_modality": trained_on, "format": format, "method": method, "tested": place}
            rows.append(head | change(plain[base & rows_there], plain[this & rows_there]))
    return pd.DataFrame(rows)


def scanners(preds: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on scanner A and scanner B, in domain, for base, SFT and GRPO."""
    right = preds[preds["images"] == "right"]
    rows = []
    for modality, format, method in itertools.product(MODALITIES, FORMATS, ("base", *METHODS)):
        some = right[(right["modality"] == modality) & (right["format"] == format) & (right["method"] == method)]
        some = some if method == "base" else some[some["train_modality"] == modality]
        table = mk.score(some, by="scanner", cluster="id").set_index("scanner")
        row = {"modality": modality, "format": format, "method": method, "n": some["id"].nunique() // 2}
        for name in ("A", "B"):
            row |= {f"{name}_{column}": table.loc[name, column] for column in ("accuracy", "low", "high")}
        rows.append(row)
    return pd.DataFrame(rows)


def binding(preds: pd.DataFrame) -> pd.DataFrame:
    """Right letters on true, shuffled and blank images: base on all modalities, trained models in domain."""
    rows = preds[preds["scanner"] == "A"]
    rows = rows[(rows["method"] == "base") | (rows["modality"] == rows["train_modality"])]
    first = {"think-before": "option word", "think-after": "letter", "no-think": "letter"}
    rows = rows.assign(written_first=rows["format"].map(first), train_modality=rows["train_modality"].fillna("none"))
    keys = ["method", "train_modality", "format", "written_first", "images"]
    return mk.score(rows, by=keys, cluster="id").drop(columns="mean_tokens")


def facts(preds: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by the number of visual facts that a question combines, in domain (base: the same modalities)."""
    rows = preds[(preds["scanner"] == "A") & (preds["images"] == "right") & preds["modality"].isin(MODALITIES)]
    rows = rows[(rows["method"] == "base") | (rows["modality"] == rows["train_modality"])]
    return mk.score(rows, by=["method", "format", "n_facts"], cluster="id")


def base_by_task(preds: pd.DataFrame) -> pd.DataFrame:
    """The untrained model, by format and task."""
    base = preds[(preds["method"] == "base") & (preds["scanner"] == "A") & (preds["images"] == "right")]
    whole = mk.score(base, by="format").query("format != 'all'").assign(task="all")
    return pd.concat([mk.score(base, by=["format", "task"]), whole], ignore_index=True)


def truthfulness(preds: pd.DataFrame) -> pd.DataFrame:
    """How true and how relevant the rationales are, in domain, on the questions whose rationale the base closes.

    Apart by wording: in all but the first one the base concludes "A" and answers A by habit, which is no agreement.
    """
    rows = preds[(preds["scanner"] == "A") & (preds["images"] == "right") & (preds["format"] != "no-think")]
    rows = rows[rows["modality"].isin(MODALITIES)]
    rows = rows[(rows["method"] == "base") | (rows["modality"] == rows["train_modality"])]
    closed = rows[(rows["method"] == "base") & rows["think"].notna()]
    rows = rows.merge(closed[["id", "format"]], on=["id", "format"])
    rows = rows.assign(first_wording=rows["question"].map(WORDING) == 0)
    return rationale_truth(rows, by=["method", "format", "first_wording"])


def blind_floors() -> pd.DataFrame:
    """The lookup of option texts over the pooled modalities, with the same shortcut in training and test questions."""
    rows = []
    for strength in (0.0, 0.5, 1.0):
        train, test = (
            mk.load_vqa("phantoms", split=split, n=n, size=28, shortcut=strength)
            for split, n in (("train", 8000), ("test", 4000))
        )
        floor = mk.blind_floor(train, test)
        row = {"shortcut": strength, "n_train": len(train), "n_test": floor.n, "accuracy": floor.accuracy}
        rows.append(row | {"low": floor.low, "high": floor.high, "chance": floor.chance})
    return pd.DataFrame(rows)


def write_tables() -> None:
    """Compute every table and write it to medr1kit/results/recorded/."""
    preds = read_all()
    tables = {"gains": gains, "scanners": scanners, "binding": binding, "facts": facts, "base": base_by_task}
    tables |= {"rationales": truthfulness}
    for name, make in tables.items():
        make(preds).round(4).to_csv(RECORDED / f"{name}.csv", index=False)
    blind_floors().round(4).to_csv(RECORDED / "blind_floor.csv", index=False)
    runs = pd.read_csv(RUNS / "tiny" / "tables" / "runs.csv").query("method != 'base'")
    runs = runs.replace({"method": {"sft-answer": "sft"}}).astype({"seed": int})
    runs = runs.rename(columns={"train_seconds": "seconds", "train_cpu_seconds": "cpu_seconds"})
    columns = ["train_modality", "format", "method", "seed", "seconds", "cpu_seconds"]
    runs[columns].sort_values(columns[:4]).to_csv(RECORDED / "runs.csv", index=False)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("probe", "tables", "tune"))
    what = parser.parse_args().what
    if what == "tune":
        tune().round(4).to_csv(RECORDED / "tuning.csv", index=False)
    elif what == "probe":
        for cell in progress(finished(read_study(STUDY), RUNS / "tiny"), "probing", unit="cell", delay=0):
            probe(cell, cell_folder(RUNS / "tiny", cell))
    else:
        write_tables()


if __name__ == "__main__":
    main()
