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
from medr1kit.results.tables import PREDICTIONS, check_predictions
from medr1kit.vqa import DataError

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
    for name in ("blind_floor", "worlds/changes", "clinic/answers"):
        table = recorded(name)
        assert (names.loc[name, "rows"], names.loc[name, "columns"]) == (len(table), ", ".join(table))


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(
        DataError, match=r"table 'clinic/answer'; did you mean 'clinic/answers'\? mk.recorded\(\) lists them"
    ):
        recorded("clinic/answer")


def test_some_rows_of_a_table_are_read_by_what_their_columns_say():
    answers = recorded("clinic/answers", asked=["A", "B told"], part="shortcut")
    assert set(answers["asked"]) == {"A", "B told"} and set(answers["part"]) == {"shortcut"}
    by_ct = recorded("clinic/answers", asked="A", train_modality="CT", method="grpo")  # the base was trained on nothing
    assert by_ct["train_modality"].eq("CT").all() and set(by_ct["part"]) >= {"machine", "shortcut"}
    whole = recorded("worlds/base")
    some = whole[whole["format"].eq("no-think")].reset_index(drop=True)
    pd.testing.assert_frame_equal(recorded("worlds/base", format="no-think"), some)
    with pytest.raises(DataError, match="column of recorded answers='askd' is unknown; did you mean 'asked'"):
        recorded("clinic/answers", askd="A")
    with pytest.raises(DataError, match="recorded answers has no row with asked in \\['C'\\]"):
        recorded("clinic/answers", asked="C")


# --- the study --------------------------------------------------------------------------------------------------------

WHO = ["part", "train_modality", "train_task", "method", "format", "seed"]


@pytest.fixture(scope="module")
def answers():
    return recorded("clinic/answers")


def test_the_readme_lists_exactly_the_tables_of_the_study():
    named = re.findall(r"`clinic/([\w.]+)/?`", (RECORDED / "README.md").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(p.name for p in (RECORDED / "clinic").iterdir() if p.name != "provenance.json")


def test_recorded_answers_are_as_predict_writes_them(answers):
    check_predictions(answers)
    assert list(answers) == [*PREDICTIONS, "part", "asked", "sample", "thought"]
    assert isinstance(answers["options"].iloc[0], list)
    assert str(answers["seed"].dtype) == "Int64" and answers.loc[answers["method"] == "base", "seed"].isna().all()
    assert not answers.duplicated(["id", "asked", "sample", "thought", *WHO]).any()


def test_every_finished_training_of_the_study_answered_all_that_its_part_asks(answers):
    runs, provenance = recorded("clinic/runs"), json.loads((RECORDED / "clinic/provenance.json").read_text())
    done = runs[runs["state"] == "done"].groupby("unit").size().to_dict()
    assert done == {name: unit["finished"] for name, unit in provenance["recorded"].items()}
    counts = answers.groupby([*WHO, "asked", "thought", "sample"], dropna=False)["id"].agg(["size", "nunique"])
    assert counts["size"].eq(counts["nunique"]).all()
    asked = answers[answers["asked"].isin(["A", "B"])].groupby(["asked", *WHO], dropna=False).size()
    assert asked["A"].eq(800).all() and asked["B"].eq(1600).all()
    who = answers[answers["asked"].isin(["B", "twins"])].drop_duplicates(WHO)
    assert len(who[who["part"] != ""]) == sum(n for name, n in done.items() if name != "base")


def test_the_study_s_matrix_belongs_to_its_answers(answers):
    table = recorded("clinic/transfer_modality").query("part == 'machine' and method == 'sft'")
    kept = table.query("format == 'think-before' and train_modality == 'CT'")
    on_b = answers.query("asked == 'B' and part in ('', 'machine') and format == 'think-before'")
    trained = on_b["method"].eq("sft") & on_b["train_modality"].eq("CT")
    again = transfer_table(on_b[on_b["method"].eq("base") | trained])
    for column in ("n", "accuracy", "difference", "difference_low", "difference_high"):
        assert again[column].tolist() == pytest.approx(kept[column].tolist(), abs=6e-5)


def test_recorded_answers_stay_small():
    """A million answers of the whole study: 10.6 MB, of which 3.0 are the curves of 250 steps of 134 trainings."""
    assert sum(path.stat().st_size for path in (RECORDED / "clinic").rglob("*.*")) < 11_000_000
