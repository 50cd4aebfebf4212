"""The page's lines of plain TRL are what ``train_grpo`` runs: the same arguments, the same prompt, the same numbers."""

import re
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages

import medr1kit as mk

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## What train_grpo does")[1].split("\n## ")[0]
SMALLER = {"n=2000": "n=24", '"max_steps": 250': '"max_steps": 2', 'batch_size": 64': 'batch_size": 24'}


@pytest.fixture(scope="module")
def plain(one_thread, tmp_path_factory):
    """What the page's lines leave behind, run with fewer questions and two steps."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    assert len(code[code.index("model, processor") :].splitlines()) <= 22
    for said, smaller in SMALLER.items():
        assert code.count(said) == 1
        code = code.replace(said, smaller)
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        exec(compile(code, "docs/training.md", "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def model(one_thread):
    return mk.load_model("tiny")


@pytest.fixture(scope="module")
def ours(plain, model, tmp_path_factory):
    """The run of train_grpo on the same questions."""
    return mk.train_grpo(
        *model,
        plain["rows"],
        format=mk.THINK_BEFORE,
        output_dir=tmp_path_factory.mktemp("ours") / "run",
        shared_prefix=False,
        max_steps=2,
        per_device_train_batch_size=24,
    )


def test_two_steps_have_the_same_numbers(plain, ours):
    logged = plain["trainer"].state.log_history[:2]
    assert type(plain["trainer"]) is GRPOTrainer and all(step["grad_norm"] > 0 for step in logged)
    for step, row in zip(logged, ours.metrics.to_dict("records"), strict=True):
        same = set(step) & set(row) - {"step_time"}
        assert {"loss", "grad_norm", "reward", "reward_std", "entropy", "learning_rate"} < same
        assert {name: step[name] for name in same} == {name: row[name] for name in same}


def test_two_steps_leave_the_same_weights(plain, ours, model):
    adapted, untrained = (dict(one.named_parameters()) for one in (model[0], mk.load_model("tiny")[0]))
    weights = dict(plain["trainer"].model.get_base_model().named_parameters())
    assert len(weights) == len(adapted) > len(untrained)
    assert all(torch.equal(weight, adapted[name]) for name, weight in weights.items())
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name), "they begin at zero"


def test_every_argument_is_that_of_the_preset(plain, ours):
    said, used = plain["trainer"].args.to_dict(), ours.config["arguments"]
    apart = {name for name in {*said, *used} if said.get(name) != used.get(name)}
    on_a_cpu_alike = {"ddp_find_unused_parameters", "dataloader_pin_memory", "disable_tqdm"}
    assert apart - on_a_cpu_alike == {"output_dir"}
    whole = mk.PRESETS["tiny"]["grpo"]
    assert f'"max_steps": {whole["max_steps"]}' in SECTION
    assert f'"per_device_train_batch_size": {whole["per_device_train_batch_size"]}' in SECTION
    assert "mk.lora(" + ", ".join(f"{name}={value}" for name, value in whole["lora"].items()) + ")" in SECTION


def test_the_page_prints_the_whole_prompt(plain):
    (printed,) = re.findall(r"^```text\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    first = mk.load_vqa("phantoms", split="train", modality="CT", scanner="B", n=1)[0]
    turn = prepare_multimodal_messages(plain["ask"][0], images=[first["image"]])  # as TRL does
    said = plain["processor"].apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert first["id"] == plain["rows"][0]["id"] and printed == said
    read = plain["processor"](text=[said], images=[first["image"]])["input_ids"][0]
    assert read.count(plain["processor"].image_token_id) == 16 and "writes 16 of them" in SECTION
