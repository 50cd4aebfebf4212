"""The decoder's inner loop: the logits of the model itself, whatever its linear maps are."""

from dataclasses import replace

import pytest
import torch
from shared_prefix_cases import adapted, conversations, core_of, head_of
from torch.utils._python_dispatch import TorchDispatchMode

from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.graphs import StaticDecoder
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


@pytest.mark.parametrize("adapters", [torch.float32, torch.bfloat16], ids=["adapters in float32", "all in bfloat16"])
def test_half_precision_is_as_near_to_float32_as_transformers_is(micro, train_phantoms, adapters):
    model, processor = micro
    model = adapted(model)
    prefix = read(model, processor, train_phantoms)
    true = expected(model, prefix, OWNERS)
    in_half(model, adapters)
    prefix = read(model, processor, train_phantoms)
    found, theirs = stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS).float()
    assert (found - theirs).norm() < 0.02 * theirs.norm()  # bfloat16 has 8 bits
    assert (found - true).norm() < 1.5 * (theirs - true).norm()


def test_half_precision_hears_each_adapter(micro, train_phantoms):
    """Its factors stand in one matrix; each must act on its own map, by its own scale."""
    from peft import LoraConfig, get_peft_model

    model, processor = micro
    torch.manual_seed(0)
    targets = r".*language_model.*\.(k_proj|v_proj|o_proj|up_proj|down_proj)"
    model = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=targets, rank_pattern={"v_proj": 2}))
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=7, target_modules=targets))
    model.base_model.set_adapter(["default", "second"])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)  # far more than rounding
    in_half(model, torch.float32)
    prefix = read(model, processor, train_phantoms)
    found, wanted = stepped(model, prefix, OWNERS), expected(model, prefix, OWNERS).float()
    assert (found - wanted).norm() < 0.03 * wanted.norm()
    with model.disable_adapter():
        bare = expected(model, prefix, OWNERS).float()
        assert (stepped(model, prefix, OWNERS) - bare).norm() < 0.03 * bare.norm()
    assert (wanted - bare).norm() > 0.3 * bare.norm()


def in_half(model, adapters):
    """Weights in bfloat16, LoRA's factors as PEFT leaves them or rounded, too."""
    for name, weight in model.named_parameters():
        weight.data = weight.data.to(adapters if "lora_" in name else torch.bfloat16)


class Kernels(TorchDispatchMode):
    """Counts operators that compute or move something: on a GPU each is a kernel to be launched."""

    VIEWS = "view _unsafe_view slice select expand transpose t permute as_strided unsqueeze squeeze split chunk alias "
    VIEWS += "detach unbind split_with_sizes _reshape_alias empty empty_like new_empty narrow unflatten"

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += operator.overloadpacket.__name__ not in self.VIEWS.split()
        return operator(*args, **(kwargs or {}))


def kernels_a_layer(model, prefix, kind):
    """Of one token, with LoRA on all seven maps of a layer."""
    counts = []
    for layers in (1, 2):
        decoder = kind(core_of(model).language_model, head_of(model))
        del decoder.layers.layers[layers:]
        with torch.no_grad():
            state = decoder.start(prefix, OWNERS, WORDS.shape[1])
            decoder.step(state, WORDS[:, 0])
            with Kernels() as kernels:
                decoder.step(state, WORDS[:, 1])
        counts.append(kernels.count)
    return counts[1] - counts[0]


@pytest.mark.parametrize("kind", [Decoder, StaticDecoder])
def test_a_token_takes_few_kernels(micro, train_phantoms, kind):
    """At the launch of some 10 microseconds each they are what decoding on a GPU costs; transformers has 92 a layer."""
    model, processor = micro
    model = adapted(model)
    more = 5 * (core_of(model).config.model_type == "qwen3_vl")  # it norms queries and keys, too
    assert kernels_a_layer(model, read(model, processor, train_phantoms), kind) <= 26 + more
    in_half(model, torch.float32)
    assert kernels_a_layer(model, read(model, processor, train_phantoms), kind) <= 40 + more


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
