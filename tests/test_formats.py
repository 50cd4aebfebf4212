"""Formats: what is asked, and every way in which an answer is, or is not, read out of what comes back."""

import json
import pickle
import random
import time
from dataclasses import asdict, replace

import pytest
from growth import grows_as_its_length

from medr1kit.formats import (
    ADAPTIVE,
    ANSWER_THINK_ANSWER,
    FORMATS,
    NO_THINK,
    THINK_AFTER,
    THINK_BEFORE,
    Parsed,
    ResponseFormat,
    format_named,
)
from medr1kit.models.predict import chat_prompt
from medr1kit.vqa import LETTERS, DataError

OPTIONS = ["liver", "MRI", "CT", "lung"]
FOUR, TWO = OPTIONS, ["mass", "cyst"]
OWN_TAGS = {"think": "REASONING", "answer": "SOLUTION"}
OWN = ResponseFormat("mine", ("think", "answer"), "Reason, in <REASONING>, then a letter in <SOLUTION>.", OWN_TAGS)
each_format = pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)


def a(content):
    return f"<answer>{content}</answer>"


def t(content):
    return f"<think>{content}</think>"


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "prompt"),
    [
        (
            THINK_BEFORE,
            "Sharp? A)yes, B)no Your task: 1. Think through the question step by step, enclose your reasoning process "
            "in <think>...</think> tags. 2. Then provide the correct single-letter choice (A, B, C, D,...) inside "
            "<answer>...</answer> tags. 3. No extra information or text outside of these tags.",
        ),
        (
            NO_THINK,
            "Sharp? A)yes, B)no Your task: 1. Provide the correct single-letter choice (A, B, C, D,...) inside "
            "<answer>...</answer> tags. 2. No extra information or text outside of this tag.",
        ),
    ],
    ids=["think-before", "no-think"],
)
def test_the_prompt_is_verbatim_the_training_prompt_of_med_r1(format, prompt):
    assert format.prompt("Sharp? A)yes, B)no") == prompt


def test_the_think_after_prompt_asks_for_the_answer_first():
    prompt = THINK_AFTER.prompt("Sharp? A)yes, B)no")
    assert prompt.startswith("Sharp? A)yes, B)no Your task: 1. Provide")
    assert prompt.index("<answer>...</answer>") < prompt.index("<think>...</think>")


@each_format
def test_the_evaluation_asks_with_the_same_words_as_the_training(format):
    from datasets import Dataset

    from medr1kit.training.checks import COLUMNS, prompts_of

    row = {"problem": "Sharp?", "options": ["yes", "no"], "answer": "A", "solution": "A"}

    class Processor:
        def apply_chat_template(self, turns, **settings):
            return turns

    (((trained,),), (asked,)) = (
        prompts_of(Dataset.from_list([dict.fromkeys(("image", *COLUMNS), "") | row]), format),
        chat_prompt(Processor(), format, "Sharp?"),
    )
    texts = [part["text"] for part in asked["content"] if part["type"] == "text"]
    assert texts == [trained["content"]] == [format.prompt("Sharp?")]
    assert trained["role"] == asked["role"] == "user"
    assert asked["content"][0] == {"type": "image"}, "the image comes first, as in the reference"


@each_format
@pytest.mark.parametrize("letter", "ABCD")
def test_what_is_written_is_read_back(format, letter):
    parsed = format.parse(format.write(letter, "A bright ring."), OPTIONS)
    think = "A bright ring." if "think" in format.blocks else None
    known = Parsed(think, letter, letter, True, f"the answer block holds the letter {letter}")
    assert parsed == replace(known, first_answer=letter if format is ANSWER_THINK_ANSWER else None)


@pytest.mark.parametrize("format", [THINK_BEFORE, THINK_AFTER], ids=lambda format: format.name)
@pytest.mark.parametrize(
    "rationale",
    ["<answer>B</answer>", "A ring.</think><think>A mass.", "x <think>", "a <Answer> b", "</thinking>", "<think/>"],
)
def test_a_rationale_with_tags_of_its_own_is_refused(format, rationale):
    with pytest.raises(DataError, match=r"the rationale holds a tag of its own, <.*take it out"):
        format.write("B", rationale)
    with pytest.raises(DataError, match="the answer holds a tag of its own, <answer>"):
        format.write("<answer>B</answer>", "A ring.")
    assert NO_THINK.write("B", rationale) == "<answer>B</answer>", "what is not written is not refused"


