"""The record: names, problem texts and gold letters are read as the files of Med-R1 write them."""

import random

import pytest

from medr1kit.vqa import (
    MODALITIES,
    TASKS,
    DataError,
    format_problem,
    format_solution,
    modality_name,
    parse_problem,
    parse_solution,
    task_name,
)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("CT(Computed Tomography)", "CT"),
        ("MR (Mag-netic Resonance Imaging)", "MRI"),
        ("OCT (Optical Coherence Tomography", "OCT"),
        ("Microscopy Images", "Microscopy"),
        ("Fundus Photography", "Fundus"),
        ("ultrasound", "Ultrasound"),
        ("X_RAY", "X-Ray"),
        ("us", "Ultrasound"),
        ("DER", "Dermoscopy"),
        ("FP", "Fundus"),
        ("Micro", "Microscopy"),
    ],
)
def test_each_spelling_of_a_modality_is_known(spelling, name):
    assert modality_name(spelling) == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("AI", "Anatomy Identification"),
        ("dd", "Disease Diagnosis"),
        ("Lesion_Grading", "Lesion Grading"),
        ("MR", "Modality Recognition"),
        ("other biological attributes", "Other Biological Attributes"),
    ],
)
def test_each_spelling_of_a_task_is_known(spelling, name):
    assert task_name(spelling) == name


def test_canonical_names_stand_for_themselves():
    assert tuple(map(modality_name, MODALITIES)) == MODALITIES
    assert tuple(map(task_name, TASKS)) == TASKS


@pytest.mark.parametrize("name", ["Endoscopy", "", "C", "unknown"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(DataError, match=f"unknown modality '{name}'.*X-Ray"):
        modality_name(name)
    with pytest.raises(DataError, match=f"unknown task '{name}'.*Lesion Grading"):
        task_name(name)


@pytest.mark.parametrize(
    ("problem", "question", "options"),
    [
        ("Is it a cyst? A)yes, B)no", "Is it a cyst?", ["yes", "no"]),
        ("Stage? A)T2, N0, M0, B)T1, N1, M0", "Stage?", ["T2, N0, M0", "T1, N1, M0"]),
        ("Stain? A)stain (H&E), B)Computed tomography (CT)", "Stain?", ["stain (H&E)", "Computed tomography (CT)"]),
        ("See panel (A) or B)? A)left, B)right", "See panel (A) or B)?", ["left", "right"]),
        ("Which? A)vitamin A, B)vitamin B)x, C)zinc", "Which?", ["vitamin A", "vitamin B)x", "zinc"]),
        ("Where?  Look. A)SPECT, B)SPECT, C)PET", "Where?  Look.", ["SPECT", "SPECT", "PET"]),
        ("What is shown A)one., B)two", "What is shown", ["one.", "two"]),
        ("Which? A) liver B) lung C) skin", "Which?", ["liver", "lung", "skin"]),
        ("Which?\nA: liver, left\nB: lung", "Which?", ["liver, left", "lung"]),
        ("Which? A)1, B)2, C)3, D)4, E)5", "Which?", ["1", "2", "3", "4", "5"]),
        ("Which organ? (A) liver (B) lung, left", "Which organ?", ["liver", "lung, left"]),
        ("Which organ? (A)liver; (B)lung; (C)skin", "Which organ?", ["liver", "lung", "skin"]),
        ("Which organ? A. liver B. lung C. skin", "Which organ?", ["liver", "lung", "skin"]),
        ("Which organ?\nA. liver\nB. lung", "Which organ?", ["liver", "lung"]),
        ("Which germ: A. E. coli, B. B. cereus", "Which germ:", ["E. coli", "B. cereus"]),
    ],
)
def test_a_problem_is_split_by_its_letters_and_not_by_its_commas(problem, question, options):
    assert parse_problem(problem) == (question, options)


@pytest.mark.parametrize("problem", ["", "What organ?", "What organ? A)liver", "What organ? A)liver, C)lung", "A), B)"])
def test_fewer_than_two_options_are_refused_with_the_text_and_what_can_be_asked(problem):
    with pytest.raises(DataError, match=r"fewer than two options.*multiple choice, about one image each: write"):
        parse_problem(problem)


@pytest.mark.parametrize("problem", ["See panels (A) or (B)?", "Caused by A. baumannii or B. cereus?"])
def test_letters_within_a_sentence_are_no_options(problem):
    with pytest.raises(DataError, match="fewer than two options"):
        parse_problem(problem)


@pytest.mark.parametrize("problem", ["Which? (A) x (B) y (D) z", "Which? A. x B. y B. z"])
def test_a_letter_that_is_skipped_or_doubled_in_another_form_is_refused(problem):
    with pytest.raises(DataError, match="skipped or doubled"):
        parse_problem(problem)


def test_reading_inverts_writing():
    rng = random.Random(0)
    words = ["T2, N0", "stain (H&E)", "CT (CT)", "stage IIb", "no.", "type A", "vitamin B", "(right)", "5 mm, left"]
    for _ in range(500):
        question = f"What is {rng.choice(words)} here?"
        options = [f"{rng.choice(words)} {rng.choice(words)}" for _ in range(rng.randint(2, 6))]
        assert parse_problem(format_problem(question, options)) == (question, options)


@pytest.mark.parametrize("text", ["<answer> B </answer>", "<answer>B</answer>", "B", " b ", "<answer> b </answer>\n"])
def test_a_gold_letter_is_read_with_and_without_tags(text):
    assert parse_solution(text, 2) == "B"


@pytest.mark.parametrize("text", ["<answer> C </answer>", "", "<answer></answer>", "liver", "A or B", "AB", None, 1])
def test_any_other_solution_is_refused_with_the_letters_there_are(text):
    with pytest.raises(DataError, match=r"unknown answer letter.*from A to B"):
        parse_solution(text, 2)


def test_a_written_solution_is_read_back():
    assert format_solution("D") == "<answer> D </answer>"
    assert parse_solution(format_solution("D"), 4) == "D"


def test_a_control_token_in_a_question_is_refused():
    with pytest.raises(DataError, match=r"control token of chat models, '<\|image_pad\|>'"):
        parse_problem("What is <|image_pad|>? A)liver, B)lung")
