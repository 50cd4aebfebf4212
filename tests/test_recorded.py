"""Recorded tables: complete, consistent, and what the texts say about them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import medr1kit
from benchmarks.worlds.cells import ASKED, cells
from medr1kit.results.compare import transfer_table
from medr1kit.results.kept import recorded
from medr1kit.results.stats import pooled_difference
from medr1kit.results.tables import PREDICTIONS, check_predictions
from medr1kit.vqa import MODALITIES, DataError

RECORDED = Path(medr1kit.__file__).parent / "results" / "recorded"


def listed(folder):
    """The files of a folder that the README's tables have a line for."""
    lines = (RECORDED / "README.md").read_text().splitlines()
    names = [Path(line.split("`")[1]) for line in lines if line.startswith("| `")]
    return sorted(path.name for path in names if path.parent == Path(folder))


def test_the_readme_lists_exactly_the_tables_that_are_there():
    assert listed(".") == [path.name for path in sorted(RECORDED.glob("*.csv"))]


# --- the two worlds ---------------------------------------------------------------------------------------------------

needs_worlds = pytest.mark.skipif(not (RECORDED / "worlds").is_dir(), reason="both worlds are still being recorded")


@needs_worlds
def test_the_readme_lists_exactly_the_tables_of_both_worlds():
    assert listed("worlds") == [path.name for path in sorted((RECORDED / "worlds").glob("*.csv"))]


@needs_worlds
def test_every_training_of_both_worlds_is_there():
    runs = recorded("worlds/runs")[["group", "train_modality", "format", "method", "seed"]]
    trained = [cell for cell in cells() if cell.method != "base"]
    wanted = {(c.definition["group"], c.trained_on, c.format, c.method, c.seed) for c in trained}
    assert len(runs) == len(trained) and set(runs.itertuples(index=False, name=None)) == wanted


@needs_worlds
def test_a_change_is_what_stands_before_and_after():
    frame = recorded("worlds/changes")
    change = frame["accuracy_after"] - frame["accuracy_before"]
    assert (frame["difference"] - change).abs().max() < 2e-4
    assert (frame["low"] <= frame["difference"]).all() and (frame["difference"] <= frame["high"]).all()
    frame = recorded("worlds/links")
    assert (frame["difference"] - (frame["gap_after"] - frame["gap_before"])).abs().max() < 2e-4


@needs_worlds
def test_the_model_card_says_what_the_table_of_the_base_says():
    """Other questions of the same kind, 2,400 there and hundreds here: they agree within three errors."""
    card = (Path(medr1kit.__file__).parent / "models" / "tiny" / "checkpoint" / "README.md").read_text()
    base = recorded("worlds/base").query("task == 'all' and images == 'right'").set_index(["asked", "format"])
    for scanner in "AB":
        for name in ASKED:
            row = next(line for line in card.splitlines() if line.startswith(f"| {scanner} | {name} |"))
            here = base.loc[(f"{scanner} away", name)]
            assert abs(float(row.split("|")[3]) - here["accuracy"]) < 3 * (0.25 / here["n"] + 0.25 / 1600) ** 0.5


def interval(row):
    """A gain in points with its interval, over seeds where there are several, as the README writes it."""
    low, high = ("low", "high") if pd.isna(row["low_seeds"]) else ("low_seeds", "high_seeds")
    return [100 * row[name] for name in ("difference", low, high)]


