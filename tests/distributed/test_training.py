"""Two processes train as one does, and as stock TRL does: `make test-distributed`."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_recording import table_of

import medr1kit as mk

PARITY = Path(__file__).parents[2] / "benchmarks" / "ddp_parity.py"
SCRIPT = """
import os, sys
import torch
torch.set_num_threads(1)
import medr1kit as mk

def odd_tokens(completion_ids, **columns):
    return [float(sum(token % 2 for token in ids[:3])) for ids in completion_ids]

rows = mk.load_vqa("phantoms", split="train", n=8)
for side in ("stock", "shared"):
    mk.train_grpo(
        *mk.load_model("tiny"), rows, format="no-think", output_dir=f"{sys.argv[1]}/{side}", rewards=[odd_tokens],
        max_steps=2, warmup_steps=0, per_device_train_batch_size=4, num_generations=8, max_completion_length=12,
        use_cpu=True, log_completions=True, num_completions_to_print=1, shared_prefix=side == "shared",
    )
"""


def two_processes(*words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *map(str, words)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def test_two_processes_train_the_tower_as_stock_does():
    done = two_processes(PARITY, "tower")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ranks equal: True" in done.stdout


def test_two_processes_record_each_completion_once(tmp_path):
    """A group of eight is split over both: rewards meet before advantages are taken, and the main process writes."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = two_processes(script, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for side, shared in (("stock", "not asked for"), ("shared", True)):
        run = mk.load_run(tmp_path / side)
        assert run.config["shared_prefix"] == shared
        assert run.rollouts["step"].tolist() == [1] * 8 + [2] * 8
        assert run.rollouts["rollout"].tolist() == [*range(8)] * 2
        assert run.rollouts.groupby("step")["id"].nunique().eq(1).all()
        theirs = pd.concat(table_of(tmp_path / side), ignore_index=True)
        for name in ("odd_tokens", "advantage"):
            assert run.rollouts[name].tolist() == theirs[name].tolist()
        assert run.rollouts["text"].tolist() == [turns[0]["content"] for turns in theirs["completion"]]
        lengths = run.rollouts.groupby("step")["n_tokens"].mean()
        assert lengths.tolist() == pytest.approx(run.metrics["completions/mean_length"].tolist())
        assert lengths.tolist() == pytest.approx(run.metrics["watch/mean_length"].tolist())
