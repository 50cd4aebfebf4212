"""Letters, options, vocabularies, and modality x task."""

import pytest

from medr1kit.audits.balance import find_balance
from medr1kit.audits.rows import read_questions


def ask(options, answer="A", modality=None, task=None):
    return {"options": options, "answer": answer, "modality": modality, "task": task}


def balance(test):
    test = read_questions(test, "test")
    found = find_balance(read_questions([ask(["a", "b"])], "train"), test)
    return {(measure.section, measure.name): measure.value for measure in found}


def test_letters_options_and_vocabulary():
    found = balance([ask(["a", "b"]), ask(["b", "A."], "B"), ask(["a", "c", "d"]), ask(["e", "c", "a"], "C")])
    assert [found["letters_test", letter] for letter in "ABC"] == [2, 1, 1]
    assert ("letters_test", "D") not in found
    assert (found["options_test", "2"], found["options_test", "3"]) == (2, 2)
    assert found["balance", "test_gold_texts"] == 1
    assert found["balance", "test_never_gold_texts"] == 4


def test_two_option_questions_by_the_first_word_of_the_answer():
    rows = [ask(["no", "yes"]), ask(["No, it's normal", "yes"]), ask(["Yes.", "no."]), ask(["other", "no", "c"])]
    assert balance(rows)["balance", "test_two_option_commonest_gold"] == pytest.approx(200 / 3)
    assert ("balance", "test_two_option_commonest_gold") not in balance(rows[3:])


def test_a_first_word_that_both_options_have_is_no_hint():
    rows = [ask(["stage ib", "stage iiia"], "AB"[k % 2]) for k in range(6)] + [ask(["no", "yes"])] * 2
    assert balance(rows)["balance", "test_two_option_commonest_gold"] == pytest.approx(25)


def test_cells_and_the_empty_ones():
    found = balance([ask(["a", "b"], modality="CT", task="DD")] * 3 + [ask(["a", "b"], modality="US", task="AI")])
    assert found["cells_test", "CT x Disease Diagnosis"] == 3
    assert found["cells_test", "Ultrasound x Disease Diagnosis"] == 0
    assert found["balance", "test_empty_cells"] == 8
    assert found["balance", "test_modality_task_v"] == pytest.approx(1)  # the modality says the task
    crossed = [ask(["a", "b"], modality=m, task=t) for m in ("CT", "US") for t in ("AI", "DD")]
    assert balance(crossed)["balance", "test_modality_task_v"] == pytest.approx(0)


def test_modalities_are_counted_with_or_without_tasks():
    found = balance([ask(["a", "b"], modality="CT")] * 2 + [ask(["a", "b"])])
    assert found["modalities_test", "CT"] == 2 and ("modalities_train", "CT") not in found


def test_nothing_is_crossed_where_modality_or_task_is_unknown():
    found = balance([ask(["a", "b"], modality="CT"), ask(["a", "b"], task="DD")])
    assert not [key for key in found if "cells" in key[0] or "cells" in key[1]]
