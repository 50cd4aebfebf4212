"""Symptoms: every column against a count made by hand."""

import pandas as pd
import pytest
from pytest import approx

from medr1kit.formats import ADAPTIVE, ANSWER_THINK_ANSWER, NO_THINK, THINK_AFTER, THINK_BEFORE, ResponseFormat
from medr1kit.results.symptoms import watch_columns
from medr1kit.vqa import DataError

OPTIONS = ["mass", "cyst", "nodule", "left lung"]


def row(text, answer="B", id="q1", **columns):
    plain = {"step": 1, "id": id, "rollout": 0, "question": "What is it?", "options": OPTIONS, "answer": answer}
    return plain | {"text": text, "predicted": None, "advantage": 0.0, "n_tokens": 10, "truncated": False} | columns


def think(thought, answer="B"):
    return f"<think>{thought}</think><answer>{answer}</answer>"


def column(name, texts, format=NO_THINK):
    return watch_columns([row(text) for text in texts], format)[f"watch/{name}"]


@pytest.mark.parametrize(
    ("content", "several"),
    [
        ("A, B", True),
        ("A or B", True),
        ("a/b", True),
        ("A B", True),
        ("A) mass B) cyst", True),
        ("mass or left lung", True),
        ("A) mass, B) cyst, C) nodule", True),
        ("B", False),
        ("B) cyst", False),
        ("D) left lung", False),
        ("mass", False),
        ("B or b", False),
        ("a cyst of the lung", False),
        ("", False),
        ("Z, Y", False),  # not among the options
    ],
)
def test_several_answers_in_one_block(content, several):
    assert column("several_answers", [f"<answer>{content}</answer>"]) == several


def test_several_answer_blocks_count_wherever_they_stand_and_whatever_they_hold():
    texts = ["<answer>B</answer><answer>B</answer>", think("<answer>A</answer>"), think("A ring."), "B"]
    assert column("several_answers", texts, THINK_BEFORE) == 0.5


def test_an_option_with_a_comma_or_an_or_is_one_answer():
    rows = [row("<answer>left or right, both</answer>") | {"options": ["left or right, both", "none"]}]
    assert watch_columns(rows, NO_THINK)["watch/several_answers"] == 0


def test_text_after_the_last_block_counts_and_an_unfinished_block_does_not():
    texts = ["<answer>B</answer> sure", "<answer>B</answer>\n", "B", "<answer>B</answer><answer>"]
    assert column("trailing_text", texts) == 0.5
    assert column("trailing_text", ["<answer>B</answer><think>A ring that"], THINK_AFTER) == 0
    assert column("trailing_text", ["<answer>B</answer><think>A ring.</think>"], THINK_BEFORE) == 1


def test_an_option_copied_without_its_letter():
    contents = ["cyst", "Left lung.", "B) cyst", "B", "B cyst", "a tumour", "", "C) cyst"]
    assert column("option_text", [f"<answer>{content}</answer>" for content in contents]) == 2 / 8


def test_repetition_is_the_share_of_word_triples_said_before():
    # Words a b c a b c a: five triples, abc bca cab abc bca, two of them said before.
    assert column("repetition", ["a b c a b c a", "a b c d e f g"]) == pytest.approx((2 / 5 + 0) / 2)


def test_looping_also_sees_repeats_that_have_no_words():
    assert column("looping", ["-" * 200, "seen in the liver " * 20, think("A small ring, seen left."), "B"]) == 0.5


def test_length_truncation_and_reward_are_means():
    rows = [
        row("B", n_tokens=4, accuracy_reward=1.0, format_reward=0.5),
        row("B", n_tokens=8, truncated=True, accuracy_reward=None, format_reward=0.25),
        row("B", n_tokens=6, accuracy_reward=float("nan"), format_reward=-0.75),
    ]
    columns = watch_columns(rows, NO_THINK)
    assert columns["watch/mean_length"] == 6
    assert columns["watch/truncated"] == pytest.approx(1 / 3)
    assert columns["watch/reward"] == pytest.approx((1.5 + 0.25 - 0.75) / 3)


def test_accuracy_leaves_form_out():
    texts = ["<answer>B</answer>", "The answer is B.", "<answer>A</answer>", "no idea"]
    columns = watch_columns([row(text) for text in texts], NO_THINK)
    assert columns["watch/accuracy"] == pytest.approx(2 / 3)
    assert columns["watch/well_formed"] == 0.5


def test_the_top_letter_is_set_against_the_gold_of_the_rows_that_can_be_read():
    answers, gold = "AAAB", "ABCD"
    rows = [row(f"<answer>{a}</answer>", g) for a, g in zip(answers, gold)] + [row("no idea", "A")]
    columns = watch_columns(rows, NO_THINK)
    assert columns["watch/top_letter"] == 0.75
    assert columns["watch/letter_excess"] == 0.75 - 0.25
    assert "watch/top_letter" not in watch_columns([row("no idea")], NO_THINK)


def test_empty_thoughts_have_fewer_than_three_words():
    texts = [think(""), think("…"), think("ok then"), think("a dark ring"), "<answer>B</answer>"]
    columns = watch_columns([row(text) for text in texts], THINK_BEFORE)
    assert columns["watch/empty_thoughts"] == 3 / 4
    assert columns["watch/thought_words"] == (0 + 1 + 2 + 3) / 4
    assert column("empty_thoughts", [f"<answer>B</answer><think>{w}</think>" for w in ("", "a dark ring")], THINK_AFTER)


