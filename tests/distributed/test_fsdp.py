"""FSDP on two processes. accelerate uses it on GPUs alone; sharded_runs.py lets it run with gloo, all else as it is."""

import shutil
import sys

import pytest
from sharded_cases import CONFIGS, SHARED, apart, equal, run, train_all, weights_in, without_end

import medr1kit as mk
from medr1kit.results.runs import load_run

LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "fsdp.yaml")
SAVED = SHARED | {"save_steps": 2, "gradient_checkpointing": True}
TRAININGS = {
    "sft": ("sft", SHARED),
    "grpo": ("grpo", SAVED | {"ask": True}),
    "stopped": ("grpo", SAVED | {"stop_after": 3}),
    "nothing-learnt": ("sft", SHARED | {"learning_rate": 0.0, "max_steps": 1}),
    "no-number": ("sft", SHARED | {"spoil_after": 2, "save_steps": 1}),
    "whole": ("sft", SHARED | {"lora": False}),
    "ungathered": ("sft", SHARED | {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of all trainings, and what was said in them."""
    folder = tmp_path_factory.mktemp("fsdp")
    return folder, train_all(folder, TRAININGS, start=LAUNCH)


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_two_processes_train_the_adapter_that_one_does(one_process, trained, name):
    folder, said = trained
    assert [one["error"] for one in said[name]] == [None, None]
    weights, reference = weights_in(folder / name), {"grpo": "grpo-stock"}.get(name, name)
    assert apart(weights_in(one_process / reference), weights) < 1e-5
    assert all(tensor.any() for tensor in weights.values())
    metrics, alone = load_run(folder / name).metrics, load_run(one_process / reference).metrics
    for column in ("loss", "grad_norm"):
        assert metrics[column].tolist() == pytest.approx(alone[column].tolist(), rel=1e-4, abs=1e-5)
    assert not [one for process in said[name] for one in process["warnings"] if "changed no weight" in one]


def test_run_and_checkpoint_are_models_that_answer(trained):
    folder, rows = trained[0] / "grpo", mk.load_vqa("phantoms", split="val", n=8)
    assert set(mk.predict_checkpoints(folder, rows, format="no-think")["step"]) == {2, 3}
    assert equal(weights_in(folder / "checkpoint-3"), weights_in(folder))
    assert "FSDP scatters" in load_run(folder).config["shared_prefix"]


def test_a_run_that_was_stopped_goes_on_to_the_last_bit(trained):
    folder, said = trained
    assert said["stopped"][0]["error"].startswith("KeyboardInterrupt")
    without_end(shutil.copytree(folder / "grpo", folder / "unended"))
    again = train_all(folder, dict.fromkeys(["stopped", "unended"], ("grpo", SAVED | {"resume": True})), start=LAUNCH)
    for name, step in (("stopped", 2), ("unended", 3)):
        first = again[name][0]
        assert first["error"] is None and any(f"goes on from step {step} of 3" in one for one in first["warnings"])
        assert equal(weights_in(folder / name), weights_in(folder / "grpo"))


def test_a_scattered_model_says_so_and_its_run_can_be_loaded_beside_it(trained):
    for process in trained[1]["grpo"]:
        assert "scattered over the processes that trained it" in process["asked"]
        assert len(process["answers"]) == 4 and all(process["answers"])


def test_what_is_looked_at_while_training_is_looked_at_in_all_parts(trained):
    folder, said = trained
    assert any("changed no weight" in one for one in said["nothing-learnt"][0]["warnings"])
    for process in said["no-number"]:
        assert "step 2: the trained weights are no longer finite numbers" in process["error"]
    assert sorted(path.name for path in (folder / "no-number").glob("checkpoint-*")) == ["checkpoint-1"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("whole", "FSDP trains an adapter here, and not all weights"), ("ungathered", "fsdp_state_dict_type to FULL")],
)
def test_what_would_be_wrong_or_lost_is_refused_before_it_is_trained(trained, name, sentence):
    folder, said = trained
    assert all(sentence in process["error"] for process in said[name])
    assert not (folder / name / "metrics.csv").exists()


def test_on_a_cpu_it_is_refused_where_it_would_be_passed_over(tmp_path):
    line = "-m medr1kit sft --model_name_or_path tiny --dataset_name phantoms --num_rows 16 --max_steps 1"
    ended = run(*LAUNCH, *line.split(), "--output_dir", tmp_path / "run")
    assert ended.returncode != 0 and "FSDP is not used on a CPU" in ended.stderr
    assert not (tmp_path / "run").exists()
