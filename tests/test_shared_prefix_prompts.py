"""Prompts, each once: tokens, rotary positions and the state after reading, as the model has them row by row."""

import pytest
import torch
from shared_prefix_cases import COUNTS, conversations, core_of, padded

from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
from medr1kit.models.shared_prefix.vision import VisionFeatures
from medr1kit.vqa import DataError


@pytest.fixture(scope="module")
def asked(train_phantoms):
    return conversations(list(train_phantoms.select(range(3))))


def test_tokens_and_positions_are_those_of_the_rows(micro, asked):
    model, processor = micro
    prompts = read_prompts(processor, core_of(model), asked)
    assert len(prompts) == len(COUNTS) == len(prompts.images)
    assert prompts.of_row.tolist() == [0] * 3 + [1] + [2] * 4
    inputs = padded(processor, asked)
    assert torch.equal(prompts.input_ids[prompts.of_row], inputs["input_ids"])
    assert torch.equal(prompts.attention_mask[prompts.of_row], inputs["attention_mask"])
    assert prompts.token_lists() == [
        ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"])
    ]
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
    positions, deltas = core_of(model).get_rope_index(**{name: inputs[name] for name in names})
    assert torch.equal(prompts.position_ids[:, prompts.of_row], positions)
    after = inputs["attention_mask"].sum(1) + deltas.squeeze(1)
    assert torch.equal(prompts.next_position[prompts.of_row], after)


def test_the_same_words_about_another_picture_are_another_prompt(tiny, asked, train_phantoms):
    model, processor = tiny
    text = asked[0][0]["content"][1]
    other = train_phantoms[5]["image"]
    rows = [asked[0], [{"role": "user", "content": [{"type": "image", "image": other}, text]}], asked[0]]
    copied = asked[0][0]["content"][0]["image"].copy()  # equal pixels in another object
    rows.append([{"role": "user", "content": [{"type": "image", "image": copied}, text]}])
    assert read_prompts(processor, core_of(model), rows).of_row.tolist() == [0, 1, 0, 0]
    system = [{"role": "system", "content": "Be brief."}, *asked[0]]
    assert read_prompts(processor, core_of(model), [asked[0], system]).of_row.tolist() == [0, 1]


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_image_a_prompt(tiny, asked, count):
    model, processor = tiny
    image, text = asked[0][0]["content"]
    with pytest.raises(DataError, match=rf"a prompt with {count} images.*shared_prefix=False"):
        read_prompts(processor, core_of(model), [[{"role": "user", "content": [image] * count + [text]}]])


def test_a_selection_is_padded_no_more_than_it_needs(tiny, asked):
    model, processor = tiny
    prompts = read_prompts(processor, core_of(model), asked)
    one = prompts.select(torch.tensor([2]))
    assert one.attention_mask.all() and one.images == (prompts.images[2],) and one.of_row.tolist() == [0]
    assert one.token_lists()[0] == prompts.token_lists()[-1]
    vision = VisionFeatures(core_of(model))
    with torch.no_grad():
        alone, together = (prefill(core_of(model), read, vision) for read in (one, prompts))
    assert torch.allclose(alone.last_hidden[0], together.last_hidden[2], atol=2e-5)


def test_reading_is_the_model_s_own_and_has_a_graph_where_gradients_are_on(micro, asked):
    model, processor = micro
    prompts = read_prompts(processor, core_of(model), asked)
    prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model)))
    inputs = padded(processor, asked)
    with torch.no_grad():
        output = core_of(model)(**inputs, use_cache=True)
    assert torch.allclose(prefix.last_hidden[prompts.of_row], output.last_hidden_state[:, -1], atol=1e-5)
    seen = inputs["attention_mask"].bool()
    for layer, keys, values in zip(output.past_key_values.layers, prefix.keys, prefix.values, strict=True):
        for ours, theirs in ((keys, layer.keys), (values, layer.values)):
            assert torch.allclose(ours[prompts.of_row].transpose(1, 2)[seen], theirs.transpose(1, 2)[seen], atol=1e-5)
    assert prefix.last_hidden.requires_grad
    detached = prefix.detach()
    assert not any(t.requires_grad for t in (*detached.keys, *detached.values, detached.last_hidden))
    assert torch.equal(detached.last_hidden, prefix.last_hidden)