@each_format
def test_think_tags_around_a_rationale_are_taken_off(format):
    assert format.write("B", " <think>\nA ring.\n</think>\n") == format.write("B", "A ring.")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("think", THINK_BEFORE),
        ("Think_Before", THINK_BEFORE),
        ("think-after", THINK_AFTER),
        ("NO_THINK", NO_THINK),
        (THINK_AFTER, THINK_AFTER),
        ("answer_think_answer", ANSWER_THINK_ANSWER),
        ("Adaptive", ADAPTIVE),
    ],
)
def test_a_format_is_found_by_its_name(name, format):
    assert format_named(name) is format


def test_an_unknown_format_is_refused_with_the_names_there_are():
    with pytest.raises(DataError, match="think-before, think-after, no-think, answer-think-answer, adaptive"):
        format_named("nothink")


# --- what one answer block says --------------------------------------------------------------------------------------

CONTENT = [  # content of the block, options, answer, lenient_answer
    # every forgiven spelling
    ("C", FOUR, "C", "C"),
    ("c", FOUR, "C", "C"),
    ("(C)", FOUR, "C", "C"),
    ("( c )", FOUR, "C", "C"),
    ("C.", FOUR, "C", "C"),
    ("C:", FOUR, "C", "C"),
    ("C)", FOUR, "C", "C"),
    ("(C).", FOUR, "C", "C"),
    ("C) CT", FOUR, "C", "C"),
    ("C)CT", FOUR, "C", "C"),
    ("(c) ct", FOUR, "C", "C"),
    ("C. CT", FOUR, "C", "C"),
    ("C: CT", FOUR, "C", "C"),
    ("C: CT.", FOUR, "C", "C"),
    ("C CT", FOUR, "C", "C"),
    ("CT", FOUR, "C", "C"),
    ("ct.", FOUR, "C", "C"),
    ("  C  ", FOUR, "C", "C"),
    ("\nC\n", FOUR, "C", "C"),
    ("\r\n\tC)\n  CT\n", FOUR, "C", "C"),
    ("\u00a0C\u2003", FOUR, "C", "C"),
    # a letter beside text that is not its option's
    ("C) MRI", FOUR, None, "C"),
    ("C: liver", FOUR, None, "C"),
    ("C. CT or MRI", FOUR, None, "C"),
    ("C MRI", FOUR, None, "C"),
    ("C) because it is bright", FOUR, None, "C"),
    # two letters
    ("A or B", FOUR, None, None),
    ("B or A", FOUR, None, None),
    ("A, C", FOUR, None, None),
    ("A and D", FOUR, None, None),
    ("B/C", FOUR, None, None),
    ("A B", FOUR, None, None),
    ("A) B)", FOUR, None, None),
    ("B) MRI, C) CT", FOUR, None, None),
    ("ABCD", FOUR, None, None),
    ("C C", FOUR, None, "C"),
    # neither a letter nor an option
    ("", FOUR, None, None),
    ("   \n", FOUR, None, None),
    ("...", FOUR, None, None),
    ("?", FOUR, None, None),
    ("PET", FOUR, None, None),
    ("CT scan", FOUR, None, None),
    ("3", FOUR, None, None),
    ("\u0421", FOUR, None, None),  # a Cyrillic letter that looks like C
    ("\uff23", FOUR, "C", "C"),  # a full-width C
    ("\uff23\uff09\uff23\uff34", FOUR, "C", "C"),
    ("\u200bC\ufeff", FOUR, "C", "C"),
    ("\U0001d402", FOUR, "C", "C"),  # a bold C of mathematics
    ("A) X\u2011ray", ["X-ray", "CT"], "A", "A"),
    ("0-2 cm", ["0\u20132 cm", "2\u20134 cm"], "A", "A"),
    ("fibroma", ["\ufb01broma", "lipoma"], "A", "A"),
    ("ro\u0308ntgen", ["r\xf6ntgen", "CT"], "A", "A"),
    ("Crohn\u2019s disease", ["Crohn's disease", "none"], "A", "A"),
    ("T2\u00a0N0", ["T2 N0", "T1 N0"], "A", "A"),
    ("10\u2075", ["105", "10\u2075"], "B", "B"),
    ("C\0", FOUR, None, "C"),
    ("$C$", FOUR, None, "C"),
    (r"\boxed{C}", FOUR, None, "C"),
    ("**A**", FOUR, None, "A"),
    ("**C**", FOUR, None, "C"),
    ("The answer is C", FOUR, None, "C"),
    ("I think A is right", FOUR, None, "A"),
    # letters beyond the options
    ("E", FOUR, None, None),
    ("E) CT", FOUR, None, None),
    ("C", TWO, None, None),
    ("b", TWO, "B", "B"),
    ("B) mass", TWO, None, "B"),
    ("Z", list(LETTERS), "Z", "Z"),
    ("A", [], None, None),
    # repeated distractors: their text is ambiguous, their letter is not
    ("SPECT", ["SPECT", "CT", "spect."], None, None),
    ("A", ["SPECT", "CT", "spect."], "A", "A"),
    ("C) SPECT", ["SPECT", "CT", "spect."], "C", "C"),
    ("CT", ["SPECT", "CT", "spect."], "B", "B"),
    # option texts that begin with a letter, or are one
    ("A mass", ["cyst", "A mass"], "B", "B"),
    ("B) A mass", ["cyst", "A mass"], "B", "B"),
    ("A) A mass", ["cyst", "A mass"], None, "A"),
    ("A mass", ["A mass", "cyst"], "A", "A"),
    ("A mass", ["mass", "A mass"], None, None),  # "A" and its text, or the text of B
    ("B cell lymphoma", ["B cell lymphoma", "T cell lymphoma"], "A", "A"),
    ("T", ["T", "N"], "A", "A"),
    ("B: N", ["T", "N"], "B", "B"),
    ("A", ["B", "A"], "A", "A"),  # the prompt asks for a letter, so a letter it is
    ("b", ["B", "A"], "B", "B"),
    # option texts with punctuation
    ("T2, N0, M0", ["T1, N0, M0", "T2, N0, M0"], "B", "B"),
    ("B) T2, N0, M0", ["T1, N0, M0", "T2, N0, M0"], "B", "B"),
    ("A) T2, N0, M0", ["T1, N0, M0", "T2, N0, M0"], None, "A"),
    ("stain (H&E)", ["stain (PAS)", "stain (H&E)"], "B", "B"),
    ("(B) stain (H&E).", ["stain (PAS)", "stain (H&E)"], "B", "B"),
    ("It's a good retinal image", ["It's a good retinal image.", "no"], "A", "A"),
    ("B. no.", ["Yes.", "No"], "B", "B"),
    ("no, it's  normal", ["Yes.", "no, it's normal"], "B", "B"),
    ("Sjögren-Larsson", ["Crohn", "SJÖGREN-Larsson."], "B", "B"),
    # options by letter, as a data set's struct column gives them
    ("C) CT", dict(zip("ABCD", FOUR)), "C", "C"),
    ("CT", dict(zip("ABCD", FOUR)), "C", "C"),
    ("B", {"A": "mass", "B": None}, None, None),
    ("C", {"B": "mass", "C": "cyst"}, "C", "C"),
    # options not known: any letter, unchecked text, no option texts
    ("C", None, "C", "C"),
    ("z.", None, "Z", "Z"),
    ("C) MRI", None, "C", "C"),
    ("A) a bright mass", None, "A", "A"),
    ("CT", None, None, None),
    ("C CT", None, None, None),
    ("B) MRI, C) CT", None, None, None),
    ("B) or C", None, None, None),
    ("A or B", None, None, None),
]


