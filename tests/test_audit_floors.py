"""The blind floor against counts made by hand."""

import random

import datasets
import numpy as np
import pandas as pd
import pytest

from medr1kit.audits import audit, blind_floor
from medr1kit.audits.floors import all_floors, curve_interval, interval, learning_curve, lookup
from medr1kit.audits.leaks import shared_rows
from medr1kit.audits.rows import encode, read_questions
from medr1kit.results.stats import wilson
from medr1kit.vqa import DataError


def ask(options, answer, **columns):
    return {"options": options, "answer": answer, **columns}


TRAIN = [
    ask(["cyst", "stone", "wall"], "A"),
    ask(["Stone.", "cyst"], "B"),
    ask(["stone", "mass"], "A"),
]  # scores: cyst (2 + .25)/3 = .75, stone (1 + .25)/4 = .3125, wall .125, mass .125, anything new .25


def test_blind_floor_picks_the_text_that_was_gold_most_often():
    test = [
        ask(["stone", "cyst", "mass"], "B"),  # .3125 .75 .125 -> right
        ask(["wall", "stone"], "A"),  # .125 .3125 -> wrong
        ask(["wall", "a new word"], "B"),  # .125 .25 -> right: a text never seen beats one that was always wrong
    ]
    floor = blind_floor(TRAIN, test)
    assert floor.n == 3
    assert floor.accuracy == pytest.approx(2 / 3)
    assert floor.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert (floor.low, floor.high) == pytest.approx(wilson(2, 3))


def test_ties_are_split_evenly():
    tied = [ask(["wall", "mass", "stone"], "A"), ask(["one", "two", "three", "four"], "C"), ask(["wall", "mass"], "B")]
    # first: stone .3125 wins, wrong; second: four texts never seen, 1/4; third: .125 twice, 1/2
    assert blind_floor(TRAIN, tied).accuracy == pytest.approx((0 + 1 / 4 + 1 / 2) / 3)


def test_a_new_text_stands_beside_one_that_was_right_once_in_four():
    train = [ask(["rare", f"other {k}"], "A" if k == 0 else "B") for k in range(4)]  # rare: (1 + .25)/(4 + 1) = .25
    assert blind_floor(train, [ask(["rare", "new"], "A")]).accuracy == 1 / 2


def test_spelling_does_not_hide_a_text():
    floor = blind_floor([ask(["It's a T2,  stage", "other"], "A")], [ask(["none", "its a t2 STAGE."], "B")])
    assert floor.accuracy == 1


def test_blind_floor_is_broken_down_by_modality_in_canonical_order():
    test = [ask(["cyst", "mass"], letter, modality=m) for m, letter in (("OCT", "A"), ("CT", "B"), ("OCT", "A"))]
    frame = blind_floor(TRAIN, test).frame
    assert frame["modality"].tolist() == ["CT", "OCT", "all"]
    assert frame["n"].tolist() == [1, 2, 3]
    assert frame["accuracy"].tolist() == pytest.approx([0, 1, 2 / 3])
    assert blind_floor(TRAIN, TRAIN).frame["modality"].tolist() == ["all"]


def test_blind_floor_by_task_is_the_same_lookup_with_a_row_a_task():
    tasks = ["Lesion Grading", "Anatomy Identification", None]
    test = [ask(["cyst", "mass"], letter, task=task) for letter, task in zip("ABA", tasks)]
    floor = blind_floor(TRAIN, test, by="task")
    assert list(floor.frame.columns) == ["task", "n", "chance", "accuracy", "low", "high"]
    assert floor.frame["task"].fillna("unknown").tolist() == [*sorted(tasks[:2]), "unknown", "all"]
    assert floor.frame["accuracy"].tolist() == pytest.approx([0, 1, 1, 2 / 3])
    assert floor.accuracy == blind_floor(TRAIN, test).accuracy
    with pytest.raises(DataError, match="use 'modality' or 'task'"):
        blind_floor(TRAIN, test, by="source")


def test_blind_floor_reads_lists_frames_and_datasets_alike_without_decoding_images():
    rows = [row | {"image": {"path": None, "bytes": b"not an image"}} for row in TRAIN]
    features = datasets.Features(
        options=datasets.List(datasets.Value("string")), answer=datasets.Value("string"), image=datasets.Image()
    )
    ds = datasets.Dataset.from_list(rows, features=features)
    assert blind_floor(ds, pd.DataFrame(TRAIN)).accuracy == blind_floor(TRAIN, TRAIN).accuracy == pytest.approx(1.0)


