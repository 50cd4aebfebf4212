"""How the tests of scattered weights start their trainings, and what they ask of what was written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
ONE = (sys.executable,)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
ALONE, SHARED = {"per_device_train_batch_size": 16}, {"per_device_train_batch_size": 8}
WHOLE = {"lora": False, "learning_rate": 1e-4}


def run(*command, timeout=1800):
    """Run a command with the toolkit of this checkout; return how it ended."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=timeout)


def train_all(folder, trainings, start=TORCHRUN):
    """Train ``{name: (method, arguments)}``, one after another, and return what each process said of each."""
    script, listed = Path(__file__).with_name("sharded_runs.py"), []
    for name, (method, arguments) in trainings.items():
        listed.append([str(folder / name), method, arguments])
    ended = run(*start, script, json.dumps(listed))
    assert ended.returncode == 0, ended.stderr[-4000:]
    files = {name: sorted(folder.glob(f"{name}.[0-9].json")) for name in trainings}
    return {name: [json.loads(file.read_text()) for file in said] for name, said in files.items()}


def without_end(run):
    """Take from a run what was written after its last checkpoint."""
    for part in ("adapter", "model"):
        shutil.rmtree(run / part, ignore_errors=True)
    config = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({name: value for name, value in config.items() if name != "summary"}))


def weights_in(folder):
    """The tensors of a run, or of one of its checkpoints."""
    files = [file for part in ("adapter", "model", ".") for file in (folder / part).glob("*.safetensors")]
    assert len(files) == 1
    return load_file(files[0])


def apart(one, other):
    """How far two sets of weights are from each other, against their size."""
    assert one.keys() == other.keys()
    assert all(one[name].shape == other[name].shape for name in one)
    differ = sum((one[name].double() - other[name].double()).square().sum() for name in one)
    return (differ / sum(tensor.double().square().sum() for tensor in one.values())).sqrt().item()


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