@pytest.mark.parametrize(("content", "options", "answer", "lenient"), CONTENT)
@each_format
def test_one_answer_block(format, content, options, answer, lenient):
    text = "".join(a(content) if block == "answer" else t("A ring.") for block in format.blocks)
    parsed = format.parse(text, options)
    assert (parsed.answer, parsed.lenient_answer) == (answer, lenient), parsed.reason
    assert parsed.well_formed == (answer is not None)
    assert parsed.reason


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (a("C"), OPTIONS, "the answer block holds the letter C"),
        (a("C) CT"), OPTIONS, "the answer block holds the letter C and its text"),
        (a("CT"), OPTIONS, "the answer block holds the text of option C"),
        (a("C) CT"), None, "the answer block holds the letter C and text that could not be checked"),
        (a("C) MRI"), OPTIONS, "the letter C stands beside text that is not option C"),
        (a("E"), OPTIONS, "the letter E is not among the options"),
        (a("E) CT"), OPTIONS, "the letter E is not among the options"),
        (a("CT"), ["CT", "ct"], "the text stands under several letters (A, B)"),
        (a("A or B"), OPTIONS, "the answer block is neither a letter nor the text of one option"),
        (a("A) or B"), None, "the answer block names more than one letter"),
        (a(" "), OPTIONS, "the answer block is empty"),
        (a("C") + a("C"), OPTIONS, "there are 2 answer blocks; exactly one counts"),
        (a("A" + t("x")), OPTIONS, "the answer block holds another tag"),
        (t(a("C")), OPTIONS, "there is no <answer>…</answer> block outside the thinking"),
    ],
)
def test_the_reason_says_why(text, options, reason):
    assert NO_THINK.parse(text, options).reason == reason


