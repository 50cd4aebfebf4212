"""Rollouts from a shared prefix: the tokens that transformers would draw with the same seed."""

import pytest
import torch
from shared_prefix_cases import COUNTS, adapted, base_of, conversations, core_of, head_of, padded

from medr1kit.models.load import image_token_ids
from medr1kit.models.shared_prefix import sampling
from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
from medr1kit.models.shared_prefix.sampling import _Branches, as_generate, by_share, most_probable, sample, settled
from medr1kit.models.shared_prefix.scoring import score
from medr1kit.models.shared_prefix.vision import VisionFeatures

PLAIN = {"do_sample": True, "max_new_tokens": 24, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module")
def rows(train_phantoms):
    return list(train_phantoms.select(range(3)))


def settings_of(model, processor, **changes):
    from transformers import GenerationConfig

    ends = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    barred = {"suppress_tokens": image_token_ids(base_of(model))}
    return GenerationConfig(**(PLAIN | ends | barred | changes))


def both(model, processor, rows, seed=0, **changes):
    """What transformers says, cut after the end token, and our rollouts."""
    asked = conversations(rows)
    settings = settings_of(model, processor, **changes)
    inputs = padded(processor, asked)
    torch.manual_seed(seed)
    with torch.no_grad():
        output = model.generate(**inputs, generation_config=settings)[:, inputs["input_ids"].shape[1] :]
    after = torch.rand(1)  # both must leave the generator where transformers leaves it
    end = settings.eos_token_id
    theirs = [row[: row.index(end) + 1] if end in row else row for row in output.tolist()]

    prompts = read_prompts(processor, core_of(model), asked)
    settings, processors = settled(base_of(model), settings, prompts.input_ids.shape[1])
    prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model))).detach()
    torch.manual_seed(seed)
    rollouts = sample(
        Decoder(core_of(model).language_model, head_of(model)),
        prefix,
        prompts.of_row,
        max_new_tokens=settings.max_new_tokens,
        end_tokens=[end],
        processors=processors,
        draw=None if settings.do_sample else most_probable,
        record=True,
    )
    assert settings.do_sample is False or torch.rand(1) == after
    return theirs, rollouts


@pytest.mark.parametrize("merger", [False, True], ids=["language model", "merger, too"])
def test_tokens_are_those_of_generate(micro, rows, merger):
    model, processor = micro
    theirs, ours = both(adapted(model, merger), processor, rows)
    assert ours.tokens == theirs and len({tuple(row) for row in theirs}) > 3


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 48},
        {"do_sample": False, "max_new_tokens": 48},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3},
        {"min_new_tokens": 14, "no_repeat_ngram_size": 3},
        {"max_new_tokens": 1},
    ],
    ids=["ragged", "greedy", "cut distribution", "shortest length", "one token"],
)
def test_the_built_in_model_says_what_generate_says(tiny, rows, changes):
    """It ends by itself: rows leave at different steps, after having said the same for a while."""
    theirs, ours = both(*tiny, rows, **changes)
    assert ours.tokens == theirs
    if changes == {"max_new_tokens": 48}:
        assert len({len(row) for row in theirs}) > 2
        assert ours.branch_steps < sum(map(len, theirs)) - len(theirs)  # words in common were read once


def test_rows_that_all_end_at_once(tiny, rows):
    model, processor = tiny
    theirs, ours = both(model, processor, rows, forced_eos_token_id=processor.tokenizer.eos_token_id, max_new_tokens=1)
    assert ours.tokens == theirs == [[processor.tokenizer.eos_token_id]] * sum(COUNTS)
    assert ours.steps == 0 and ours.log_probs.shape == (sum(COUNTS), 1)


def test_greedy_rows_of_a_prompt_stay_one_branch(tiny, rows):
    _, ours = both(*tiny, rows, do_sample=False)
    assert ours.branch_steps <= len(COUNTS) * ours.steps


