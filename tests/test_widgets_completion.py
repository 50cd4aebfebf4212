"""One completion: its marks, what was read and why, its pay."""

import pytest
from widget_fakes import HOSTILE, check_safe

from medr1kit.data.phantoms import ImageId, truth_of
from medr1kit.formats import ADAPTIVE, ANSWER_THINK_ANSWER, FORMATS, NO_THINK, THINK_AFTER, THINK_BEFORE, ResponseFormat
from medr1kit.views.widgets.completion import completion_html, paid

OPTIONS = ["liver", "brain", "lung"]
OWN = ResponseFormat("own", ("think", "answer"), "", {"think": "T", "answer": "A"})


def look(text, format=THINK_BEFORE, **more):
    return check_safe(completion_html(text, format, gold="B", options=OPTIONS, **more))


@pytest.mark.parametrize("format", FORMATS.values())
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_completions_stay_text(name, format):
    seen = look(HOSTILE[name], format, image_id="CT-test-0-0", name=HOSTILE[name])
    assert "script" not in seen.elements and "a" not in seen.elements and "img" not in seen.elements


def test_a_right_answer_says_what_was_read_and_why():
    texts = look("<think>x</think><answer>(b)</answer>").texts
    assert texts["verdict"] == ["right"]
    assert texts["answer"] == ["Read: B) brain because the answer block holds the letter B"]
    assert texts["form"] == ["Form: well-formed"]
    assert texts["reward"] == [
        "Reward: accuracy 1, format 1, agreement –, repetition 0; the reference: accuracy 0, format 1"
    ]


@pytest.mark.parametrize(
    ("text", "format", "verdict", "form", "odd", "outside"),
    [
        ("<answer>B</answer>", THINK_BEFORE, "right malformed", "<think> </think> missing", [], []),
        (
            "<answer>A</answer><think>x</think>",
            THINK_BEFORE,
            "wrong malformed",
            "wrong order",
            ["<think>", "</think>"],
            [],
        ),
        ("<answer>A</answer><think>x</think>", THINK_AFTER, "wrong", "well-formed", [], []),
        ("well <answer>B</answer>", NO_THINK, "right malformed", "text outside the blocks", [], ["well"]),
        ("B", NO_THINK, "not read malformed", "there is no <answer>…</answer> block", [], ["B"]),
        (
            "<answer>B</answer><answer>C</answer>",
            NO_THINK,
            "not read malformed",
            "2 answer blocks",
            ["<answer>", "</answer>"],
            [],
        ),
        ("<think></think><answer>B</answer>", THINK_BEFORE, "right malformed", "the thinking is empty", [], []),
        ("<answer>B</answer>", ADAPTIVE, "right", "well-formed", [], []),
        ("<think>x</think><answer>B</answer>", ADAPTIVE, "right", "well-formed", [], []),
        ("<think>x<answer>B</answer>", ADAPTIVE, "right malformed", "</think> missing", [], ["x"]),
        ("<answer>A</answer><think>x</think><answer>B</answer>", ANSWER_THINK_ANSWER, "right", "well-formed", [], []),
        ("<answer>A</answer> B", ANSWER_THINK_ANSWER, "wrong malformed", "one answer block", [], ["B"]),
        ("<T>x</T><A>B</A>", OWN, "right", "well-formed", [], []),
        ("<A>B</A> so", OWN, "right malformed", "<T> </T> missing", [], ["so"]),
        ("<answer>B</answer>", OWN, "not read malformed", "no <A>…</A> block", [], ["<answer>B</answer>"]),
    ],
)
def test_what_is_malformed_is_named_and_marked(text, format, verdict, form, odd, outside):
    texts = look(text, format).texts
    assert texts["verdict"] == [verdict] and form in texts["form"][0]
    assert texts.get("odd-tag", []) == odd and texts.get("outside", []) == outside
    assert texts["text"] == [text], "marks add nothing to the text"


