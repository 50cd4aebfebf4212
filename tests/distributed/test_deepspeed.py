"""DeepSpeed on two processes, with the files of configs/: `make test-distributed` installs it into .deepspeed."""

import importlib.util
import json
import shutil

import pandas as pd
import pytest
from sharded_cases import CONFIGS, SHARED, TORCHRUN, WHOLE, apart, equal, run, train_all, weights_in, without_end

import medr1kit as mk
from medr1kit.results.runs import load_run

lacking = "DeepSpeed" if importlib.util.find_spec("deepspeed") is None else None
lacking = lacking or (None if shutil.which("c++") else "a C++ compiler, which DeepSpeed wants on a CPU,")
pytestmark = pytest.mark.skipif(bool(lacking), reason=f"{lacking} is not installed; see `make test-distributed`")

ZERO2, ZERO3 = (json.loads((CONFIGS / f"{name}.json").read_text()) for name in ("zero2", "zero3"))


def changed(**settings):
    """ZeRO-3's file with other settings of "zero_optimization"; None leaves one to DeepSpeed."""
    there = ZERO3["zero_optimization"] | settings
    return ZERO3 | {"zero_optimization": {name: value for name, value in there.items() if value is not None}}


SAVED, UNGATHERED = {"save_steps": 2}, {"stage3_gather_16bit_weights_on_model_save": None}
AGAIN = ("zero2-grpo", "zero3-sft-whole")
TRAININGS = {
    "zero2-sft-whole": ("sft", SHARED | WHOLE | {"deepspeed": ZERO2}),
    "zero2-grpo": ("grpo", SHARED | SAVED | {"deepspeed": ZERO2}),
    "zero3-grpo": ("grpo", SHARED | SAVED | {"deepspeed": ZERO3, "gradient_checkpointing": True, "ask": True}),
    "zero3-grpo-whole": ("grpo", SHARED | WHOLE | {"deepspeed": ZERO3}),
    "zero3-sft-whole": ("sft", SHARED | WHOLE | SAVED | {"deepspeed": ZERO3}),
    "zero3-sft-all-cut": ("sft", SHARED | {"deepspeed": changed(stage3_param_persistence_threshold=0, **UNGATHERED)}),
    "zero3-sft-default": ("sft", SHARED | {"deepspeed": changed(stage3_param_persistence_threshold=None)}),
    "stopped-zero2-grpo": ("grpo", SHARED | SAVED | {"deepspeed": ZERO2, "stop_after": 3}),
    "stopped-zero3-sft-whole": ("sft", SHARED | WHOLE | SAVED | {"deepspeed": ZERO3, "stop_after": 3}),
    "nothing-learnt": ("sft", SHARED | {"deepspeed": ZERO3, "learning_rate": 0.0, "max_steps": 1}),
    "no-number": ("sft", SHARED | {"deepspeed": ZERO3, "spoil_after": 2, "save_steps": 1}),
    "no-gathering": ("sft", SHARED | WHOLE | {"deepspeed": changed(**UNGATHERED)}),
    "no-such-batch": ("sft", SHARED | {"deepspeed": ZERO2 | {"train_batch_size": 7}}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of all trainings, and what was said in them."""
    folder = tmp_path_factory.mktemp("deepspeed")
    return folder, train_all(folder, TRAININGS)


def ends_well(name):
    return not name.startswith(("stopped", "no"))


@pytest.mark.parametrize("name", filter(ends_well, TRAININGS))
def test_two_processes_train_what_one_does(one_process, trained, name):
    """Saved whole, finite and equal, with each threshold below which ZeRO-3 does not cut a tensor up."""
    folder, said = trained
    assert [one["error"] for one in said[name]] == [None, None]
    reference = f"{TRAININGS[name][0]}{'-whole' * name.endswith('whole')}{'-stock' * name.startswith('zero3-grpo')}"
    weights = weights_in(folder / name)
    assert apart(weights_in(one_process / reference), weights) < 1e-5
    assert all(tensor.numel() and tensor.isfinite().all() for tensor in weights.values())
    factors = [tensor for key, tensor in weights.items() if "lora_B" in key]
    assert all(tensor.any() for tensor in factors) and bool(factors) != name.endswith("whole")
    metrics, alone = load_run(folder / name).metrics, load_run(one_process / reference).metrics
    for column in ("loss", "grad_norm"):
        assert metrics[column].tolist() == pytest.approx(alone[column].tolist(), rel=1e-4, abs=1e-5)
    assert not [one for process in said[name] for one in process["warnings"] if "changed no weight" in one]


def test_zero_2_shares_prompts_and_zero_3_does_not(trained):
    folder, _ = trained
    assert load_run(folder / "zero2-grpo").config["shared_prefix"] is True
    assert "ZeRO-3 scatters" in load_run(folder / "zero3-grpo").config["shared_prefix"]


@pytest.mark.parametrize("name", ["zero2-grpo", "zero3-grpo", "zero3-sft-whole"])
def test_run_and_checkpoint_are_models_that_answer(trained, name):
    folder, rows = trained[0] / name, mk.load_vqa("phantoms", split="val", n=8)
    last = mk.predict(*mk.load_model(folder), rows, format="no-think")
    curve = mk.predict_checkpoints(folder, rows, format="no-think")
    assert last["text"].str.len().gt(0).all() and set(curve["step"]) == {2, 3}
    labels = mk.load_run(folder).labels
    assert last["method"].tolist() == [labels["method"]] * len(rows)
    at = mk.load_model(folder / "checkpoint-3")
    pd.testing.assert_series_equal(mk.predict(*at, rows, format="no-think")["text"], last["text"])
    assert not equal(weights_in(folder / "checkpoint-2"), weights_in(folder / "checkpoint-3"))


@pytest.fixture(scope="module")
def resumed(trained):
    """What new processes do with runs that were stopped, and with one that lacked nothing but its end."""
    folder, said = trained
    for name in AGAIN:
        assert said[f"stopped-{name}"][0]["error"].startswith("KeyboardInterrupt")
        assert [path.name for path in (folder / f"stopped-{name}").glob("checkpoint-*")] == ["checkpoint-2"]
    without_end(shutil.copytree(folder / "zero3-sft-whole", folder / "unended-zero3-sft-whole"))
    asked = [*(f"stopped-{name}" for name in AGAIN), "unended-zero3-sft-whole"]
    again = {name: TRAININGS[name.partition("-")[2]] for name in asked}
    return folder, train_all(folder, {name: (how, given | {"resume": True}) for name, (how, given) in again.items()})


@pytest.mark.parametrize("name", AGAIN)
def test_a_run_that_was_stopped_goes_on_to_the_last_bit(resumed, name):
    """From the optimizer that DeepSpeed kept in parts."""
    folder, said = resumed
    first, stopped = said[f"stopped-{name}"][0], folder / f"stopped-{name}"
    assert first["error"] is None and any("goes on from step 2 of 3" in one for one in first["warnings"])
    assert equal(weights_in(stopped), weights_in(folder / name))
    assert load_run(stopped).metrics["step"].tolist() == [1, 2, 3]


def test_one_that_lacked_only_its_end_is_finished(resumed):
    """Killed between the last checkpoint and the weights: nothing is left to train, and nothing is scattered."""
    folder, said = resumed
    assert said["unended-zero3-sft-whole"][0]["error"] is None
    assert equal(weights_in(folder / "unended-zero3-sft-whole"), weights_in(folder / "zero3-sft-whole"))


def test_a_scattered_model_says_so_and_its_run_can_be_loaded_beside_it(trained):
    for process in trained[1]["zero3-grpo"]:
        assert "scattered over the processes that trained it" in process["asked"]
        assert len(process["answers"]) == 4 and all(process["answers"])


def test_a_training_that_changes_nothing_is_noticed_where_weights_are_in_parts(trained):
    assert any("changed no weight" in one for one in trained[1]["nothing-learnt"][0]["warnings"])


def test_a_number_that_is_none_in_one_process_stops_all_and_is_not_saved(trained):
    folder, said = trained
    for process in said["no-number"]:
        assert "step 2: the trained weights are no longer finite numbers" in process["error"]
    assert sorted(path.name for path in (folder / "no-number").glob("checkpoint-*")) == ["checkpoint-1"]
    assert not (folder / "no-number" / "adapter").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-gathering", "set stage3_gather_16bit_weights_on_model_save to true"),
        ("no-such-batch", "ds train_batch_size=7 vs hf train_batch_size (calculated)=16"),
    ],
)
def test_what_would_be_lost_or_contradicts_the_trainer_is_refused_before_it_is_trained(trained, name, words):
    folder, said = trained
    assert all(process["error"].startswith("DataError") and words in process["error"] for process in said[name])
    assert not (folder / name / "adapter").exists() and not (folder / name / "model").exists()


LINE = "--model_name_or_path tiny --dataset_name phantoms --modality CT --num_rows 32 --max_steps 1 --save_steps 1"


def test_the_reference_s_recipe_runs_from_the_command_line(tmp_path):
    """All weights beside a reference model, computed in bfloat16; the first process then asks what was held out."""
    line = [*TORCHRUN, "-m", "medr1kit", "grpo", *LINE.split(), "--preset", "med-r1", "--max_completion_length", "8"]
    line += ["--deepspeed", CONFIGS / "zero3.json", "--test_size", "0.25", "--output_dir", tmp_path / "run"]
    ended = run(*line)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "right images" in ended.stdout and (tmp_path / "run" / "predictions.parquet").is_file()
    assert {str(tensor.dtype) for tensor in weights_in(tmp_path / "run").values()} == {"torch.bfloat16"}