# --- what the blocks around it say -----------------------------------------------------------------------------------

BEFORE, AFTER, NONE = THINK_BEFORE.name, THINK_AFTER.name, NO_THINK.name
STRUCTURE = [  # text, answer, lenient_answer, think, the formats in which it is well-formed
    # order and number of blocks
    (t("x") + a("C"), "C", "C", "x", {BEFORE}),
    (a("C") + t("x"), "C", "C", "x", {AFTER}),
    (a("C"), "C", "C", None, {NONE}),
    (t("x"), None, None, "x", set()),
    (t("x") + t("y") + a("C"), "C", "C", "x", set()),
    (t("x") + a("C") + t("y"), "C", "C", "x", set()),
    (a("C") + a("C"), None, "C", None, set()),
    (a("C") + a("c"), None, "C", None, set()),
    (a("C") + a("A"), None, None, None, set()),
    (t("x") + a("C") + a("A"), None, None, "x", set()),
    (t("x") + a("C") + a("C"), None, "C", "x", set()),
    (a("C") + t("x") + a("C"), None, "C", "x", set()),
    (a("...") + a("C"), None, "C", None, set()),
    (a("A)") + a("B mass"), None, None, None, set()),
    (a("The answer is A") + a("B"), None, None, None, set()),
    # white space between and around, and only that
    ("\n " + t("x") + " \n\t" + a("C") + "\n", "C", "C", "x", {BEFORE}),
    ("  " + a("C") + "\r\n" + t("\nx\n") + " ", "C", "C", "x", {AFTER}),
    ("\n" + a("C") + "  ", "C", "C", None, {NONE}),
    ("Sure: " + a("C"), "C", "C", None, set()),
    (t("x") + "so" + a("C"), "C", "C", "x", set()),
    (a("C") + ".", "C", "C", None, set()),
    (a("C") + "\0", "C", "C", None, set()),
    (a("C") + " or B", "C", "C", None, set()),
    # empty thinking
    (t("") + a("C"), "C", "C", "", set()),
    (t(" \n") + a("C"), "C", "C", "", set()),
    (a("C") + t(""), "C", "C", "", set()),
    (t("\u200b") + a("C"), "C", "C", "\u200b", set()),
    (t("\u00ad\u3164") + a("C"), "C", "C", "\u00ad\u3164", set()),
    (t("\u0301") + a("C"), "C", "C", "\u0301", set()),
    (t("...") + a("C"), "C", "C", "...", set()),
    (t("\u808b") + a("C"), "C", "C", "\u808b", {BEFORE}),
    (t("3") + a("C"), "C", "C", "3", {BEFORE}),
    # an answer inside the thinking is a thought
    (t("maybe " + a("A")) + a("C"), "C", "C", "maybe " + a("A"), set()),
    (t("maybe " + a("C")), None, None, "maybe " + a("C"), set()),
    (t("The answer is C"), None, None, "The answer is C", set()),
    # tags without a partner
    ("<think>x" + a("C"), "C", "C", None, set()),
    ("x</think>" + a("C"), "C", "C", None, set()),
    (t("x") + "<answer>C", None, "C", "x", set()),
    (t("x") + "C</answer>", None, "C", "x", set()),
    ("<think>x<answer>C", None, "C", None, set()),
    ("</answer>C<answer>", None, "C", None, set()),
    (a("C") + "<think>x", "C", "C", None, set()),
    (a("C") + "<answer>", "C", "C", None, set()),
    (a("C") + "</answer>", "C", "C", None, set()),
    ("<answer>C</think>", None, "C", None, set()),
    ("<think>I see a ring, not a mass", None, None, None, set()),
    # nested tags
    (t("x<think>y") + "z</think>" + a("C"), "C", "C", "x<think>y", set()),
    (a(a("C")), None, "C", None, set()),
    (a("A) " + a("B")), None, None, None, set()),
    (a("A) <answer>B"), None, None, None, set()),
    (a("C" + t("x")), None, "C", None, set()),
    (a(t("x") + "C"), None, "C", None, set()),
    # tags that are none
    ("< answer>C</answer>", None, "C", None, set()),
    ("<ANSWER>C</ANSWER>", None, "C", None, set()),
    ("<thinking>x</thinking>" + a("C"), "C", "C", None, set()),
    # no tags at all
    ("", None, None, None, set()),
    (" \n", None, None, None, set()),
    ("C", None, "C", None, set()),
    ("c.\n", None, "C", None, set()),
    ("C) CT", None, "C", None, set()),
    ("CT", None, "C", None, set()),
    ("The answer is (C).", None, "C", None, set()),
    ("Answer: C", None, "C", None, set()),
    ("Option A is wrong, so the answer is C", None, "C", None, set()),
    ("It is dark.\nC\n", None, "C", None, set()),
    ("A mass is seen, so C", None, "C", None, set()),
    ("A CT scan of a liver, hence D.", None, "D", None, set()),
    ("I would say A", None, "A", None, set()),
    ("A or B", None, None, None, set()),
    ("A, possibly B", None, None, None, set()),
    ("A\nB", None, None, None, set()),
    ("Hidden under Z", None, None, None, set()),
    ("\u2028\U0001f600 \ud800", None, None, None, set()),
]


