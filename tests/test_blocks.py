"""Blocks: as many as there can be, exchangeable, and never two texts that clash."""

import random
from collections import Counter

import pytest
from growth import grows_as_it_should

from medr1kit.data.blocks import exchangeable_blocks, lay_out


def most_blocks(golds, size):
    """The bound that a text sets that can be in a block once, found by trying."""
    counts = Counter(golds).values()
    return max(b for b in range(len(golds) + 1) if sum(min(count, b) for count in counts) >= size * b)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_there_are_as_many_blocks_as_the_counts_allow(size, seed):
    rng = random.Random(seed)
    golds = rng.choices("abcdefgh", weights=[30, 9, 5, 3, 2, 1, 1, 1], k=rng.randrange(20, 300))
    blocks, rest = exchangeable_blocks(golds, size, rng)
    assert len(blocks) == most_blocks(golds, size)
    assert sorted([*rest, *(number for block in blocks for number in block)]) == list(range(len(golds)))
    assert all(len(block) == size == len({golds[number] for number in block}) for block in blocks)


def test_texts_that_clash_never_meet_and_are_not_wasted():
    golds = ["thyroid"] * 20 + ["thyroid nodule"] * 20 + ["liver"] * 40 + ["kidney"] * 40
    clashes = {"thyroid": {"thyroid nodule"}, "thyroid nodule": {"thyroid"}}
    blocks, rest = exchangeable_blocks(golds, 3, random.Random(0), clashes=clashes)
    assert len(blocks) == 40 and rest == []
    assert not any({"thyroid", "thyroid nodule"} <= {golds[number] for number in block} for block in blocks)


def test_a_text_barred_for_a_question_is_not_offered_to_it():
    golds = ["a", "b", "c"] * 10
    barred = {0: {"b"}, 4: {"a", "c"}}
    blocks, rest = exchangeable_blocks(golds, 2, random.Random(1), barred=barred)
    assert 4 in rest
    partner = next(number for block in blocks if 0 in block for number in block if number != 0)
    assert golds[partner] == "c"


def test_questions_of_one_stem_share_a_block_where_they_can():
    golds, stems = ["a", "b", "c", "d"] * 10, ["first?"] * 20 + ["second?"] * 20
    blocks, _ = exchangeable_blocks(golds, 4, random.Random(2), stems=stems)
    assert all(len({stems[number] for number in block}) == 1 for block in blocks)


def test_too_few_texts_make_no_block():
    assert exchangeable_blocks(["a", "a", "b"], 3, random.Random(0)) == ([], [0, 1, 2])
    assert exchangeable_blocks([], 2, random.Random(0)) == ([], [])
    same = {"a": {"b"}, "b": {"a"}}
    assert exchangeable_blocks(["a", "b"], 2, random.Random(0), clashes=same) == ([], [0, 1])


def test_the_same_seed_makes_the_same_blocks():
    golds = list("aabbccddee") * 5
    first, again, other = (exchangeable_blocks(golds, 3, random.Random(seed))[0] for seed in (4, 4, 5))
    assert first == again != other


def test_the_gold_stands_at_each_letter_once():
    orders = lay_out([5, 6, 7, 8], random.Random(3))
    assert all(sorted(order) == [5, 6, 7, 8] for order in orders)
    assert sorted(order.index(number) for number, order in zip([5, 6, 7, 8], orders)) == [0, 1, 2, 3]


@pytest.mark.parametrize("often", [1, 300], ids=["texts alike", "one text everywhere"])
def test_time_grows_as_questions_also_where_texts_do(often):
    """An eighth as many texts as questions; the one that is gold too often must be in every block."""

    def questions(n):
        rng = random.Random(0)
        return ["no"] * (often * n // 1000) + [f"finding {rng.randrange(n // 8)}" for _ in range(n)]

    def blocks(golds):
        return exchangeable_blocks(golds, 4, random.Random(0), stems=[number % 20 for number in range(len(golds))])

    assert grows_as_it_should(blocks, questions(1500), questions(6000))