def test_recorded_beliefs_are_those_of_the_scoring(micro, rows):
    model, processor = micro
    adapted(model)
    _, ours = both(model, processor, rows)
    asked = conversations(rows)
    prompts = read_prompts(processor, core_of(model), asked)
    ids, mask = torch.zeros(2, *ours.log_probs.shape, dtype=torch.long)
    for i, tokens in enumerate(ours.tokens):
        ids[i, : len(tokens)], mask[i, : len(tokens)] = torch.tensor(tokens), 1
    with torch.no_grad():
        prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model)))
        logps, entropies = score(core_of(model), head_of(model), prefix, prompts.of_row, ids, mask)
    assert torch.allclose(ours.log_probs * mask, logps, atol=1e-5)
    assert torch.allclose(ours.entropies * mask, entropies, atol=1e-5)
    assert not (ours.log_probs * (1 - mask)).any()


def test_branches_split_where_rows_part_and_make_room_where_they_end():
    branches = _Branches([0, 0, 0, 1, 1])
    assert branches.grow({0: 7, 1: 7, 2: 8, 3: 7, 4: 7}) == (None, [0], [7, 7, 8])
    assert branches.of_row == {0: 0, 1: 0, 2: 2, 3: 1, 4: 1}
    for row in (0, 1):
        del branches.of_row[row]
    left, parents, column = branches.grow({2: 9, 3: 5, 4: 6})  # 2 of 3 branches live: branch 0 is dropped
    assert (left, parents, column) == ([1, 2], [0], [5, 9, 6])
    assert branches.of_row == {2: 1, 3: 0, 4: 2} and branches.room == 3


@pytest.mark.parametrize("together", [True, False], ids=["noise as one logarithm", "noise one by one"])
def test_a_draw_is_that_of_multinomial(together, monkeypatch):
    """Also of the generator that it leaves behind, and for the rows that go on when others have ended."""
    if not together:
        monkeypatch.setattr(sampling, "_noise_is_a_logarithm", lambda: False)
    scores = 3 * torch.randn(64, 997, generator=torch.Generator().manual_seed(1))
    for rows in (torch.arange(64), torch.tensor([3, 17, 40])):
        torch.manual_seed(5)
        theirs, after = torch.multinomial(scores.softmax(-1), 1)[:, 0], torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(as_generate(scores[rows], torch.arange(len(rows)), rows, 64), theirs[rows])
        assert torch.equal(torch.rand(1), after)


def test_the_trial_of_the_noise_leaves_the_generator_as_it_was():
    sampling._noise_is_a_logarithm.cache_clear()
    before = torch.get_rng_state()
    sampling._noise_is_a_logarithm()
    assert torch.equal(torch.get_rng_state(), before)


def test_one_random_number_a_row_draws_what_is_probable_as_often_as_it_is():
    """20,000 rows of two branches; what is barred is never drawn."""
    scores = torch.tensor([[0.0, -torch.inf, 1.0, 2.0, -torch.inf], [3.0, 3.0, -torch.inf, 0.0, -torch.inf]])
    branch = torch.arange(20_000) % 2
    torch.manual_seed(0)
    drawn = by_share(scores, branch, torch.arange(20_000), 20_000)
    for number in (0, 1):
        found = torch.bincount(drawn[branch == number], minlength=5) / 10_000
        assert torch.allclose(found, scores[number].softmax(-1), atol=0.02)
        assert found[scores[number].isinf()].sum() == 0


def test_a_row_s_luck_does_not_depend_on_rows_that_have_ended():
    scores = torch.zeros(1, 1000)
    torch.manual_seed(3)
    all_of_them = by_share(scores, torch.zeros(4, dtype=int), torch.arange(4), 4)
    torch.manual_seed(3)
    last_ones = by_share(scores, torch.zeros(2, dtype=int), torch.tensor([2, 3]), 4)
    assert last_ones.tolist() == all_of_them[2:].tolist()