@pytest.mark.parametrize(("text", "answer", "lenient", "think", "formats"), STRUCTURE)
@pytest.mark.parametrize("format", [THINK_BEFORE, THINK_AFTER, NO_THINK, ADAPTIVE], ids=lambda format: format.name)
def test_blocks(format, text, answer, lenient, think, formats):
    parsed = format.parse(text, OPTIONS)
    assert (parsed.answer, parsed.lenient_answer, parsed.think) == (answer, lenient, think), parsed.reason
    assert parsed.well_formed == bool(formats & ({BEFORE, NONE} if format is ADAPTIVE else {format.name}))
    assert parsed.first_answer is None


TWICE = [  # text, first_answer, answer, lenient_answer, fault
    (a("A") + t("x") + a("C"), "A", "C", "C", ""),
    (" " + a("(a) liver") + "\n" + t("x") + "\n" + a("CT") + "\n", "A", "C", "C", ""),
    # one answer is the answer, as in every format
    (a("C"), None, "C", "C", "there is one answer block; the format has two"),
    (t("x") + a("C"), None, "C", "C", "there is one answer block; the format has two"),
    (a("C") + "<think>x", None, "C", "C", "there is one answer block; the format has two"),
    (a("A") + t("x " + a("C")), None, "A", "A", "there is one answer block; the format has two"),
    (a("A") + t("x") + "<answer>C", None, "A", "A", "there is one answer block; the format has two"),
    # the last is read whatever the first says, and the other way round
    (
        a("?") + t("x") + a("C"),
        None,
        "C",
        "C",
        "of the first answer: the answer block is neither",
    ),
    (a("A or B") + t("x") + a("C"), None, "C", "C", "of the first answer: the answer block is neither"),
    (a("A") + t("x") + a("?"), "A", None, None, "the answer block is neither a letter nor the text of one option"),
    (a("A") + t("x") + a("the answer is C"), "A", None, "C", "the answer block is neither a letter nor the text"),
    # in another order, or not whole
    (t("x") + a("A") + a("C"), "A", "C", "C", "the blocks stand in the wrong order"),
    (a("A") + a("C"), "A", "C", "C", "<think> </think> missing"),
    (a("A") + a("C") + t("x"), "A", "C", "C", "the blocks stand in the wrong order"),
    (a("A") + t("") + a("C"), "A", "C", "C", "the thinking is empty"),
    (a("A") + t("x") + "so " + a("C"), "A", "C", "C", "there is text outside the blocks"),
    (a("A") + t("x") + t("y") + a("C"), "A", "C", "C", "there are more tags than the format has"),
    # one too many means nothing
    (a("A") + t("x") + a("C") + a("C"), None, None, None, "there are 3 answer blocks; the format has two"),
    (a("C") * 3, None, None, "C", "there are 3 answer blocks; the format has two"),
    ("", None, None, None, "the completion is empty"),
    ("The answer is C", None, None, "C", "there is no <answer>…</answer> block outside the thinking"),
]