def test_blind_floor_refuses_what_it_cannot_count():
    with pytest.raises(DataError, match="test row 1: the answer 'C' names none of the options"):
        blind_floor(TRAIN, [TRAIN[0], ask(["x", "y"], "C")])
    with pytest.raises(DataError, match="train has no column 'options'"):
        blind_floor([{"answer": "A"}], TRAIN)
    with pytest.raises(DataError, match="test has no rows"):
        blind_floor(TRAIN, pd.DataFrame(TRAIN).iloc[:0])


# --- the other rules --------------------------------------------------------------------------------------------------

SEEN = [
    ask(["cyst", "stone"], "A", question="What is it?", image_id="1"),
    ask(["cyst", "stone"], "A", question="What is it?", image_id="2"),
    ask(["cyst", "stone"], "B", question="Which one?", image_id="3"),
    ask(["wall", "gallbladder wall"], "B", question="Where?", image_id="4"),
]  # cyst 2/3: (2.25)/4 = .5625, stone (1.25)/4 = .3125; with "Which one?" cyst (0 + 3 * .5625)/4, stone (1 + .9375)/4
ASKED = [
    ask(["cyst", "stone"], "B", question="which  one?", image_id="3"),
    ask(["stone", "cyst"], "B", question="What is it?", image_id="9"),
    ask(["a gallbladder wall", "wall", "wall "], "A", question="New?", image_id="8"),
]


def sides(train=SEEN, test=ASKED):
    return read_questions(train, "train"), read_questions(test, "test")


def floors(train=SEEN, test=ASKED):
    train, test = sides(train, test)
    return all_floors(train, test, shared_rows(train, test))


def test_the_stem_turns_the_lookup_where_the_counts_under_it_say_otherwise():
    assert floors().credits["blind_options"].tolist() == [0, 1, 1]
    assert floors().credits["blind_options_stem"].tolist() == [1, 1, 1]


def test_one_row_under_a_stem_does_not_outweigh_the_whole_count():
    # stone, right once under R: (1 + 3 s)/(1 + 3); cyst: (0 + 3 c)/(1 + 3); so stone wins only if c - s is below 1/3
    train = [ask(["cyst", "stone"], "A", question="Q")] * 6 + [ask(["cyst", "stone"], "B", question="R")]
    # cyst (6.25)/8 = .78, stone (1.25)/8 = .16: the gap is .625
    assert floors(train, [ask(["cyst", "stone"], "A", question="R")]).credits["blind_options_stem"].tolist() == [1]


def test_the_stem_disjoint_lookup_forgets_rows_with_a_stem_of_the_test():
    found = floors()
    assert found.stem_disjoint_rows == 1  # "Where?"; case and blanks do not make a stem new
    assert found.credits["blind_stem_disjoint"].tolist() == [1 / 2, 1 / 2, 1]


def test_the_disjoint_lookup_forgets_rows_that_share_an_image_or_a_problem():
    found = floors()
    assert found.disjoint_rows == 3  # image 3 is in the test, and with it the problem text
    assert found.credits["blind_disjoint"].tolist() == [0, 1, 1]


def test_scores_that_differ_by_rounding_only_are_a_tie():
    train = [ask(["new", "far"], "A", question="Where?")] * 2 + [ask(["new", "near"], "A", question="What?")] * 4
    test = [ask(["near", "far"], "B", question="Where?")]  # both: 3 (.25 / 5) / 3 and 3 (.25 / 3) / (2 + 3)
    seen, asked = encode(*sides(train, test))
    assert lookup(seen, asked, stem=True).tolist() == [1 / 2]


def test_letters_and_the_longest_option():
    found = floors()
    assert found.train_letter == "A"
    assert found.credits["train_letter"].tolist() == [0, 0, 1]
    assert found.credits["best_letter"].tolist() == [1, 1, 0]
    assert found.credits["longest_option"].tolist() == [1, 0, 1]  # stone, stone, "a gallbladder wall"
    assert found.credits["chance"].tolist() == [1 / 2, 1 / 2, 1 / 3]


