"""Beat the machine: the gold answer stays in Python until it is answered, and the result is counted right."""

import json

import datasets
import numpy as np
import pandas as pd
import pytest
from widget_fakes import check_safe, control

import medr1kit as mk
from medr1kit.results.stats import wilson
from medr1kit.views.widgets.base import VIEW
from medr1kit.vqa import DataError

# The right text is never a wrong one elsewhere, so that a lookup finds it. Names and modality tell it, too.
RIGHT, WRONG = ("mass", "cyst", "stone"), ("vein", "wall", "bone")


def questions(n=30, **columns):
    rows = []
    for k in range(n):
        gold, options = k % 3, list(WRONG)
        options[gold] = RIGHT[gold]
        row = {
            "id": f"GOLD-{RIGHT[gold]}-{k:02d}",
            "image_id": f"GOLD-{k:02d}.png",
            "question": f"What is seen in {k}?",
        }
        rows.append(row | {"options": options, "answer": "ABC"[gold], "modality": "CT", "task": "Disease Diagnosis"})
    return datasets.Dataset.from_list(rows).add_column("rationale", ["GOLD"] * n)


def answers(ds, letters):
    """What a model said: a letter a question, none where it is not readable."""
    options = list(ds["options"])
    texts = [f"<answer>{letter}</answer>" if letter else "hm" for letter in letters]
    return pd.DataFrame(
        {name: ds[name] for name in ("id", "image_id", "question", "answer", "modality", "task")}
        | {"options": options, "format": "no-think", "method": "grpo", "seed": 0, "text": texts, "predicted": letters}
        | {"correct": [said == gold for said, gold in zip(letters, ds["answer"])], "well_formed": True}
    )


def play(panel, right=()):
    """Answer every question: those whose place is in ``right`` rightly, the others wrongly."""
    for place in range(len(panel.rows)):
        gold = panel._ds[int(panel.rows[place])]["answer"]
        panel.answer(gold if place in right else "ABC"[("ABC".index(gold) + 1) % 3])
        panel.next()
    return panel


def sent(panel) -> str:
    """All that a browser gets of a panel: the state of each control, and the cell's bundle."""

    def states(box):
        for child in getattr(box, "children", ()):
            yield {name: value for name, value in child.get_state().items() if name not in ("_esm", "children")}
            yield from states(child)

    return json.dumps([*states(panel.root), panel._repr_mimebundle_()], default=str, ensure_ascii=False)


@pytest.fixture
def ds():
    return questions()


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_nothing_that_tells_the_answer_reaches_the_browser_before_it_is_answered(ds, monkeypatch):
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)
    panel = mk.quiz(ds, answers(ds, ["A"] * 30))
    page = sent(panel)
    assert VIEW in page and "What is seen in" in page
    assert not any(told in page for told in ("✓", "the model", "Disease", *ds["id"], *ds["image_id"], *ds["rationale"]))
    for place in range(10):
        asked, page = panel._asked(place), sent(panel)
        assert asked["question"] in page and asked["id"] not in page
        assert "✓ gold" not in control(panel, "main").value and "the model" not in control(panel, "main").value
        panel.answer("C")
        assert check_safe(control(panel, "main").value).texts["gold"][0].startswith(asked["answer"])
        panel.next()


def test_a_phantom_is_drawn_but_not_named():
    ds = mk.load_vqa("phantoms", split="test", modality="CT", n=4, size=28)
    html = mk.quiz(ds, n=4).static()
    assert check_safe(html).elements.count("img") == 4
    assert not any(name in html for name in ds["id"]) and "test-0" not in html and "✓" not in html


def test_the_static_form_is_a_sheet_of_the_questions_and_at_the_end_the_result(ds):
    panel = mk.quiz(ds, n=4)
    seen = check_safe(panel.static())
    assert (
        len(seen.texts["question"]) == 4 and "gold" not in seen.texts and panel.summary() == "0 of 4 questions answered"
    )
    seen = check_safe(play(panel, right=[0, 1, 2]).static())
    assert len(seen.texts["missed"]) == len(seen.texts["gold"]) == 1 and "You missed 1 of 4 questions" in seen.all
    assert "you: 75.0 % [" in panel.summary()


# --- what the controls do ---------------------------------------------------------------------------------------------


def test_the_buttons_answer_and_go_on_and_a_second_answer_does_not_count(ds):
    panel = mk.quiz(ds, n=2)
    panel.root  # noqa: B018
    assert control(panel, "next").disabled and not control(panel, "option-A").disabled
    control(panel, "option-B").click()
    assert control(panel, "option-A").disabled and not control(panel, "next").disabled
    panel.answer("A")
    assert panel.said == ["B"]
    control(panel, "next").click()
    assert panel.place == 1 and "question 2 of 2" in control(panel, "main").value
    panel.next()
    assert panel.place == 1, "it is not answered yet"
    panel.answer("A"), panel.next(), panel.next(), panel.answer("A")
    assert panel.place == 2 and panel.said == ["B", "A"] and 'data-mk="result"' in control(panel, "main").value
    control(panel, "again").click()
    assert panel.place == 0 and panel.said == [] and panel.seed == 1