@pytest.mark.parametrize(("text", "first", "answer", "lenient", "fault"), TWICE)
def test_of_two_answers_the_last_counts(text, first, answer, lenient, fault):
    parsed = ANSWER_THINK_ANSWER.parse(text, OPTIONS)
    assert (parsed.first_answer, parsed.answer, parsed.lenient_answer) == (first, answer, lenient), parsed.reason
    assert parsed.fault.startswith(fault) and parsed.well_formed == (not fault) == (not parsed.fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (a("C"), ""),
        (t("x") + a("C"), ""),
        (t("") + a("C"), "the thinking is empty"),
        ("<think>x" + a("C"), "</think> missing"),
        ("x</think>" + a("C"), "<think> missing"),
        (a("C") + t("x"), "the blocks stand in the wrong order"),
        ("Sure: " + a("C"), "there is text outside the blocks"),
    ],
)
def test_a_thought_may_be_left_out_but_not_begun(text, fault):
    parsed = ADAPTIVE.parse(text, OPTIONS)
    assert (parsed.answer, parsed.fault) == ("C", fault)


def test_an_adaptive_completion_is_written_with_a_thought_where_there_is_one():
    assert ADAPTIVE.write("B") == ADAPTIVE.write("B", " ") == "<answer>B</answer>"
    assert ADAPTIVE.write("B", "<think>A ring.</think>") == "<think>A ring.</think><answer>B</answer>"
    with pytest.raises(DataError, match="the thinking is empty"):
        ADAPTIVE.write("B", "...")


# --- a format of one's own --------------------------------------------------------------------------------------------


TAGGED = [row for row in STRUCTURE if not any(odd in row[0] for odd in ("< answer>", "<ANSWER>", "<thinking>"))]


@pytest.mark.parametrize(("text", "answer", "lenient", "think", "formats"), TAGGED)
def test_own_tags_are_read_as_the_others_are(text, answer, lenient, think, formats):
    def own(text):
        return text and text.replace("think>", "REASONING>").replace("answer>", "SOLUTION>")

    parsed, ours = OWN.parse(own(text), OPTIONS), THINK_BEFORE.parse(text, OPTIONS)
    assert (parsed.answer, parsed.lenient_answer, parsed.think) == (answer, lenient, own(think)), parsed.reason
    assert (parsed.reason, parsed.fault) == (own(ours.reason), own(ours.fault))


def test_own_tags_are_written_and_asked_for():
    assert OWN.write("B", "A ring.") == "<REASONING>A ring.</REASONING><SOLUTION>B</SOLUTION>"
    assert OWN.write("B", "<reasoning>A ring.</reasoning>") == OWN.write("B", "<think>A ring.</think>")
    assert OWN.prompt("Sharp?") == "Sharp? Reason, in <REASONING>, then a letter in <SOLUTION>."
    half = ResponseFormat("half", ("answer", "think", "answer"), "", {"answer": "X"})
    assert half.write("B", "A ring.") == "<X>B</X><think>A ring.</think><X>B</X>"
    for rationale in ("A <X> ring.", "A </think> ring.", "A <answer> ring."):
        with pytest.raises(DataError, match="the rationale holds a tag of its own"):
            half.write("B", rationale)


