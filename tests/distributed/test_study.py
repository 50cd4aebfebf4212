"""Cells of a study on two processes: what they leave is what one process leaves."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from safetensors.torch import load_file

from medr1kit.study.folder import read_record

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: small
train: {name: phantoms, n: 32, scanner: B}
test: {name: phantoms, n: 16, scanner: B}
train_by: {modality: [CT]}
# adam_epsilon: as in sharded_runs.py
methods: {sft-answer: {max_steps: 3, warmup_steps: 0, save_steps: 1, adam_epsilon: 1.0e-5}, grpo: }
formats: [no-think]
"""
SFT = "ct_sft-answer_no-think_0"


def started(folder, *flags, text=STUDY):
    (folder.parent / "small.yaml").write_text(text)
    words = [sys.executable, "-m", "medr1kit", "study", "run", "small.yaml", "--output", str(folder), "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*words, *flags], cwd=folder.parent, env=environment, **pipes)


def ended(study, status=0):
    out, err = study.communicate(timeout=400)
    assert study.returncode == status, out + err
    return out + err


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith("rng_state"))


def test_a_cell_of_two_processes_leaves_what_one_leaves(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, n in ((one, "1"), (two, "2")):
        ended(started(folder, "--only", f"name={SFT}", "--gpus-per-cell", n))
    one, two = one / "cells" / SFT, two / "cells" / SFT
    assert files(one) == files(two) and len(list(two.glob("checkpoint-1/rng_state_*.pth"))) == 2
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, two)]
    assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-4 for name in weights[0])
    assert any(weights[0][name].abs().max() > 1e-3 for name in weights[0] if "lora_B" in name), "something was learned"
    preds = [pd.read_parquet(folder / "predictions.parquet").drop(columns="options") for folder in (one, two)]
    pd.testing.assert_frame_equal(*preds)
    assert read_record(two)["cpu_seconds"]["train"] > 1, "that of the processes it started"


def test_what_one_of_them_refuses_is_the_cell_s_reason(tmp_path):
    said = ended(
        started(tmp_path / "out", "--only", "method=grpo", "--gpus-per-cell", "2", text=STUDY.replace("n: 32", "n: 1")),
        2,
    )
    assert "DataError: 1 question given, and a step needs 8" in said
    assert "Traceback" in (tmp_path / "out" / "cells" / "ct_grpo_no-think_0" / "error.txt").read_text()


@pytest.mark.parametrize("whom", ["study", "worker"])
def test_no_process_goes_on_when_the_study_or_its_worker_is_killed(tmp_path, whom):
    text = STUDY.replace("max_steps: 3", "max_steps: 500")
    study = started(tmp_path / "out", "--only", f"name={SFT}", "--gpus-per-cell", "2", text=text)
    folder, until = tmp_path / "out" / "cells" / SFT, time.monotonic() + 200
    while not (folder / "checkpoint-1").exists():
        assert study.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    family = psutil.Process(study.pid).children(recursive=True)
    assert len(family) >= 4, "worker, torchrun and two processes"
    if whom == "worker":
        family[0].kill()
    else:
        study.kill()
    assert psutil.wait_procs(family, timeout=30)[1] == []
    study.kill()
    study.communicate()
