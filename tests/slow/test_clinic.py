"""Six cells of the recorded study, made small, with trainings that are trainings: killed twice, they lose nothing."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from PIL import Image, ImageChops, ImageStat

from medr1kit.results.kept import recorded
from medr1kit.results.runs import read_parquet
from medr1kit.study.comparisons import compare_stated
from medr1kit.study.folder import read_record
from medr1kit.study.grid import read_study

ROOT = Path(__file__).resolve().parents[2]
ONLY = "modality=CT seed=10 part=machine,new format=no-think,think-before"  # 4 + 2 cells


def small(values):
    """The study with few questions, samples and steps."""
    if isinstance(values, dict):
        changes = {"n": 16 if "seed" not in values else 80, "samples": 2}
        return {
            key: changes[key] if key in changes and key in values else small(value) for key, value in values.items()
        }
    return values


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    study = small(yaml.safe_load((ROOT / "studies" / "clinic.yaml").read_text()))
    for part in (study, *study["parts"].values()):
        if "methods" in part:
            of = {"sft": 16, "sft-answer": 16, "grpo": 16}
            part["methods"] = {
                name: {
                    "max_steps": 3,
                    "save_steps": 1,
                    "save_strategy": "steps",
                    "per_device_train_batch_size": of[name],
                }
                for name in part["methods"]
            }
    path = tmp_path_factory.mktemp("study") / "clinic.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def run(file, folder, only=ONLY):
    words = [sys.executable, "-m", "medr1kit", "study", "run", str(file), "--output", str(folder), "--only", only]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True)


def states(folder):
    return [read_record(path.parent).get("state") for path in folder.glob("cells/*/cell.json")]


def killed(file, folder, done):
    """Run until so many cells are done and others are running; then kill the study and its workers."""
    study, until = run(file, folder), time.monotonic() + 400
    while not (states(folder).count("done") >= done and "running" in states(folder)):
        assert study.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    family = [*psutil.Process(study.pid).children(recursive=True), study]
    for process in reversed(family):
        process.kill()
    for process in family:
        process.wait()


def answers(folder):
    """All recorded answers of a study's cells, in one order."""
    found = pd.concat(read_parquet(path) for path in folder.glob("cells/*/predictions.parquet"))
    keys = ["method", "format", "train_modality", "asked", "thought", "id", "sample"]
    return found.sort_values([key for key in keys if key in found]).reset_index(drop=True)


def test_six_cells_killed_twice_answer_as_unbroken_ones(file, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    study = run(file, whole)
    said, _ = study.communicate(timeout=900)
    assert study.returncode == 0 and states(whole).count("done") == 6, said
    killed(file, broken, 1)
    killed(file, broken, 3)
    study = run(file, broken)
    said, _ = study.communicate(timeout=900)
    assert study.returncode == 0, said
    pd.testing.assert_frame_equal(answers(whole), answers(broken))
    asked = answers(whole)
    assert {"B", "A", "B shuffled", "B nearest", "B sampled", "B thoughts", "twins"} <= set(asked["asked"])
    assert asked.query("asked == 'B thoughts'")["thought"].nunique() == 10
    comparisons = pd.read_csv(whole / "tables" / "comparisons.csv").set_index("comparison")
    assert comparisons.loc["GRPO minus SFT at home, no-think", "n"] == 8
    stated = yaml.safe_load(file.read_text())["comparisons"]
    assert list(comparisons.index) == list(stated)
    made = json.loads((whole / "tables" / "provenance.json").read_text())
    assert made["finished"] == 6 and made["missing"]


def test_the_recorded_comparisons_are_those_of_the_recorded_answers():
    stated = read_study(ROOT / "studies" / "clinic.yaml").settings["comparisons"]
    again = compare_stated(stated, recorded("clinic/answers")).round(4)
    pd.testing.assert_frame_equal(again, recorded("clinic/comparisons"), check_dtype=False, atol=1e-4)


def test_the_figures_of_the_findings_are_those_of_the_recorded_tables(tmp_path):
    runpy.run_path(str(ROOT / "docs" / "pictures" / "findings.py"))["draw"](tmp_path)
    kept = {path.name for path in (ROOT / "docs" / "pictures" / "findings").glob("*.png")}
    assert kept == {path.name for path in tmp_path.glob("*.png")} and len(kept) == 6
    for path in tmp_path.glob("*.png"):
        with Image.open(ROOT / "docs" / "pictures" / "findings" / path.name) as old, Image.open(path) as new:
            assert old.size == new.size
            differ = ImageChops.difference(old.convert("L"), new.convert("L")).point(lambda value: 255 * (value > 64))
            assert ImageStat.Stat(differ).mean[0] < 255 * 0.002, path.name