def test_the_tags_of_others_are_text():
    parsed = OWN.parse(t("x") + a("C"), OPTIONS)
    assert (parsed.answer, parsed.lenient_answer, parsed.think) == (None, "C", None)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": " "}, "a format needs a name"),
        ({"name": None}, "name of a format is None; give a text"),
        ({"instruction": 5}, "instruction of a format is an int; give a text"),
        ({"name": "Think_Before"}, "'Think_Before' is that of a format with other blocks or tags"),
        ({"blocks": ("think",)}, "no order that can be read; use one of ('answer',), ('think', 'answer')"),
        ({"blocks": ("think", "answer", "think")}, "no order that can be read"),
        ({"blocks": ("answer", "answer")}, "no order that can be read"),
        ({"blocks": "answer"}, "no order that can be read"),
        ({"blocks": ("thought", "answer")}, "no order that can be read"),
        ({"blocks": ("answer",), "think_optional": True}, "think_optional=True goes with blocks=('think', 'answer')"),
        ({"think_optional": "yes"}, "think_optional is the text 'yes'; give True or False"),
        ({"tags": ["REASONING"]}, "give a dict from block to tag"),
        ({"tags": {"thought": "REASONING"}}, "give a dict from block to tag"),
        ({"tags": {"think": "<REASONING>"}}, "the tag of 'think' is '<REASONING>'; give letters only"),
        ({"tags": {"think": ""}}, "give letters only"),
        ({"tags": {"think": None}}, "give letters only"),
        ({"tags": {"think": "X", "answer": "x"}}, "the tag of 'think' is 'X', like that of 'answer'"),
        ({"tags": {"think": "answer"}}, "the tag of 'think' is 'answer', like that of 'answer'"),
        ({"tags": {"think": "answer", "answer": "think"}}, "like that of 'answer'"),
        ({"instruction": "In <think>."}, "the instruction asks for <think>, which is <REASONING> in tags="),
    ],
)
def test_what_could_not_be_read_is_no_format(changed, sentence):
    given = {"name": "mine", "blocks": ("think", "answer"), "instruction": "", "tags": OWN_TAGS} | changed
    with pytest.raises(DataError) as error:
        ResponseFormat(**given)
    assert sentence in str(error.value)


@pytest.mark.parametrize("format", [*FORMATS.values(), OWN], ids=lambda format: format.name)
def test_a_format_is_made_again_from_what_json_keeps(format):
    kept = json.loads(json.dumps(asdict(format)))
    assert ResponseFormat(**kept) == format and hash(ResponseFormat(**kept)) == hash(format)
    assert pickle.loads(pickle.dumps(format)) == format


# --- whatever comes ---------------------------------------------------------------------------------------------------


def seconds(text, options):
    began = time.process_time()
    NO_THINK.parse(text, options)
    return time.process_time() - began


@pytest.mark.parametrize("options", [OPTIONS, None], ids=["options", "no options"])
@pytest.mark.parametrize("piece", ["<think>", "<answer>", a("A"), "answer is \n", "A\n", "\n", "word "])
def test_a_long_text_is_read_in_the_time_of_its_length(piece, options):
    assert grows_as_its_length(NO_THINK.parse, piece, 400_000, options)