def table_lines(first):
    """The cells of the lines of the README's table whose head begins with a word."""
    lines = (RECORDED / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |")) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start:end]]


def numbers(cell):
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d", cell)]


@needs_worlds
def test_the_readme_s_gains_under_another_machine_are_those_of_the_table():
    changes = recorded("worlds/changes").query("images == 'right' and train_modality == 'all' and part == 'without MR'")
    changes = changes.set_index(["group", "method", "format", "asked"])
    lines = table_lines("format")
    assert len(lines) == 9
    for format, training, *gains in lines:
        who = ("arithmetic", "none") if training.startswith("none") else ("machine", training.lower())
        for asked, cell in zip(("B own", "B away", "A own", "A away"), gains):
            if cell:
                assert numbers(cell) == pytest.approx(interval(changes.loc[(*who, format, asked)]), abs=0.06)


@needs_worlds
def test_the_readme_s_gains_on_twins_are_those_of_the_table():
    changes = recorded("worlds/changes").query("images == 'right' and format == 'no-think' and part == 'all'")
    changes = changes.set_index(["group", "method", "train_modality", "asked"])
    names = {"8 %, as they come": "twins-natural", "50 %": "twins-0.5", "100 %": "twins-1"}
    names["50 %, wrong pictures"] = "twins-permuted"
    places = [("MRI", "twins"), ("CT", "twins"), ("Dermoscopy", "twins"), ("all", "A own, no twins")]
    lines = table_lines("twins in training")
    assert len(lines) == 7
    for share, training, *gains in lines:
        for place, cell in zip(places, gains, strict=True):
            wanted = interval(changes.loc[(names[share], training.lower(), *place)])
            assert numbers(cell) == pytest.approx(wanted, abs=0.06)


# --- mk.recorded ------------------------------------------------------------------------------------------------------


def test_the_list_names_every_table_with_its_size():
    names = recorded().set_index("name")
    files = [path for path in RECORDED.rglob("*.*") if path.suffix in (".csv", ".parquet")]
    tables = {path.parent if path.parent.name == "answers" else path for path in files}  # parts of one table
    assert sorted(names.index) == sorted(path.relative_to(RECORDED).with_suffix("").as_posix() for path in tables)
    for name in ("binding", "quick/predictions", "clinic/answers"):
        assert names.loc[name, "rows"] == len(recorded(name))
        assert names.loc[name, "columns"] == ", ".join(recorded(name))


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(
        DataError, match=r"table 'quick/prediction'; did you mean 'quick/predictions'\? mk.recorded\(\) lists them"
    ):
        recorded("quick/prediction")


def test_recorded_predictions_are_as_predict_writes_them():
    preds = check_predictions(recorded("quick/predictions"))
    assert tuple(preds) == PREDICTIONS
    assert isinstance(preds["options"].iloc[0], list)
    assert str(preds["seed"].dtype) == "Int64" and preds.loc[preds["method"] == "base", "seed"].isna().all()
    assert not preds.duplicated(["id", "train_modality", "train_task", "method", "format", "seed"]).any()


def test_the_quick_study_s_tables_belong_to_its_predictions():
    """One cell of the matrix, computed again; and every finished cell answered every question."""
    preds, table = recorded("quick/predictions"), recorded("quick/transfer_modality")
    ct = preds[(preds["train_modality"] == "CT") & (preds["method"] == "sft") & (preds["format"] == "think-before")]
    base = preds[(preds["method"] == "base") & (preds["format"] == "think-before")]
    again = transfer_table(pd.concat([base, ct]))
    kept = table[(table["train_modality"] == "CT") & (table["method"] == "sft") & (table["format"] == "think-before")]
    for column in ("n", "accuracy", "difference", "difference_low", "difference_high"):
        assert again[column].tolist() == pytest.approx(kept[column].tolist(), abs=6e-5)
    done = int(recorded("quick/runs")["state"].eq("done").sum())
    provenance = json.loads((RECORDED / "quick/provenance.json").read_text())
    assert done == provenance["finished"]
    assert len(preds) == done * provenance["questions"]


def test_the_readme_s_table_of_the_quick_study_is_that_of_its_predictions():
    preds = recorded("quick/predictions")
    preds["method"] = preds["method"].replace("sft-answer", "sft")
    base = preds[preds["method"] == "base"].groupby("format")["correct"].mean()
    one = preds[preds["train_modality"].isin(MODALITIES) & (preds["method"] != "base")]
    one = one.assign(own=one["modality"] == one["train_modality"])
    keys = ["id", "train_modality", "format", "seed", "own"]
    pairs = one.set_index([*keys, "method"])["correct"].astype(float).unstack("method").reset_index()
    lines = [line for line in (RECORDED / "README.md").read_text().splitlines() if line.startswith("| in ")]
    assert len(lines) == 3
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        mode = pairs[pairs["format"] == cells[0].removeprefix("in ")]
        wanted, differences = [base[mode["format"].iloc[0]]], []
        for own in (True, False):
            rows = mode[mode["own"] == own]
            found = pooled_difference(rows["grpo"], rows["sft"], rows["id"], rows["seed"])
            differences += [100 * found.difference, 100 * found.low_seeds, 100 * found.high_seeds]
        for method in ("grpo", "sft"):
            wanted += [mode.loc[mode["own"] == own, method].mean() for own in (True, False)]
        assert [float(cell) for cell in cells[1:6]] == pytest.approx(wanted, abs=0.0006)
        printed = [float(number) for cell in cells[6:] for number in re.findall(r"-?\d+\.\d", cell)]
        assert printed == pytest.approx(differences, abs=0.06)


def test_recorded_predictions_stay_small():
    assert (RECORDED / "quick/predictions.parquet").stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in (RECORDED / "clinic").rglob("*.*")) < 10_000_000
