"""What the built-in model was taught to write: right in all that its annotator could tell, weighed token by token."""

import numpy as np
import pytest
import torch

from medr1kit.data.phantoms import needs_twins, phantom_rows, truth_of
from medr1kit.data.phantoms.truth import ImageId
from medr1kit.data.phantoms.twins import TWINS, twin_of
from medr1kit.formats import FORMATS, NO_THINK, THINK_AFTER, THINK_BEFORE
from medr1kit.vqa import LETTERS
from scripts.make_tiny.examples import annotated, encode
from scripts.make_tiny.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def drawn():
    return phantom_rows("train", n=320, size=28)


@pytest.fixture(scope="module")
def rows(drawn):
    rng = np.random.default_rng(0)
    return [annotated(row, rng) for row in drawn]


def taught(tokenizer, row, format, borrowed=False):
    """Every token that follows a position, with its weight."""
    ids, mask, weight, *_ = encode(tokenizer, [row], [format], [borrowed], 3.0)
    assert mask.all() and weight[0, -1] == 0
    return [(tokenizer.decode([token]), w) for token, w in zip(ids[0, 1:].tolist(), weight[0].tolist())]


def test_the_annotator_is_right_in_everything_but_twins(drawn, rows):
    mistaken = 0
    for row, written in zip(drawn, rows):
        believed, twin = written["truth"]["finding"], twin_of(truth_of(ImageId.read(row["image_id"])))
        assert {**written["truth"], "finding": None} == {
            name: None if name == "finding" else row["truth"][name] for name in written["truth"]
        }
        assert believed in (row["truth"]["finding"], twin)
        if believed == row["truth"]["finding"]:
            assert all(written[name] == row[name] for name in ("problem", "answer", "rationale"))
        mistaken += believed == twin
    paired = sum(twin_of(truth_of(ImageId.read(row["image_id"]))) is not None for row in drawn)
    assert abs(mistaken - paired / 2) < 2 * paired**0.5 and paired > 20


def test_questions_about_twins_are_answered_either_way(drawn, rows):
    asked = [(row, written) for row, written in zip(drawn, rows) if needs_twins(row["id"])]
    gold = [[one["options"][LETTERS.index(one["answer"])] for one in pair] for pair in asked]
    right = sum(truly == taken for truly, taken in gold)
    assert {row["modality"] for row, _ in asked} == set(TWINS)
    assert 0 < right < len(asked)


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_every_completion_is_well_formed_and_right_by_its_own_lights(tokenizer, rows, format):
    for row in rows[:40]:
        text = "".join(token for token, weight in taught(tokenizer, row, format) if weight)
        parsed = format.parse(text.removesuffix("<|im_end|>"), row["options"])
        assert parsed.well_formed and parsed.answer == row["answer"]
        assert parsed.think == (row["rationale"] if "think" in format.blocks else None)


def test_what_concludes_weighs_more_than_what_describes_and_the_letter_three_times(tokenizer, rows):
    row = next(row for row in rows if "Taken together" in row["rationale"])
    weighed = [(token, weight) for token, weight in taught(tokenizer, row, THINK_BEFORE) if weight]
    end = next(i for i, (token, _) in enumerate(weighed) if token == ".")
    assert {weight for _, weight in weighed[: end + 1]} == {1.0}
    concluded = [token for token, weight in weighed if weight == 3.0 and token not in LETTERS]
    assert "".join(concluded).startswith(" Taken together") and concluded[-1] == "</think>"
    assert [weight for token, weight in weighed if token in LETTERS[:4]][-1] == 3.0
    after = dict(taught(tokenizer, row, THINK_AFTER))
    assert after[row["answer"]] == 3.0 and after["</think>"] == 3.0
    assert dict(taught(tokenizer, row, NO_THINK))[row["answer"]] == 3.0


def test_a_borrowed_description_is_read_and_not_learnt(tokenizer, rows):
    own, borrowed = (taught(tokenizer, rows[0], THINK_BEFORE, flag) for flag in (False, True))
    assert [token for token, _ in own] == [token for token, _ in borrowed]
    described = rows[0]["rationale"].partition(".")[0]
    lost = "".join(token for (token, before), (_, after) in zip(own, borrowed) if before != after)
    assert lost == f"<think>{described}."
    assert sum(after for _, after in borrowed) > 0


def test_options_are_flagged_where_their_last_word_stands(tokenizer, rows):
    ids, _, _, at, flags = encode(tokenizer, rows, [NO_THINK] * len(rows), [False] * len(rows), 3.0)
    for i, row in enumerate(rows):
        words = [tokenizer.decode([token]).strip() for token in ids[i, at[i]].tolist()]
        assert words == [option.split()[-1] for option in row["options"]]
        gold = torch.tensor(LETTERS.index(row["answer"]))
        fits = flags[i] < 4
        assert (fits.tolist() == [k != gold for k in range(4)]) if row["n_facts"] == 4 else fits.nonzero() == gold
        assert flags[i][fits].tolist() == fits.nonzero().squeeze(1).tolist()