def test_the_browser_hears_that_enter_goes_on_before_it_hears_that_no_letter_answers(ds):
    """A reader who sees the letters barred and presses Enter at once is heard."""
    panel, heard = mk.quiz(ds, n=2), []
    for hook in ("next", "option-A"):
        control(panel, hook).observe(lambda change, hook=hook: heard.append(hook), "disabled")
    control(panel, "option-B").click()
    assert heard == ["next", "option-A"]


def test_keys_are_told_to_the_page_by_classes(ds):
    panel = mk.quiz(ds)
    panel.root  # noqa: B018
    assert "mk-keyed" in panel.root._dom_classes and "mk-key-enter" in control(panel, "next")._dom_classes
    assert "mk-key-c" in control(panel, "option-C")._dom_classes


def test_a_letter_beyond_the_options_cannot_be_pressed_and_is_refused(ds):
    rows = [dict(row) for row in ds]
    rows[0] |= {"options": ["yes", "no"], "answer": "A"}
    panel = mk.quiz(datasets.Dataset.from_list(rows), n=30)
    panel.root  # noqa: B018
    while panel.rows[panel.place] != 0:
        panel.answer("A"), panel.next()
    assert control(panel, "option-C").disabled and not control(panel, "option-B").disabled
    with pytest.raises(DataError, match="letter='C' is unknown; use one of A, B"):
        panel.answer("C")


def test_a_seed_decides_which_questions_are_asked_and_in_which_order(ds):
    one, same, other = mk.quiz(ds), mk.quiz(ds), mk.quiz(ds, seed=1)
    assert one.rows.tolist() == same.rows.tolist() != other.rows.tolist() and len(set(one.rows)) == 10
    assert len(mk.quiz(ds, n=99).rows) == 30


# --- the result -------------------------------------------------------------------------------------------------------


def test_the_result_counts_you_the_model_and_the_lookup_with_their_intervals(ds):
    letters = ["A"] * 30
    panel = play(mk.quiz(ds, answers(ds, letters)), right=range(7))
    table = panel.result().set_index("who")
    assert list(table.index) == ["you", "the model", "a lookup without eyes", "chance"]
    model = sum(ds["answer"][k] == "A" for k in panel.rows)
    assert table["right"].tolist() == pytest.approx([7, model, 10, 10 / 3]) and (table["n"] == 10).all()
    for who, right in (("you", 7), ("the model", model), ("a lookup without eyes", 10)):
        assert table.loc[who, ["low", "high"]].tolist() == pytest.approx(wilson(right, 10))
    assert table.loc["chance", ["low", "high"]].isna().all()
    assert "it counted, in 20 other questions, which option texts were right" in panel.static()


def test_a_lead_is_told_with_its_interval_and_what_it_is_worth(ds):
    panel = play(mk.quiz(ds, answers(ds, [None] * 30)), right=range(10))
    assert "You against the model: +100.0 points [" in panel.static() and "more than chance would do" in panel.static()
    panel = play(mk.quiz(ds, answers(ds, list(ds["answer"]))), right=range(9))
    assert "You against the model: -10.0 points [" in panel.static()
    assert "10 questions cannot tell which of you is better" in panel.static()


def test_the_lookup_learns_from_train_where_it_is_given(ds):
    rows = [dict(row) | {"answer": "ABC"[("ABC".index(row["answer"]) + 1) % 3]} for row in ds]
    panel = play(mk.quiz(ds, train=datasets.Dataset.from_list(rows)))
    assert panel.result().set_index("who").loc["a lookup without eyes", "right"] == 0
    assert "in 30 other questions" in panel.static()


def test_without_another_question_there_is_no_lookup():
    panel = play(mk.quiz(questions(5)))
    assert panel.result()["who"].tolist() == ["you", "chance"] and "lookup" not in panel.static()


def test_questions_about_one_patient_count_as_one(ds):
    patients = ds.add_column("patient_id", ["p1", "p2"] * 15)
    panel = play(mk.quiz(patients), right=range(5))
    row = panel.result().iloc[0]
    assert not np.allclose([row.low, row.high], wilson(5, 10))


def test_several_models_are_told_apart_and_only_what_all_answered_is_asked(ds):
    one = answers(ds, ["A"] * 30)
    both = pd.concat([one.head(8), one.tail(28).assign(method="sft")])
    panel = play(mk.quiz(ds, both))
    assert sorted(panel.rows) == list(range(2, 8))
    assert panel.result()["who"].tolist() == ["you", "grpo", "sft", "a lookup without eyes", "chance"]


def test_before_an_answer_there_is_no_result(ds):
    with pytest.raises(DataError, match="no question is answered yet"):
        mk.quiz(ds).result()


def test_answers_to_other_questions_are_refused(ds):
    preds = answers(ds, ["A"] * 30)
    with pytest.raises(
        DataError, match="preds answer no question of ds: ids such as 'x0', and in ds such as 'GOLD-mass-00'"
    ):
        mk.quiz(ds, preds.assign(id=[f"x{k}" for k in range(30)]))
    with pytest.raises(DataError, match="the answer of 'GOLD-mass-00' differs between ds and preds"):
        mk.quiz(ds, preds.assign(answer="C", correct=False))
    with pytest.raises(DataError, match="ds is the text 'phantoms'; load it first"):
        mk.quiz("phantoms")
    with pytest.raises(DataError, match="n=0 is not a whole number of at least 1"):
        mk.quiz(ds, n=0)
