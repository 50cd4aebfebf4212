"""An evaluation set during training: its numbers beside the steps', and the same training as without it."""

import random

import pytest
import torch

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.training.evaluation import evaluation_settings
from medr1kit.vqa import DataError

COMMON = {"format": "no-think", "warmup_steps": 0, "learning_rate": 1e-3, "max_steps": 4, "seed": 3}
GRPO = COMMON | {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12}
SFT = COMMON | {"per_device_train_batch_size": 4}
COST = ("step_time", "time/", "tokens_per_second", "peak_memory")


def chance(completions, **columns):
    return [random.random() for _ in completions]


def trained(method, rows, folder, model=None, **changes):
    model, processor = model or mk.load_model("tiny")
    if method == "sft":
        return mk.train_sft(model, processor, rows, output_dir=folder, **(SFT | changes))
    settings = {"rewards": [mk.accuracy_reward("no-think"), chance]} | GRPO
    settings |= {"dynamic_sampling": 1} if method == "dynamic" else {"shared_prefix": method == "grpo"}
    return mk.train_grpo(model, processor, rows, output_dir=folder, **(settings | changes))


def own(metrics):
    """The numbers of the training itself."""
    return metrics[[name for name in metrics if not name.startswith(("eval_", *COST))]]


@pytest.mark.parametrize("method", ["grpo", "stock", "dynamic", "sft"])
def test_evaluations_stand_beside_the_steps_and_the_training_is_the_same(train_phantoms, tmp_path, one_thread, method):
    train, held_out = train_phantoms.select(range(16)), train_phantoms.select(range(16, 19))
    plain = trained(method, train, tmp_path / "plain")
    run = trained(method, train, tmp_path / "with", eval_dataset=held_out, eval_steps=2)
    assert own(run.metrics).to_csv() == own(plain.metrics).to_csv()
    assert run.rollouts.to_json() == plain.rollouts.to_json()
    adapters = [(made.path / "adapter" / "adapter_model.safetensors").read_bytes() for made in (plain, run)]
    assert adapters[0] == adapters[1]
    evaluated = run.metrics.dropna(subset=["eval_loss"])
    assert evaluated["step"].tolist() == [2, 4]
    assert not any(name.startswith("eval_watch/") for name in run.metrics)
    if method != "sft":
        assert evaluated["eval_reward"].notna().all() and evaluated["eval_rewards/chance/mean"].between(0, 1).all()
    assert run.config["eval_data"]["rows"] == 3


def test_the_evaluated_loss_is_that_of_the_held_out_questions(train_phantoms, tmp_path, one_thread):
    """Held against the loss of a training on these questions, by a learning rate of nothing."""
    held_out = train_phantoms.select(range(4))
    run = trained("sft", held_out, tmp_path / "run", eval_dataset=held_out, eval_on_start=True, eval_steps=4)
    before, first = run.metrics["eval_loss"][0], run.metrics["loss"][1]
    assert run.metrics["step"].tolist() == [0, 1, 2, 3, 4] and run.metrics["loss"].isna()[0]
    assert before == pytest.approx(first, rel=1e-5)
    assert run.metrics["eval_loss"].iloc[-1] < before  # it trains on them


