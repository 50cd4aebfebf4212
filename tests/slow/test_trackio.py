"""What is logged reaches trackio, where it is installed: a stand-in takes down what it is handed, in its own process.

The real one, 0.43, was run by hand; it is not among the packages of the tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = """
import json, os
from contextvars import ContextVar
from types import SimpleNamespace

__version__, config = "0.0", type("Config", (dict,), {"update": lambda self, *_, **__: None})()
context_vars = SimpleNamespace(current_space_id=ContextVar("space", default=None))
said = []

def init(**how):
    said.append({"init": {name: how[name] for name in ("project", "name", "space_id")}})

def log(numbers, **_):
    said.append({"log": {name: value for name, value in numbers.items() if isinstance(value, (int, float))}})

def finish():
    with open(os.environ["SAID"], "w") as file:
        json.dump(said, file)
"""
SCRIPT = """
import sys
import medr1kit as mk

rows = mk.load_vqa("phantoms", split="train", n=18, scanner="B")
asked = {"format": "no-think", "max_steps": 2, "per_device_train_batch_size": 8, "output_dir": sys.argv[2]}
asked |= {"eval_dataset": rows.select([16, 17]), "eval_steps": 2, "report_to": "trackio", "run_name": "one"}
if sys.argv[1] == "grpo":
    mk.train_grpo(*mk.load_model(), rows, num_generations=4, max_completion_length=8, **asked)
else:
    mk.train_sft(*mk.load_model(), rows, **asked)
"""


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_steps_and_evaluations_reach_trackio(tmp_path, method):
    (tmp_path / "trackio.py").write_text(STAND_IN)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "SAID": str(tmp_path / "said.json")}
    command = [sys.executable, "-c", SCRIPT, method, str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = json.loads((tmp_path / "said.json").read_text())
    assert said[0] == {"init": {"project": "huggingface", "name": "one", "space_id": None}}
    logged = [one["log"] for one in said[1:]]
    name = "reward" if method == "grpo" else "loss"
    assert [one["train/global_step"] for one in logged if f"train/{name}" in one] == [1, 2]
    assert [one["train/global_step"] for one in logged if f"eval/{name}" in one] == [2]