def test_without_a_training_row_that_counts_the_lookup_is_chance():
    seen, asked = encode(*sides())
    credits = lookup(seen, asked, use=np.zeros(4, dtype=bool))
    assert credits.tolist() == [1 / 2, 1 / 2, 1 / 3]


def test_the_lookup_agrees_with_the_formula_written_out():
    rng = random.Random(0)
    words = [f"word {k}" for k in range(12)]

    def rows(n):
        return [ask(rng.sample(words, k := rng.choice([2, 3, 4])), "ABCD"[rng.randrange(k)]) for _ in range(n)]

    train, test = rows(80), rows(60)
    seen, gold = {}, {}
    for row in train:
        for letter, text in zip("ABCD", row["options"]):
            seen[text] = seen.get(text, 0) + 1
            gold[text] = gold.get(text, 0) + (letter == row["answer"])
    expected = []
    for row in test:
        scores = [(gold.get(text, 0) + 0.25) / (seen.get(text, 0) + 1) for text in row["options"]]
        right = scores["ABCD".index(row["answer"])]
        expected.append((right == max(scores)) / scores.count(max(scores)))
    assert lookup(*encode(*sides(train, test))).tolist() == pytest.approx(expected)


def test_the_learning_curve_has_the_sizes_there_are_rows_for_and_draws_like_the_reference():
    rng = random.Random(1)
    train = [ask([f"right {rng.randrange(40)}", f"wrong {k}"], "A") for k in range(120)]
    test = [ask([f"right {k}", f"wrong {k}"], "A") for k in range(40)]
    seen, asked = encode(*sides(train, test))
    curve = learning_curve(seen, asked)
    assert list(curve) == [30, 100] and curve[30].shape == (5, 40)
    assert curve[30].mean() < curve[100].mean() < lookup(seen, asked).mean() == 1
    drawn = random.Random(3).sample(range(120), 30)
    assert curve[30][3].mean() == blind_floor([train[row] for row in drawn], test).accuracy


def test_the_interval_of_the_curve_covers_the_draws_and_the_questions():
    draws = np.array([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    low, high = curve_interval(draws)
    plain = interval(draws.mean(axis=0))
    assert low < plain[0] < 0.5 < plain[1] < high
    same = curve_interval(draws[[0, 0, 0]])
    assert same == pytest.approx(interval(draws[0]))


def test_intervals_count_clusters_where_they_are_given():
    credits = np.array([1.0, 1, 1, 0, 0, 0, 1, 0])
    apart, together = interval(credits, list("abcdefgh")), interval(credits, list("aaabbbcc"))
    assert together[1] - together[0] > apart[1] - apart[0]
    assert interval(credits, ["one"] * 8) == interval(credits)


def test_intervals_count_patients_where_the_test_names_them():
    seen = [{"options": ["cyst", "stone"], "answer": "A"}]
    asked = [{"options": ["cyst", "stone"], "answer": "AB"[k % 4 == 3], "patient_id": f"p{k // 4}"} for k in range(12)]
    rows = [{name: row[name] for name in ("options", "answer")} for row in asked]
    patients, questions = blind_floor(seen, asked), blind_floor(seen, rows)
    assert (questions.low, questions.high) == wilson(9, 12)
    assert (patients.low, patients.high) == wilson(2.25, 3), "three patients, each with the same share right"
    assert blind_floor(seen, asked, cluster=False).frame.equals(questions.frame)
    unknown = [row | {"patient_id": name} for row, name in zip(asked, (None, float("nan"), "nan", "") * 3)]
    assert blind_floor(seen, unknown).frame.equals(questions.frame), "a patient who is not known is no patient"
    assert [audit(seen, some).about["cluster"] for some in (asked, rows)] == ["patient_id", None]


def test_a_floor_is_printed_in_words_and_rounded():
    seen = [{"options": ["cyst", "stone"], "answer": "A", "modality": "CT"}] * 3
    floor = blind_floor(seen, [{"options": ["stone", "cyst", "wall"], "answer": "B", "modality": "CT"}] * 3)
    first, head, *rows = str(floor).splitlines()
    assert first.startswith("3 questions: 100.0 % [") and first.endswith("] without an image, 33.3 % by chance")
    assert head.split() == ["modality", "n", "chance", "accuracy", "low", "high"]
    assert [row.split()[:4] for row in rows] == [["CT", "3", "0.333", "1.000"], ["all", "3", "0.333", "1.000"]]
