"""What a training needs is told from a model's shapes alone, and fits the one measurement there is."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.outline import is_built_in, outline
from medr1kit.training.forecast import forecast
from medr1kit.training.presets import PRESETS, with_overrides
from medr1kit.vqa import DataError

GB = 2**30 / 1e9  # of a GiB


@pytest.fixture(scope="module")
def two_billion():
    """Qwen2-VL-2B on the meta device."""
    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    text |= {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536}
    config = AutoConfig.for_model("qwen2_vl", text_config=text, vision_config=vision, tie_word_embeddings=True)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def test_the_one_measurement_is_met(two_billion):
    """A CPU, bfloat16, preset gpu, two completions of 8 tokens, one image of 112 × 112: 7.4 GB, 4.4 of them weights."""
    overrides = {"per_device_train_batch_size": 2, "num_generations": 2, "gradient_accumulation_steps": 1}
    settings = with_overrides(PRESETS["gpu-24gb"]["grpo"], overrides | {"max_completion_length": 8})
    parts = forecast(two_billion, settings, {"rank": 16}, "bfloat16", size=112)
    assert two_billion.num_parameters() == 2_208_985_600
    assert parts["weights"] * GB == pytest.approx(4.4, abs=0.05)
    assert parts["together"] * GB == pytest.approx(7.4, abs=0.3)


def test_the_parts_by_hand(two_billion):
    settings = with_overrides(PRESETS["gpu-24gb"]["grpo"], {})
    parts = {name: gib * 2**30 for name, gib in forecast(two_billion, settings, {"rank": 16}, "bfloat16").items()}
    maps = 2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960)
    assert parts["gradients"] == 4 * 16 * 28 * maps and parts["optimizer"] == 2 * parts["gradients"]
    assert parts["reference"] == 0, "the model without its adapter"
    assert parts["checkpoint"] == 3 * parts["gradients"]
    assert parts["keys and values"] == 2 * 2 * 28 * 256 * 32 * (200 + 196 + 256)


def test_in_4_bits_the_maps_of_the_language_model_take_half_a_byte_each(two_billion):
    settings = with_overrides(PRESETS["gpu-24gb"]["grpo"], {})
    plain, fine = (forecast(two_billion, settings, {"rank": 16}, "bfloat16", load_in_4bit=yes) for yes in (False, True))
    maps = 28 * (2 * 1536 * 1536 + 2 * 1536 * 256 + 3 * 1536 * 8960)
    saved = (plain["weights"] - fine["weights"]) * 2**30
    assert saved == pytest.approx((2 - 0.5159) * maps, rel=1e-4)
    assert plain["together"] - fine["together"] == pytest.approx(saved / 2**30)


def test_all_weights_take_gradients_moments_and_a_reference_of_their_size(two_billion):
    settings = with_overrides(PRESETS["med-r1"]["grpo"], {})
    parts = forecast(two_billion, settings, False, "float32")
    of_weights = [parts[name] / parts["weights"] for name in ("gradients", "optimizer", "reference", "checkpoint")]
    assert parts["weights"] * GB == pytest.approx(8.84, abs=0.01) and of_weights == [1, 2, 1, 3]
    without = forecast(two_billion, settings | {"beta": 0.0, "save_only_model": True}, False, "float32")
    assert without["reference"] == 0 and without["checkpoint"] == parts["weights"]
    checkpointed = forecast(two_billion, settings | {"gradient_checkpointing": True}, False, "float32")
    assert checkpointed["states"] < parts["states"] / 10


def test_doctor_tells_it_before_anything_is_loaded(micro_folder, monkeypatch, capsys):
    monkeypatch.setattr("medr1kit.models.weights.load_base", lambda *_, **__: pytest.fail("loaded"))
    (micro_folder / "model.safetensors").rename(micro_folder / "elsewhere")
    try:
        mk.doctor(micro_folder, preset="med-r1")
        assert main(["doctor", str(micro_folder), "--preset", "gpu-24gb", "--method", "sft"]) == 0
    finally:
        (micro_folder / "elsewhere").rename(micro_folder / "model.safetensors")
    out = capsys.readouterr().out
    assert "grpo of all weights, preset med-r1, images 384 × 384" in out and "in float32" in out
    assert "sft of an adapter of rank 16, preset gpu-24gb" in out and "in bfloat16" in out
    assert out.count("GiB, estimated;") == out.count("GiB a checkpoint") == 2


def test_doctor_refuses_what_is_no_model_or_preset(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 2 and "no model at" in capsys.readouterr().err
    with pytest.raises(DataError, match="preset='gpuu' is unknown; did you mean 'gpu'"):
        mk.doctor("tiny", preset="gpuu")


def test_a_model_is_known_by_its_size_without_its_weights(micro_folder, tmp_path):
    assert is_built_in("tiny") and is_built_in(micro_folder)
    config = json.loads((micro_folder / "config.json").read_text(encoding="utf-8"))
    assert outline(micro_folder).config.model_type == config["model_type"]
    assert all(weight.device.type == "meta" for weight in outline("tiny").parameters())


@pytest.mark.parametrize(("gigabytes", "verdict"), [(80, "it should fit"), (9, "may not fit"), (8, "does not fit")])
def test_the_card_at_hand_is_compared(two_billion, monkeypatch, capsys, gigabytes, verdict):
    class Card:
        total_memory = gigabytes * 10**9

    for name, value in {"is_available": True, "device_count": 1, "is_bf16_supported": True}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, value=value, **__: value)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "Some GPU")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: Card)
    monkeypatch.setattr("medr1kit.training.forecast.outline", lambda _: two_billion)
    monkeypatch.setattr("medr1kit.training.forecast.is_built_in", lambda _: False)
    mk.doctor("Qwen/Qwen2-VL-2B-Instruct", preset="gpu-24gb")
    out = capsys.readouterr().out
    assert verdict in out and "2.209 billion weights in bfloat16" in out
