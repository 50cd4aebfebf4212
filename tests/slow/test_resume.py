"""A killed training goes on as if nothing had happened, or says in one sentence why it cannot."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from resume_runs import train

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.found import find
from medr1kit.results.runs import RunWriter, load_run
from medr1kit.results.watch import RewardWatch
from medr1kit.training.recording import Recorder
from medr1kit.vqa import DataError

KILLS = int(os.environ.get("KILLS", 1))  # at random moments; `make test-resume` asks for ten
# What a step cost, and how often an image was remembered, is of the process, not of the run.
MACHINE = ("step_time", "time/", "tokens_per_second", "peak_memory", "count/images")


class Stopped(BaseException):
    """Not an Exception: nothing may swallow it."""


@pytest.fixture
def stop_at(monkeypatch):
    """Stop the trainings of this process once a step was logged, before it is saved; None: no more."""
    log, at = Recorder.on_log, []

    def on_log(self, args, state, control, **kwargs):
        log(self, args, state, control, **kwargs)
        if state.global_step in at:
            raise Stopped

    monkeypatch.setattr(Recorder, "on_log", on_log)

    def set_to(step):
        at[:] = [step]

    return set_to


@pytest.fixture
def stopped(stop_at, one_thread):
    """Train until a step was logged, and stop."""

    def run(method, folder, step, **changes):
        stop_at(step)
        with pytest.raises(Stopped):
            train(method, folder, **changes)
        stop_at(None)

    return run


@pytest.fixture(scope="module")
def whole(one_thread, tmp_path_factory):
    """Folder and seconds of an unbroken run of each method."""
    made = {}

    def of(method):
        if method not in made:
            begun = time.monotonic()
            made[method] = train(method, tmp_path_factory.mktemp(method)).path, time.monotonic() - begun
        return made[method]

    return of


def started(method, folder, moment, *launcher):
    """Train in a process of its own and return how it ended."""
    script = str(Path(__file__).with_name("resume_runs.py"))
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *launcher, script, method, str(folder), str(moment)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300)


def killed(method, folder, moment):
    """Train in a process of its own that is killed by SIGKILL, unless it ends before."""
    ended = started(method, folder, moment)
    assert ended.returncode in (0, -9), ended.stderr[-2000:]


def numbers(run):
    return run.metrics.drop(columns=[name for name in run.metrics if name.startswith(MACHINE)])


def assert_equal(one, other):
    """Adapter or weights, both tables, and what the run says of itself."""
    one, other = load_run(one), load_run(other)
    part = "adapter" if (one.path / "adapter").is_dir() else "model"
    for file in (one.path / part).glob("*.safetensors"):
        assert file.read_bytes() == (other.path / part / file.name).read_bytes()
    assert numbers(one).to_csv() == numbers(other).to_csv()
    assert one.metrics["step"].is_monotonic_increasing and one.metrics["step"].is_unique
    assert one.rollouts.to_json() == other.rollouts.to_json()
    assert one.labels == other.labels and "stopped" not in other.config
    assert one.config["summary"]["steps"] == other.config["summary"]["steps"]
    assert one.config["summary"]["train_loss"] == pytest.approx(other.config["summary"]["train_loss"], abs=1e-9)


# ---- as if nothing had happened --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_run_that_was_killed_at_a_random_moment_ends_as_an_unbroken_one(whole, tmp_path, method, number):
    folder, seconds = whole(method)
    moment = random.uniform(0, seconds)
    print(f"killed after {moment:.2f} s")
    killed(method, tmp_path, moment)
    train(method, tmp_path, resume=True)
    assert_equal(folder, tmp_path)


def test_a_checkpoint_that_a_kill_left_half_written_is_not_taken(whole, tmp_path):
    killed("grpo", tmp_path, "in a save")
    assert (tmp_path / "checkpoint-4" / "optimizer.pt").is_file(), "its weights can be loaded, and it is not complete"
    with pytest.warns(UserWarning, match=r"goes on from step 2 of 6"):
        train("grpo", tmp_path, resume=True)
    assert_equal(whole("grpo")[0], tmp_path)
    assert load_run(tmp_path).config["resumed"] == [2]


@pytest.mark.skipif(KILLS < 2, reason="a minute: make test-resume")
def test_two_processes_go_on_together(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    assert started("grpo", tmp_path / "whole", "whole", *torchrun).returncode == 0
    assert started("grpo", tmp_path / "x", "in a save", *torchrun).returncode == 1
    ended = started("grpo", tmp_path / "x", "resume", *torchrun)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert_equal(tmp_path / "whole", tmp_path / "x")
    assert load_run(tmp_path / "x").config["resumed"] == [2]
    with pytest.raises(DataError, match="processes was 2 and is 1"):
        train("grpo", tmp_path / "x", resume=True)


@pytest.mark.parametrize(
    ("method", "step", "changes"),
    [
        ("sft", 3, {"gradient_accumulation_steps": 2, "logging_steps": 3}),
        ("grpo", 3, {"gradient_accumulation_steps": 2, "logging_steps": 3, "beta": 0.04}),
        ("grpo", 3, {"dynamic_sampling": 2, "lora": {"tower": False, "merger": True}}),
        ("grpo", 3, {"shared_prefix": False}),
        ("grpo", 3, {"lora": False, "learning_rate": 1e-4}),
    ],
)
def test_other_settings_come_back_as_well(stopped, tmp_path, method, step, changes):
    changes |= {"max_steps": 4}
    train(method, tmp_path / "whole", **changes)
    stopped(method, tmp_path / "x", step, **changes)
    train(method, tmp_path / "x", resume=True, **changes)
    assert_equal(tmp_path / "whole", tmp_path / "x")


@pytest.mark.parametrize("changes", [{"steps_per_generation": 2}, {"num_iterations": 2}])
def test_a_checkpoint_waits_until_the_completions_at_hand_are_used(stopped, tmp_path, changes):
    """They are not in it: a run that goes on in their middle would sample others."""
    changes |= {"save_steps": 3, "max_steps": 6}
    train("grpo", tmp_path / "whole", **changes)
    stopped("grpo", tmp_path / "x", 5, **changes)
    assert [path.name for path in (tmp_path / "x").glob("checkpoint-*")] == ["checkpoint-4"]
    train("grpo", tmp_path / "x", resume=True, **changes)
    assert_equal(tmp_path / "whole", tmp_path / "x")


def test_a_run_whose_steps_were_all_taken_takes_none_more(whole, tmp_path, monkeypatch):
    """Killed between the last checkpoint and the end."""
    folder = shutil.copytree(whole("sft")[0], tmp_path / "x")
    shutil.rmtree(folder / "adapter")
    config = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({name: value for name, value in config.items() if name != "summary"}))
    train("sft", folder, resume=True)
    assert_equal(whole("sft")[0], folder)


def test_a_run_can_be_killed_more_than_once(stopped, whole, tmp_path):
    stopped("grpo", tmp_path, 3)
    stopped("grpo", tmp_path, 5, resume=True)
    train("grpo", tmp_path, resume=True)
    assert_equal(whole("grpo")[0], tmp_path)
    assert load_run(tmp_path).config["resumed"] == [2, 4]


def test_the_watch_goes_on_with_what_it_had_seen():
    def rows(step):
        texts = [f"<answer> {'AB'[(step + i) % 2]} </answer>" for i in range(100)]
        given = {"question": "Which?", "options": ["CT", "MRI"], "answer": "A", "n_tokens": 9 + 9 * step}
        return [
            {"step": step, "id": str(i), "text": t, "truncated": step > 4, "r": 1.0} | given
            for i, t in enumerate(texts)
        ]

    import pandas as pd

    watch = RewardWatch("no-think")
    seen = [watch.step(rows(step)) for step in range(1, 9)]
    first, second = RewardWatch("no-think"), RewardWatch("no-think")
    for step in range(1, 6):
        first.step(rows(step))
    kept = json.loads(json.dumps(first.state()))
    second.go_on(kept, pd.DataFrame([row for step in range(1, 6) for row in rows(step)]))
    assert [second.step(rows(step)) for step in range(6, 9)] == seen[5:]
    assert second.warnings == watch.warnings and watch.warnings


def test_tables_are_cut_behind_a_step(tmp_path):
    def rollout(step):
        return {"step": step, "id": f"q{step}", "options": ["a", "b"], "reward": None if step == 2 else 0.5}

    with RunWriter(tmp_path, {"labels": {}, "command": ["first"]}) as run:
        for step in (1, 2, 3):
            run.metrics_row({"step": step, "loss": 1 / step} | ({"late": step} if step == 3 else {}))
            run.rollout_rows([rollout(step), rollout(step)])
    run = RunWriter(tmp_path, {"labels": {}, "command": ["again"]}, step=2)
    assert load_run(tmp_path).metrics["step"].tolist() == [1, 2]
    assert load_run(tmp_path).rollouts["step"].tolist() == [1, 1, 2, 2]
    run.metrics_row({"step": 3, "loss": 0.1})
    run.rollout_rows([rollout(3)])
    run.close()
    again = load_run(tmp_path)
    assert again.metrics["loss"].tolist() == [1, 0.5, 0.1] and again.rollouts["step"].tolist() == [1, 1, 2, 2, 3]
    assert again.rollouts["options"][0] == ["a", "b"] and again.rollouts["reward"].isna().tolist() == [False] * 2 + [
        True
    ] * 2 + [False]
    assert again.config["command"] == ["first"] and again.config["resumed"] == [2]


# ---- nothing to go on from -------------------------------------------------------------------------------------------


def test_where_there_is_no_run_one_starts_and_says_so(one_thread, tmp_path):
    with pytest.warns(UserWarning, match=r"there is no run in .*x to resume, so a new one starts"):
        run = train("sft", tmp_path / "x", resume=True, max_steps=1)
    assert "resumed" not in run.config


def test_before_the_first_checkpoint_a_run_starts_anew_and_says_so(stopped, tmp_path):
    stopped("sft", tmp_path, 1, save_strategy="no", max_steps=2)
    with pytest.warns(UserWarning, match=r"before its first checkpoint was complete, .* anew; give save_steps"):
        run = train("sft", tmp_path, resume=True, save_strategy="no", max_steps=2)
    assert run.metrics["step"].tolist() == [1, 2]


def test_a_run_that_has_ended_is_returned(whole, tiny):
    folder, _ = whole("sft")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.warns(UserWarning, match="has ended, after 8 steps: nothing is left to do"):
        run = train("sft", folder, resume=True)
    assert run.path == folder and run.config["summary"]["steps"] == 8
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 2e-3}, "learning_rate was 0.001 and is 0.002"),
        ({"max_steps": 9, "seed": 4}, "seed was 3 and is 4; max_steps was 8 and is 9"),
        ({"lora": {"rank": 4}}, "r was 16 and is 4"),
        ({"lora": False}, "lora was True and is False"),
        ({"format": "think-after"}, "format was 'no-think' and is 'think-after'"),
    ],
)
def test_other_settings_are_refused_by_name(whole, changes, words):
    with pytest.raises(DataError, match=f"holds a run of other settings.*{words}.*overwrite=True"):
        train("sft", whole("sft")[0], resume=True, **changes)


def edited(folder, to, **values):
    """A copy of a run as if it had been killed, with other words in its run.json."""
    shutil.copytree(folder, to)
    config = json.loads((to / "run.json").read_text())
    config.pop("summary")
    (to / "run.json").write_text(json.dumps(config | values))
    return to


def test_another_number_of_processes_and_other_questions_are_refused(whole, tmp_path):
    folder = edited(whole("sft")[0], tmp_path / "a", processes=2)
    with pytest.raises(DataError, match="processes was 2 and is 1"):
        train("sft", folder, resume=True)
    data = load_run(folder).config["data"] | {"fingerprint": "0" * 16}
    folder = edited(whole("sft")[0], tmp_path / "b", data=data)
    with pytest.raises(DataError, match="data fingerprint was '0000000000000000' and is "):
        train("sft", folder, resume=True)


def test_other_versions_are_said(whole, tmp_path):
    folder = edited(whole("sft")[0], tmp_path / "a")
    config = json.loads((folder / "run.json").read_text())
    config["versions"]["torch"] = "1.0"
    (folder / "run.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="goes on from step 8 of 8; torch changed, so the rest may differ"):
        train("sft", folder, resume=True)


def test_checkpoints_without_optimizer_are_refused(stopped, tmp_path):
    stopped("sft", tmp_path, 3, save_only_model=True)
    with pytest.raises(DataError, match=r"checkpoint-2 holds no optimizer \(save_only_model\?\)"):
        train("sft", tmp_path, resume=True, save_only_model=True)
    assert (tmp_path / "checkpoint-2").is_dir()


@pytest.mark.parametrize("torn", ["trainer_state.json", "adapter_model.safetensors", "rng_state.pth"])
def test_damaged_checkpoints_are_passed_over_and_removed(stopped, tmp_path, torn):
    stopped("sft", tmp_path, 5)
    file = tmp_path / "checkpoint-4" / torn
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="goes on from step 2 of 8"):
        stopped("sft", tmp_path, 3, resume=True)
    assert (tmp_path / "checkpoint-4").exists() == (torn == "rng_state.pth"), "its weights are whole"


def test_a_checkpoint_of_another_run_is_not_gone_on_from(stopped, tmp_path):
    stopped("sft", tmp_path / "a", 3, seed=1)
    stopped("sft", tmp_path / "b", 5)
    shutil.copytree(tmp_path / "b" / "checkpoint-4", tmp_path / "a" / "checkpoint-4")
    with pytest.warns(UserWarning, match="goes on from step 2 of 8"):
        stopped("sft", tmp_path / "a", 3, seed=1, resume=True)


def test_a_model_that_holds_the_steps_already_is_refused(stop_at, fresh_tiny, train_phantoms, tmp_path):
    stop_at(2)
    arguments = {"format": "no-think", "output_dir": tmp_path, "max_steps": 3, "save_steps": 1}
    with pytest.raises(Stopped):
        mk.train_sft(*fresh_tiny, train_phantoms, **arguments)
    with pytest.raises(DataError, match=r"load the model anew .* from a checkpoint of that run \(resume=True\)"):
        mk.train_sft(*fresh_tiny, train_phantoms, **arguments, resume=True)


@pytest.mark.parametrize(("named", "resumed"), [(True, True), ("true", True), ("checkpoint-2", True), (False, False)])
def test_the_word_of_transformers_means_the_same(whole, tmp_path, named, resumed):
    folder, _ = whole("sft")
    named = folder / named if named == "checkpoint-2" else named
    if resumed:
        assert train("sft", folder, resume_from_checkpoint=named).path == folder
    else:
        with pytest.raises(DataError, match="already holds a run"):
            train("sft", folder, resume_from_checkpoint=named)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resume_from_checkpoint": "elsewhere/checkpoint-2"}, "is not in .*: a run goes on in its own folder"),
        ({"resume": True, "overwrite": True}, "going on with the run that is there, or replacing it"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny, train_phantoms, tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        mk.train_sft(*tiny, train_phantoms, format="no-think", output_dir=tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_giving_save_steps_means_saving(one_thread, tmp_path):
    train("sft", tmp_path, max_steps=3, save_steps=1, save_total_limit=2)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


def test_the_gpu_preset_keeps_two_checkpoints():
    from medr1kit.training.presets import PRESETS

    for method in ("sft", "grpo"):
        assert PRESETS["gpu"][method]["save_steps"] == 200 and PRESETS["gpu"][method]["save_total_limit"] == 2


def test_a_checkpoint_keeps_its_labels_wherever_it_goes(whole, tmp_path):
    folder, _ = whole("sft")
    labels = load_run(folder).labels | {"step": 8}
    other = edited(folder, tmp_path / "other", labels={"model": "tiny", "method": "grpo"})
    shutil.copytree(folder / "checkpoint-8", tmp_path / "best")
    (other / "checkpoint-6").rename(other / "checkpoint-600")
    assert find(folder / "checkpoint-8", None)[2].labels == labels
    assert find(tmp_path / "best", None)[2].labels == labels
    assert find(other / "checkpoint-8", None)[2].labels == labels, "of the run that it was made by"
    assert find(other / "checkpoint-600", None)[2].labels == labels | {"step": 6}
    assert find(folder / "checkpoint-8", None)[2].path == folder and find(tmp_path / "best", None)[0] == "tiny"


def test_no_checkpoint_of_an_earlier_run_is_left_by_an_overwrite(stopped, tmp_path):
    stopped("sft", tmp_path, 5)
    stopped("sft", tmp_path, 1, overwrite=True)
    assert not list(tmp_path.glob("checkpoint-*"))


# ---- what is saved ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saving(monkeypatch):
    """Change the tensors that PEFT is about to write."""
    from peft import PeftModel

    write = PeftModel.save_pretrained

    def changed_by(change):
        def save_pretrained(self, folder, **kwargs):
            write(self, folder, **kwargs)
            from safetensors.torch import load_file, save_file

            file = Path(folder) / "adapter_model.safetensors"
            save_file(change(load_file(file)), file)

        monkeypatch.setattr(PeftModel, "save_pretrained", save_pretrained)

    return changed_by


def first(tensors, value):
    return tensors | {min(tensors): value}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {name: torch.zeros(0) for name in t}, r"was written empty, \(0,\): its parts were not gathered"),
        (lambda t: first(t, torch.zeros(0, 4)), r"was written empty, \(0, 4\)"),
        (lambda t: {name: t[name] for name in sorted(t)[3:]}, r"lacks 3 of the \d+ trained tensors"),
        (lambda t: first(t, torch.zeros(3, 3)), r"lacks 1 of the \d+ trained tensors"),
        (lambda t: first(t, t[min(t)] * float("nan")), "holds NaN or infinite numbers"),
    ],
)
@pytest.mark.parametrize("what", ["adapter", "checkpoint"])
def test_what_was_written_is_read_back(one_thread, tmp_path, saving, change, words, what):
    saving(change)
    finite = "NaN" in words  # the weights of a checkpoint were looked at when their step ended
    changes = {"save_strategy": "no"} if what == "adapter" or finite else {"save_steps": 1}
    with pytest.raises(DataError, match=words):
        train("sft", tmp_path, max_steps=1, **changes)
    assert not (tmp_path / "adapter").exists() and "summary" not in load_run(tmp_path).config


# ---- through the other doors -----------------------------------------------------------------------------------------

LINE = "--model_name_or_path tiny --dataset_name phantoms --num_rows 12 --max_steps 3 --per_device_train_batch_size 4"


def test_the_same_command_again_goes_on(stop_at, one_thread, tmp_path, capsys):
    line = ["sft", *LINE.split(), "--save_steps", "1", "--output_dir"]
    assert main([*line, str(tmp_path / "whole")]) == 0
    stop_at(2)
    with pytest.raises(Stopped):
        main([*line, str(tmp_path / "x")])
    stop_at(None)
    for words in ([], ["--resume_from_checkpoint", "elsewhere"], ["--resume", "--overwrite"]):
        assert main([*line, str(tmp_path / "x"), *words]) == 2
    assert "--resume" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="goes on from step 1 of 3"):
        assert main([*line, str(tmp_path / "x"), "--resume"]) == 0
    assert_equal(tmp_path / "whole", tmp_path / "x")
    with pytest.warns(UserWarning, match="has ended, after 3 steps"):
        assert main([*line, str(tmp_path / "x"), "--resume_from_checkpoint"]) == 0


def test_held_out_questions_are_answered_by_a_run_that_had_ended(one_thread, tmp_path, capsys):
    """Killed between the training and its evaluation."""
    chosen = "--num_rows 24 --modality CT --task DD --test_size 0.34 --output_dir"
    line = ["sft", *LINE.split(), *chosen.split(), str(tmp_path)]
    assert main(line) == 0
    first = mk.load_run(tmp_path).predictions
    for name in ("predictions.parquet", "visual_reliance.csv"):
        (tmp_path / name).unlink()
    assert main([*line, "--resume"]) == 0
    again = mk.load_run(tmp_path).predictions
    assert again["method"].unique() == ["sft"] and again["text"].tolist() == first["text"].tolist()
    capsys.readouterr()
    assert main([*line, "--resume"]) == 0 and "held-out" not in capsys.readouterr().out


def test_a_cell_of_a_study_goes_on(stop_at, one_thread, tmp_path):
    from medr1kit.study.cell import run_cell
    from medr1kit.study.grid import read_study

    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small\nformats: [no-think]\nseeds: [0]\nmethods: {sft-answer: {max_steps: 3, save_steps: 1}}\n"
        "train: {name: phantoms, n: 12}\ntest: {name: phantoms, n: 4}\ntrain_by: {modality: [CT]}\n"
    )
    cell = next(cell for cell in read_study(file).cells if cell.train_by is not None)
    assert run_cell(cell, tmp_path / "whole")
    stop_at(2)
    with pytest.raises(Stopped):
        run_cell(cell, tmp_path / "x")
    stop_at(None)
    assert run_cell(cell, tmp_path / "x")
    assert load_run(tmp_path / "x").config["resumed"] == [1]
    assert_equal(tmp_path / "whole", tmp_path / "x")
