"""Changed minds: the answers before and after a thought, against counts made by hand."""

import pandas as pd
import pytest
from pytest import approx

import medr1kit as mk
from medr1kit.results.minds import changed_minds, first_answers
from medr1kit.vqa import DataError

OPTIONS = ["liver", "brain", "lung"]


def both(first, last):
    return f"<answer>{first}</answer><think>A ring.</think><answer>{last}</answer>"


def table(*texts, gold="B", format=mk.ANSWER_THINK_ANSWER, **more):
    """Predictions as predict() makes them, one a text."""
    read = [format.parse(text, OPTIONS) for text in texts]
    rows = [
        {
            "id": f"q{i}", "image_id": f"i{i}", "patient_id": None, "question": "Where?", "options": OPTIONS,
            "answer": gold, "modality": "CT", "task": "Anatomy Identification", "source": None, "model": "tiny",
            "train_modality": None, "train_task": None, "method": "base", "seed": 0, "step": None,
            "format": format.name, "text": text, "think": one.think, "predicted": one.answer,
            "lenient_predicted": one.lenient_answer, "correct": one.answer == gold, "well_formed": one.well_formed,
            "n_tokens": len(text),
        }
        for i, (text, one) in enumerate(zip(texts, read))
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**more)


# Gold B: two for the better, one for the worse, one wrong otherwise, one wrong as before, two right as before, one that
# cannot be read at last; and two without a second, or a readable first, answer.
TEXTS = [
    both("A", "B"), both("C", "B"), both("B", "A"), both("A", "C"), both("A", "A"), both("B", "B"),
    both("b", "B) brain"), both("B", "?"), "<answer>B</answer>", both("?", "B"),
]  # fmt: skip


def test_minds_that_changed_are_counted():
    (row,) = changed_minds(table(*TEXTS)).to_dict("records")
    assert (row["format"], row["n"], row["of"]) == ("answer-think-answer", 8, 10)
    assert (row["better"], row["worse"]) == (2, 2)
    assert row["changed"] == approx(5 / 8) and row["changed_low"] < 5 / 8 < row["changed_high"]
    assert (row["first_accuracy"], row["accuracy"], row["difference"]) == approx((4 / 8, 4 / 8, 0.0))


def test_a_mind_that_always_changes_for_the_better_gains_all():
    (row,) = changed_minds(table(*[both("A", "B")] * 20)).to_dict("records")
    assert (row["first_accuracy"], row["accuracy"], row["changed"], row["difference"]) == (0, 1, 1, 1)
    assert row["better"] == 20 and row["difference_low"] > 0


def test_models_and_formats_are_kept_apart():
    trained = table(both("A", "B"), method="grpo")
    found = changed_minds(pd.concat([table(both("B", "A"), both("B", "B")), trained, table("x", format=mk.NO_THINK)]))
    assert found[["method", "n", "better", "worse"]].values.tolist() == [["base", 2, 0, 1], ["grpo", 1, 1, 0]]


def test_first_answers_are_a_table_that_can_be_compared_with_the_last():
    preds = table(*TEXTS)
    first = first_answers(preds)
    assert first["predicted"].tolist() == ["A", "C", "B", "A", "A", "B", "B", "B"]
    assert first["text"].tolist()[:2] == ["<answer>A</answer>", "<answer>C</answer>"]
    changes = mk.errors(preds, before=first).changes.set_index("change")
    assert changes["n"].to_dict() == {
        "fixed": 2, "broken": 2, "still wrong, same letter": 1, "still wrong, other letter": 1, "still right": 2
    }  # fmt: skip
    assert mk.score(first, by=None)["accuracy"].tolist() == [0.5]
    assert mk.inspect_outputs(first, preds)._repr_mimebundle_()["text/html"]


def test_tags_of_one_s_own_are_found():
    own = mk.ResponseFormat("own", ("answer", "think", "answer"), "", {"answer": "CHOICE"})
    preds = table(*(text.replace("answer>", "CHOICE>") for text in TEXTS), format=own)
    assert changed_minds(preds)[["n", "better", "worse"]].values.tolist() == [[8, 2, 2]]
    assert first_answers(preds)["text"].iloc[0] == "<CHOICE>A</CHOICE>"


@pytest.mark.parametrize("texts", [["<answer>B</answer>"], [both("?", "B")]])
def test_a_table_without_two_answers_is_refused(texts):
    with pytest.raises(DataError, match="predict in a format that has, answer-think-answer"):
        changed_minds(table(*texts))
    with pytest.raises(DataError, match="no completion has two answers"):
        first_answers(table(*texts, format=mk.NO_THINK))
