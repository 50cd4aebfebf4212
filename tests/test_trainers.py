"""Which trainer a run gets, and that a TRL which changed costs speed and not training."""

import re
import sys

import pandas as pd
import pytest
import torch
from trl import GRPOTrainer

import medr1kit as mk
from medr1kit.training import trainers
from medr1kit.training.trainers import changed_in

SMALL = {"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 8, "num_generations": 4}
SMALL |= {"max_completion_length": 12, "format": "no-think", "seed": 3}
MACHINE = ("step_time", "time/", "tokens_per_second", "peak_memory")


def train(rows, folder, **changes):
    model, processor = mk.load_model("tiny")
    run = mk.train_grpo(model, processor, rows, **(SMALL | {"output_dir": folder} | changes))
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}
    return run, weights


def same(one, other):
    (run, weights), (other_run, other_weights) = one, other
    pd.testing.assert_frame_equal(run.rollouts, other_run.rollouts)
    left_out = [name for name in run.metrics if name.startswith(MACHINE)]
    pd.testing.assert_frame_equal(run.metrics.drop(columns=left_out), other_run.metrics.drop(columns=left_out))
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def another_signature(monkeypatch):
    original = GRPOTrainer._tokenize_prompts

    def _tokenize_prompts(self, prompts, tools=None):
        return original(self, prompts)

    monkeypatch.setattr(GRPOTrainer, "_tokenize_prompts", _tokenize_prompts)
    return "GRPOTrainer._tokenize_prompts"


def a_missing_import(monkeypatch):
    import trl.models.utils

    monkeypatch.delattr(trl.models.utils, "unwrap_model_for_generation")
    for name in ("shared_trainer", "dynamic"):
        monkeypatch.delitem(sys.modules, f"medr1kit.training.{name}", raising=False)
    return "what is imported from it .*unwrap_model_for_generation.*"


def a_missing_method(monkeypatch):
    monkeypatch.delattr(GRPOTrainer, "_log_completion_extra")
    monkeypatch.setattr(GRPOTrainer, "_log_extra", lambda self, column, values: None, raising=False)
    calculate = GRPOTrainer._calculate_rewards

    def renamed(self, inputs, prompts, completions, completion_ids_list):
        self._log_completion_extra = self._log_extra
        return calculate(self, inputs, prompts, completions, completion_ids_list)

    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", renamed)
    return "GRPOTrainer._log_completion_extra"


@pytest.mark.parametrize("change", [another_signature, a_missing_import, a_missing_method])
def test_with_a_trl_that_changed_its_own_step_is_run(train_phantoms, tmp_path, monkeypatch, one_thread, change):
    from importlib.metadata import version

    what = change(monkeypatch)
    with pytest.warns(UserWarning) as told:
        run, weights = train(train_phantoms, tmp_path / "asked")
    (sentence,) = (str(w.message) for w in told if "its own step is run" in str(w.message))
    assert re.fullmatch(rf"TRL {re.escape(version('trl'))} changed {what}; its own step is run", sentence)
    assert run.config["shared_prefix"] == sentence.removesuffix("; its own step is run")
    stock = train(train_phantoms, tmp_path / "stock", shared_prefix=False)
    assert stock[0].config["shared_prefix"] == "not asked for"
    same((run, weights), stock)
    assert not [name for name in run.metrics if name.startswith("time/")]


def test_the_installed_trl_is_the_one_that_it_was_written_for(train_phantoms, tmp_path, one_thread, recwarn):
    assert changed_in(GRPOTrainer) is None
    run, _ = train(train_phantoms, tmp_path, max_steps=1)
    assert run.config["shared_prefix"] is True and "time/decode" in run.metrics
    assert not [w for w in recwarn if "own step is run" in str(w.message)]


def test_an_attribute_that_is_no_longer_there_is_a_change():
    class Changed(GRPOTrainer):
        def __init__(self):
            self._step = self._entropy_bonus_enabled = 0

    assert changed_in(Changed) == "Changed._buffered_inputs"


def test_every_method_that_is_overridden_has_its_signature_checked():
    from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer

    own = {name for name, value in vars(SharedPrefixGRPOTrainer).items() if callable(value)}
    overridden = {name for name in own if hasattr(GRPOTrainer, name) and not name.startswith("__")}
    assert len(overridden) == 10 and overridden <= set(trainers._WRITTEN_FOR)


def test_warnings_about_old_words_are_silent_in_training_and_not_after(train_phantoms, tmp_path, one_thread):
    import warnings

    words = "`gradient_checkpointing` is deprecated"

    def telling(completion_ids, **columns):
        warnings.warn(words, FutureWarning, stacklevel=1)
        return [float(len(ids)) for ids in completion_ids]

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(train_phantoms, tmp_path, rewards=[telling], max_steps=1)
        assert not [w for w in told if words in str(w.message)], "TRL's own arguments say so, too, when they are made"
        telling([[1]])
        assert [w for w in told if words in str(w.message)]


def test_loading_an_adapter_is_silent_about_old_words(train_phantoms, tmp_path, one_thread):
    import warnings

    run, _ = train(train_phantoms, tmp_path, max_steps=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        mk.load_model("tiny", adapter=run.path / "adapter")
    assert not [w for w in told if "gradient_checkpointing" in str(w.message)]
