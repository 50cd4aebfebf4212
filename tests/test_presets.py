"""Presets: what they say, how a step is cut, and that the reference's setting moves its weights."""

import pytest
import torch

import medr1kit as mk
from medr1kit.commands.reference import as_reference, unlike_reference
from medr1kit.training.presets import PRESETS, preset_given, with_overrides
from medr1kit.vqa import DataError

DEVICE, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


def cut(monkeypatch, processes, method="grpo", **overrides):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    settings = with_overrides(PRESETS["med-r1"][method], overrides)
    return settings[DEVICE], settings[ACCUMULATION]


def test_med_r1_is_what_the_reference_released():
    released = {"learning_rate": 1e-6, "loss_type": "grpo", "beta": 0.04, "max_completion_length": 256, "questions": 4}
    released |= {"num_generations": 4, "temperature": 1.0, "top_k": 50, "lr_scheduler_type": "linear"}
    released |= {"warmup_steps": 0, "lora": False, "bf16": True, "gradient_checkpointing": False}
    found = PRESETS["med-r1"]["grpo"]
    assert {name: found[name] for name in released} == released


@pytest.mark.parametrize("processes", [1, 2, 4, 8, 16])
def test_med_r1_takes_four_prompts_of_four_completions_on_any_number_of_processes(monkeypatch, processes):
    device, accumulation = cut(monkeypatch, processes)
    assert device * accumulation * processes == 16
    assert device == min(4, 16 // processes), "a group stays on one device as long as there is room for it"
    sft = cut(monkeypatch, processes, "sft")
    assert sft[0] * sft[1] * processes == 128


def test_a_batch_given_by_name_is_kept_and_the_step_with_it(monkeypatch):
    assert cut(monkeypatch, 1, **{DEVICE: 8}) == (8, 2)
    assert cut(monkeypatch, 1, **{DEVICE: 2, ACCUMULATION: 2}) == (2, 2), "both: what was asked for"
    assert cut(monkeypatch, 2, num_generations=8) == (4, 4), "four prompts of eight"
    with pytest.raises(DataError, match=r"a step of this preset has 16 rows \(4 questions\).*into 3 processes of 4"):
        cut(monkeypatch, 3)


def test_both_presets_for_a_gpu_take_the_same_steps():
    small, large = PRESETS["gpu-24gb"], PRESETS["gpu-80gb"]
    how = {DEVICE, ACCUMULATION, "gradient_checkpointing"}
    for method in ("sft", "grpo"):
        rest = [{name: value for name, value in p[method].items() if name not in how} for p in (small, large)]
        rows = [p[method][DEVICE] * p[method].get(ACCUMULATION, 1) for p in (small, large)]
        assert rest[0] == rest[1] and rows[0] == rows[1]


@pytest.mark.parametrize(("gigabytes", "name"), [(None, "gpu-24gb"), (48, "gpu-24gb"), (80, "gpu-80gb")])
def test_gpu_is_the_one_for_the_card_at_hand(monkeypatch, gigabytes, name):
    class Card:
        total_memory = (gigabytes or 0) * 10**9

    monkeypatch.setattr("torch.cuda.is_available", lambda: gigabytes is not None)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: Card)
    assert preset_given("gpu", "grpo") == PRESETS[name]["grpo"]


def test_the_reference_s_setting_moves_every_weight_in_the_shared_step_as_in_trls(train_phantoms, tmp_path, one_thread):
    """Float32 weights under bf16 autocast: at 1e-6 those of bfloat16 would stay where they are."""
    moved = []
    for shared in (True, False):
        model, processor = mk.load_model("tiny")
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        run = mk.train_grpo(
            *(model, processor, train_phantoms),
            **{"format": "no-think", "preset": "med-r1", "output_dir": tmp_path / str(shared)},
            **{"max_steps": 1, "max_completion_length": 8, "save_strategy": "no", "shared_prefix": shared},
        )
        assert run.config["lora"] is None and run.config["arguments"]["bf16"] and model.dtype == torch.float32
        assert (run.config["shared_prefix"] is True) == shared
        assert (len(run.rollouts), run.rollouts["id"].nunique()) == (16, 4)
        moved.append({name: weight - before[name] for name, weight in model.named_parameters()})
    assert all(change.any() for change in moved[0].values())
    ours, theirs = (torch.cat([change.flatten() for change in moves.values()]) for moves in moved)
    # A first step of Adam is the gradient's sign times the rate, wherever a gradient is more than noise.
    assert theirs.abs().max() < 1.1e-6
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.9


def test_reference_counts_prompts_and_is_no_other_preset():
    read = as_reference({DEVICE: 2, ACCUMULATION: 2, "num_generations": 8})
    assert (read[DEVICE], read[ACCUMULATION], read["preset"]) == (16, 2, "med-r1")
    assert as_reference({"max_steps": 3}) == {"max_steps": 3, "preset": "med-r1"}
    with pytest.raises(DataError, match="--reference is --preset med-r1, and --preset gpu is another"):
        as_reference({"preset": "gpu"})


def test_the_readme_s_line_without_a_preset_is_told_what_differs(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = {DEVICE: 1, ACCUMULATION: 2, "num_generations": 4}
    told = unlike_reference(with_overrides(PRESETS["gpu"]["grpo"], given), adapter=True)
    assert "a step takes 4 completions of 1 questions (16 of 4)" in told
    assert "an adapter (all weights), learning_rate 1e-05 (1e-06), loss_type dapo (grpo), warmup_steps 10 (0)" in told
    assert "top_k 0 (50)" in told and "beta" not in told and "--reference" in told and "\n" not in told
    assert unlike_reference(with_overrides(PRESETS["gpu"]["grpo"], {}), adapter=True) is None
