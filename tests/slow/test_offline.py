"""Nothing leaves the machine, as a user has it: without CI, without HF_HUB_OFFLINE, without any setting.

What a build server has in its environment hides this: with ``CI`` TRL sends no telemetry, medr1kit shows no bars, and
nothing else of what is installed behaves otherwise (transformers lets its log go on to the root logger).
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]

# Imported by Python when it starts: who asks for a name or an address of another machine is written down and refused.
GUARD = """
import os, socket, sys

HERE = (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname())

def note(what):
    with open(os.environ["ASKED"], "a") as file:
        file.write(f"{what}\\n")

def guarded(name, where, host_of):
    known = getattr(where, name)
    def call(*args, **kwargs):
        host = host_of(*args)
        if host not in HERE and not str(host).startswith("127."):
            note(f"{name} {host}")
            raise OSError(f"no network in this test: {host}")
        return known(*args, **kwargs)
    setattr(where, name, call)

for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    guarded(name, socket, lambda host, *rest: host)

def of_address(self, address, *rest):
    return address[0] if isinstance(address, tuple) else None  # a path on this machine

for name in ("connect", "connect_ex"):
    guarded(name, socket.socket, of_address)
"""

TRAIN = """
import huggingface_hub.constants, trl  # before medr1kit, as in many a notebook
import torch, medr1kit as mk
torch.set_num_threads(1)
rows = mk.load_vqa("phantoms", modality="CT", n=8)
small = {"format": "no-think", "max_steps": 1, "per_device_train_batch_size": 8, "save_strategy": "epoch"}
run = mk.train_sft(*mk.load_model("tiny"), rows, output_dir="sft", **small)
model, processor = mk.load_model("sft")
mk.train_grpo(model, processor, rows, output_dir="grpo", num_generations=4, max_completion_length=8, **small)
preds = mk.predict(model, processor, rows, format="no-think", output="preds.parquet")
assert len(preds) == 8
for panel in (mk.explore_data(rows), mk.inspect_outputs(preds), mk.explore_run("grpo"), mk.reward_lab()):
    assert panel.root and panel._repr_mimebundle_()["text/html"]
import time; time.sleep(1.0)  # telemetry goes out by a thread of its own
"""


def environment(folder, **more):
    """A user's: what tests and build servers set is taken out."""
    hidden = ("CI", "HF_", "MEDR1KIT_", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "DISABLE_TELEMETRY", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    path = os.pathsep.join([str(folder / "guard"), str(ROOT)])
    return kept | {"HOME": str(folder), "PYTHONPATH": path, "ASKED": str(folder / "asked.txt")} | more


def run(command, folder, **more):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment(folder, **more), capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return asked(folder)


def asked(folder):
    file = folder / "asked.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def test_training_prediction_and_panels_ask_nobody(tmp_path):
    assert run(["-c", TRAIN], tmp_path) == []


def test_the_guard_sees_what_is_sent_where_a_user_allows_it(tmp_path):
    """TRL's telemetry, with the setting that overrules ours: so the other tests can fail."""
    found = run(["-c", TRAIN], tmp_path, HF_HUB_DISABLE_TELEMETRY="0")
    assert "getaddrinfo huggingface.co" in found


def test_the_demo_asks_nobody(tmp_path):
    demo = ["-m", "medr1kit", "demo", "--output_dir", "~/demo", "--max_steps", "1", "--n", "16"]
    assert run(demo, tmp_path) == []
    assert (tmp_path / "demo" / "report.html").is_file() and not (tmp_path / "~").exists()


def test_a_notebook_that_trains_asks_nobody(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(TRAIN), nbformat.v4.new_code_cell('preds[["method"]]')]
    )
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert ">method<" in notebook.cells[1].outputs[0].data["text/html"]
    assert asked(tmp_path) == []
