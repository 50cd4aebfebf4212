"""Training: what a step changes, what a run holds, and that recording changes nothing."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

import medr1kit as mk
from medr1kit.models.load import base_of, image_token_ids
from medr1kit.results.tables import ROLLOUTS
from medr1kit.vqa import DataError

# A step of two groups of four short completions, and one of eight examples: a tenth of a second each.
GRPO = {"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 8, "num_generations": 4}
GRPO |= {"max_completion_length": 12}
SFT = {"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 8}
FAST = {"max_steps": 12, "learning_rate": 3e-3}
MACHINE = ("step_time", "time/", "tokens_per_second", "peak_memory")  # columns that may differ between equal runs


def grpo(model, processor, rows, folder, **changes):
    return mk.train_grpo(model, processor, rows, **({"format": "no-think", "output_dir": folder} | GRPO | changes))


def sft(model, processor, rows, folder, **changes):
    return mk.train_sft(model, processor, rows, **({"format": "no-think", "output_dir": folder} | SFT | changes))


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def adapters(model):
    return {name: value for name, value in weights(model).items() if "lora_" in name}


def the_adapter(model):
    """The trained adapter without TRL's copy of it for the KL term, under names that wrapping does not change."""
    return {name.removeprefix("base_model.model."): w for name, w in adapters(model).items() if ".default." in name}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def numbers(run):
    return run.metrics.drop(columns=[name for name in run.metrics if name.startswith(MACHINE)])


