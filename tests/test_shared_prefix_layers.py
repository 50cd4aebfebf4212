"""Joined layers: which models they serve, and gradients through adapters of every kind they fold."""

from copy import deepcopy

import pytest
import torch
from shared_prefix_cases import adapted, conversations, core_of, gradients, head_of, in_double, relative

from medr1kit.models.shared_prefix import prompts as prompts_module
from medr1kit.models.shared_prefix.layers import joined_layers
from medr1kit.models.shared_prefix.prompts import follow, prefill, read_prompts
from medr1kit.models.shared_prefix.vision import VisionFeatures

WORDS = torch.tensor([[11, 40, 7], [90, 12, 33], [11, 40, 8]])  # (rows, tokens)
SERVED = {
    "plain LoRA": {},
    "rank-stabilised": {"use_rslora": True},
    "some maps": {"target_modules": r".*language_model.*\.(q_proj|v_proj|down_proj)"},
    "other ranks": {"rank_pattern": {"k_proj": 2, "up_proj": 3}},
    "two adapters": {},
}
NOT_SERVED = {
    "DoRA": {"use_dora": True},
    "biases trained": {"bias": "all", "target_modules": r".*language_model.*\.(q_proj|v_proj)"},
    "a norm trained, too": {"modules_to_save": ["input_layernorm"]},
}


def with_lora(model, name):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    settings = {"target_modules": r".*language_model.*_proj", **SERVED.get(name, {}), **NOT_SERVED.get(name, {})}
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **settings))
    if name == "two adapters":
        model.add_adapter("second", LoraConfig(r=2, target_modules=settings["target_modules"]))
        model.base_model.set_adapter(["default", "second"])
    for weight_name, weight in model.named_parameters():
        if "lora_B" in weight_name:
            torch.nn.init.normal_(weight, std=0.05)
    return model.train()


def back(model, processor, rows):
    """What is said of words after prompts, and its gradients; and whether transformers read them."""
    core = core_of(model)
    prompts = read_prompts(processor, core, conversations(rows))
    prefix = prefill(core, prompts, VisionFeatures(core))
    hidden, _ = follow(core, prefix, torch.tensor([2, 0, 1]), WORDS, torch.ones_like(WORDS).bool())
    logs = head_of(model)(hidden).log_softmax(-1)
    model.zero_grad()
    (logs * torch.linspace(-1, 1, logs.numel()).view_as(logs)).sum().backward()
    return logs.detach(), gradients(model), prefix.layers is None


@pytest.mark.parametrize("name", SERVED)
def test_adapters_get_the_gradient_that_transformers_gives_them(micro, train_phantoms, name, monkeypatch):
    model, processor = with_lora(micro[0], name), micro[1]
    rows = list(train_phantoms.select(range(3)))
    logs, ours, by_transformers = back(model, processor, rows)
    assert not by_transformers
    exact, theirs = deepcopy(model), deepcopy(model)
    monkeypatch.setattr(prompts_module, "joined_layers", lambda _: None)
    true, in_float64, by_transformers = back(in_double(exact), processor, rows)
    assert by_transformers
    own, in_float32, _ = back(theirs, processor, rows)
    assert relative(logs, true) < max(1e-6, 1.5 * relative(own, true))
    assert max(relative(ours, in_float64), relative(in_float32, in_float64)) < 5e-6


@pytest.mark.parametrize("name", NOT_SERVED)
def test_what_is_no_product_is_read_by_transformers(micro, train_phantoms, name):
    if name == "biases trained" and core_of(micro[0]).config.model_type == "qwen3_vl":
        pytest.skip("its maps have no bias")
    model = with_lora(micro[0], name)
    _, found, by_transformers = back(model, micro[1], list(train_phantoms.select(range(3))))
    assert by_transformers and found


def test_half_precision_and_mixed_precision_are_left_to_transformers(micro):
    model = adapted(micro[0])
    assert joined_layers(core_of(model).language_model)
    with torch.autocast("cpu", torch.bfloat16):
        assert joined_layers(core_of(model).language_model) is None
    assert joined_layers(core_of(model.to(torch.bfloat16)).language_model) is None


def test_trained_weights_are_read_here_only_without_a_gradient(micro):
    language_model = core_of(micro[0].requires_grad_(True)).language_model
    assert joined_layers(language_model) is None
    with torch.no_grad():
        assert joined_layers(language_model)


def test_parameters_hooks_are_called_as_ddp_needs_it(micro, train_phantoms):
    model, called = adapted(micro[0]), []
    trained = [weight for name, weight in model.named_parameters() if weight.requires_grad]
    for i, weight in enumerate(trained):
        weight.register_post_accumulate_grad_hook(lambda _, i=i: called.append(i))
    back(model, micro[1], list(train_phantoms.select(range(3))))
    assert sorted(called) == list(range(len(trained)))  # each once
