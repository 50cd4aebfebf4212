import numpy as np
import pandas as pd
import pytest
from errors_fakes import answer, many, says, table

from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.letters import confusion_table, letters_table


def test_a_favourite_letter_shows_and_survives_correction():
    rows = describe(table(*(answer(n, says("A"), "ABCD"[n % 4]) for n in range(40))))
    letters = letters_table(rows).set_index("letter")
    assert letters["predicted"].tolist() == [1, 0, 0, 0] and letters["gold"].tolist() == [0.25] * 4
    assert letters.loc["A", "bias"] == pytest.approx(0.75) and letters.loc["A", "bias_low"] > 0.5
    assert (letters["p_corrected"] < 0.01).all()
    assert letters["accuracy"].tolist() == [1, 0, 0, 0]


def test_mistakes_that_spread_evenly_are_no_bias():
    letters = letters_table(describe(many([n % 5 > 0 for n in range(80)])))
    assert letters["bias"].abs().max() < 0.01 and (letters["p_corrected"] > 0.9).all()


def test_unread_answers_and_options_a_question_does_not_have_do_not_count():
    rows = [answer(n, says("A"), options=["yes", "no"]) for n in range(3)]
    letters = letters_table(describe(table(*rows, answer(3, says("C"), "C"), answer(4, "nothing"))))
    assert letters.set_index("letter")["n"].to_dict() == {"A": 4, "B": 4, "C": 1, "D": 1}


def test_letters_are_kept_apart_by_format_and_method():
    one = many([1] * 8)
    both = pd.concat([one, one.assign(method="sft")])
    assert letters_table(describe(both))[["format", "method"]].drop_duplicates()["method"].tolist() == ["grpo", "sft"]


def test_confusion_counts_texts_wherever_they_stood_and_only_where_they_were_offered():
    rows = [answer(n, says("B"), "A") for n in range(3)]  # liver taken for lung
    rows += [answer(3, says("A"), "B", options=["Lung.", "liver"])]  # again, at other letters and spelt otherwise
    rows += [answer(4, says("A"), "A"), answer(5, "nothing", "A"), answer(6, says("A"), options=["liver", "spleen"])]
    confusion = confusion_table(describe(table(*rows)))
    first = confusion.iloc[0]
    assert (first.gold_text, first.predicted_text, first.taken, first.offered) == ("liver", "lung", 4, 6)
    assert first.share == pytest.approx(4 / 6) and 0 < first.low < first.share < first.high < 1
    assert first.accuracy == pytest.approx(2 / 7) and first.n_gold == 7
    assert first.chance == pytest.approx((5 * 0.25 + 0.5) / 6)
    others = confusion.iloc[1:]
    assert set(others["predicted_text"]) == {"brain", "kidney", "spleen"} and (others["taken"] == 0).all()
    assert others["high"].between(0, 1).all() and (others["low"] == 0).all()


def test_confusion_is_by_modality_and_the_surest_comes_first():
    rows = [answer(n, says("B"), modality="CT") for n in range(2)]
    rows += [answer(n, says("C" if n < 30 else "A"), modality="MRI") for n in range(10, 40)]
    confusion = confusion_table(describe(table(*rows)))
    shown = confusion[["modality", "predicted_text", "taken"]].head(2).to_numpy().tolist()
    assert shown == [["MRI", "brain", 20], ["CT", "lung", 2]]
    assert not np.isnan(confusion["accuracy"]).any()
