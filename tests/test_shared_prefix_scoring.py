"""Log-probabilities, entropies and gradients from a shared prefix: those of stock TRL."""

from copy import deepcopy

import pytest
import torch
from shared_prefix_cases import (
    COUNTS,
    LENGTHS,
    Stock,
    adapted,
    completions,
    conversations,
    core_of,
    gradients,
    head_of,
    in_double,
    relative,
    stock_inputs,
)

from medr1kit.models.shared_prefix import scoring
from medr1kit.models.shared_prefix.layers import Layers
from medr1kit.models.shared_prefix.packing import score_packed
from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
from medr1kit.models.shared_prefix.scoring import score
from medr1kit.models.shared_prefix.vision import VisionFeatures

EXACT = 2e-6  # relative, in float32, of numbers; gradients are as near to those in float64 as stock's,
ROUNDING = 5e-6  # or as near as stock's are at the most
TRAINED = {  # what is trained: by LoRA, or weights themselves
    "language model": adapted,
    "merger, too": lambda model: adapted(model, merger=True),
    "tower, too": lambda model: adapted(model, tower=True),
    "merger and tower, too": lambda model: adapted(model, merger=True, tower=True),
    "every weight": lambda model: model.train(),
    "every weight but the tower's": lambda model: only(model, lambda name: "visual" not in name),
    "the tower's last block": lambda model: only(model, lambda name: "visual.blocks.1." in name),
}


def only(model, trained):
    for name, weight in model.train().named_parameters():
        weight.requires_grad_(trained(name))
    return model


@pytest.fixture(scope="module")
def rows(train_phantoms):
    return list(train_phantoms.select(range(3)))


@pytest.fixture
def random_qwen2_vl(tiny):
    """Two random layers of the built-in architecture; the built-in weights have a test of their own."""
    from transformers import AutoModelForImageTextToText

    config = deepcopy(tiny[0].config)
    text, vision = config.text_config, config.vision_config
    text.num_hidden_layers = vision.depth = 2
    text.layer_types = text.layer_types[:2]
    text.initializer_range = vision.initializer_range = 0.1  # keeps numbers near 1 at width 128
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config), tiny[1]


def ours(model, processor, asked, ids, mask, *, packed=False, **settings):
    vision, prompts = VisionFeatures(core_of(model)), read_prompts(processor, core_of(model), asked)
    parts = core_of(model), head_of(model)
    if packed:
        return score_packed(*parts, vision, prompts, prompts.of_row, ids, mask, **settings)
    return score(*parts, prefill(core_of(model), prompts, vision), prompts.of_row, ids, mask, **settings)


def with_gradients(model, logps, entropies, weights):
    model.zero_grad()
    (logps * weights[0] + entropies * weights[1]).sum().backward()
    return logps.detach(), entropies.detach(), gradients(model)


def truth(model, processor, asked, ids, mask, weights, temperature):
    """What transformers computes of whole rows in float64."""
    model, inputs = in_double(model), stock_inputs(processor, asked, ids, mask)
    del inputs["num_images"]
    inputs["pixel_values"] = inputs["pixel_values"].double()
    logs = (model(**inputs).logits[:, -ids.shape[1] - 1 : -1] / temperature).log_softmax(-1)
    found = logs.gather(2, ids[..., None]).squeeze(2) * mask, -(logs.exp() * logs).sum(-1) * mask
    return with_gradients(model, *found, weights)


def apart(found, others):
    """How far log-probabilities, entropies and gradients are from others, relatively.

    Gradients of what the vision tower trains are also compared apart: beside the language model's they are small.
    """
    visual = [{name: g for name, g in side[2].items() if ".visual." in name} for side in (found, others)]
    return [relative(*pair) for pair in zip(found, others)] + ([relative(*visual)] if visual[1] else [])


def compare(model, processor, rows, temperature=0.8):
    """Numbers are TRL's; gradients are as near to those in float64 as TRL's: continued, then packed."""
    asked = conversations(rows)
    ids, mask = completions(model, processor, asked)
    weights = torch.randn(2, *ids.shape)
    true = truth(model, processor, asked, ids, mask, weights, temperature)
    theirs = with_gradients(model, *Stock(model, temperature).score(processor, asked, ids, mask), weights)
    error = apart(theirs, true)
    assert max(error) < 1e-5  # that it is float32's, not something else's
    for packed in (False, True):
        settings = {"temperature": temperature, "entropy_gradient": True, "packed": packed}
        found = with_gradients(model, *ours(model, processor, asked, ids, mask, **settings), weights)
        assert max(apart(found, theirs)[:2]) < EXACT
        assert all(own < max(1.5 * limit, ROUNDING) for own, limit in zip(apart(found, true)[2:], error[2:]))


@pytest.mark.parametrize("trained", TRAINED)
def test_numbers_and_gradients_are_those_of_stock(micro, rows, trained):
    model, processor = micro
    compare(TRAINED[trained](model), processor, rows)


@pytest.mark.parametrize("trained", TRAINED)
def test_numbers_and_gradients_are_those_of_stock_qwen2_vl(random_qwen2_vl, rows, trained):
    model, processor = random_qwen2_vl
    compare(TRAINED[trained](model), processor, rows)


