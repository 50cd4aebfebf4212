"""A run folder: written step by step, readable at any moment, whatever kills the training."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medr1kit.results.folders import check_folder
from medr1kit.results.runs import RunWriter, load_run, replace_file
from medr1kit.results.tables import METRICS, PREDICTIONS, ROLLOUTS
from medr1kit.vqa import DataError

CONFIG = {"preset": "tiny", "seed": 0, "data": {"rows": 12}}
WRITTEN = {"written_by": "medr1kit", **CONFIG}


def predictions():
    row = dict.fromkeys(PREDICTIONS) | {"id": "q0", "options": ["yes", "no"], "answer": "A", "well_formed": True}
    return pd.DataFrame([row | {"correct": right} for right in (True, True, False)])


def rollout(step, number, **columns):
    row = {"step": step, "id": "q0", "rollout": number, "question": "What?", "options": ["yes", "no"], "answer": "A"}
    row |= {"text": "<answer>A</answer>", "accuracy_reward": 1.0, "advantage": np.float32(0.5), "truncated": False}
    return row | columns


def test_a_finished_run_comes_back_as_it_was_written(tmp_path):
    with RunWriter(tmp_path / "ct", CONFIG) as run:
        for step in (1, 2):
            run.metrics_row({"step": step, "reward": 0.25 * step, "rewards/accuracy_reward/mean": np.float32(0.5)})
            run.rollout_rows([rollout(step, number) for number in range(4)])
        run.write_predictions(predictions())
    run = load_run(tmp_path / "ct")
    assert run.path == tmp_path / "ct" and run.config == WRITTEN
    assert run.metrics["reward"].tolist() == [0.25, 0.5]
    assert run.metrics["rewards/accuracy_reward/mean"].tolist() == [0.5, 0.5]
    assert run.rollouts["rollout"].tolist() == [0, 1, 2, 3] * 2
    assert run.rollouts["options"][0] == ["yes", "no"]
    assert run.rollouts["advantage"][7] == 0.5 and run.rollouts["truncated"].dtype == bool
    assert run.predictions["options"][0] == ["yes", "no"]
    assert run.predictions["correct"].tolist() == [True, True, False]
    assert sorted(file.name for file in run.path.iterdir()) == [
        "metrics.csv", "predictions.parquet", "rollouts.parquet", "run.json",
    ]  # fmt: skip


def test_every_step_is_on_disk_before_the_next(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    assert load_run(tmp_path).config == WRITTEN
    for step in (1, 2, 3):
        run.metrics_row({"step": step})
        run.rollout_rows([rollout(step, 0)])
        now = load_run(tmp_path)
        assert now.metrics["step"].tolist() == now.rollouts["step"].tolist() == list(range(1, step + 1))


def test_a_run_that_was_killed_in_the_middle_of_a_line_loses_that_line_only(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    for step in (1, 2):
        run.metrics_row({"step": step, "reward": 1.5})
        run.rollout_rows([rollout(step, 0, text="née")])
    for name in ("metrics.csv", "rollouts.jsonl"):
        content = (tmp_path / name).read_bytes()
        for length in range(content[:-1].rfind(b"\n") + 1, len(content)):  # every place the kill can fall on
            (tmp_path / name).write_bytes(content[:length])
            killed = load_run(tmp_path)
            table = killed.metrics if name == "metrics.csv" else killed.rollouts
            assert table["step"].tolist() == [1]


def test_a_column_that_appears_later_is_added_without_losing_earlier_rows(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    run.metrics_row({"step": 1, "note": 'a "quoted", text'})
    run.metrics_row({"step": 2, "kl": 0.125})
    run.metrics_row({"kl": np.float64("nan"), "step": np.int64(3), "note": None})
    run.metrics_row({"step": 4, "eval_accuracy": 0.75})
    table = load_run(tmp_path).metrics
    assert table.columns.tolist() == ["step", "note", "kl", "eval_accuracy"]
    assert table["step"].tolist() == [1, 2, 3, 4]
    assert table["note"][0] == 'a "quoted", text' and table["note"].isna().tolist() == [False, True, True, True]
    assert table["kl"][1] == 0.125 and table["kl"].isna().tolist() == [True, False, True, True]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[3] == "3,,,"


def test_awkward_completions_survive(tmp_path):
    texts = ["two\nlines", "separator\u2028inside", "nul-like \\u0000 text", "", "Ödem 水腫"]
    with RunWriter(tmp_path, CONFIG) as run:
        run.rollout_rows([rollout(1, k, text=text, predicted=None) for k, text in enumerate(texts)])
        assert load_run(tmp_path).rollouts["text"].tolist() == texts
        run.rollout_rows([rollout(2, 0, accuracy_reward=None, advantage=float("nan"))])
    table = load_run(tmp_path).rollouts
    assert table["text"].tolist()[:5] == texts
    assert pd.isna(table["accuracy_reward"][5]) and pd.isna(table["advantage"][5])


def test_a_kill_between_the_two_steps_of_closing_doubles_nothing(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    run.rollout_rows([rollout(1, 0)])
    lines = (tmp_path / "rollouts.jsonl").read_bytes()
    run.close()
    (tmp_path / "rollouts.jsonl").write_bytes(lines)
    assert len(load_run(tmp_path).rollouts) == 1


def test_a_closed_run_takes_no_more_rollouts_and_closing_twice_is_harmless(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    run.rollout_rows([rollout(1, 0)])
    run.close()
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.rollout_rows([rollout(2, 0)])
    assert len(load_run(tmp_path).rollouts) == 1


def test_a_new_run_has_empty_tables_with_their_columns(tmp_path):
    RunWriter(tmp_path, CONFIG).close()
    run = load_run(tmp_path)
    assert run.metrics.empty and tuple(run.metrics.columns) == METRICS
    assert run.rollouts.empty and tuple(run.rollouts.columns) == ROLLOUTS
    assert run.predictions.empty and tuple(run.predictions.columns) == PREDICTIONS


def test_an_earlier_run_is_not_overwritten_unless_allowed(tmp_path):
    with RunWriter(tmp_path, CONFIG | {"lora": {"r": 4}}) as run:
        run.metrics_row({"step": 1})
    (tmp_path / "adapter").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"already holds a run; .* overwrite=True \(--overwrite\)"):
        RunWriter(tmp_path, CONFIG)
    RunWriter(tmp_path, CONFIG | {"seed": 1}, overwrite=True).close()
    assert load_run(tmp_path).metrics.empty and load_run(tmp_path).config["seed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json"]


def test_weights_alone_are_an_earlier_run_too(tmp_path):
    """Nothing was logged: there are no tables."""
    RunWriter(tmp_path, {"lora": {"r": 4}}).close()
    (tmp_path / "adapter").mkdir()
    with pytest.raises(DataError, match="already holds a run"):
        RunWriter(tmp_path, {})


# ---- what is not ours ------------------------------------------------------------------------------------------------

NAMES = ("adapter/a", "model/weights.safetensors", "README.md", "metrics.csv", "predictions.parquet", "run.json")
NAMES += ("checkpoint-100/trainer_state.json", "rollouts.jsonl", "visual_reliance.csv")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_no_run_wrote_stays_and_the_run_is_refused_by_its_name(tmp_path, name, overwrite):
    file = tmp_path / "project" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    (tmp_path / "project" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=f"{name.split('/')[0]} was not written by a run in this folder"):
        RunWriter(tmp_path / "project", CONFIG, overwrite)
    assert file.read_text() == "{}" and len(list((tmp_path / "project").iterdir())) == 2


def test_files_of_other_names_are_no_obstacle_and_stay(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.py").write_text("mine")
    for overwrite in (False, True):
        with RunWriter(tmp_path, CONFIG, overwrite) as run:
            run.metrics_row({"step": 1})
    assert (tmp_path / "data").is_dir() and (tmp_path / "train.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"lora": {"r": 4}}, "model"),  # with LoRA a run writes adapter/
        ({"lora": None}, "adapter"),
        ({"arguments": {"save_strategy": "no"}}, "checkpoint-5"),
    ],
)
def test_what_was_put_beside_a_run_is_not_the_runs(tmp_path, config, name):
    RunWriter(tmp_path, config).close()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name} was not written"):
        RunWriter(tmp_path, config, overwrite=True)
    assert (tmp_path / name).is_dir()


def test_a_card_of_ones_own_beside_a_run_is_kept_and_the_runs_is_replaced(tmp_path):
    for text, kept in (("Trained with medr1kit 0.1.0 (LoRA)", False), ("# My thesis", True)):
        RunWriter(tmp_path / "run", {}).close() if not (tmp_path / "run").exists() else None
        (tmp_path / "run" / "README.md").write_text(text)
        if kept:
            with pytest.raises(DataError, match=r"README\.md was not written"):
                RunWriter(tmp_path / "run", {}, overwrite=True)
        else:
            RunWriter(tmp_path / "run", {}, overwrite=True).close()
        assert (tmp_path / "run" / "README.md").exists() == kept


def test_checkpoints_of_an_earlier_run_go_with_it(tmp_path):
    config = {"arguments": {"save_strategy": "steps"}}
    RunWriter(tmp_path, config).close()
    (tmp_path / "checkpoint-5").mkdir()
    RunWriter(tmp_path, config, overwrite=True).close()
    assert not (tmp_path / "checkpoint-5").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_users_checkpoint_folder_is_none_of_the_runs(tmp_path, overwrite):
    config = {"arguments": {"save_strategy": "steps"}}
    RunWriter(tmp_path, config).close()
    (tmp_path / "checkpoint-best").mkdir()
    RunWriter(tmp_path, config, overwrite=True).close()
    assert (tmp_path / "checkpoint-best").is_dir()


def test_a_users_file_among_the_weights_is_not_deleted_with_them(tmp_path):
    RunWriter(tmp_path, {"lora": {"r": 4}}).close()
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).write_text("")
    (tmp_path / "adapter" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt was not written by a run"):
        RunWriter(tmp_path, {}, overwrite=True)
    (tmp_path / "adapter" / "notes.txt").unlink()
    RunWriter(tmp_path, {}, overwrite=True).close()
    assert not (tmp_path / "adapter").exists()


def test_a_file_that_is_a_link_is_not_written_through(tmp_path):
    RunWriter(tmp_path / "first", {"seed": 1}).close()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "run.json").symlink_to(tmp_path / "first" / "run.json")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "metrics.csv").symlink_to(tmp_path / "nowhere")
    for place, name in (("second", "run.json"), ("third", "metrics.csv")):
        with pytest.raises(DataError, match=f"{name} was not written by a run"):
            RunWriter(tmp_path / place, {"seed": 2}, overwrite=True)
    assert load_run(tmp_path / "first").config["seed"] == 1 and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("place", ["~", "/", "."])
def test_home_and_root_are_no_folder_of_a_run(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is (your home|the root of all folders), and a run has a folder of its own"):
        RunWriter(place, CONFIG)
    assert not list(tmp_path.iterdir())


def test_no_is_not_taken_for_yes(tmp_path):
    RunWriter(tmp_path, CONFIG).close()
    with pytest.raises(DataError, match="overwrite is the text 'no'; give True or False"):
        RunWriter(tmp_path, CONFIG, overwrite="no")


def test_a_link_is_taken_away_and_not_what_it_shows(tmp_path):
    (tmp_path / "store").mkdir()
    RunWriter(tmp_path / "run", {"lora": {}}).close()
    (tmp_path / "run" / "model").symlink_to(tmp_path / "store")
    RunWriter(tmp_path / "run", {}, overwrite=True).close()
    assert (tmp_path / "store").is_dir() and not (tmp_path / "run" / "model").exists()


def test_a_run_of_an_earlier_version_may_be_replaced(tmp_path):
    (tmp_path / "run.json").write_text('{"versions": {"medr1kit": "0.1.0"}}')
    (tmp_path / "metrics.csv").write_text("step\n1\n")
    RunWriter(tmp_path, CONFIG, overwrite=True).close()
    assert load_run(tmp_path).metrics.empty


# ---- where, and who else ---------------------------------------------------------------------------------------------


def test_the_home_folder_is_written_out_as_a_shell_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with RunWriter("~/runs/x", CONFIG) as run:
        assert run.path == tmp_path / "runs" / "x"
    assert load_run("~/runs/x").config == WRITTEN


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(DataError, match=r"output_dir='.*' cannot be written \(.*\); choose another place"):
            RunWriter(place, CONFIG)
    with pytest.raises(DataError, match="output_dir is None"):
        RunWriter(None, CONFIG)
    with pytest.raises(DataError, match="path is a dict"):
        load_run({})


def test_two_writers_never_share_a_folder(tmp_path):
    first = RunWriter(tmp_path, {"run": 1})
    for overwrite in (False, True):
        with pytest.raises(DataError, match="another training writes to"):
            RunWriter(tmp_path, {"run": 2}, overwrite)
        with pytest.raises(DataError, match="another training writes to"):
            check_folder(tmp_path, overwrite)
    first.metrics_row({"step": 1})
    first.close()
    assert load_run(tmp_path).config["run"] == 1
    assert check_folder(tmp_path, True) == tmp_path
    RunWriter(tmp_path, {"run": 2}, True).close()
    assert load_run(tmp_path).config["run"] == 2


HOLD = "import sys, time; from medr1kit.results.runs import RunWriter; r = RunWriter(sys.argv[1], {'run': 1})\n"
HOLD += "r.metrics_row({'step': 1}); print('held', flush=True); time.sleep(60)"


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    """As a queue ends a job that is then started again."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="another training writes to"):
            RunWriter(tmp_path, {"run": 2}, overwrite=True)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with pytest.raises(DataError, match="already holds a run"):
        RunWriter(tmp_path, {"run": 2})
    RunWriter(tmp_path, {"run": 2}, overwrite=True).close()
    assert load_run(tmp_path).config["run"] == 2 and load_run(tmp_path).metrics.empty