@pytest.mark.parametrize("start", ["", "answer", "answer is", "A", "<answer>A)"])
@pytest.mark.parametrize(
    "piece", ["</think>", "<answer></think>", "<think><answer>", t("x"), " ", "\r\n", "(", "A ", "C)"]
)
def test_no_repetition_makes_reading_quadratic(piece, start):
    # Backtracking over a run of 60,000 blanks takes 20 seconds and more, a linear reading some milliseconds.
    assert seconds(start + piece * (60_000 // len(piece)), OPTIONS) < 1.0


PIECES = [
    *("<think>", "</think>", "<answer>", "</answer>") * 4,
    *("A", "B", "b", "C", "E", "(", ")", ".", ":", ",", " ", "\n", "\0", "é", "'"),
    *("CT", "liver", "the answer is ", "option ", "or ", "I "),
]


@each_format
def test_no_text_breaks_the_reading(format):
    rng = random.Random(0)
    answered = formed = lenient = 0
    for _ in range(10_000):
        if rng.random() < 0.5:
            text = "".join(rng.choices(PIECES, k=rng.randrange(12)))
        else:
            content = {
                "answer": "".join(rng.choices(PIECES, k=rng.randrange(4))),
                "think": "".join(rng.choices(PIECES, k=2)),
            }
            text = "".join(f"<{block}>{content[block]}</{block}>" for block in format.blocks)
        options = rng.choice([OPTIONS, TWO, ["A mass", "mass", "A", "B"], dict(zip("ABC", OPTIONS)), None])
        parsed = format.parse(text, options)
        letters = LETTERS if options is None else LETTERS[: len(options)]
        assert parsed.answer is None or parsed.answer in letters, text
        assert parsed.lenient_answer is None or parsed.lenient_answer in letters, text
        assert parsed.answer is None or parsed.lenient_answer == parsed.answer, text
        assert parsed.answer is not None or not parsed.well_formed, text
        answered += parsed.answer is not None
        formed += parsed.well_formed
        lenient += parsed.lenient_answer is not None
    assert lenient > answered > formed > 20, "the pieces must make answers, or nothing is tested"


@each_format
def test_a_tag_that_loses_a_character_is_seen(format):
    whole = format.write("B", "A ring.")
    inside_tags = [i for i in range(len(whole)) if whole.rfind("<", 0, i + 1) > whole.rfind(">", 0, i)]
    assert len(inside_tags) == sum(len(f"<{block}></{block}>") for block in format.blocks)
    for i in inside_tags:
        assert not format.parse(whole[:i] + whole[i + 1 :], OPTIONS).well_formed


def test_a_text_is_read_again_with_other_options_and_in_another_format():
    text = "<answer>CT</answer>"
    assert NO_THINK.parse(text, ["liver", "CT"]).answer == "B"
    assert NO_THINK.parse(text, ["CT", "liver"]).answer == "A"
    assert NO_THINK.parse(text, {"C": "CT"}).answer == "C" and NO_THINK.parse(text).answer is None
    assert (
        NO_THINK.parse(text, ["CT", "liver"]).well_formed and not THINK_BEFORE.parse(text, ["CT", "liver"]).well_formed
    )


@pytest.mark.parametrize(
    ("format", "text", "fault"),
    [
        (THINK_BEFORE, "<think>A ring.</think><answer>B</answer>", ""),
        (THINK_BEFORE, " \n", "the completion is empty"),
        (THINK_BEFORE, "<think>A ring.</think>B", "there is no <answer>…</answer> block outside the thinking"),
        (THINK_BEFORE, "A ring.</think><answer>B</answer>", "<think> missing"),
        (THINK_BEFORE, "<answer>B</answer><think>A ring.</think>", "the blocks stand in the wrong order"),
        (THINK_BEFORE, "<think></think><think>x</think><answer>B</answer>", "there are more tags than the format has"),
        (THINK_BEFORE, "<think>A ring.</think> so <answer>B</answer>", "there is text outside the blocks"),
        (THINK_BEFORE, "<think> </think><answer>B</answer>", "the thinking is empty"),
        (NO_THINK, "<answer>no letter</answer>", "the answer block is neither a letter nor the text of one option"),
    ],
)
def test_the_parser_says_what_is_malformed(format, text, fault):
    parsed = format.parse(text, ["liver", "CT"])
    assert parsed.fault == fault and parsed.well_formed == (not fault)


@pytest.mark.parametrize(
    ("content", "by_text"),
    [("CT", True), ("ct. .", True), ("B", False), ("B) CT", False), ("B CT", False), ("MRI", False), ("liver", True)],
)
def test_an_answer_says_whether_it_was_read_from_an_option_s_own_text(content, by_text):
    assert NO_THINK.parse(f"<answer>{content}</answer>", ["liver", "CT"]).by_text == by_text


@pytest.mark.parametrize(("content", "option"), [("CT. .", "CT"), ("ct . ", "CT."), ("CT", "CT . .")])
def test_full_stops_and_blanks_at_the_end_of_an_option_s_text_do_not_count(content, option):
    assert NO_THINK.parse(f"<answer>{content}</answer>", ["liver", option]).answer == "B"


@pytest.mark.parametrize("format", [THINK_BEFORE, THINK_AFTER])
@pytest.mark.parametrize(
    "rationale", ["", "  ", "...", "\u200b", "<reasoning>A ring.</reasoning>", "<Thought>A ring.", None, ["x"]]
)
def test_what_would_be_malformed_is_not_written(format, rationale):
    with pytest.raises(DataError):
        format.write("B", rationale)


@pytest.mark.parametrize("answer", ["", None, "AB", "cyst", "not B", "<b>B</b>"])
def test_what_is_no_letter_is_not_written_as_the_answer(answer):
    with pytest.raises(DataError):
        NO_THINK.write(answer)


def test_options_by_small_letters_are_options():
    assert NO_THINK.parse("<answer>b</answer>", {"a": "mass", "b": "cyst"}).answer == "B"
    assert NO_THINK.parse("<answer>Cyst.</answer>", {"a": "mass", "b": "cyst"}).answer == "B"


@pytest.mark.parametrize("options", [{"mass", "cyst"}, {"1": "mass"}, ["x"] * 27, iter(["mass"]), 5])
def test_options_without_an_order_or_letters_are_refused(options):
    with pytest.raises(DataError, match="give a list of the option texts"):
        NO_THINK.parse("<answer>B</answer>", options)