def test_a_trained_model_is_scored_as_exactly_as_by_stock(fresh_tiny, rows):
    # Its large logits make float32 itself coarse: stock's own gradients are 1e-5 (of log-probabilities) and 3e-5 (of
    # entropies) from those in float64, and so the two can differ by as much. Neither is nearer to the truth.
    model, processor = adapted(fresh_tiny[0]), fresh_tiny[1]
    asked = conversations(rows)
    ids, mask = completions(model, processor, asked)
    weights = torch.stack([torch.randn(len(ids), 1) * mask, 0.1 * torch.ones(mask.shape)])
    true = truth(model, processor, asked, ids, mask, weights, 1.0)
    stock = with_gradients(model, *Stock(model).score(processor, asked, ids, mask), weights)
    shared = with_gradients(model, *ours(model, processor, asked, ids, mask, entropy_gradient=True), weights)
    packed = ours(model, processor, asked, ids, mask, entropy_gradient=True, packed=True)
    packed = with_gradients(model, *packed, weights)

    error = [relative(*pair) for pair in zip(stock, true)]
    assert max(error) < 1e-4  # that it is float32's, not something else's
    for found in (shared, packed):
        assert all(relative(*pair) < 1.5 * limit for pair, limit in zip(zip(found, true), error))
        assert all(relative(*pair) < 1.5 * limit for pair, limit in zip(zip(found, stock), error))


def test_small_slices_of_the_head_change_nothing(micro, rows, monkeypatch):
    monkeypatch.setattr(scoring, "LOGITS", 3 * head_of(micro[0]).out_features)  # three tokens at a time
    sliced = []
    monkeypatch.setattr(scoring, "_slice", lambda *a, inner=scoring._slice: sliced.append(len(a[1])) or inner(*a))
    compare(adapted(micro[0]), micro[1], rows)
    assert max(sliced) == 3 and len(sliced) > 10


def test_without_entropy_bonus_entropies_carry_no_gradient(tiny, rows):
    model, processor = tiny
    asked = conversations(rows)
    ids, mask = completions(model, processor, asked)
    logps, entropies = ours(model, processor, asked, ids, mask)
    assert logps.requires_grad and not entropies.requires_grad
    assert entropies[mask.bool()].min() >= 0 and not entropies[~mask.bool()].any()


def test_rows_without_tokens_get_zeros(tiny, rows):
    """As when truncated completions are masked."""
    model, processor = tiny
    asked = conversations(rows)
    ids, mask = completions(model, processor, asked)
    whole, _ = ours(model, processor, asked, ids, mask)
    mask[[0, 3]] = 0
    logps, _ = ours(model, processor, asked, ids, mask)
    assert not logps[[0, 3]].any() and torch.allclose(logps[[1, 2]], whole[[1, 2]], atol=1e-5)
    for packed in (False, True):
        logps, _ = ours(model, processor, asked, ids, torch.zeros_like(mask), packed=packed)
        assert logps.shape == ids.shape and not logps.any()
        logps.sum().backward()
    model.zero_grad()


def test_equal_completions_are_read_once_and_the_prompt_once(tiny, rows, monkeypatch):
    model, processor = tiny
    asked = conversations(rows)
    ids, mask = completions(model, processor, asked)
    prompts = read_prompts(processor, core_of(model), asked)
    fed = []
    read = Layers.read
    monkeypatch.setattr(Layers, "read", lambda *a, **k: fed.append(tuple(a[1].shape[:2])) or read(*a, **k))
    with torch.no_grad():
        monkeypatch.setattr(scoring, "BUCKET_TOKENS", 0)  # a bucket for each length
        prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model)))
        score(core_of(model), head_of(model), prefix, prompts.of_row, ids, mask)
    assert fed[0] == tuple(prompts.input_ids.shape) and len(prompts) == len(COUNTS)
    # The last token of a completion predicts nothing, and rows 4 and 5 say the same.
    lengths = [length - 1 for i, length in enumerate(LENGTHS) if i != 5 and length > 1]
    assert sorted(fed[1:]) == sorted((lengths.count(length), length) for length in set(lengths))


def test_buckets_cut_where_padding_costs_more_than_another_bucket():
    assert scoring._buckets([3, 3, 4]) == [[0, 1, 2]]
    assert scoring._buckets([0, 0]) == []
    cuts = scoring._buckets([10] * 20 + [60] * 5 + [200])
    assert [len(bucket) for bucket in cuts] == [20, 5, 1]
    lengths = torch.randint(1, 200, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    assert cost(scoring._buckets(lengths), lengths) == min(cost(cuts, lengths) for cuts in all_cuts(lengths))


def cost(buckets, lengths):
    return sum(scoring.BUCKET_TOKENS + max(lengths[i] for i in bucket) * len(bucket) for bucket in buckets)


def all_cuts(lengths):
    from itertools import combinations, pairwise

    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for k in range(len(order)):
        for cut in combinations(range(1, len(order)), k):
            yield [order[a:b] for a, b in pairwise((0, *cut, len(order)))]
