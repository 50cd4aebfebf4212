"""Cells that take no time: what the tests of studies run in place of trainings."""

import os
import time
from multiprocessing import Pipe

import pandas as pd

from medr1kit.results.tables import PREDICTIONS
from medr1kit.study.cell import run_cell

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
    """Stands for worker processes: runs cells here, notes what it did, and fails or stops where it is told to."""

    def __init__(self, fail=(), stop_in=None):
        self.trained, self.tested, self.fail, self.stop_in = [], [], set(fail), stop_in

    def __call__(self, gpu=None):  # what starts a worker
        return FakeWorker(self, gpu)

    def train(self, cell, folder):
        self.trained.append(cell.name)
        (folder / "run.json").write_text("{}")
        (folder / "metrics.csv").write_text("step,reward,rewards/accuracy_reward/mean\n1,0.5,0.25\n2,1.5,0.75\n")

    def test(self, cell, folder):
        if cell.name == self.stop_in:
            raise KeyboardInterrupt
        if cell.name in self.fail:
            raise ValueError(f"no luck with {cell.name}\nand more of it")
        self.tested.append(cell.name)
        answers(cell).to_parquet(folder / "predictions.parquet", index=False)


class FakeWorker:
    def __init__(self, fake, gpu):
        self.fake, self.gpu, (self.pipe, self.end) = fake, gpu, Pipe()

    def begin(self, cell, folder):
        run_cell(cell, folder, self.fake.train, self.fake.test)
        self.end.send(None)

    def finish(self):
        self.pipe.recv()

    def kill(self):
        self.pipe.close()


def in_a_process(cell, folder):
    """What real worker processes run in the tests: a cell that says where it is, dies, or takes long."""
    print("printed by", cell.name, os.environ["OMP_NUM_THREADS"], os.environ["CI"])
    if cell.name == "ct_sft-answer_no-think_0":
        os.kill(os.getpid(), 9)
    folder.mkdir(parents=True)
    (folder / "pid").write_text(str(os.getpid()))
    if cell.name == "oct_sft-answer_no-think_0":
        time.sleep(60)


def say_gpu(cell, folder):
    print(os.environ["CUDA_VISIBLE_DEVICES"])


def no_start(cell, folder):
    raise SystemExit(3)