def test_each_evaluation_has_the_same_luck(train_phantoms, tmp_path, one_thread):
    """Completions are drawn from the run's seed: with weights that hardly move they are the same ones."""
    run = trained("grpo", train_phantoms, tmp_path, eval_dataset=train_phantoms, eval_steps=1, learning_rate=1e-12)
    assert run.metrics["eval_rewards/chance/mean"].nunique() == 1
    assert run.metrics["rewards/chance/mean"].nunique() == 4


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_resumed_training_has_the_evaluations_of_an_unbroken_one(train_phantoms, tmp_path, one_thread, method):
    from medr1kit.training.recording import Recorder

    asked = {"eval_dataset": train_phantoms.select(range(16, 18)), "eval_steps": 1, "eval_on_start": True}
    asked |= {"save_steps": 2}
    whole = trained(method, train_phantoms, tmp_path / "whole", **asked)

    class Stopped(BaseException):
        pass

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Recorder, "on_evaluate", stop, raising=False)
        trained(method, train_phantoms, tmp_path / "broken", **asked)
    assert mk.load_run(tmp_path / "broken").metrics["step"].tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match="goes on from step 2 of 4"):
        resumed = trained(method, train_phantoms, tmp_path / "broken", resume=True, **asked)
    clocks = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "count/images", *COST)
    tables = [run.metrics[[n for n in run.metrics if not n.startswith(clocks)]] for run in (whole, resumed)]
    assert tables[0].to_csv() == tables[1].to_csv()
    assert tables[0]["step"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="eval_data was"):
        trained(method, train_phantoms, tmp_path / "broken", resume=True, **asked | {"eval_dataset": train_phantoms})


def test_a_plot_of_rewards_shows_those_of_the_held_out_questions(train_phantoms, tmp_path, one_thread):
    asked = {"eval_dataset": train_phantoms.select([0, 1]), "eval_steps": 2, "eval_on_start": True}
    run = trained("grpo", train_phantoms, tmp_path, **asked)
    lines = {line.get_label(): line for line in mk.plot_rewards(run.metrics).lines}
    assert lines["reward (sum)"].get_xdata().tolist() == [1, 2, 3, 4]
    assert lines["held-out questions"].get_xdata().tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("settings", "given", "sentence"),
    [
        ({"eval_strategy": "steps"}, False, "eval_strategy='steps' needs a set to evaluate on during training: pass"),
        ({"eval_on_start": True}, False, "eval_on_start=True needs a set"),
        ({}, True, "eval_dataset is given, but nothing says when to evaluate; add eval_steps=50"),
        ({"eval_strategy": "steps"}, True, "would evaluate after every step; say how often: eval_steps=50"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch"}, True, "a run ends with the weights of its last"),
        ({"save_strategy": "best"}, True, "save_strategy='best': a run ends with the weights of its last step"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(settings, given, sentence):
    with pytest.raises(DataError, match=sentence) as refused:
        evaluation_settings(settings, given)
    assert "\n" not in str(refused.value)


def test_an_evaluation_takes_whole_groups():
    asked = {"eval_strategy": "epoch", "per_device_train_batch_size": 2, "num_generations": 8}
    assert evaluation_settings(asked, True)["per_device_eval_batch_size"] == 8
    assert evaluation_settings(asked | {"num_generations_eval": 1}, True)["per_device_eval_batch_size"] == 2
    assert evaluation_settings(asked | {"per_device_eval_batch_size": 16}, True)["per_device_eval_batch_size"] == 16


def test_what_is_no_evaluation_set_is_refused_by_its_name(tiny, train_phantoms, tmp_path):
    with pytest.raises(DataError, match="eval_dataset is the text 'phantoms'"):
        trained("grpo", train_phantoms, tmp_path, tiny, eval_dataset="phantoms", eval_steps=1)


@pytest.mark.parametrize("command", ["grpo", "sft"])
def test_the_command_evaluates_on_what_it_holds_out(tmp_path, capsys, one_thread, command):
    asked = [command, "--dataset_name", "phantoms", "--num_rows", "24", "--test_size", "0.34", "--max_steps", "2"]
    asked += ["--modality", "CT", "--task", "DD"]
    asked += ["--per_device_train_batch_size", "8", "--eval_steps", "1", "--output_dir", str(tmp_path / "run")]
    asked += ["--num_generations", "4", "--max_completion_length", "8"] if command == "grpo" else []
    assert main(asked) == 0
    held_out = int(capsys.readouterr().out.split("held out ")[1].split()[0])
    run = mk.load_run(tmp_path / "run")
    assert run.config["eval_data"]["rows"] == held_out == len(run.predictions)
    assert run.metrics["eval_loss"].notna().all()
    assert torch.isfinite(torch.tensor(run.metrics["eval_loss"])).all()
