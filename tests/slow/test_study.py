"""A study of 25 cells on three jobs of this machine, killed twice, ends with the tables of an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from medr1kit.results.runs import load_run
from medr1kit.study.folder import read_record

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: small
train: {name: phantoms, n: 8, scanner: B}
test: {name: phantoms, n: 8, scanner: B}
train_by: {modality: [CT, MRI, OCT, Fundus]}
methods:
  sft-answer: {max_steps: 3, save_steps: 1, per_device_train_batch_size: 4}
  grpo: {max_steps: 3, save_steps: 1, per_device_train_batch_size: 8, num_generations: 4, max_completion_length: 8}
formats: [no-think]
seeds: [0, 1, 2]
"""
CELLS, TIMES = 25, ("started", "ended", "written", "versions", "commands", "seconds", "cpu_seconds")


def command(folder, *flags, text=STUDY):
    """A study in a process of its own."""
    file = folder.parent / "small.yaml"
    file.write_text(text)
    words = [sys.executable, "-m", "medr1kit", "study", "run", str(file), "--output", str(folder), *flags]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True)


def wait_until(what, study, seconds=400):
    until = time.monotonic() + seconds
    while not what():
        assert study.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def states(folder):
    return [read_record(path.parent).get("state") for path in folder.glob("cells/*/cell.json")]


def in_its_middle(folder):
    """Whether a cell is being trained and has a checkpoint."""
    records = [(path, read_record(path.parent)) for path in folder.glob("cells/*/cell.json")]
    trained = [path.parent for path, record in records if record.get("state") == "running" and not record["trained"]]
    return any((cell / "checkpoint-1" / "trainer_state.json").exists() for cell in trained)


def killed(folder, done):
    """Run until so many cells are done and another one is in its middle; then kill the study and all of its jobs."""
    study = command(folder, "--cluster", "local", "--workers", "3")
    wait_until(lambda: states(folder).count("done") >= done and in_its_middle(folder), study)
    family = [*psutil.Process(study.pid).children(recursive=True), study]
    for process in reversed(family):  # the study first, which would say so
        process.kill()
    for process in family:
        process.wait()
    left = states(folder)
    assert done <= left.count("done") < CELLS
    return left


def tables(folder):
    """What the tables hold, durations, versions and dates apart."""
    found = {file.name: file.read_bytes() for file in sorted((folder / "tables").glob("*.csv"))}
    runs = pd.read_csv(folder / "tables" / "runs.csv")
    found["runs.csv"] = runs.drop(columns=[name for name in runs if name.endswith("seconds")]).to_csv()
    made = json.loads((folder / "tables" / "provenance.json").read_text())
    return found | {"provenance.json": {name: value for name, value in made.items() if name not in TIMES}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an unbroken study, of one worker."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    study = command(folder, "--workers", "1")
    said, _ = study.communicate(timeout=900)
    assert study.returncode == 0, said
    return folder


def test_a_study_that_was_killed_twice_ends_as_an_unbroken_one(whole, tmp_path):
    folder = tmp_path / "out"
    broken = killed(folder, 4) + killed(folder, 12)
    study = command(folder, "--cluster", "local", "--workers", "3")
    said, _ = study.communicate(timeout=900)
    assert study.returncode == 0 and f"{CELLS} cells, {CELLS} done" in said, said
    assert tables(folder) == tables(whole)
    assert (folder / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    resumed = sum("resumed" in load_run(path.parent).config for path in folder.glob("cells/*/run.json"))
    print(f"killed with {broken.count('running')} in their middle; {resumed} were resumed")
    assert resumed >= 1


@pytest.mark.parametrize("n", ["1", "2"])
def test_a_job_that_is_told_of_its_end_is_requeued_and_goes_on_from_its_checkpoint(tmp_path, n):
    """With its cell in one process, or in two that torchrun has started."""
    text = STUDY.replace("[CT, MRI, OCT, Fundus]", "[CT]").replace("[0, 1, 2]", "[0]")
    text = text.replace("sft-answer: {max_steps: 3,", "sft-answer: {max_steps: 30,")
    folder, name = tmp_path / "out", "ct_sft-answer_no-think_0"
    flags = ("--cluster", "local", "--workers", "1", "--gpus-per-cell", n, "--only", f"name={name}")
    study = command(folder, *flags, text=text)
    wait_until(lambda: any(folder.glob(f"cells/{name}/checkpoint-[2-9]")), study)
    family = psutil.Process(study.pid).children(recursive=True)
    (worker,) = [process for process in family if "submitit.core._submit" in process.cmdline()]
    worker.send_signal(signal.SIGUSR2)  # as Slurm does before the time of a job is over
    said, _ = study.communicate(timeout=400)
    assert study.returncode == 0 and ", 1 done, 0 running, 0 failed" in said, said
    run, record = load_run(folder / "cells" / name), read_record(folder / "cells" / name)
    assert len(run.config["resumed"]) == 1 and run.config["resumed"][0] >= 1 and len(run.metrics) == 30
    assert not worker.is_running() and record["failures"] == []
