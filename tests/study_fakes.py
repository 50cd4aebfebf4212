"""Cells that take no time: what the tests of studies run in place of trainings."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd

from medr1kit.results.tables import PREDICTIONS
from medr1kit.study.cell import end_with_parent, run_cell
from medr1kit.study.grid import read_study, select
from medr1kit.study.workers import Worker, logged, run_here, work

STUDY = """
name: small
train: {name: phantoms, n: 16}
test: {name: phantoms, n: 16}
train_by: {modality: [CT, OCT]}
methods: [sft-answer, grpo]
formats: [no-think]
seeds: [0, 1]
"""


def write_study(folder, text=STUDY, name="small.yaml"):
    file = folder / name
    file.write_text(text)
    return file


def answers(cell, n=16):
    """Predictions of a cell: half about CT, half about OCT; the base is right on every other one, the rest on all."""
    rows = []
    for i in range(n):
        right = cell.method != "base" or i % 2 == 0
        modality = ("CT", "OCT")[i // 2 % 2]
        row = dict.fromkeys(PREDICTIONS) | cell.labels
        row |= {"id": f"{modality}-{i}", "image_id": f"{modality}-{i}", "modality": modality, "answer": "A"}
        row |= {"task": "Lesion Grading", "options": ["mild", "severe"], "model": "tiny", "format": cell.format}
        row |= {"predicted": "AB"[not right], "lenient_predicted": "AB"[not right], "correct": right}
        rows.append(row | {"well_formed": True, "n_tokens": 4, "text": "x", "question": "how bad?", "source": "fake"})
    return pd.DataFrame(rows, columns=list(PREDICTIONS))


class Fake:
    """Runs cells without training: notes what it did, and fails or stops where it is told to."""

    def __init__(self, fail=(), fail_once=(), stop_in=None):
        self.trained, self.tested, self.tried = [], [], []
        self.fail, self.fail_once, self.stop_in = set(fail), set(fail_once), stop_in

    def __call__(self, cell, folder):
        return run_cell(cell, folder, self.train, self.test)

    def here(self, worker, *others, tick):
        """In place of run_here: one worker, in this process."""
        work(select(read_study(worker.root / "study.yaml").cells, worker.only), worker.root, worker.since, run=self)

    def train(self, cell, folder):
        self.trained.append(cell.name)
        (folder / "run.json").write_text("{}")
        (folder / "metrics.csv").write_text("step,reward,rewards/accuracy_reward/mean\n1,0.5,0.25\n2,1.5,0.75\n")

    def test(self, cell, folder):
        self.tried.append(cell.name)
        if cell.name == self.stop_in:
            raise KeyboardInterrupt
        if cell.name in self.fail or (cell.name in self.fail_once and self.tried.count(cell.name) == 1):
            raise ValueError(f"no luck with {cell.name}\nand more of it")
        self.tested.append(cell.name)
        answers(cell).to_parquet(folder / "predictions.parquet", index=False)


class InAProcess(Worker):
    """A worker whose process runs :func:`in_a_process`."""

    def command(self):
        return [sys.executable, __file__, str(self.root), self.only, repr(self.since)]


class InAJob(Worker):
    """A worker that runs :func:`in_a_process` as a job."""

    def __call__(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus or "of the cluster"
        cells = select(read_study(self.root / "study.yaml").cells, self.only)
        work(cells, self.root, self.since, partial(logged, in_a_process))


def run_all(worker):
    """As `medr1kit study run` does."""
    run_here(worker, 1)


def in_a_process(cell, folder):
    """A cell that says where it is, dies, or takes long."""
    print("printed by", cell.name, os.environ["OMP_NUM_THREADS"], os.environ["CI"], os.environ["CUDA_VISIBLE_DEVICES"])
    run_cell(cell, folder, Fake().train, die_or_wait)


def die_or_wait(cell, folder):
    again = (folder / "pid").exists()
    (folder / "pid").write_text(str(os.getpid()))
    if cell.name == "ct_sft-answer_no-think_0":
        os.kill(os.getpid(), 9)
    if cell.name == "oct_sft-answer_no-think_0" and not again:
        time.sleep(60)
    Fake().test(cell, folder)


if __name__ == "__main__":
    root, only, since = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    end_with_parent()
    if only == "no start":
        raise SystemExit(3)
    work(select(read_study(root / "study.yaml").cells, only), root, since, partial(logged, in_a_process))
