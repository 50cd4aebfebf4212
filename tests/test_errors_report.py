import re

import numpy as np
import pandas as pd
import pytest
from errors_fakes import answer, many, says, table

import medr1kit as mk


@pytest.fixture(scope="module")
def base():
    return many([0] * 30 + [1] * 10).assign(method="base", train_modality=None, seed=None)


@pytest.fixture(scope="module")
def trained():
    task = {"task": ["Lesion Grading"] * 20 + ["Disease Diagnosis"] * 20}
    return pd.concat([many([0] * 15 + [1] * 25, **task).assign(seed=seed) for seed in (0, 1)])


def test_the_base_among_the_predictions_is_the_model_before(base, trained):
    together, apart = mk.errors(pd.concat([base, trained])), mk.errors(trained, before=base)
    assert len(together.answers) == 80
    pd.testing.assert_frame_equal(together.changes, apart.changes)
    assert mk.errors(trained).changes is None
    assert len(mk.errors(base).answers) == 40, "alone it is what is looked at"


def test_rows_hold_what_is_not_plainly_right_and_the_hard_core_each_question_once(trained):
    e = mk.errors(trained)
    assert len(e.rows) == 30 and not e.rows["correct"].any()
    assert len(e.hard_core) == 15 and e.hard_core["id"].is_unique


def test_rows_begin_with_what_most_seeds_miss():
    e = mk.errors(pd.concat([many([0, 1, 0]), many([1, 1, 0]).assign(seed=1)]))
    assert e.rows["id"].tolist() == ["q2", "q2", "q0"]


def test_findings_are_sentences_with_their_numbers(base, trained):
    e = mk.errors(trained, by=["task"], before=base)
    text = "\n".join(e.findings)
    assert "Right: 62.5 % [" in text and "of 80 answers" in text
    assert "Since before, 30 of 80 answers were fixed (0 of them were unread) and 0 broken" in text
    assert "Worst slice: Lesion Grading, 25.0 % [" in text
    assert "Of 2 slices, worse than the rest, corrected for all, is 1: Lesion Grading." in text
    assert "Hard core: 15 of 40 questions" in text and "wrong in all 2 seeds" in text
    assert all(sentence.endswith(".") for sentence in e.findings)
    assert repr(e).startswith("1. Right: ")


@pytest.mark.parametrize("liking", [0.0, 0.15, 0.25, 0.4])
def test_a_sentence_calls_a_letter_chance_where_its_interval_holds_zero_and_not_elsewhere(liking):
    rng, told = np.random.default_rng(7), set()
    for _ in range(6):
        golds = rng.choice(list("ABCD"), 40)
        letters = np.where(rng.random(40) < liking, "B", rng.choice(list("ABCD"), 40))
        e = mk.errors(table(*(answer(n, says(said), gold) for n, (said, gold) in enumerate(zip(letters, golds)))))
        (sentence,) = [one for one in e.findings if one.startswith("Letter chosen too often")]
        low, high = map(float, re.search(r"points \[([^,]+), ([^\]]+)\]", sentence).groups())
        assert ("which may be chance" in sentence) == (low <= 0 <= high), sentence
        told.add("which may be chance" in sentence)
    assert (liking == 0.0) <= (True in told) and (liking == 0.4) <= (False in told), "both kinds were met"


def test_what_is_not_there_is_not_told():
    e = mk.errors(table(*(answer(n, says("A")) for n in range(4))), by="task")
    assert len(e.findings) == 2 and e.findings[1].startswith("Letter chosen too often: A, in 100.0 % of 4 read answers")
    assert e.rows.empty and e.slices.empty and e.seeds.empty


def test_unread_answers_are_told_with_their_reason():
    e = mk.errors(table(answer(0, "The answer is A"), answer(1, "The answer is B"), answer(2, says("A"))))
    (sentence,) = [s for s in e.findings if "unread" in s]
    assert sentence == (
        "Of 2 unread answers, 1 would be right if tags did not count: format, not medicine. Commonest reason: there is "
        "no <answer>…</answer> block outside the thinking (2)."
    )


def test_html_is_short_and_escapes_what_models_and_data_say(base):
    evil = base.assign(options=[["<script>x</script>", "b", "c", "d"]] * 40)
    page = mk.errors(evil)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and len(page) < 6000


def test_any_column_makes_slices(trained):
    assert mk.errors(trained, by="n_options").slices.empty, "all questions have four"
    assert set(mk.errors(trained, by=["gold_text"]).slices["slice"]) == {"liver", "lung", "brain", "kidney"}


def test_a_confusion_seen_once_is_called_what_it_may_be():
    (sentence,) = [s for s in mk.errors(table(answer(0, says("B")), answer(1, says("A")))).findings if "confusion" in s]
    assert '"liver" is taken for "lung" in 1 of 2 answers that could' in sentence
    assert sentence.endswith("of 3 pairs looked at; it may be chance.")
    (sentence,) = [s for s in mk.errors(table(*(answer(n, says("B")) for n in range(20)))).findings if "confusion" in s]
    assert sentence.endswith("of 3 pairs looked at.")
