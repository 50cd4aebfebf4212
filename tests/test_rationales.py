"""Rationales: what the grammar writes is true, the reader finds what is not, and the table counts both."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medr1kit.data.phantoms import ImageId, Truth, fact_words, question_of, truth_of, words_of
from medr1kit.data.phantoms.rationales import STYLES, read_rationale, write_rationale
from medr1kit.results.rationales import check_rationale, concluded_letter, rationale_truth, read_conclusion
from medr1kit.vqa import MODALITIES, DataError

CYST = Truth("CT", "supine", "liver", "cyst", "small", "multiple", "left")  # a mild one
IMAGES = [str(ImageId(modality, "val", 1, number)) for modality in MODALITIES for number in range(50)]


def read(text, truth=CYST):
    return read_rationale(text, truth, fact_words())


def verdicts(text, truth=CYST):
    return [(statement.word, statement.holds) for statement in read(text, truth).statements]


# --- writing and reading ----------------------------------------------------------------------------------------------


def test_everything_the_grammar_writes_is_read_back_as_true():
    styles, kinds = set(), set()
    for image in IMAGES:
        image_id = ImageId.read(image)
        truth, question = truth_of(image_id), question_of(image_id)
        text = write_rationale(truth, question, image_id.stream(7))
        reading = check_rationale(text, image)
        assert reading.names_finding
        assert all(statement.holds for statement in reading.statements), text
        facts = {statement.fact for statement in reading.statements}
        assert {"anatomy", "finding", "size", "number", "attribute"} <= facts, text
        assert "modality" not in facts, "it is what a model would carry to other modalities"
        assert ("grade" in facts) == (question.kind.facts == ("grade",)), text
        assert concluded_letter(reading.conclusion, question.options) == question.answer, text
        assert reading.conclusion == question.gold, "the letter is for the answer"
        styles.add(text.startswith("In the "))
        kinds.add(question.kind)
    assert len(styles) == len(STYLES) == 2
    assert len(kinds) == 8


def test_what_is_absent_is_found_by_going_through_the_options():
    question = next(q for q in (question_of(ImageId.read(image)) for image in IMAGES) if q.kind.absent)
    truth = truth_of(next(i for i in map(ImageId.read, IMAGES) if question_of(i) == question))
    text = write_rationale(truth, question, np.random.default_rng(0))
    checked = text.partition("Of these: ")[2].partition(". So the answer is ")[0].split(", ")
    assert [said.split()[0] for said in checked] == question.options
    assert [said for said in checked if not said.endswith(" yes")] == [f"{question.gold} no"]


def test_the_same_stream_writes_the_same_rationale():
    image_id = ImageId.read("OCT-val-0-2")
    texts = {write_rationale(truth_of(image_id), question_of(image_id), image_id.stream(7)) for _ in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize("fact", ["anatomy", "finding", "size", "number", "attribute"])
def test_one_swapped_fact_is_the_one_statement_found_false(fact):
    for image in IMAGES[::9]:
        image_id = ImageId.read(image)
        truth, question = truth_of(image_id), question_of(image_id)
        other = next(word for word in words_of(image_id.modality)[fact] if word != getattr(truth, fact))
        simple = replace(question, kind=question_of(ImageId("CT", "val", 0, 0)).kind)  # a kind that adds no sentence
        text = write_rationale(replace(truth, **{fact: other}), simple, image_id.stream(7))
        false = [statement for statement in check_rationale(text, image).statements if not statement.holds]
        assert [(statement.fact, statement.word) for statement in false] == [(fact, other)], text
        assert check_rationale(text, image).names_finding == (fact != "finding")


def test_a_wrong_grade_is_found_false():
    assert verdicts("Taken together, small and multiple is mild.") == [
        *(("small", True), ("multiple", True), ("mild", True)),
    ]
    assert verdicts("It is severe.") == [("severe", False)]


def test_statements_say_where_they_stand_and_what_they_are_about():
    text = "CT of the liver: large Cysts."
    statements = read(text).statements
    assert [text[s.start : s.end] for s in statements] == ["CT", "liver", "large", "Cysts"]
    assert [s.fact for s in statements] == ["modality", "anatomy", "size", "finding"]
    assert [s.word for s in statements] == ["CT", "liver", "large", "cyst"]
    assert [s.holds for s in statements] == [True, True, False, True]
    assert not any(s.negated for s in statements)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no mass", [("mass", True)]),
        ("No cyst.", [("cyst", False)]),
        ("not a cyst", [("cyst", False)]),
        ("without any mass", [("mass", True)]),
        ("Not seen: lung.", [("lung", True)]),
        ("not seen: liver", [("liver", False)]),
        ("no large mass", [("large", True), ("mass", True)]),
        ("no small cyst", [("small", False), ("cyst", False)]),
        ("no masses left", [("mass", True), ("left", False)]),
        ("no mass, a cyst", [("mass", True), ("cyst", True)]),
        ("no mass but a cyst", [("mass", True), ("cyst", True)]),
        ("mass no, cyst yes", [("mass", True), ("cyst", True)]),
        ("liver yes, Cyst: no.", [("liver", True), ("cyst", False)]),
        ("cyst no mass", [("cyst", True), ("mass", True)]),
        ("a cyst, no mass, right", [("cyst", True), ("mass", True), ("right", False)]),
    ],
)
def test_no_and_not_turn_a_statement_round(text, expected):
    assert verdicts(text) == expected


def test_what_is_denied_is_not_named():
    assert read("A cyst, no mass.").names_finding
    assert not read("No cyst.").names_finding
    assert not read("A cyst and a mass.").names_finding, "naming all of them is no skill"
    assert not read("Something on the left.").names_finding
    assert read("A cyst. Cysts, as I said.").names_finding


@pytest.mark.parametrize("text", ["CYST", "Cyst", "cysts", "cyst.", "(cyst)", "cyst,", "cyst-like", "a\ncyst\n"])
def test_case_plural_and_punctuation_do_not_matter(text):
    assert verdicts(text) == [("cyst", True)]


def test_a_plural_in_es_is_read():
    assert verdicts("masses") == [("mass", False)]


@pytest.mark.parametrize("text", ["cystic", "pancyst", "discover", "leftover", "massive", "OCTA", "boneless", "bloody"])
def test_words_inside_other_words_are_not_read(text):
    assert verdicts(text) == []


def test_ct_is_not_read_in_oct_nor_is_x_ray_torn_apart():
    assert verdicts("OCT") == [("OCT", False)]
    chest = replace(CYST, modality="X-Ray")
    assert verdicts("an x-ray, X-Rays", chest) == [("X-Ray", True), ("X-Ray", True)]


def test_the_conclusion_is_no_statement():
    reading = read("A cyst. So the answer is left mass B.")
    assert [statement.word for statement in reading.statements] == ["cyst"]
    assert reading.conclusion == "left mass B"
    for words in ("Therefore, the answer is", "the answer is:", "THUS THE ANSWER IS", "Hence the answer is"):
        assert read(f"A cyst. {words} B").conclusion == "B"
    assert read("A cyst.").conclusion is None


def test_an_empty_rationale_says_nothing():
    reading = read("")
    assert (reading.statements, reading.names_finding, reading.conclusion) == ((), False, None)


def test_a_rationale_about_no_phantom_is_refused():
    with pytest.raises(DataError, match="names no phantom image"):
        check_rationale("A cyst.", "ISIC/1.png")


@pytest.mark.parametrize(
    ("conclusion", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("X-Ray", "B"),
        ("X-Ray B", "B"),
        ("x-ray", "B"),
        ("left cyst", "D"),
        ("LEFT CYST (D)", "D"),
        ("H&E stain", "C"),
        ("H&E stain C", "C"),
        ("the left cyst of the liver", "D"),  # more than the option's words
        ("cyst D", "D"),  # half of them, no contradiction
        ("pineapple D", "D"),  # no word of the phantoms
        ("X-Ray A", None),
        ("left cyst or X-Ray", None),
        ("right cyst D", None),
        ("left mass A", None),
        ("A or B", None),
        ("a mass", None),
        ("E", None),
        ("", None),
        (None, None),
    ],
)
def test_a_conclusion_names_a_letter_or_a_text_or_neither(conclusion, letter):
    assert concluded_letter(conclusion, ["CT", "X-Ray", "H&E stain", "left cyst"]) == letter


CROSSED = ["left cyst", "right cyst", "left mass", "right mass"]


@pytest.mark.parametrize(
    ("conclusion", "by_word", "by_letter", "strays"),
    [
        ("right cyst B", "B", "B", ()),
        ("right cyst A", "B", "A", ()),
        ("left mass.", "C", "", ()),
        ("B", "", "B", ()),
        ("cyst", "", "", ("cyst",)),  # half an option is none
        ("cyst B", "", "B", ()),
        ("cyst C", "", "C", ("cyst",)),
        ("lower mass B", "", "B", ("lower", "mass")),
        ("left", "", "", ("left",)),
        ("not the left cyst but the right mass", "AD", "", ()),
        ("A or B", "", "AB", ()),
        ("pineapple", "", "", ()),
        ("", "", "", ()),
    ],
)
def test_words_and_letter_of_a_conclusion_are_read_apart(conclusion, by_word, by_letter, strays):
    said = read_conclusion(conclusion, CROSSED)
    assert (said.by_word, said.by_letter, said.strays) == (set(by_word), set(by_letter), strays)


def test_a_letter_within_the_words_of_an_option_is_not_named_by_letter():
    said = read_conclusion("hepatitis A", ["hepatitis B", "hepatitis A"])
    assert (said.by_word, said.by_letter, said.letter) == ({"B"}, set(), "B")


# --- the table --------------------------------------------------------------------------------------------------------

FIRST, SECOND = "CT-test-0-0", "MRI-test-0-1"


def prediction(image, think, predicted, form):
    question = question_of(ImageId.read(image))
    return {
        "id": image, "image_id": image, "source": "phantoms", "options": question.options, "answer": question.answer,
        "predicted": predicted, "think": think, "format": form, "modality": image.split("-")[0],
    }  # fmt: skip


@pytest.fixture
def preds():
    """Five answers, four rationales, six statements of which four hold."""
    first, second = (truth_of(ImageId.read(image)) for image in (FIRST, SECOND))
    wrong, wrong_too = (
        next(word for word in words_of(truth.modality)["finding"] if word != truth.finding) for truth in (first, second)
    )
    answer = question_of(ImageId.read(FIRST)).answer
    rows = [
        (FIRST, f"{first.finding}, {first.number}. So the answer is {answer}", answer, "before"),  # both hold
        (SECOND, f"{wrong_too}, {second.size}", "A", "before"),  # the second holds; no conclusion
        (FIRST, f"{first.finding} and {wrong}. So the answer is A", "B", "after"),  # the first holds; another answer
        (FIRST, None, "A", "after"),
        (SECOND, "Hard to say. So the answer is B", "B", "after"),
    ]
    return pd.DataFrame([prediction(*row) for row in rows])


def test_the_table_agrees_with_a_count_by_hand(preds):
    (row,) = rationale_truth(preds).to_dict("records")
    assert (row["n"], row["rationales"], row["statements"]) == (5, 4, 6)
    assert row["true"] == pytest.approx(4 / 6)
    assert row["names_finding"] == pytest.approx(1 / 4)
    assert row["concludes"] == pytest.approx(3 / 4)
    assert row["agrees"] == pytest.approx(2 / 4)
    assert row["low"] <= row["true"] <= row["high"]


STAGED = [  # conclusion on CROSSED, where right cyst (B) is the gold, and the answer
    ("right cyst B", "B"),
    ("right cyst A", "A"),  # the word is right, letter and answer are not
    ("left cyst B", "B"),  # letter and answer are right, the word is not
    ("right cyst.", "B"),
    ("left mass.", "B"),
    ("B", "B"),
    ("lower mass B", "B"),  # words of no option beside the letter
    ("pineapple", "A"),
    (None, "B"),
    ("A or B", None),
]


@pytest.fixture
def staged():
    """Ten rationales whose words, letters and answers part, and an answer without one."""
    thoughts = ["A cyst." + (f" So the answer is {end}" if end else "") for end, _ in STAGED]
    row = {"image_id": FIRST, "source": "phantoms", "options": CROSSED, "answer": "B"}
    answers = [predicted for _, predicted in STAGED]
    return pd.DataFrame([row | {"think": t, "predicted": p} for t, p in zip([*thoughts, None], [*answers, "B"])])


def test_a_conflict_of_word_and_letter_is_disagreement_and_every_rationale_counts(staged):
    (row,) = rationale_truth(staged).to_dict("records")
    assert (row["n"], row["rationales"]) == (11, 10)
    expected = {
        "concludes": 8, "agrees": 3, "off_options": 2, "says_word": 5, "word_right": 3, "says_letter": 6,
        "letter_right": 4, "answer_right": 7,
    }  # fmt: skip
    assert {name: round(10 * row[name], 9) for name in expected} == expected


@pytest.mark.parametrize("unread", [None, np.nan, pd.NA])
def test_an_answer_that_was_not_read_agrees_with_no_conclusion(staged, unread):
    (row,) = rationale_truth(staged.assign(predicted=unread)).to_dict("records")
    assert (row["agrees"], row["answer_right"], row["concludes"]) == (0, 0, 0.8)


def test_a_rationale_that_stops_concluding_does_not_raise_the_agreement(staged):
    silent = staged.assign(think=staged["think"].replace({"A cyst. So the answer is left cyst B": "A cyst."}))
    (before,), (after,) = (rationale_truth(frame).to_dict("records") for frame in (staged, silent))
    assert before["agrees"] == after["agrees"] == 0.3
    assert (before["concludes"], after["concludes"]) == (0.8, 0.7)


def test_by_splits_the_answers(preds):
    table = rationale_truth(preds, by="format").set_index("format")
    columns = ["n", "rationales", "statements", "true", "names_finding", "concludes", "agrees"]
    assert table.loc["before", columns].tolist() == [2, 2, 4, 0.75, 0.5, 0.5, 0.5]
    assert table.loc["after", columns].tolist() == [3, 2, 2, 0.5, 0.0, 1.0, 0.5]


def test_by_fact_splits_the_statements(preds):
    table = rationale_truth(preds, by="fact").set_index("fact")
    assert table["statements"].to_dict() == {"finding": 4, "number": 1, "size": 1}
    assert table["true"].to_dict() == {"finding": 0.5, "number": 1.0, "size": 1.0}
    both = rationale_truth(preds, by=["fact", "format"])
    assert both.columns[:2].tolist() == ["fact", "format"]
    counts = both.set_index(["fact", "format"])["true"].to_dict()
    assert counts == {
        ("finding", "before"): 0.5, ("number", "before"): 1.0, ("size", "before"): 1.0, ("finding", "after"): 0.5,
    }  # fmt: skip


def test_the_row_labels_of_the_frame_do_not_matter(preds):
    again = preds.set_axis([7, 7, 3, 3, 1])
    pd.testing.assert_frame_equal(rationale_truth(again, by="format"), rationale_truth(preds, by="format"))


def test_the_interval_counts_questions_and_not_statements():
    images = [f"CT-test-0-{number}" for number in range(12)]
    rows = []
    for turn, image in enumerate(images):
        truth = truth_of(ImageId.read(image))
        other = {"left": "right"}.get(truth.attribute, "left")
        rows.append(prediction(image, truth.attribute if turn % 3 else other, "A", "before"))
    once, twice = pd.DataFrame(rows), pd.DataFrame(rows * 2)
    (single,), (double,) = (rationale_truth(frame).to_dict("records") for frame in (once, twice))
    assert single["true"] == double["true"] == pytest.approx(2 / 3)
    assert (single["low"], single["high"]) == pytest.approx((double["low"], double["high"]), abs=0.05)
    assert 0.2 < single["low"] < 2 / 3 < single["high"] < 1


def test_true_rationales_of_many_rows_score_one():
    rows = []
    for image in IMAGES[::5]:
        image_id = ImageId.read(image)
        question = question_of(image_id)
        text = write_rationale(truth_of(image_id), question, image_id.stream(7))
        rows.append(prediction(image, text, question.answer, "before"))
    (row,) = rationale_truth(pd.DataFrame(rows)).to_dict("records")
    shares = ["true", "names_finding", "concludes", "agrees", "says_word", "word_right", "answer_right"]
    assert [row[name] for name in shares] == [1] * 7
    assert [row[name] for name in ("says_letter", "letter_right", "off_options")] == [0] * 3
    shuffled = [{**row, "think": other["think"]} for row, other in zip(rows, [*rows[1:], rows[0]])]
    (row,) = rationale_truth(pd.DataFrame(shuffled)).to_dict("records")
    assert row["true"] < 0.7 and row["names_finding"] < 0.5


def test_without_any_rationale_the_shares_are_unknown(preds):
    (row,) = rationale_truth(preds.assign(think=None)).to_dict("records")
    assert (row["n"], row["rationales"], row["statements"]) == (5, 0, 0)
    assert all(math.isnan(row[name]) for name in row if name not in ("n", "rationales", "statements", "cluster"))
    (row,) = rationale_truth(preds.assign(think=np.nan)).to_dict("records")
    assert row["rationales"] == 0


def test_predictions_without_a_column_are_refused(preds):
    with pytest.raises(DataError, match=r"without the column\(s\) think;"):
        rationale_truth(preds.drop(columns="think"))
    with pytest.raises(DataError, match="by='grade': the predictions have no such column"):
        rationale_truth(preds, by=["grade", "fact"])


def test_predictions_about_other_images_are_refused(preds):
    preds.loc[3, "source"] = "ISIC2018"
    with pytest.raises(DataError, match="predictions row 3 is about 'ISIC2018', not phantoms"):
        rationale_truth(preds)
