"""The decoder's inner loop: the logits of the model itself, whatever its linear maps are."""

from dataclasses import replace

import pytest
import torch
from shared_prefix_cases import adapted, conversations, core_of, head_of

from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.prompts import follow, prefill, read_prompts
from medr1kit.models.shared_prefix.vision import VisionFeatures

WORDS = torch.tensor([[11, 40, 7], [90, 12, 33], [11, 40, 8]])  # (branches, tokens)


def read(model, processor, train_phantoms):
    asked = conversations(list(train_phantoms.select(range(3))))
    prompts = read_prompts(processor, core_of(model), asked)
    with torch.no_grad():
        return prefill(core_of(model), prompts, VisionFeatures(core_of(model)))


def expected(model, prefix, prompt_of_branch):
    """The logits of transformers, which continues the same keys and values."""
    prefix = replace(prefix, layers=None)
    with torch.no_grad():
        states, _ = follow(core_of(model), prefix, prompt_of_branch, WORDS, torch.ones_like(WORDS))
        return head_of(model)(states)  # (branches, tokens, vocabulary)


def stepped(model, prefix, prompt_of_branch, decoder=None):
    decoder = decoder or Decoder(core_of(model).language_model, head_of(model))
    with torch.no_grad():
        state = decoder.start(prefix, prompt_of_branch, WORDS.shape[1])
        return torch.stack([decoder.step(state, column) for column in WORDS.T], dim=1)


OWNERS = torch.tensor([2, 0, 1])


def test_steps_are_those_of_the_model(micro, train_phantoms):
    model, processor = micro
    model = adapted(model)
    prefix = read(model, processor, train_phantoms)
    assert torch.allclose(stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS), atol=2e-5)


@pytest.mark.parametrize("change", ["lora bias", "DoRA", "two adapters", "adapter off", "biases"])
def test_adapters_of_every_kind(micro, train_phantoms, change):
    from peft import LoraConfig, get_peft_model

    model, processor = micro
    torch.manual_seed(0)
    targets = {"biases": ["q_proj", "v_proj"], "lora bias": ["q_proj", "k_proj"]}.get(change, ["q_proj", "o_proj"])
    kind = {"lora_bias": change == "lora bias", "use_dora": change == "DoRA"}
    if change == "lora bias" and core_of(model).config.model_type == "qwen3_vl":
        pytest.skip("its maps have no bias")
    config = LoraConfig(r=4, target_modules=rf".*language_model.*\.({'|'.join(targets)})", **kind)
    model = get_peft_model(model, config)
    if change == "two adapters":
        model.add_adapter("second", LoraConfig(r=2, target_modules=config.target_modules))
        model.base_model.set_adapter(["default", "second"])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    if change == "adapter off":
        with model.disable_adapter():
            prefix = read(model, processor, train_phantoms)
            found, wanted = stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS)
    else:
        prefix = read(model, processor, train_phantoms)
        found, wanted = stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS)
    assert torch.allclose(found, wanted, atol=2e-5)


def test_folding_leaves_the_model_as_it_is(micro, train_phantoms):
    model, processor = micro
    model = adapted(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    prefix = read(model, processor, train_phantoms)
    stepped(model, prefix, OWNERS)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_half_precision_calls_the_model_s_own_maps(micro, train_phantoms):
    model, processor = micro
    model = adapted(model).to(torch.bfloat16)
    prefix = read(model, processor, train_phantoms)
    found, wanted = stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS).float()
    assert (found - wanted).norm() < 0.02 * wanted.norm()  # bfloat16 has 8 bits


def test_split_branches_go_on_alone(micro, train_phantoms):
    model, processor = micro
    prefix = read(model, processor, train_phantoms)
    decoder = Decoder(core_of(model).language_model, head_of(model))
    with torch.no_grad():
        state = decoder.start(prefix, torch.tensor([2, 0]), 3, room=3)
        decoder.step(state, WORDS[:2, 0])
        state.split([0])
        decoder.step(state, torch.tensor([40, 12, 40]))
        logits = decoder.step(state, torch.tensor([7, 33, 8]))
        state.keep([2, 1], room=2)
    wanted = expected(model, prefix, torch.tensor([2, 0, 2]))[:, 2]
    assert torch.allclose(logits, wanted, atol=2e-5)
    assert state.count == 2 and len(state.keys[0]) == 2
