"""When a prefix can be shared exactly, and the reason in one line where it cannot."""

from functools import reduce
from types import SimpleNamespace

import pytest
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from medr1kit.models.shared_prefix.conditions import why_not_drawn, why_not_read, why_not_shared, why_not_trained


def trainer(model, **changes):
    """What the conditions look at in a trainer of TRL; runs with real ones are in the tests of the trainer."""
    state = SimpleNamespace(deepspeed_plugin=None, distributed_type=SimpleNamespace(value="NO"))
    made = {
        "args": SimpleNamespace(cast_lm_head_to_fp32=False, gradient_checkpointing=False),
        "accelerator": SimpleNamespace(unwrap_model=lambda model: model, state=state),
        "model": model,
        "use_vllm": False,
        "use_transformers_continuous_batching": False,
        "tools": [],
        "environment_factories": None,
        "rollout_func": None,
        "aux_loss_enabled": False,
        "pad_to_multiple_of": None,
        "train_dataset": SimpleNamespace(column_names=["prompt", "image"]),
        "generation_config": GenerationConfig(do_sample=True),
    }
    made = SimpleNamespace(**made)
    for path, value in changes.items():
        *way, name = path.split("__")
        setattr(reduce(getattr, way, made), name, value)
    return made


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_vllm": True}, "vLLM"),
        ({"use_transformers_continuous_batching": True}, "continuous batching"),
        ({"tools": [print]}, "tools"),
        ({"rollout_func": print}, "rollout function"),
        ({"environment_factories": {}}, None),
        ({"aux_loss_enabled": True}, "auxiliary loss"),
        ({"args__cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of"),
        ({"accelerator__state__deepspeed_plugin": SimpleNamespace(zero_stage=3)}, "ZeRO-3"),
        ({"accelerator__state__deepspeed_plugin": SimpleNamespace(zero_stage=2)}, None),
        ({"accelerator__state__distributed_type": SimpleNamespace(value="FSDP")}, "FSDP"),
        ({"args__gradient_checkpointing": True}, None),
        ({"train_dataset": SimpleNamespace(column_names=["prompt", "images"])}, "several images"),
        ({"train_dataset": None}, None),
        ({}, None),
    ],
)
def test_reasons_of_a_trainer(tiny, changes, reason):
    found = why_not_shared(trainer(tiny[0], **changes))
    assert found is None if reason is None else reason in found and "\n" not in found


def test_checkpointing_needs_sdpa(fresh_tiny):
    model = fresh_tiny[0]
    model.set_attn_implementation("eager")
    assert why_not_shared(trainer(model)) is None
    assert "attn='sdpa'" in why_not_shared(trainer(model, args__gradient_checkpointing=True))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"num_beams": 2}, "beams"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"guidance_scale": 1.0}, None),
        ({"stop_strings": ["</answer>"]}, "stop_strings"),
        ({"max_time": 1.0}, "max_time"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"min_new_tokens": 4, "repetition_penalty": 1.2, "top_p": 0.9}, None),
    ],
)
def test_reasons_of_generation_settings(setting, reason):
    found = why_not_drawn(GenerationConfig(do_sample=True, **setting))
    assert found is None if reason is None else reason in found


def test_models_that_can_be_read(tiny, micro):
    assert why_not_read(tiny[0]) is None and why_not_read(micro[0]) is None


def test_rotary_positions_that_depend_on_the_length(fresh_tiny):
    fresh_tiny[0].config.text_config.rope_parameters = {"rope_type": "dynamic"}
    assert "length of the sequence" in why_not_read(fresh_tiny[0])


def test_dropout_forbids_training_and_not_reading(fresh_tiny):
    model = fresh_tiny[0]
    assert why_not_trained(model) is None
    model.config.text_config.attention_dropout = 0.1
    assert "attention dropout" in why_not_trained(model) and why_not_read(model) is None


def test_unknown_models_and_sliding_windows(fresh_tiny):
    model = fresh_tiny[0]
    model.model.language_model.has_sliding_layers = True
    assert "sliding-window" in why_not_read(model)
    model.config.model_type = "llava"
    assert "llava is not one of qwen2_vl" in why_not_read(model)


def test_adapters(fresh_tiny):
    from peft import IA3Config

    targets = r".*language_model.*\.(k_proj|down_proj)"
    plain = get_peft_model(fresh_tiny[0], LoraConfig(r=2, target_modules=targets))
    assert why_not_read(plain) is None
    plain.add_adapter("dropping", LoraConfig(r=2, target_modules=targets, lora_dropout=0.1))
    assert "LoRA dropout" in why_not_trained(plain) and why_not_read(plain) is None
    base = plain.unload()
    scaled = get_peft_model(base, IA3Config(target_modules=targets, feedforward_modules=r".*\.down_proj"))
    assert "IA3, not LoRA" in why_not_read(scaled)
