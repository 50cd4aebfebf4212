import json
from importlib.metadata import version

import pandas as pd
import pytest
from study_fakes import Fake, answers, write_study

from medr1kit.__main__ import main
from medr1kit.results.tables import score
from medr1kit.study import cell, commands, grid
from medr1kit.study.grid import read_study, select
from medr1kit.study.parts import units
from medr1kit.vqa import DataError

PARTS = """
name: small
train: {name: phantoms, n: 16}
test:
  B: {name: phantoms, n: 16, scanner: B}
  B shuffled: {name: phantoms, n: 16, scanner: B, own: true, predict: {images: shuffled}}
  B undone: {name: phantoms, n: 16, scanner: B, undone: true, of: [base]}
  drawn: {name: phantoms, n: 16, own: true, predict: {samples: 2}}
  thoughts: {name: phantoms, n: 16, thoughts: true}
  zero-shot: {name: phantoms, n: 16, wording: zero-shot}
train_by: {modality: [CT, OCT]}
methods: [sft-answer, grpo]
formats: [no-think]
parts:
  machine: {seeds: [1, 2]}
  joint: {train_by: {modality: [together]}}
  both ways:
    formats: [no-think, think-before]
    methods: [grpo]
    test: {twins: {name: phantoms, n: 8, twins: 1.0}, B: {name: phantoms, n: 16, scanner: B}}
comparisons:
  gain: {of: {part: machine, method: grpo}, against: {method: base}, asked: B, where: home}
"""


