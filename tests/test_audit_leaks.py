"""Leaks, on rows small enough to count by eye."""

import numpy as np

from medr1kit.audits.hashes import Hashed
from medr1kit.audits.leaks import image_leaks, shared_rows, text_leaks
from medr1kit.audits.lookalikes import find_twins
from medr1kit.audits.rows import read_questions


def ask(image, question, options, answer):
    return {"image_id": image, "question": question, "options": options, "answer": answer}


TRAIN = [
    ask("Images/s/liver_1.png", "Which organ?", ["liver", "lung"], "A"),
    ask("Images/s/2.png", "Which organ?", ["spleen", "lung"], "A"),
    ask("Images/s/3.png", "Any disease?", ["no", "yes"], "A"),
]
TEST = [
    ask("Images/s/liver_1.png", "Which organ?", ["liver", "lung"], "A"),  # a training row
    ask("Images/s/2.png", "What is seen?", ["Spleen.", "stomach"], "A"),  # image and answer
    ask("Images/s/3.png", "Any disease?", ["no", "yes"], "B"),  # image, problem, stem; another answer
    ask("Images/s/4.png", "ANY  disease?", ["yes", "no"], "A"),  # stem
    ask("Images/s/Left.Lung (5).png", "New?", ["left lung", "heart"], "A"),  # answer in the path
    ask(None, "New?", ["?", "!"], "A"),  # no letters, no image
]


def leaks(train=TRAIN, test=TEST):
    sides = read_questions(train, "train"), read_questions(test, "test")
    return {measure.name: measure.rows.tolist() for measure in text_leaks(*sides)}


def test_what_the_test_shares_with_training():
    assert leaks() == {
        "test_rows_with_train_image": [0, 1, 2],
        "test_rows_with_train_image_and_answer": [0, 1],
        "test_rows_with_train_problem": [0, 2],
        "test_rows_in_train": [0],
        "test_rows_with_train_stem": [0, 2, 3],
        "train_rows_with_answer_in_path": [0],
        "test_rows_with_answer_in_path": [0, 4],
    }


def test_rows_without_image_share_none():
    nowhere = [row | {"image_id": None} for row in TRAIN[:1]]
    found = leaks(nowhere + TRAIN[1:], nowhere + TEST[4:])
    assert found["test_rows_with_train_image"] == found["test_rows_in_train"] == []
    assert found["test_rows_with_train_problem"] == [0]


def test_what_is_not_there_is_not_measured():
    bare = [{"options": row["options"], "answer": row["answer"]} for row in TRAIN]
    assert leaks(bare, TEST) == {"test_rows_with_answer_in_path": [0, 4]}
    ids = [{**row, "image_id": f"CT-{i}-mass"} for i, row in enumerate(TEST)]
    assert leaks(bare, ids)["test_rows_with_answer_in_path"] == [], "an id without a folder or an ending is no path"
    assert leaks(bare, bare) == {}


def test_training_rows_that_share_an_image_or_a_problem_are_found():
    sides = read_questions(TRAIN, "train"), read_questions(TEST[3:], "test")
    assert shared_rows(*sides).tolist() == [False, False, False]
    assert shared_rows(sides[0], read_questions(TEST[1:2], "test")).tolist() == [False, True, False]
    moved = [TEST[2] | {"image_id": "elsewhere"}]
    assert shared_rows(sides[0], read_questions(moved, "test")).tolist() == [False, False, True]


def test_images_leak_as_files_and_as_lookalikes():
    train = [Hashed("aa", 0b0000), Hashed("bb", None), Hashed(None, None)]
    test = [Hashed("aa", 0b0000), Hashed("cc", 0b0011), Hashed("dd", 0b0111), Hashed("bb", None), Hashed(None, None)]
    found = {measure.name: measure.rows.tolist() for measure in image_leaks(train, test, find_twins(train, test, 2), 2)}
    assert found == {
        "train_rows_with_unreadable_image": [2],
        "test_rows_with_unreadable_image": [4],
        "test_rows_with_train_image_content": [0, 3],
        "test_rows_with_train_image_lookalike": [0, 1, 3],
    }
    wider = image_leaks(train, test, find_twins(train, test, 3), 3)[-1]
    assert np.array_equal(wider.rows, [0, 1, 2, 3]) and wider.n == 5


def test_a_patient_on_both_sides_is_counted_and_said():
    def of(patient, image):
        return ask(image, f"What is on {image}?", ["liver", "lung"], "A") | {"patient_id": patient}

    train = [of("M\u00fcller", "1.png"), of(7, "2.png"), of(None, "3.png")]
    test = [of("Mu\u0308ller", "4.png"), of(7.0, "5.png"), of(None, "6.png"), of("8", "7.png")]
    assert leaks(train, test)["test_rows_with_train_patient"] == [0, 1]
    said = str(text_leaks(read_questions(train, "train"), read_questions(test, "test")).findings)
    assert "are about a patient who is also in training" in said
    assert "test_rows_with_train_patient" not in leaks(train, [row | {"patient_id": None} for row in test])


def test_one_file_under_two_spellings_is_one_image():
    assert leaks(TRAIN, [TEST[0] | {"image_id": "./Images//s/liver_1.png"}])["test_rows_with_train_image"] == [0]
