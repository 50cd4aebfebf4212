"""The choices for this machine, each with its reason, and the words in which they can be made by hand."""

import sys

import pytest
import torch

import medr1kit as mk
from medr1kit.models import machine
from medr1kit.models.load import TINY
from medr1kit.models.weights import load_base
from medr1kit.vqa import DataError


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "installed", "value", "reason"),
    [
        ("cpu", "float32", 9, True, "sdpa", "needs a GPU"),
        ("cuda", "float32", 9, True, "sdpa", "half precision"),
        ("cuda:1", "float16", 7, True, "sdpa", "compute capability 8"),
        ("cuda", "bfloat16", 8, False, "sdpa", "not installed"),
        ("cuda", "bfloat16", 8, True, "flash_attention_2", "installed and the GPU can run it"),
    ],
)
def test_attention_is_chosen_with_its_reason(monkeypatch, device, dtype, capability, installed, value, reason):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (capability, 0))
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: installed)
    choice = machine.choose_tower_attention(device, dtype)
    assert choice.value == value and reason in choice.reason


@pytest.mark.parametrize(
    ("device", "bf16", "value"), [("cpu", True, "float32"), ("cuda", True, "bfloat16"), ("cuda:1", False, "float16")]
)
def test_the_number_format_is_chosen_with_its_reason(monkeypatch, device, bf16, value):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: bf16)
    choice = machine.choose_dtype(device)
    assert choice.value == value and choice.reason


def test_the_device_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert machine.choose_device().value == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "Some GPU")
    assert machine.choose_device() == machine.Choice("cuda", "2 GPU(s), first: Some GPU; one process uses one")


@pytest.mark.parametrize(("torchvision", "vllm"), [(None, None), ("0.28.0", "0.30.0")])
def test_doctor_prints_every_line(monkeypatch, capsys, torchvision, vllm):
    import importlib.metadata

    real, there = importlib.metadata.version, {"torchvision": torchvision, "vllm": vllm}

    def version(package):
        if package not in there:
            return real(package)
        if there[package] is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return there[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    mk.doctor()
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    packages = ["medr1kit", "torch", "transformers", "trl", "peft", "datasets"]
    assert list(lines)[:7] == ["python", *packages]
    assert {"device", "dtype", "attention", "threads", "torchvision"} <= set(lines)
    assert all(lines[package] == real(package) for package in packages)
    assert lines["python"].startswith(".".join(map(str, sys.version_info[:2])))
    assert lines["device"].startswith("cpu (") and lines["dtype"].startswith("float32 (")
    assert lines["attention"].startswith("sdpa (answers that share one reading")
    assert lines["decoding"] == "step by step (a CUDA graph needs a GPU)"
    assert lines["threads"] == str(torch.get_num_threads())
    assert ("WARNING" in lines["torchvision"]) == (torchvision is not None)
    assert lines["torchvision"].startswith(torchvision or "absent")
    assert ("vllm" in lines) == (vllm is not None)
    assert vllm is None or "0.30.0 (use_vllm=True: it samples, the loss stays shared; never run" in lines["vllm"]


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
def test_a_gpu_that_is_not_there_is_refused_with_what_is(monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DataError, match=r"device='cuda(:0)?' is not here \(.*\); leave device= out to take 'cpu'"):
        machine.device_given(device)


def test_the_third_gpu_of_two_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "Some GPU")
    assert machine.device_given("cuda:1") == "cuda:1" and machine.device_given(None) == "cuda"
    with pytest.raises(DataError, match=r"device='cuda:2' is not here \(2 GPU\(s\)"):
        machine.device_given("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "cpuu", 1.5, "meta"])
def test_a_word_that_is_no_device_is_refused(device):
    with pytest.raises(DataError, match=r"device=.*use 'cpu'"):
        machine.device_given(device)


@pytest.mark.parametrize(
    ("word", "name"),
    [("fp16", "float16"), ("bf16", "bfloat16"), (torch.float32, "float32"), ("auto", "auto"), (None, "float32")],
)
def test_a_number_format_is_known_by_its_short_name_and_by_torchs(word, name):
    assert machine.dtype_given(word, "cpu") == name


def test_an_unknown_word_names_those_that_are_known():
    with pytest.raises(DataError, match=r"dtype='fp8' is unknown.*float32, bfloat16, float16"):
        machine.dtype_given("fp8", "cpu")
    with pytest.raises(DataError, match=r"attn='flash' is unknown.*sdpa, eager"):
        machine.attention_given("flash", "cpu", "float32")
    assert machine.attention_given("eager", "cpu", "float32") == "eager"


def test_flash_attention_goes_into_the_tower_and_never_by_itself_into_the_language_model(monkeypatch):
    assert machine.attention_given(None, "cpu", "float32") == "sdpa"
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    both = machine.attention_given(None, "cuda", "bfloat16")
    assert both == {"": "sdpa", "vision_config": "flash_attention_2"}
    assert machine.attention_given("flash_attention_2", "cuda", "bfloat16") == "flash_attention_2"


def test_a_model_is_loaded_with_one_attention_a_part():
    model = load_base(TINY, "float32", {"": "sdpa", "vision_config": "eager"})
    assert model.config._attn_implementation == model.model.language_model.config._attn_implementation == "sdpa"
    assert model.model.visual.config._attn_implementation == "eager"


def test_flash_attention_is_refused_with_the_reason_where_it_cannot_run():
    with pytest.raises(DataError, match="attn='flash_attention_2' cannot run here: flash-attn needs a GPU"):
        machine.attention_given("flash_attention_2", "cpu", "float32")
