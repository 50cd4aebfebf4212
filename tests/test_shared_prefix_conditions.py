"""When a prefix can be shared exactly, and the reason in one line where it cannot."""

from types import SimpleNamespace

import pytest
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from medr1kit.models.shared_prefix.answering import why_not_read
from medr1kit.training.trainers import why_not_drawn, why_not_shared, why_not_trained


def asked(model, rows=("prompt", "image"), adapter=None, **changes):
    """The conditions, of a run with such arguments; runs with real ones are in the tests of the trainer."""
    args = {
        "use_vllm": False,
        "use_transformers_continuous_batching": False,
        "cast_lm_head_to_fp32": False,
        "pad_to_multiple_of": None,
        "deepspeed_plugin": None,
        "fsdp": None,
        "gradient_checkpointing": False,
        "generation_kwargs": None,
    }
    assert changes.keys() <= args.keys()
    rows = None if rows is None else SimpleNamespace(column_names=list(rows))
    return why_not_shared(model, SimpleNamespace(**(args | changes)), rows, adapter)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_vllm": True}, None),
        ({"use_vllm": True, "generation_kwargs": {"stop_strings": ["</answer>"]}}, None),  # vLLM sees to it
        ({"use_vllm": True, "pad_to_multiple_of": 8}, "pad_to_multiple_of"),
        ({"use_transformers_continuous_batching": True}, "continuous batching"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of"),
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=3)}, "ZeRO-3"),
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=2)}, None),
        ({"fsdp": True}, "FSDP"),
        ({"gradient_checkpointing": True}, None),
        ({"generation_kwargs": {"num_beams": 2}}, "beams"),
        ({"rows": ("prompt", "images")}, "several images"),
        ({"rows": None}, None),
        ({"adapter": LoraConfig(lora_dropout=0.1)}, "LoRA dropout"),
        ({"adapter": LoraConfig()}, None),
        ({}, None),
    ],
)
def test_reasons_of_a_run(tiny, changes, reason):
    found = asked(tiny[0], **changes)
    assert found is None if reason is None else reason in found and "\n" not in found


def test_fsdp_that_accelerate_was_told_of(tiny, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "FSDP" in asked(tiny[0])


def test_what_is_read_of_the_arguments_is_there(tmp_path):
    from trl import GRPOConfig

    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    names = ("use_vllm", "use_transformers_continuous_batching", "cast_lm_head_to_fp32", "pad_to_multiple_of")
    names += ("deepspeed_plugin", "fsdp", "gradient_checkpointing", "generation_kwargs")
    assert all(hasattr(args, name) for name in names)


def test_checkpointing_needs_sdpa(fresh_tiny):
    model = fresh_tiny[0]
    model.set_attn_implementation("eager")
    assert asked(model) is None
    assert "attn='sdpa'" in asked(model, gradient_checkpointing=True)


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


def test_a_transformers_that_would_leave_image_features_aside(fresh_tiny, monkeypatch):
    """Before 5.18 the models took them for any keyword, and answered as if there were no image."""
    core = fresh_tiny[0].model
    monkeypatch.setattr(core, "forward", lambda input_ids=None, pixel_values=None, **kwargs: None)
    assert "5.18 and later" in why_not_read(fresh_tiny[0])


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