class FakeParts(Fake):
    """A fake that answers each of a cell's sets."""

    def test(self, cell, folder):
        self.tested.append(cell.name)
        tables = []
        for name, test in cell.definition["tests"].items():
            for sample in range(test.get("predict", {}).get("samples", 0)) or [None]:
                tables.append(answers(cell).assign(asked=name, sample=sample))
        pd.concat(tables).to_parquet(folder / "predictions.parquet", index=False)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`medr1kit study run` of the parts with fake cells."""

    def run(*words, text=PARTS):
        monkeypatch.setattr(commands, "run_here", FakeParts().here)
        return main(["study", "run", str(write_study(tmp_path, text)), "--output", str(tmp_path / "out"), *words])

    return run


@pytest.fixture
def study(tmp_path):
    return read_study(write_study(tmp_path, PARTS))


def tables(tmp_path, to="kept"):
    return main(["study", "tables", str(tmp_path / "out"), "--to", str(tmp_path / to)])


def test_a_part_has_a_grid_of_its_own_settings_and_the_study_s_others(study):
    trained = [cell for cell in study.cells if cell.train_by]
    assert {(cell.part, cell.seed) for cell in trained} == {
        ("machine", 1),
        ("machine", 2),
        ("joint", 0),
        ("both ways", 0),
    }
    assert [cell.name for cell in select(study.cells, "part=joint method=grpo")] == ["joint_together_grpo_no-think_0"]
    (joint,) = select(study.cells, "part=joint method=grpo")
    assert joint.labels["train_modality"] == "all" and "modality" not in joint.definition["train"]
    assert len({cell.name for cell in study.cells}) == len(study.cells)
    assert set(units(study)) == {"base", "machine-1", "machine-2", "joint-0", "both ways-0"}


def test_a_model_is_asked_the_sets_that_are_for_it(study):
    asked = {cell.name: list(cell.definition["tests"]) for cell in study.cells}
    everything = ["B", "B shuffled", "B undone", "drawn", "zero-shot"]  # "thoughts" is of formats that think first
    assert asked["base_no-think"] == everything
    assert asked["machine_ct_grpo_no-think_1"] == [name for name in everything if name != "B undone"]


def test_the_base_is_asked_each_set_once_and_a_name_means_one_set(study, tmp_path):
    base = {cell.name: list(cell.definition["tests"]) for cell in study.cells if cell.method == "base"}
    assert base["base_no-think_both ways"] == ["twins"] and base["base_think-before"] == ["twins", "B"]
    other = PARTS.replace("B: {name: phantoms, n: 16, scanner: B}}", "B: {name: phantoms, n: 8, scanner: B}}")
    with pytest.raises(DataError, match="part both ways: test: B is another set in an earlier part"):
        read_study(write_study(tmp_path, other))


def test_the_tables_are_of_the_sets_they_name(command, tmp_path):
    assert command() == 0
    preds = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    found = {file.stem: pd.read_csv(file) for file in (tmp_path / "out" / "tables").glob("*.csv")}
    assert set(found) == {"comparisons", "transfer_modality", "scores", "samples", "curves", "runs"}
    own = preds[(preds["part"] == "machine") & (preds["asked"] == "B") & (preds["method"] == "grpo")]
    home = own[own["modality"] == own["train_modality"]]
    row = found["scores"].query("part == 'machine' and asked == 'B' and method == 'grpo' and place == 'home'").iloc[0]
    assert row["n"] == len(home) and row["accuracy"] == pytest.approx(score(home, cluster="id")["accuracy"].iloc[0])
    transfer = found["transfer_modality"].groupby("part")["n"].max()
    assert transfer["machine"] == 8 and "joint" not in transfer, "one set of questions, seeds of one model together"
    gain = found["comparisons"].iloc[0]
    assert (gain["n"], gain["trainings"], gain["difference"]) == (32, 4, 0.5)
    assert found["samples"]["n"].max() == 64  # 16 questions a training


def test_parts_are_recorded_one_by_one_also_where_the_machine_that_ran_others_is_gone(command, tmp_path):
    command("--only", "seed=None")
    command("--only", "part=machine seed=1")
    assert tables(tmp_path) == 0
    first = (tmp_path / "kept" / "answers" / "machine-1.parquet").read_bytes()
    known = json.loads((tmp_path / "kept" / "provenance.json").read_text())
    assert set(known["recorded"]) == {"base", "machine-1"} and known["missing"] == [
        "machine-2",
        "joint-0",
        "both ways-0",
    ]
    (tmp_path / "out").rename(tmp_path / "gone")
    command("--only", "part=machine seed=2")
    assert tables(tmp_path) == 0
    assert (tmp_path / "kept" / "answers" / "machine-1.parquet").read_bytes() == first
    gain = pd.read_csv(tmp_path / "kept" / "comparisons.csv").iloc[0]
    assert (gain["n"], gain["trainings"]) == (32, 4)
    runs = pd.read_csv(tmp_path / "kept" / "runs.csv")
    assert runs.groupby("unit").size().to_dict() == {"base": 3, "machine-1": 4, "machine-2": 4}


def test_a_report_is_of_the_first_part_s_first_set(command, tmp_path):
    command("--only", "seed=None,1")
    assert main(["report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sft-answer" in page


def test_a_part_that_is_not_finished_is_not_recorded(command, tmp_path, capsys):
    command("--only", "part=machine seed=1 method=grpo")
    assert tables(tmp_path) == 2 and "no part of small" in capsys.readouterr().err


def test_what_an_earlier_release_recorded_stays_beside_what_this_one_adds(command, tmp_path, monkeypatch):
    command("--only", "seed=None,1")
    tables(tmp_path)
    (tmp_path / "out").rename(tmp_path / "gone")
    for module in (grid, cell):
        monkeypatch.setattr(module, "version", lambda name: "9.9.9" if name == "medr1kit" else version(name))
    command("--only", "part=machine seed=2")
    assert tables(tmp_path) == 0
    recorded = json.loads((tmp_path / "kept" / "provenance.json").read_text())["recorded"]
    assert recorded["machine-1"]["versions"]["medr1kit"] == [version("medr1kit")]
    assert recorded["machine-2"]["versions"]["medr1kit"] == ["9.9.9"]


def test_what_is_recorded_of_another_definition_is_refused_by_name(command, tmp_path, capsys):
    command("--only", "seed=None,1")
    tables(tmp_path)
    command(
        "--only", "part=joint", text=PARTS.replace("train: {name: phantoms, n: 16}", "train: {name: phantoms, n: 24}")
    )
    assert tables(tmp_path) == 2
    assert "machine-1.parquet was recorded from another definition" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("machine: {seeds", "machine: {model: x, seeds", "parts: machine: the key 'model' is unknown"),
        ("  machine: {", "  ../x: {", "parts: a part: '../x' is no name of a folder"),
        (
            "own: true, predict: {images",
            "own: yes please, predict: {images",
            "test: B shuffled: own is the text 'yes please'",
        ),
        ("samples: 2", "samples: -2", "test: drawn: predict: samples=-2"),
        ("wording: zero-shot", "wording: zero", "did you mean 'zero-shot'"),
        ("of: [base]", "of: [bse]", "did you mean 'base'"),
        ("n: 16, scanner: B, undone", "n: 16, undone", "only of phantoms with scanner: B"),
        ("train: {name", "train: {wrong_pictures: 1, name", "wrong_pictures is an int"),
        ("asked: B,", "asked: C,", "comparisons: gain: asked='C' is unknown"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, before, after, message):
    text = PARTS.replace(before, after)
    assert text != PARTS
    with pytest.raises(DataError, match=message):
        read_study(write_study(tmp_path, text))