def test_thoughts_are_shared_when_different_questions_hold_them():
    thoughts = {"q1": ["a dark ring"] * 3, "q2": ["a dark ring", "a pale spot"], "q3": ["three grey lines"], "q4": [""]}
    rows = [row(think(thought), id=id) for id, own in thoughts.items() for thought in own]
    columns = watch_columns(rows, THINK_BEFORE)
    # Pairs: q1 ring, q2 ring, q2 spot, q3 lines; q4 has only an empty thought.
    assert columns["watch/distinct_thoughts"] == 3 / 4
    assert columns["watch/common_thought"] == 2 / 3


def test_thoughts_that_differ_in_letter_or_option_text_only_are_the_same():
    texts = [think(f"I look with care. It fits {name.title()} best, so {a}.", a) for a, name in zip("ABCD", OPTIONS)]
    columns = watch_columns([row(text, id=f"q{i}") for i, text in enumerate(texts)], THINK_BEFORE)
    assert columns["watch/distinct_thoughts"] == 1 / 4
    assert columns["watch/common_thought"] == 1


def test_the_same_thought_within_one_question_is_no_sharing():
    columns = watch_columns([row(think("a dark ring"))] * 8, THINK_BEFORE)
    assert columns["watch/distinct_thoughts"] == 1
    assert "watch/common_thought" not in columns


@pytest.mark.parametrize("id", [None, float("nan")])
def test_without_ids_the_words_of_a_question_tell_it_apart(id):
    rows = [row(think("a dark ring"), id=id, question=question) for question in ("One?", "One?", "Two?")]
    assert watch_columns(rows, THINK_BEFORE)["watch/distinct_thoughts"] == 1 / 2


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (think("The answer is B because of a ring."), True),
        (think("B) cyst, as the ring shows."), True),
        (think("The answer is A, no, wait."), False),  # another letter than the one given
        (think("A ring around a dark spot, so B."), False),
        (think("Ring around a spot. So B."), False),  # the sixth word
        ("<think>A B C D or so</think>no answer", False),
    ],
)
def test_answer_first(text, first):
    assert column("answer_first", [text], THINK_BEFORE) == first


def test_columns_fit_the_format():
    thoughts = {f"watch/{name}" for name in ("empty_thoughts", "thought_words", "distinct_thoughts", "answer_first")}
    assert not thoughts & set(watch_columns([row("<answer>B</answer>")], NO_THINK))
    assert thoughts <= set(watch_columns([row(think("a dark ring"))], THINK_BEFORE))
    assert "watch/answer_first" not in watch_columns([row(think("a dark ring"))], THINK_AFTER)
    assert not {"watch/thinks", "watch/changed_mind"} & set(watch_columns([row(think("a dark ring"))], THINK_BEFORE))


def test_how_often_an_adaptive_policy_thinks():
    columns = watch_columns([row(text) for text in (think("a dark ring"), *["<answer>B</answer>"] * 3)], ADAPTIVE)
    assert (columns["watch/thinks"], columns["watch/thought_words"], columns["watch/well_formed"]) == (0.25, 3, 1)


def test_how_often_a_second_answer_is_another_one():
    texts = [f"<answer>{letter}</answer>{think('a dark ring')}" for letter in "AB"]
    columns = watch_columns([row(text) for text in (*texts, *texts[:1], "<answer>B</answer>")], ANSWER_THINK_ANSWER)
    assert columns["watch/changed_mind"] == approx(2 / 3) and columns["watch/several_answers"] == 0
    assert "watch/answer_first" not in columns
    assert column("several_answers", [texts[0] + "<answer>B</answer>"], ANSWER_THINK_ANSWER) == 1
    assert column("several_answers", [texts[0].replace(">B<", ">A, B<")], ANSWER_THINK_ANSWER) == 1
    assert column("trailing_text", [texts[0], texts[0] + "!"], ANSWER_THINK_ANSWER) == 0.5


def test_own_tags_are_watched():
    mine = ResponseFormat("mine", ("think", "answer"), "", {"think": "REASONING", "answer": "SOLUTION"})
    texts = ["<REASONING>The answer is B, sure</REASONING><SOLUTION>B</SOLUTION>", "<SOLUTION>A, B</SOLUTION> sure"]
    columns = watch_columns([row(text) for text in texts], mine)
    names = ("well_formed", "several_answers", "trailing_text", "answer_first")
    assert [columns[f"watch/{name}"] for name in names] == [0.5, 0.5, 0.5, 1]


def test_rows_and_frames_give_the_same_plain_numbers():
    rows = [row(think("a dark ring"), accuracy_reward=1.0), row(think("B it is, sure"), id="q2", accuracy_reward=None)]
    columns = watch_columns(rows, "think-before")
    assert columns == watch_columns(pd.DataFrame(rows), THINK_BEFORE)
    assert {type(value) for value in columns.values()} == {float}


def test_options_may_be_unknown():
    rows = [row("<answer>A, B</answer>", options=None, id=None), row("<answer>B</answer>", options=None)]
    assert watch_columns(rows, NO_THINK)["watch/several_answers"] == 0.5


def test_bad_rows_are_refused_in_a_sentence():
    with pytest.raises(DataError, match="no rollouts to watch"):
        watch_columns([], NO_THINK)
    with pytest.raises(DataError, match=r"without the column\(s\) text, n_tokens"):
        watch_columns([{k: v for k, v in row("B").items() if k not in ("text", "n_tokens")}], NO_THINK)
