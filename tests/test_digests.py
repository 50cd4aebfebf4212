"""Digests of weights: every bit counts, at its place, in every number format."""

import pytest
import torch

from medr1kit.models.digests import exact_digest, weights_digest

FORMATS = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2, 3, 5)])
def test_one_bit_changes_it(dtype, shape):
    weight = (10 * torch.randn(shape)).to(dtype)
    before = exact_digest([("a", weight)])
    assert exact_digest([("a", weight.clone())]) == before
    bits = weight.reshape(-1).view({1: torch.int8, 2: torch.int16, 4: torch.int32}[weight.element_size()])
    bits[-1] ^= 1
    assert exact_digest([("a", weight)]) != before


def test_names_shapes_formats_and_places_count():
    square = torch.arange(12.0).view(3, 4)
    same_sums = square.clone()
    same_sums[0, 0], same_sums[0, 1] = square[0, 1], square[0, 0]  # the row's sum stays
    others = [
        [("b", square)],
        [("a", square.view(4, 3))],
        [("a", square.view(torch.int32))],
        [("a", square.t())],
        [("a", square.flip(0))],
        [("a", same_sums)],
        [("a", square), ("b", square)],
        [],
    ]
    assert len({exact_digest(one) for one in ([("a", square)], *others)}) == 1 + len(others)


def test_a_strided_tensor_has_the_digest_of_its_numbers():
    wide = torch.randn(4, 9)
    assert exact_digest([("a", wide[:, 1:4])]) == exact_digest([("a", wide[:, 1:4].clone())])


def test_models_differ_by_weights_and_by_acting_adapters(fresh_tiny):
    from peft import get_peft_model

    import medr1kit as mk

    model = get_peft_model(fresh_tiny[0], mk.lora(rank=2))
    before = weights_digest(model)
    with model.disable_adapter():
        assert weights_digest(model) != before
    assert weights_digest(model) == before
    with torch.no_grad():
        model.get_base_model().lm_head.weight[0, 0] += 1
    assert weights_digest(model) != before
