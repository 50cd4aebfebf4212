"""What training does to the built-in model: the runs behind `medr1kit/results/recorded/`.

    python -m benchmarks.tiny_results tune      # presets, on the validation split
    python -m benchmarks.tiny_results run       # every cell, on the test split; finished cells are skipped
    python -m benchmarks.tiny_results tables    # medr1kit/results/recorded/*.csv from the cells

A cell is one training: modality x format x method x seed. Every cell answers the same test questions, so before and
after are compared question by question. Seeds change the training images, the adapter's start and the sampling.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

import medr1kit as mk
from medr1kit.models.tiny.targets import WORDING
from medr1kit.results.rationales import rationale_truth

FOLDER = Path("runs/tiny-results")
RECORDED = Path(mk.__file__).parent / "results" / "recorded"
MODALITIES = ("CT", "OCT", "Dermoscopy")
FORMATS = ("think-before", "think-after", "no-think")
METHODS = ("sft", "grpo")
SEEDS = (0, 1, 2)
N_TRAIN = 960
N_TEST = 200  # questions a modality
TUNING = {  # four settings each, the same number of trials for both methods
    "sft": [{"learning_rate": rate, "merger": merger} for rate, merger in ((5e-4, 1), (1e-3, 1), (2e-3, 1), (1e-3, 0))],
    "grpo": [
        {"learning_rate": rate, "merger": merger} for rate, merger in ((5e-4, 1), (1e-3, 1), (2e-3, 1), (5e-4, 0))
    ],
}


def answer(model, processor, split: str, format: str, modality: str | None = None, *, scanner="A", images="right"):
    """Predictions on N_TEST questions a modality, with the scanner and the images shown as columns."""
    n = N_TEST if modality else N_TEST * len(mk.MODALITIES)
    questions = mk.load_vqa("phantoms", split=split, modality=modality, n=n, scanner=scanner)
    preds = mk.predict(model, processor, questions, format=format, images=images)
    facts = dict(zip(questions["id"], questions["n_facts"]))
    return preds.assign(scanner=scanner, images=images, n_facts=preds["id"].map(facts))


def train(modality: str, format: str, method: str, seed: int, folder: Path, **changes):
    """One training with the preset; returns the model, its processor and the seconds it took."""
    rows = mk.load_vqa("phantoms", split="train", modality=modality, n=N_TRAIN, seed=seed)
    model, processor = mk.load_model("tiny")
    train_it = mk.train_grpo if method == "grpo" else mk.train_sft
    if changes:
        changes = {"preset": mk.PRESETS["tiny"][method] | changes}
    started, cpu = time.perf_counter(), time.process_time()
    train_it(model, processor, rows, format=format, output_dir=folder, seed=seed, overwrite=True, **changes)
    return model, processor, time.perf_counter() - started, time.process_time() - cpu


def run_cell(cell: tuple[str, str, str, int]) -> str:
    """Train and test one cell, unless it is there already."""
    modality, format, *_ = cell
    folder = FOLDER / "-".join(map(str, cell))
    if (folder / "tested.parquet").exists():
        return f"{folder.name}: there"
    model, processor, seconds, cpu = train(*cell, folder)
    tables = [answer(model, processor, "test", format), answer(model, processor, "test", format, modality, scanner="B")]
    tables.append(answer(model, processor, "test", format, modality, images="shuffled"))
    preds = pd.concat(tables).assign(seconds=seconds, cpu_seconds=cpu)
    preds.to_parquet(folder / "tested.parquet", index=False)
    own = preds[(preds["modality"] == modality) & (preds["scanner"] == "A") & (preds["images"] == "right")]
    return f"{folder.name}: {own['correct'].mean():.3f}, {own['well_formed'].mean():.2f} well formed, {cpu:.0f} s"


def run_base(format: str) -> str:
    """Test the untrained model."""
    folder = FOLDER / f"base-{format}"
    if (folder / "tested.parquet").exists():
        return f"{folder.name}: there"
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = mk.load_model("tiny")
    settings = ({}, {"scanner": "B"}, {"images": "shuffled"}, {"images": "blank"})
    preds = pd.concat([answer(model, processor, "test", format, **setting) for setting in settings])
    preds.to_parquet(folder / "tested.parquet", index=False)
    return f"{folder.name}: {preds.loc[(preds.scanner == 'A') & (preds.images == 'right'), 'correct'].mean():.3f}"


def run_trial(trial: tuple[str, str, str, int]) -> dict:
    """Train with one setting of the tuning grid and test it on the validation split, unless that is done already."""
    modality, format, method, number = trial
    setting = TUNING[method][number]
    changes = {"learning_rate": setting["learning_rate"]}
    changes["lora"] = mk.PRESETS["tiny"][method]["lora"] | {"merger": bool(setting["merger"])}
    folder = FOLDER / "tuning" / "-".join(map(str, trial))
    if (folder / "trial.json").exists():
        return json.loads((folder / "trial.json").read_text())
    model, processor, _, cpu = train(modality, format, method, 0, folder, **changes)
    own = answer(model, processor, "val", format, modality)
    row = {"modality": modality, "format": format, "method": method, **setting, "cpu_seconds": round(cpu, 1)}
    row |= {"n": len(own), "accuracy": own["correct"].mean(), "well_formed": own["well_formed"].mean()}
    (folder / "trial.json").write_text(json.dumps(row))
    return row


def in_parallel(function, jobs: list, workers: int) -> list:
    """Run jobs in fresh processes of one thread each, and say when each is done."""
    os.environ |= {"OMP_NUM_THREADS": "1", "CI": "true"}  # one bar a worker would be a mess
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = []
        for result in pool.map(function, jobs):
            print(result, flush=True)
            results.append(result)
        return results


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
    """All predictions of all cells, base included (method "base")."""
    return pd.concat([pd.read_parquet(path) for path in sorted(FOLDER.glob("*/tested.parquet"))], ignore_index=True)


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
    RECORDED.mkdir(exist_ok=True)
    tables = {"gains": gains, "scanners": scanners, "binding": binding, "facts": facts, "base": base_by_task}
    tables |= {"rationales": truthfulness}
    for name, make in tables.items():
        make(preds).round(4).to_csv(RECORDED / f"{name}.csv", index=False)
    blind_floors().round(4).to_csv(RECORDED / "blind_floor.csv", index=False)
    runs = preds[preds["method"] != "base"].groupby(["train_modality", "format", "method", "seed"], sort=False)
    runs[["seconds", "cpu_seconds"]].first().round(1).reset_index().to_csv(RECORDED / "runs.csv", index=False)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("tune", "run", "tables"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "tune":
        trials = [
            (modality, format, method, number)
            for method in METHODS
            for number in range(len(TUNING[method]))
            for modality, format in itertools.product(("OCT", "CT"), ("think-before", "no-think"))
        ]
        table = pd.DataFrame(in_parallel(run_trial, trials, arguments.workers))
        RECORDED.mkdir(exist_ok=True)
        table.round(4).to_csv(RECORDED / "tuning.csv", index=False)
    elif arguments.what == "run":
        in_parallel(run_base, list(FORMATS), arguments.workers)
        cells = [(m, f, method, seed) for seed in SEEDS for f in FORMATS for m in MODALITIES for method in METHODS]
        in_parallel(run_cell, cells, arguments.workers)
    else:
        write_tables()


if __name__ == "__main__":
    main()