def groups(run):
    return [group for _, group in run.rollouts.groupby(run.rollouts.index // GRPO["num_generations"])]


# ---- SFT -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sft_run(one_thread, train_phantoms, tmp_path_factory):
    """Model, processor and run of twelve SFT steps on 32 phantoms, preset tiny with a higher learning rate."""
    model, processor = mk.load_model("tiny")
    folder = tmp_path_factory.mktemp("runs") / "sft"
    run = mk.train_sft(model, processor, train_phantoms, format="think-after", output_dir=folder, seed=5, **FAST)
    return model, processor, run


def test_sft_lowers_the_loss(sft_run):
    loss = sft_run[2].metrics["loss"]  # two steps an epoch: the first and the last two see the same 32 rows
    assert loss.iloc[-2:].mean() < 0.95 * loss.iloc[:2].mean()


def test_sft_trains_on_the_completion_alone(fresh_tiny, train_phantoms, tmp_path):
    model, processor = fresh_tiny
    row, fed = train_phantoms.select([3]), []
    hook = model.register_forward_pre_hook(lambda module, args, kwargs: fed.append(kwargs), with_kwargs=True)
    sft(model, processor, row, tmp_path, format="think-after", max_steps=1, per_device_train_batch_size=1)
    hook.remove()
    ids, labels = fed[0]["input_ids"][0], fed[0]["labels"][0]
    learnt = mk.THINK_AFTER.write(row[0]["answer"], row[0]["rationale"]) + "<|im_end|>"
    assert processor.tokenizer.decode(labels[labels != -100]) == learnt
    assert torch.equal(labels[labels != -100], ids[labels != -100])
    asked = processor.tokenizer.decode(ids[labels == -100])
    assert mk.THINK_AFTER.prompt(row[0]["problem"]) in asked and asked.endswith("<|im_start|>assistant\n")
    assert asked.count("<|image_pad|>") == fed[0]["image_grid_thw"][0].prod() // 4


def test_a_run_has_a_row_a_step_and_what_it_takes_to_repeat_it(sft_run, train_phantoms):
    from importlib.metadata import version

    model, _, run = sft_run
    assert run.metrics["step"].tolist() == list(range(1, 13))
    assert {"loss", "learning_rate", "grad_norm"} <= set(run.metrics) and np.isfinite(run.metrics["loss"]).all()
    config = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert config["method"] == "sft" and config["model"] == "tiny" and config["format"] == "think-after"
    assert run.format == mk.THINK_AFTER and config["response_format"]["instruction"] == mk.THINK_AFTER.instruction
    assert config["seed"] == 5 and config["arguments"]["seed"] == 5
    assert config["arguments"]["max_steps"] == 12 and config["arguments"]["learning_rate"] == 3e-3
    assert {name: version(name) for name in ("torch", "transformers", "trl", "peft")}.items() <= config[
        "versions"
    ].items()
    assert config["lora"]["r"] == 16
    assert config["labels"] == {
        "model": "tiny", "method": "sft", "seed": 5, "train_modality": "all", "train_task": "all",
    }  # fmt: skip
    assert config["data"]["rows"] == 32 and config["data"]["modality"] == list(
        dict.fromkeys(train_phantoms["modality"])
    )
    assert config["summary"]["steps"] == 12
    assert "all weights" not in (run.path / "README.md").read_text(encoding="utf-8")
    assert {file.name for file in (run.path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert not model.training


def test_the_fingerprint_is_that_of_the_questions_in_their_order(fresh_tiny, train_phantoms, tmp_path):
    rows = train_phantoms.select(range(8))
    changed = rows.map(lambda row: {"solution": "<answer> A </answer>", "answer": "A"})
    found = []
    for number, data in enumerate((rows, rows.select(range(8)), rows.select(range(7, -1, -1)), changed)):
        run = sft(*fresh_tiny, data, tmp_path / str(number), max_steps=1)
        found.append(run.config["data"]["fingerprint"])
    assert found[0] == found[1] and len(set(found)) == 3


def test_one_modality_and_task_become_the_labels(fresh_tiny, tmp_path):
    rows = mk.load_vqa("phantoms", split="train", modality="OCT", task="Lesion Grading", n=8)
    run = sft(*fresh_tiny, rows, tmp_path, max_steps=1)
    assert (run.config["labels"]["train_modality"], run.config["labels"]["train_task"]) == ("OCT", "Lesion Grading")


@pytest.mark.parametrize("train", [sft, grpo])
def test_the_same_seed_gives_the_same_run_whatever_was_drawn_before(train_phantoms, tmp_path, one_thread, train):
    runs, trained = [], []
    for number, seed in enumerate((1, 1, 2)):
        model, processor = mk.load_model("tiny")
        torch.manual_seed(100 + number)  # what a notebook did before must not matter
        runs.append(train(model, processor, train_phantoms, tmp_path / str(number), seed=seed, max_steps=3))
        trained.append(adapters(model))
    pd.testing.assert_frame_equal(numbers(runs[0]), numbers(runs[1]))
    pd.testing.assert_frame_equal(runs[0].rollouts, runs[1].rollouts)
    assert equal(trained[0], trained[1]) and not equal(trained[0], trained[2])
    assert not numbers(runs[0]).equals(numbers(runs[2]))


def test_sft_with_thinking_needs_rationales(fresh_tiny, train_phantoms, tmp_path):
    bare = train_phantoms.remove_columns("rationale")
    for name in ("think-before", "think-after"):
        with pytest.raises(DataError, match=rf"{name} format needs gold rationales.*'rationale'.*no-think"):
            sft(*fresh_tiny, bare, tmp_path, format=name)
    assert not list(tmp_path.iterdir())
    assert len(sft(*fresh_tiny, bare, tmp_path, max_steps=1).metrics) == 1


def test_sft_in_adaptive_thinks_where_there_is_a_rationale(train_phantoms):
    from medr1kit.training.checks import gold_of

    holed = train_phantoms.select(range(2)).map(
        lambda row, i: {"rationale": None if i else row["rationale"]}, with_indices=True
    )
    first, second = (turns[0]["content"] for turns in gold_of(holed, mk.ADAPTIVE))
    assert first == mk.THINK_BEFORE.write(holed[0]["answer"], holed[0]["rationale"])
    assert second == f"<answer>{holed[1]['answer']}</answer>"


def test_sft_with_thinking_refuses_an_empty_rationale(fresh_tiny, train_phantoms, tmp_path):
    holed = train_phantoms.map(lambda row, i: {"rationale": None if i == 3 else row["rationale"]}, with_indices=True)
    with pytest.raises(DataError, match=re.escape(holed[3]["id"])):
        sft(*fresh_tiny, holed, tmp_path, format="think-after")


# ---- what both trainers share ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [sft, grpo])
def test_training_without_images_is_refused(fresh_tiny, train_phantoms, tmp_path, train):
    with pytest.raises(DataError, match="dataset has no images, and they are needed here; load it with images=FOLDER"):
        train(*fresh_tiny, train_phantoms.remove_columns("image"), tmp_path)


@pytest.mark.parametrize("train", [sft, grpo])
def test_an_earlier_run_is_kept_unless_overwriting_is_asked_for(fresh_tiny, train_phantoms, tmp_path, train):
    model, processor = fresh_tiny
    train(model, processor, train_phantoms, tmp_path, max_steps=2)
    model, processor = mk.load_model("tiny")
    before, kept = weights(model), {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    with pytest.raises(DataError, match="already holds a run"):
        train(model, processor, train_phantoms, tmp_path, max_steps=1)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == kept and equal(weights(model), before)
    again = train(*mk.load_model("tiny"), train_phantoms, tmp_path, max_steps=1, overwrite=True)
    assert len(again.metrics) == 1


@pytest.mark.parametrize("train", [sft, grpo])
def test_a_refused_run_leaves_the_model_untouched(fresh_tiny, train_phantoms, tmp_path, train):
    model, processor = fresh_tiny
    (tmp_path / "metrics.csv").write_text("step\n1\n", encoding="utf-8")
    before = weights(model)
    with pytest.raises(DataError, match=r"metrics\.csv was not written by a run"):
        train(model, processor, train_phantoms, tmp_path, overwrite=True)
    assert equal(weights(model), before)


def test_overwriting_leaves_no_weights_of_the_earlier_run(train_phantoms, tmp_path, one_thread):
    sft(*mk.load_model("tiny"), train_phantoms, tmp_path, max_steps=1, lora=False)
    sft(*mk.load_model("tiny"), train_phantoms, tmp_path, max_steps=1, overwrite=True)
    assert (tmp_path / "adapter").is_dir() and not (tmp_path / "model").exists()
    sft(*mk.load_model("tiny"), train_phantoms, tmp_path, max_steps=1, lora=False, overwrite=True)
    assert (tmp_path / "model").is_dir() and not (tmp_path / "adapter").exists()


def test_an_unknown_preset_or_format_is_refused(fresh_tiny, train_phantoms, tmp_path):
    with pytest.raises(DataError, match="preset='huge' is unknown; use one of tiny, gpu"):
        grpo(*fresh_tiny, train_phantoms, tmp_path, preset="huge")
    with pytest.raises(DataError, match=r"unknown format 'haiku'"):
        grpo(*fresh_tiny, train_phantoms, tmp_path, format="haiku")


def test_a_preset_may_be_a_dict_and_epochs_asked_for_replace_its_steps(fresh_tiny, train_phantoms, tmp_path):
    preset = mk.PRESETS["tiny"]["sft"] | {"per_device_train_batch_size": 8, "max_steps": 50}
    rows = train_phantoms.select(range(16))
    run = mk.train_sft(*fresh_tiny, rows, format="no-think", output_dir=tmp_path, preset=preset, num_train_epochs=1)
    assert run.metrics["step"].tolist() == [1, 2]


def test_lora_trains_only_the_language_model(fresh_tiny, train_phantoms, tmp_path):
    model, processor = fresh_tiny
    before = weights(model)
    sft(model, processor, train_phantoms, tmp_path, lora={"rank": 2, "alpha": 4, "merger": False, "tower": False})
    assert not any(parameter.requires_grad for parameter in base_of(model).model.visual.parameters())
    moved = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved and all("language_model" in name and "lora_" in name for name in moved)
    after = {name.replace(".base_layer", ""): value for name, value in weights(model).items() if "lora_" not in name}
    assert equal(after, before)  # the base weights, the tower among them, are as they were


def test_lora_with_merger_trains_the_merger_too(fresh_tiny, train_phantoms, tmp_path):
    model, processor = fresh_tiny
    sft(model, processor, train_phantoms, tmp_path, lora={"rank": 2, "merger": True, "tower": False})
    seen = {name for name, parameter in base_of(model).model.visual.named_parameters() if parameter.requires_grad}
    assert len(seen) == 4 and all(name.startswith("merger.mlp.") and "lora_" in name for name in seen)
    assert all(
        value.abs().max() > 0 for name, value in adapters(model).items() if "visual" in name and "lora_B" in name
    )


TOWER = {"rank": 4, "alpha": 8, "merger": False, "tower": True}


@pytest.mark.parametrize("train", [sft, grpo])
def test_a_trained_tower_is_read_back_and_merged_as_it_was_left(
    fresh_tiny, train_phantoms, val_phantoms, tmp_path, train
):
    model, processor = fresh_tiny
    run = train(model, processor, train_phantoms, tmp_path / "run", lora=TOWER, learning_rate=1e-2, max_steps=3)
    moved = {name for name, value in adapters(model).items() if "visual" in name and "lora_B" in name and value.any()}
    assert len(moved) == 3 * 4 and all(".visual.blocks." in name for name in moved)
    assert r"visual\.blocks" in run.config["lora"]["target_modules"]
    loaded, _ = mk.load_model(run.path)
    assert equal(the_adapter(loaded), the_adapter(model))
    merged, base = mk.load_model(run.path)[0].merge_and_unload(), mk.load_model("tiny")[0]
    merged.save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    rows = val_phantoms.select(range(24))
    models = model, loaded, merged, mk.load_model(tmp_path / "merged")[0], base
    texts = [mk.predict(m, processor, rows, format="no-think", max_new_tokens=12)["text"].tolist() for m in models]
    assert texts[0] == texts[1] == texts[2] == texts[3] != texts[4]


def test_training_goes_on_with_a_tower_that_was_read_back(fresh_tiny, train_phantoms, tmp_path):
    run = sft(*fresh_tiny, train_phantoms, tmp_path / "1", lora=TOWER)
    model, processor = mk.load_model(run.path)
    with pytest.raises(DataError, match="carries a LoRA adapter already, of rank 4"):
        grpo(model, processor, train_phantoms, tmp_path / "2", lora=TOWER | {"tower": False})
    before = adapters(model)
    second = grpo(model, processor, train_phantoms, tmp_path / "2", lora=TOWER, learning_rate=5e-3, beta=0.04)
    assert second.config["continued_from"] == str(run.path) and second.config["shared_prefix"] is True
    after = {name: value for name, value in adapters(model).items() if ".ref." not in name}
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_a_setting_in_which_a_tower_would_not_learn_is_refused(tiny, train_phantoms, tmp_path):
    """Reentrant checkpointing: without a gradient at its input Qwen3-VL's first block would stop all others'."""
    from conftest import _save_micro

    _save_micro("qwen3_vl", tiny[1], tmp_path / "qwen3")
    reentrant = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    with pytest.raises(DataError, match=r"use_reentrant=True .* no gradient; leave gradient_checkpointing_kwargs out"):
        sft(*mk.load_model(tmp_path / "qwen3"), train_phantoms, tmp_path / "run", lora=TOWER, **reentrant)
    assert not (tmp_path / "run" / "run.json").exists()
    plain = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    model, processor = mk.load_model(tmp_path / "qwen3")
    sft(model, processor, train_phantoms, tmp_path / "run", lora=TOWER, **plain)
    moved = {name: value.any() for name, value in adapters(model).items() if "visual" in name and "lora_B" in name}
    assert len(moved) == 3 * 4 and all(moved.values())  # of three blocks


@pytest.mark.parametrize("train", [sft, grpo])
def test_without_lora_every_weight_is_trained_and_the_model_saved(
    fresh_tiny, train_phantoms, val_phantoms, tmp_path, train
):
    model, processor = fresh_tiny
    before = weights(model)
    run = train(model, processor, train_phantoms, tmp_path, lora=False)
    assert all(parameter.requires_grad for parameter in model.parameters())
    moved = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert any("visual.blocks" in name for name in moved) and any("language_model" in name for name in moved)
    assert run.config["lora"] is None and not (tmp_path / "adapter").exists()
    loaded, its_processor = mk.load_model(tmp_path)
    assert equal(weights(loaded), weights(model))
    rows = val_phantoms.select(range(8))
    pairs = ((model, processor), (loaded, its_processor))
    frames = [mk.predict(*pair, rows, format="no-think", max_new_tokens=8) for pair in pairs]
    pd.testing.assert_frame_equal(*frames)
    assert set(frames[0]["model"]) == {"tiny"}


def test_lora_on_top_of_a_fully_trained_model_is_found_again(fresh_tiny, train_phantoms, tmp_path):
    """The second run's base is the first run's weights, not the model that the first began with."""
    model, processor = fresh_tiny
    sft(model, processor, train_phantoms, tmp_path / "full", lora=False, learning_rate=5e-3)
    grpo(model, processor, train_phantoms, tmp_path / "in memory")
    assert equal(weights(mk.load_model(tmp_path / "in memory")[0].get_base_model()), weights(model))
    model, processor = mk.load_model(tmp_path / "full")
    grpo(model, processor, train_phantoms, tmp_path / "loaded")
    assert equal(weights(mk.load_model(tmp_path / "loaded")[0].get_base_model()), weights(model))


def test_a_model_with_an_adapter_cannot_train_every_weight(fresh_tiny, train_phantoms, tmp_path):
    sft(*fresh_tiny, train_phantoms, tmp_path / "1", max_steps=1)
    with pytest.raises(DataError, match="carries a LoRA adapter"):
        sft(*fresh_tiny, train_phantoms, tmp_path / "2", lora=False)


def test_another_adapter_than_the_one_on_the_model_is_refused(fresh_tiny, train_phantoms, tmp_path):
    sft(*fresh_tiny, train_phantoms, tmp_path / "1", max_steps=1)
    with pytest.raises(DataError, match="carries a LoRA adapter"):
        sft(*fresh_tiny, train_phantoms, tmp_path / "2", max_steps=1, lora={"rank": 2})
    sft(*fresh_tiny, train_phantoms, tmp_path / "3", max_steps=1, lora={"rank": 16, "alpha": 32, "merger": True})


# ---- GRPO ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grpo_run(one_thread, train_phantoms, tmp_path_factory):
    """Model, processor and run of three small GRPO steps."""
    model, processor = mk.load_model("tiny")
    folder = tmp_path_factory.mktemp("runs") / "grpo"
    return model, processor, grpo(model, processor, train_phantoms, folder, seed=4, max_steps=3)


def test_every_sampled_completion_is_a_row(grpo_run, train_phantoms):
    rollouts = grpo_run[2].rollouts
    assert len(rollouts) == 3 * 8
    before, behind = ROLLOUTS[: ROLLOUTS.index("advantage")], ROLLOUTS[ROLLOUTS.index("advantage") :]
    assert tuple(rollouts) == (*before, "accuracy_reward", "format_reward", *behind)
    assert rollouts["step"].tolist() == [1] * 8 + [2] * 8 + [3] * 8
    assert rollouts["rollout"].tolist() == [0, 1, 2, 3] * 6
    source = {row["id"]: row for row in train_phantoms.remove_columns("image")}
    for row in rollouts.to_dict("records"):
        shared = ("question", "options", "answer", "modality", "task")
        assert {name: row[name] for name in shared} == {name: source[row["id"]][name] for name in shared}
    assert grpo_run[2].metrics["step"].tolist() == [1, 2, 3]


def test_a_group_shares_its_question(grpo_run):
    assert all(group["id"].nunique() == 1 for group in groups(grpo_run[2]))
    assert grpo_run[2].rollouts["id"].nunique() == 6


def test_the_recorded_rewards_are_those_of_the_recorded_texts(grpo_run):
    rollouts = grpo_run[2].rollouts
    texts, columns = (
        rollouts["text"].tolist(),
        {"solution": rollouts["answer"].tolist(), "options": rollouts["options"].tolist()},
    )
    assert rollouts["accuracy_reward"].tolist() == mk.accuracy_reward(mk.NO_THINK)(texts, **columns)
    assert rollouts["format_reward"].tolist() == mk.format_reward(mk.NO_THINK)(texts, **columns)
    read = [mk.NO_THINK.parse(text, options).answer for text, options in zip(texts, columns["options"])]
    assert [None if pd.isna(letter) else letter for letter in rollouts["predicted"]] == read
    assert 0 < rollouts["accuracy_reward"].mean() < 1  # both kinds were recorded


def test_advantages_are_the_groups_standard_scores(grpo_run):
    for group in groups(grpo_run[2]):
        reward = (group["accuracy_reward"] + group["format_reward"]).to_numpy()
        by_hand = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-4)
        np.testing.assert_allclose(group["advantage"], by_hand, atol=1e-5)
        assert abs(group["advantage"].sum()) < 1e-4
    assert grpo_run[2].rollouts["advantage"].abs().max() > 0.5


def test_lengths_and_truncation_are_those_of_the_completions(grpo_run):
    run = grpo_run[2]
    rollouts, limit = run.rollouts, GRPO["max_completion_length"]
    assert rollouts["n_tokens"].between(1, limit).all()
    assert (rollouts.loc[rollouts["truncated"], "n_tokens"] == limit).all()
    tokenizer = grpo_run[1].tokenizer
    for row in rollouts[~rollouts["truncated"] & (rollouts["text"] == "<answer>A</answer>")].itertuples():
        assert row.n_tokens == len(tokenizer.encode(row.text)) + 1  # and the token that ends the turn
    per_step = rollouts.groupby("step").agg(length=("n_tokens", "mean"), clipped=("truncated", "mean"))
    np.testing.assert_allclose(per_step["length"], run.metrics["completions/mean_length"])
    np.testing.assert_allclose(per_step["clipped"], run.metrics["completions/clipped_ratio"])


def test_metrics_and_rollouts_agree(grpo_run):
    run = grpo_run[2]
    means = run.rollouts.groupby("step")[["accuracy_reward", "format_reward"]].mean()
    np.testing.assert_allclose(means["accuracy_reward"], run.metrics["rewards/accuracy_reward/mean"], rtol=1e-6)
    np.testing.assert_allclose(means.sum(axis=1), run.metrics["reward"], rtol=1e-6)


def test_accumulated_micro_batches_are_all_recorded(fresh_tiny, train_phantoms, tmp_path):
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    rollouts = grpo(*fresh_tiny, train_phantoms, tmp_path, **changes).rollouts
    assert rollouts["step"].tolist() == [1] * 8 + [2] * 8 and rollouts["rollout"].tolist() == [0, 1, 2, 3] * 4
    assert rollouts.groupby(rollouts.index // 4)["id"].nunique().eq(1).all()


def test_rewards_of_ones_own_are_called_and_recorded(fresh_tiny, train_phantoms, tmp_path):
    def short_reward(completions, completion_ids, modality, **columns):
        return [None if name == "CT" else -float(len(ids)) for ids, name in zip(completion_ids, modality)]

    rollouts = grpo(*fresh_tiny, train_phantoms, tmp_path, rewards=[short_reward], max_steps=4).rollouts
    assert "accuracy_reward" not in rollouts
    ct = rollouts["modality"] == "CT"
    assert (rollouts.loc[~ct, "short_reward"] == -rollouts.loc[~ct, "n_tokens"]).all()
    assert rollouts.loc[ct, "short_reward"].isna().all()


@pytest.mark.parametrize(
    "changes", [{"per_device_train_batch_size": 6}, {"num_generations": 3}, {"per_device_train_batch_size": 2}]
)
def test_a_batch_that_is_no_multiple_of_the_group_is_refused_with_the_ways_out(
    fresh_tiny, train_phantoms, tmp_path, changes
):
    with pytest.raises(DataError) as error:
        grpo(*fresh_tiny, train_phantoms, tmp_path, **changes)
    for way_out in (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "more processes",
        "lower num_generations",
    ):
        assert way_out in str(error.value)
    assert not list(tmp_path.iterdir())


def test_completions_never_hold_image_placeholders(fresh_tiny, train_phantoms, tmp_path):
    """A policy that wants nothing else: each placeholder's logit is raised by 50."""
    model, processor = fresh_tiny
    forbidden, seen = image_token_ids(model), []
    assert len(forbidden) == 4

    def crave(module, arguments, logits):
        logits[..., forbidden] += 50.0
        return logits

    def length_reward(completions, completion_ids, **columns):
        seen.extend(completion_ids)
        return [float(len(ids)) for ids in completion_ids]

    hook = model.lm_head.register_forward_hook(crave)
    grpo(model, processor, train_phantoms, tmp_path, rewards=[length_reward], max_steps=1)
    hook.remove()
    assert len(seen) == 8 and not {int(i) for ids in seen for i in ids} & set(forbidden)


def test_a_users_generation_settings_stand_beside_the_suppressed_tokens(fresh_tiny, train_phantoms, tmp_path):
    run = grpo(*fresh_tiny, train_phantoms, tmp_path, generation_kwargs={"min_new_tokens": 9}, max_steps=1)
    assert run.rollouts["n_tokens"].min() >= 9
    assert set(run.config["arguments"]["generation_kwargs"]) == {"min_new_tokens", "suppress_tokens"}


def test_an_interrupted_run_is_readable_and_its_model_can_train_on(fresh_tiny, train_phantoms, tmp_path):
    model, processor = fresh_tiny

    def impatient_reward(completions, trainer_state, **columns):
        if trainer_state.global_step == 2:
            raise KeyboardInterrupt
        return [float(len(completion[0]["content"])) for completion in completions]

    with pytest.raises(KeyboardInterrupt):
        grpo(model, processor, train_phantoms, tmp_path / "1", rewards=[impatient_reward], max_steps=3)
    run = mk.load_run(tmp_path / "1")
    assert run.rollouts["step"].tolist() == [1] * 8 + [2] * 8 and run.metrics["step"].tolist() == [1, 2]
    with pytest.raises(DataError, match="did not finish"):
        mk.load_model(tmp_path / "1")
    before = adapters(model)
    grpo(model, processor, train_phantoms, tmp_path / "2", learning_rate=0.0, max_steps=1)
    assert equal(adapters(model), before)  # the same adapter, not a second one on top
    assert set(mk.load_run(tmp_path / "2").rollouts["step"]) == {1}


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_a_second_call_goes_on_from_the_first(fresh_tiny, train_phantoms, tmp_path, beta):
    model, processor = fresh_tiny
    first_run = grpo(model, processor, train_phantoms, tmp_path / "1", beta=beta)
    first = the_adapter(model)
    assert any(value.abs().max() > 0 for name, value in first.items() if "lora_B" in name)
    grpo(model, processor, train_phantoms, tmp_path / "2", beta=beta, learning_rate=0.0, max_steps=1)
    assert equal(the_adapter(model), first)
    second_run = grpo(model, processor, train_phantoms, tmp_path / "3", beta=beta)
    assert not equal(the_adapter(model), first)
    assert second_run.config["continued_from"] == str(tmp_path / "2") and first_run.config["continued_from"] is None
    loaded, _ = mk.load_model(tmp_path / "3")
    assert equal(the_adapter(loaded), the_adapter(model))


def test_kl_is_measured_against_the_untrained_model(fresh_tiny, train_phantoms, tmp_path):
    run = grpo(*fresh_tiny, train_phantoms, tmp_path, beta=0.1, max_steps=3, learning_rate=3e-3)
    assert run.metrics["kl"].iloc[0] == pytest.approx(0.0, abs=1e-6) and run.metrics["kl"].iloc[2] > 1e-4


def test_grpo_goes_on_from_an_sft_run_on_disk(sft_run, train_phantoms, tmp_path):
    _, _, run = sft_run
    model, processor = mk.load_model(run.path)
    before = adapters(model)
    grpo(model, processor, train_phantoms, tmp_path / "still", format="think-after", learning_rate=0.0, max_steps=1)
    assert equal(adapters(model), before)
    rl = grpo(model, processor, train_phantoms, tmp_path / "moved", format="think-after", learning_rate=1e-3)
    assert not equal(adapters(model), before)
    assert rl.config["model"] == "tiny" and rl.config["labels"]["method"] == "grpo"
    assert "LoRA adapter" in (rl.path / "README.md").read_text(encoding="utf-8")
    assert rl.config["lora"] is not None and rl.config["lora"]["r"] == 16
    assert equal(adapters(mk.load_model(rl.path)[0]), adapters(model))


def test_recording_does_not_change_training(train_phantoms, tmp_path, one_thread):
    """Our run against TRL's own trainer with the same arguments: the same losses, rewards and weights."""
    from transformers import set_seed
    from trl import GRPOConfig, GRPOTrainer

    model, processor = mk.load_model("tiny")
    set_seed(3)
    run = grpo(model, processor, train_phantoms, tmp_path / "ours", seed=3, beta=0.0, shared_prefix=False)

    plain, _ = mk.load_model("tiny")
    prompts = train_phantoms.map(
        lambda problem: {"prompt": [{"role": "user", "content": mk.NO_THINK.prompt(problem)}]}, input_columns="problem"
    )
    settings = {name: value for name, value in mk.PRESETS["tiny"]["grpo"].items() if name != "lora"} | GRPO
    set_seed(3)
    trainer = GRPOTrainer(
        model=plain,
        reward_funcs=[mk.accuracy_reward(mk.NO_THINK), mk.format_reward(mk.NO_THINK)],
        args=GRPOConfig(
            **settings,
            seed=3,
            output_dir=str(tmp_path / "theirs"),
            use_cpu=True,
            bf16=False,
            report_to="none",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            generation_kwargs={"suppress_tokens": image_token_ids(plain)},
        ),
        train_dataset=prompts,
        processing_class=processor,
        peft_config=mk.lora(**mk.PRESETS["tiny"]["grpo"]["lora"]),
    )
    trainer.train()
    theirs = pd.DataFrame([log for log in trainer.state.log_history if "loss" in log])
    same = ["loss", "reward", "reward_std", "grad_norm", "entropy", "completions/mean_length", "num_tokens"]
    np.testing.assert_array_equal(run.metrics[same].to_numpy(), theirs[same].to_numpy())
    assert theirs["grad_norm"].min() > 0
    assert equal(adapters(model), adapters(plain))


# ---- other architectures ---------------------------------------------------------------------------------------------


def test_the_other_architectures_train_by_sft_and_grpo(micro, micro_folder, train_phantoms, val_phantoms, tmp_path):
    model, processor = micro
    supervised = sft(model, processor, train_phantoms, tmp_path / "sft", learning_rate=1e-2, max_steps=6)
    assert supervised.metrics["loss"].iloc[-1] < supervised.metrics["loss"].iloc[0]
    before = adapters(model)

    def length_reward(completions, completion_ids, **columns):
        return [float(sum(ids) % 7) for ids in completion_ids]  # a random model earns nothing else

    run = grpo(model, processor, train_phantoms, tmp_path / "grpo", rewards=[length_reward], max_steps=1)
    assert len(run.rollouts) == 8 and not equal(adapters(model), before)
    assert run.config["model"] == str(micro_folder)
    loaded, _ = mk.load_model(tmp_path / "grpo")
    rows = val_phantoms.select(range(6))
    texts = [
        mk.predict(m, processor, rows, format="no-think", max_new_tokens=6)["text"].tolist() for m in (model, loaded)
    ]
    assert texts[0] == texts[1]


def test_changing_the_rank_keeps_what_else_the_preset_adapts():
    from medr1kit.training.train import _settings

    _, adapter = _settings("grpo", "tiny", {}, {"rank": 4})
    assert adapter.r == 4 and adapter.lora_alpha == 32
    assert all(part in adapter.target_modules for part in (r"visual\.(merger|", r"visual\.blocks"))


# ---- what the weights are --------------------------------------------------------------------------------------------


def stopping(at_step, error=KeyboardInterrupt):
    def reward(completions, trainer_state, **columns):
        if trainer_state.global_step == at_step - 1:
            raise error
        return [float(i % 2) for i in range(len(completions))]

    return reward


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_model_whose_training_was_interrupted_says_so(fresh_tiny, train_phantoms, val_phantoms, tmp_path, error):
    model, processor = fresh_tiny
    with pytest.raises(error):
        grpo(model, processor, train_phantoms, tmp_path / "1", rewards=[stopping(3, error)], max_steps=4)
    rows = val_phantoms.select(range(2))
    preds = mk.predict(model, processor, rows, format="no-think", max_new_tokens=4)
    assert set(preds["method"]) == {"interrupted"} and set(preds["model"]) == {"tiny"} and set(preds["step"]) == {2}
    run = mk.load_run(tmp_path / "1")
    assert run.config["stopped"] == {"steps": 2, "reason": error.__name__} and run.labels["method"] == "interrupted"
    assert run.config["method"] == "grpo" and len(run.metrics) == 2 and not (tmp_path / "1" / "adapter").exists()
    with pytest.raises(DataError, match=r"was trained in .*1, and a run there would replace"):
        grpo(model, processor, train_phantoms, tmp_path / "1", overwrite=True)
    on = grpo(model, processor, train_phantoms, tmp_path / "2", max_steps=1)
    assert on.config["continued_from"] == str(tmp_path / "1") and on.labels["method"] == "grpo"


def test_a_training_that_failed_before_its_first_step_changed_nothing(
    fresh_tiny, train_phantoms, val_phantoms, tmp_path
):
    """A slip in a reward function: mend it and run the cell again."""
    model, processor = fresh_tiny
    with pytest.raises(ZeroDivisionError):
        grpo(model, processor, train_phantoms, tmp_path, rewards=[stopping(1, ZeroDivisionError)])
    assert set(mk.predict(model, processor, val_phantoms.select([0]), format="no-think")["method"]) == {"base"}
    assert mk.load_run(tmp_path).config["stopped"] == {"steps": 0, "reason": "ZeroDivisionError"}
    assert grpo(model, processor, train_phantoms, tmp_path).config["continued_from"] is None


@pytest.mark.parametrize("train", [sft, grpo])
def test_a_training_cell_run_twice_is_refused_and_the_first_run_kept(fresh_tiny, train_phantoms, tmp_path, train):
    model, processor = fresh_tiny
    train(model, processor, train_phantoms, tmp_path / "1", max_steps=1)
    train(model, processor, train_phantoms, tmp_path / "2", max_steps=1)
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for folder in ("2", "1", "x/../1"):  # at first and at second hand
        with pytest.raises(DataError, match=r"load the model anew .* or choose another output_dir to go on"):
            train(model, processor, train_phantoms, tmp_path / folder, overwrite=True)
    with pytest.raises(DataError, match="load the model anew"):
        train(*mk.load_model(tmp_path / "2"), train_phantoms, tmp_path / "2", overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == kept


@pytest.mark.parametrize("train", [sft, grpo])
def test_weights_that_are_no_numbers_are_never_saved(fresh_tiny, train_phantoms, tmp_path, train):
    """One number of one tensor, in the second step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    model, processor = fresh_tiny
    calls = []

    def spoil(optimizer, args, kwargs):
        calls.append(1)
        if len(calls) == 2:
            next(iter(optimizer.param_groups[0]["params"])).data[0] = float("nan")

    hook = register_optimizer_step_post_hook(spoil)
    changes = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    try:
        with pytest.raises(DataError, match="step 2: the trained weights are no longer finite numbers"):
            train(model, processor, train_phantoms, tmp_path, **changes)
    finally:
        hook.remove()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1"]
    assert not (tmp_path / "adapter").exists() and mk.load_run(tmp_path).labels["method"] == "interrupted"


# ---- where -----------------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder_and_no_file_of_the_run_names_it(fresh_tiny, train_phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["medr1kit", "sft", f"--output_dir={tmp_path}/home/runs/x"])
    run = sft(*fresh_tiny, train_phantoms, "~/runs/x", max_steps=1, save_strategy="steps", save_steps=1)
    assert run.path == tmp_path / "home" / "runs" / "x" and (run.path / "adapter").is_dir()
    assert run.config["arguments"]["output_dir"] == "~/runs/x"
    assert run.config["command"] == ["medr1kit", "sft", "--output_dir=~/runs/x"]
    for file in (run.path / "run.json", run.path / "README.md", *run.path.rglob("adapter_config.json")):
        assert str(tmp_path) not in file.read_text(encoding="utf-8"), file
    for folder in (run.path, run.path / "checkpoint-1"):
        adapter = folder if folder.name.startswith("checkpoint") else folder / "adapter"
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == "tiny"
    assert equal(the_adapter(mk.load_model(run.path)[0]), the_adapter(fresh_tiny[0]))


def test_a_run_that_cannot_be_written_is_refused_before_the_model_is_touched(tiny, train_phantoms, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "x", "/proc/x"):
        with pytest.raises(DataError, match="cannot be written"):
            sft(*tiny, train_phantoms, place)
    assert not any("lora" in name for name, _ in tiny[0].named_parameters())


def test_what_questions_are_about_becomes_the_labels_only_where_it_is_known(fresh_tiny, train_phantoms, tmp_path):
    rows = train_phantoms.select(range(8))
    found = {}
    for name, modalities in {
        "unknown": [None] * 8,
        "partly": ["CT"] * 7 + [None],
        "one": ["CT"] * 8,
        "several": ["CT"] * 4 + ["MRI"] * 4,
    }.items():
        data = rows.remove_columns("modality").add_column("modality", modalities)
        found[name] = sft(*fresh_tiny, data, tmp_path / name, max_steps=1).labels["train_modality"]
    assert found == {"unknown": None, "partly": None, "one": "CT", "several": "all"}
