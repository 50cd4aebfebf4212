"""A training that is watched in its cell: the same training, held and stopped by clicks and by an interruption."""

import os
import random
import signal
from types import SimpleNamespace

import IPython.display
import pytest
import torch
from test_train import equal, grpo, numbers, the_adapter
from widget_fakes import control

import medr1kit as mk
from medr1kit.training import live as live_module
from medr1kit.vqa import DataError


class FrontEnd:
    """A notebook's kernel, and a reader in front of it, who acts whenever the training looks for clicks."""

    def __init__(self):
        self.panel, self.left, self.looks = None, None, 0
        self.shell_stream, self._recv_callback = self, None
        self.act = lambda: None

    def display(self, panel, display_id):
        self.panel = panel
        panel.root  # noqa: B018 - builds it
        return SimpleNamespace(update=lambda bundle, raw: setattr(self, "left", bundle))

    def on_recv(self, callback, copy):
        self._recv_callback = callback

    def flush(self):
        self.looks += 1
        self.act()

    def click(self, hook):
        control(self.panel, hook).click()


@pytest.fixture
def cell(monkeypatch):
    front = FrontEnd()
    monkeypatch.setattr(live_module, "kernel_of", lambda asked: front)
    monkeypatch.setattr(live_module, "_BLINK", 0.001)
    monkeypatch.setattr(IPython.display, "display", front.display)
    return front


def test_it_is_the_same_training_bit_by_bit(one_thread, cell, train_phantoms, tmp_path):
    found = []
    for live in (False, True):
        model, processor = mk.load_model("tiny")
        run = grpo(model, processor, train_phantoms, tmp_path / str(live), live=live, learning_rate=1e-3, max_steps=4)
        drawn = (torch.get_rng_state().tolist(), random.getstate())
        found.append((the_adapter(model), run.rollouts, numbers(run), drawn))
    (adapter, rollouts, metrics, drawn), (shown, rollouts_too, metrics_too, drawn_too) = found
    assert equal(adapter, shown) and any(weight.any() for name, weight in adapter.items() if "lora_B" in name)
    assert rollouts.equals(rollouts_too) and metrics.equals(metrics_too) and drawn == drawn_too
    assert cell.looks > 4 and cell.left["text/plain"] == "training: step 4 of 4, ended"


def test_it_is_paused_takes_a_step_and_is_stopped_and_kept(fresh_tiny, cell, train_phantoms, val_phantoms, tmp_path):
    waited = []

    def act():
        panel = cell.panel
        if panel.step == 0 and not panel.paused:
            cell.click("pause")
        elif panel.waiting:
            waited.append(panel.step)
            if waited == [1] * 5:
                cell.click("one")
            elif waited == [1] * 5 + [2] * 5:
                cell.click("stop")

    cell.act = act
    model, processor = fresh_tiny
    run = grpo(model, processor, train_phantoms, tmp_path / "1", live=True, max_steps=9)
    assert waited == [1] * 5 + [2] * 5, "a step is counted once, and none is taken while it waits"
    assert run.config["stopped"] == {"step": 2, "of": 9} and run.config["summary"]["steps"] == 2 == len(run.metrics)
    assert (
        run.rollouts["step"].unique().tolist() == [1, 2] and "after step 2 of 9" in (run.path / "README.md").read_text()
    )
    assert set(cell.left) == {"text/plain", "text/html"} and "stopped and kept" in cell.left["text/html"]
    model_of_file, processor_of_file = mk.load_model(run.path)
    for pair in ((model, processor), (model_of_file, processor_of_file)):
        preds = mk.predict(*pair, val_phantoms.select([0]), format="no-think", max_new_tokens=4)
        assert preds[["method", "step", "model"]].values.tolist() == [["grpo", 2, "tiny"]]
    with pytest.warns(UserWarning, match="ended by hand, and its weights are kept, after 2 steps: nothing is left"):
        grpo(*mk.load_model("tiny"), train_phantoms, run.path, max_steps=9, resume=True)


def test_a_pause_is_no_time_of_training(fresh_tiny, cell, train_phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "_BLINK", 30.0)
    slept = []
    monkeypatch.setattr(live_module.time, "sleep", slept.append)
    clock = live_module.time.monotonic
    monkeypatch.setattr(live_module.time, "monotonic", lambda: clock() + sum(slept))

    def act():
        if cell.panel.step == 1 and not slept:
            cell.click("pause") if not cell.panel.paused else None
        elif cell.panel.waiting:
            cell.click("pause")

    cell.act = act
    run = grpo(*fresh_tiny, train_phantoms, tmp_path, live=True, max_steps=3)
    assert slept == [30.0] and run.config["summary"]["steps"] == 3 and run.config["summary"]["train_runtime"] < 30
    assert "stopped" not in run.config and "step" not in run.labels


def test_interrupting_the_kernel_ends_the_step_and_keeps_what_was_learned(fresh_tiny, cell, train_phantoms, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    cell.act = lambda: cell.panel.step == 1 and not cell.panel.stopped and os.kill(os.getpid(), signal.SIGINT)
    run = grpo(*fresh_tiny, train_phantoms, tmp_path, live=True, max_steps=9)
    assert run.config["stopped"] == {"step": 2, "of": 9} and run.labels["method"] == "grpo"
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupting_it_twice_breaks_it_off(fresh_tiny, cell, train_phantoms, tmp_path):
    cell.act = lambda: cell.panel.step == 1 and os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        grpo(*fresh_tiny, train_phantoms, tmp_path, live=True, max_steps=9)
    assert mk.load_run(tmp_path).labels["method"] == "interrupted" and "broken off" in cell.left["text/html"]


def test_drawing_never_takes_more_than_its_share(fresh_tiny, cell, train_phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "_SHARE", 1e9)
    drawn = []
    fill = live_module.LivePanel.fill
    monkeypatch.setattr(live_module.LivePanel, "fill", lambda panel: drawn.append(len(panel._paid)) or fill(panel))
    grpo(*fresh_tiny, train_phantoms, tmp_path, live=True, max_steps=5)
    assert set(drawn) == {0, 1, 5}, "the first step, and what is left at the end"


def test_without_a_cell_or_with_several_processes_it_is_refused(tiny, train_phantoms, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="live=True needs the cell of a notebook"):
        grpo(*tiny, train_phantoms, tmp_path / "1", live=True)
    with pytest.raises(DataError, match="live is the text 'yes'; give True or False"):
        grpo(*tiny, train_phantoms, tmp_path / "1", live="yes")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="live=True shows one process, and 2 train together; leave it out"):
        grpo(*tiny, train_phantoms, tmp_path / "1", live=True)
    assert not (tmp_path / "1").exists()