def test_a_refused_run_lets_the_folder_go(tmp_path):
    for _ in range(2):
        with pytest.raises(TypeError):
            RunWriter(tmp_path, {("a", "tuple"): "is no key of JSON"})
    RunWriter(tmp_path, CONFIG).close()


def test_settings_that_json_does_not_know_are_written_as_text(tmp_path):
    RunWriter(tmp_path, {"output_dir": Path("runs/ct"), "n": np.int64(3), "letters": np.array([1, 2])})
    assert load_run(tmp_path).config == {"written_by": "medr1kit", "output_dir": "runs/ct", "n": 3, "letters": [1, 2]}


def test_a_value_no_table_can_hold_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"cannot write a \w*Path"):
        RunWriter(tmp_path, CONFIG).rollout_rows([rollout(1, 0, text=Path("x"))])


def test_folders_that_are_no_run_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match="the folder does not exist"):
        load_run(tmp_path / "missing")
    with pytest.raises(DataError, match=r"the folder has no run\.json"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"seed": ')
    with pytest.raises(DataError, match="is not JSON"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list"):
        load_run(tmp_path)


def test_a_damaged_table_names_its_file(tmp_path):
    run = RunWriter(tmp_path, CONFIG)
    run.rollout_rows([rollout(1, 0)])
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write("not json\n" + json.dumps(rollout(2, 0, advantage=0.5)) + "\n")
    with pytest.raises(DataError, match=r"rollouts\.jsonl, line 2"):
        _ = load_run(tmp_path).rollouts
    for damage in (b"\xff\xfe\n", b"\0\0\0\n", b"step,loss\n1,2,3\n", b"a,b\n1,2\n"):
        (tmp_path / "metrics.csv").write_bytes(damage)
        with pytest.raises(DataError, match=r"metrics\.csv .*; restore it, or remove it to see the rest"):
            _ = load_run(tmp_path).metrics
    with pytest.raises(DataError, match=r"run\.json does not hold the run's labels"):
        _ = load_run(tmp_path).labels
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"predictions\.parquet cannot be read"):
        _ = load_run(tmp_path).predictions


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    replace_file(file, "before\n")
    replace_file(file, "añb\r\n".encode())
    assert file.read_bytes() == "añb\r\n".encode() and [path.name for path in tmp_path.iterdir()] == ["run.json"]

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_file(file, "half of")
    assert file.read_text() == "añb\n", "the old one is whole"