def test_a_first_answer_is_shown_beside_the_one_that_counts():
    texts = look("<answer>A</answer><think>x</think><answer>B</answer>", ANSWER_THINK_ANSWER).texts
    assert texts["answer"] == ["Read: B) brain because the answer block holds the letter B (at first: A) liver)"]


def test_an_unread_letter_is_shown_as_read_leniently():
    assert "(leniently: B) brain)" in look("The answer is B.").texts["answer"][0]


def test_statements_are_marked_true_or_false_of_the_image():
    truth = truth_of(ImageId.read("CT-test-0-0"))
    false = next(word for word in ("liver", "lung", "kidney", "brain") if word != truth.anatomy)
    thought = f"A {truth.finding} of the {false}, no {truth.size} one. So the answer is brain B"
    seen = look(THINK_BEFORE.write("B", thought), image_id="CT-test-0-0")
    assert seen.texts["statement-true"] == [f"{truth.finding}✓"]
    assert seen.texts["statement-false"] == [f"{false}✗", f"{truth.size}✗"]
    assert seen.texts["truth"] == [
        "Rationale: 1 of 3 statements true; names the finding; its conclusion, B) brain, is the answer it gives"
    ]
    titles = [value for tag, name, value in seen.attributes if tag == "mark" and name == "title"]
    assert titles[2] == "size, denied: false of this image"


def test_a_conclusion_that_is_not_the_answer_is_named():
    text = "<think>So the answer is lung C</think><answer>B</answer>"
    assert "its conclusion, C) lung, is not the answer it gives" in look(text, image_id="CT-test-0-0").texts["truth"][0]


@pytest.mark.parametrize(
    ("conclusion", "named"),
    [
        ("lung B", "names B) brain and C) lung, which is no single option"),
        ("left cyst B", "names B) brain beside words that are no option, which is no single option"),
        ("left cyst", "names no option"),
        ("A or B", "names A) liver and B) brain, which is no single option"),
    ],
)
def test_a_conclusion_that_is_no_one_option_is_quoted_with_what_it_names(conclusion, named):
    text = f"<think>So the answer is {conclusion}</think><answer>B</answer>"
    (said,) = look(text, image_id="CT-test-0-0").texts["truth"]
    assert said.endswith(f"; its conclusion, “{conclusion}”, {named}")


def test_where_the_truth_is_not_known_it_is_said():
    text = "<think>A cyst.</think><answer>B</answer>"
    seen = look(text, image_id="scan-7.png")
    assert "not known" in seen.texts["truth"][0] and "mark" not in seen.elements
    long = look(f"<think>{'cyst ' * 9000}</think><answer>B</answer>", image_id="CT-test-0-0")
    assert long.texts["truth"] == ["Rationale: too long to check"]


def test_the_same_thinking_twice_is_marked_where_it_was_read():
    seen = look("cyst <think>cyst</think><answer>B</answer>", image_id="CT-test-0-0")
    assert seen.elements.count("mark") == 1
    assert seen.all.index("<think>") < seen.all.index("cyst✓" if "cyst✓" in seen.all else "cyst✗")


def test_a_text_ended_at_its_answer_is_not_called_malformed():
    recorded = {"predicted": "B", "well_formed": None}
    texts = look("<answer>B</answer>", THINK_AFTER, recorded=recorded).texts
    assert texts["verdict"] == ["right ended at its answer"]
    assert "not known" in texts["form"][0] and "format" not in texts["reward"][0]


def test_a_table_that_says_otherwise_is_named():
    recorded = {"predicted": "C", "well_formed": True}
    assert (
        "The table says C; read now, with these options, it is B"
        in look("<think>x</think><answer>B</answer>", recorded=recorded).texts["differs"][0]
    )
    assert "differs" not in look("<think>x</think><answer>C</answer>", recorded=recorded).texts


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_no_completion_is_shown_as_empty(nothing):
    texts = look(nothing).texts
    assert texts["text"] == ["(empty)"] and "the completion is empty" in texts["form"][0]


def test_pay_is_short():
    assert [paid(x) for x in (1.0, 0.0, -0.727, None, 0.5)] == ["1", "0", "−0.73", "–", "0.5"]
