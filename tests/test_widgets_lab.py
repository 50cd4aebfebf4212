"""The reward lab: every near miss is explained as it is paid."""

import re

import pytest
from test_widgets_base import from_browser
from widget_fakes import HOSTILE, check_safe, control

import medr1kit as mk
from medr1kit.formats import ADAPTIVE, ANSWER_THINK_ANSWER, FORMATS, NO_THINK, THINK_BEFORE, ResponseFormat
from medr1kit.views.widgets.lab import OWN, WRITTEN, near_misses, reward_table
from medr1kit.vqa import LETTERS, DataError

OPTIONS = ["liver", "brain", "lung"]
CASES = [(format, name) for format in FORMATS.values() for name in near_misses(format, "B", OPTIONS)]


@pytest.fixture(autouse=True)
def live(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)


def rewards(text, format=THINK_BEFORE):
    return reward_table(text, format, "B", OPTIONS).set_index("reward")


@pytest.mark.parametrize(("format", "name"), CASES, ids=[f"{format.name}: {name}" for format, name in CASES])
def test_the_reasons_are_those_of_the_pay(format, name):
    table = rewards(near_misses(format, "B", OPTIONS)[name], format)
    paid, reason, theirs = table["paid"], table["reason"], table["reference_reason"]
    assert (paid["format"] == 1) == (reason["format"] == "the form is kept")
    assert (paid["repetition"] == 0) == (reason["repetition"] == "no three words in a row occur twice")
    assert (paid["agreement"] is None) == reason["agreement"].startswith("does not apply")
    if paid["agreement"] is not None:
        concluded, answer = re.findall(r"\b[A-C]\b", reason["agreement"])
        assert paid["agreement"] == float(concluded == answer)
    if "whole text is compared" not in theirs["accuracy"]:
        read = re.match(r"'(.*)', the first", theirs["accuracy"]).group(1)
        assert table["reference"]["accuracy"] == float(read == "B")
    else:
        assert table["reference"]["accuracy"] == float(near_misses(format, "B", OPTIONS)[name].strip() == "B")
    if format not in (THINK_BEFORE, NO_THINK):
        assert table["reference"]["format"] is None and f"has no {format.name} reward" in theirs["format"]
    else:
        assert (table["reference"]["format"] == 1) == (theirs["format"] == "its pattern matches the whole text")


@pytest.mark.parametrize("gold", ["A", "B", "C"])
@pytest.mark.parametrize("format", FORMATS.values())
def test_near_misses_are_what_their_names_say(format, gold):
    texts = near_misses(format, gold, OPTIONS)
    assert len(set(texts.values())) == len(texts)
    parsed = {name: format.parse(text, OPTIONS) for name, text in texts.items()}
    assert parsed[WRITTEN].well_formed and parsed[WRITTEN].answer == gold
    assert parsed["another letter"].well_formed and parsed["another letter"].answer not in (gold, None)
    for name in (
        "letter in parentheses",
        "small letter",
        "letter and text",
        "text alone",
        "letter on a line of its own",
    ):
        assert parsed[name].answer == gold and parsed[name].well_formed, name
    several = "three answer blocks" if format is ANSWER_THINK_ANSWER else "two answer blocks"
    for name in ("two letters", several, "letter beside another option's text", "no tags", "nothing"):
        assert parsed[name].answer is None, name


def test_a_mind_that_changes_and_a_thought_left_out_are_examples():
    texts = near_misses(ANSWER_THINK_ANSWER, "B", OPTIONS)
    parsed = {name: ANSWER_THINK_ANSWER.parse(text) for name, text in texts.items()}
    better, worse = parsed["a mind changed for the better"], parsed["a mind changed for the worse"]
    assert (better.first_answer, better.answer, better.well_formed) == ("A", "B", True)
    assert (worse.first_answer, worse.answer, worse.well_formed) == ("B", "A", True)
    assert not parsed["the first answer alone"].well_formed
    assert ADAPTIVE.parse(near_misses(ADAPTIVE, "B", OPTIONS)["no thinking"]).well_formed


def test_a_format_of_one_s_own_is_shown_with_its_tags():
    mine = ResponseFormat("mine", ("think", "answer"), "", {"think": "REASONING", "answer": "SOLUTION"})
    lab = mk.reward_lab(mine, "B", OPTIONS)
    assert lab.root and lab.text == "<REASONING>A brain is seen.</REASONING><SOLUTION>B</SOLUTION>"
    assert lab.rewards.set_index("reward")["paid"][["accuracy", "format"]].tolist() == [1, 1]
    from_browser(control(lab, "format"), index=list(FORMATS).index("no-think"))
    assert lab.text == "<answer>B</answer>"
    from_browser(control(lab, "format"), index=len(FORMATS))
    assert lab.text == "<REASONING>A brain is seen.</REASONING><SOLUTION>B</SOLUTION>"


def test_the_lab_shows_where_the_reference_pays_otherwise():
    frame = mk.reward_lab().frame.set_index("example")
    assert frame.loc["two answer blocks", ["accuracy", "reference accuracy"]].tolist() == [0, 1]
    assert frame.loc["letter in parentheses", ["accuracy", "reference accuracy"]].tolist() == [1, 0]
    seen = check_safe(mk.reward_lab().static())
    both = (frame["accuracy"] != frame["reference accuracy"]).sum() + (
        frame["format"] != frame["reference format"]
    ).sum()
    assert len(seen.texts["differs"]) == both > 5
    assert seen.texts["near-misses"][0].startswith("completionaccuracyformat")


def test_a_completion_that_is_typed_is_read_at_once():
    lab = mk.reward_lab(NO_THINK, "<answer> C </answer>", OPTIONS)
    assert lab.root and lab.gold == "C" and control(lab, "example").value == WRITTEN
    from_browser(control(lab, "text"), value="<answer>(c) lung</answer>")
    seen = check_safe(control(lab, "main").value)
    assert seen.texts["verdict"] == ["right"] and control(lab, "example").value == OWN
    assert lab.rewards.set_index("reward").loc["accuracy", ["paid", "reference"]].tolist() == [1.0, 0.0]
    assert (
        "accuracy1the answer block holds the letter C and its text; the gold is C0'(c) lung'"
        in seen.texts["rewards"][0]
    )
    from_browser(control(lab, "gold"), index=0)
    assert (
        check_safe(control(lab, "main").value).texts["verdict"] == ["wrong"]
        and "A) liver ✓ gold" in check_safe(lab.static()).all
    )


def test_examples_follow_the_format_and_what_was_typed_stays():
    lab = mk.reward_lab("think-before", "B", OPTIONS)
    assert lab.root
    names = [name for name, _ in control(lab, "example").options]
    assert names[:2] == [OWN, WRITTEN] and "empty thinking" in names
    from_browser(control(lab, "example"), index=names.index("empty thinking"))
    assert lab.text == "<think></think><answer>B</answer>" == control(lab, "text").value
    from_browser(control(lab, "format"), index=list(FORMATS).index("think-after"))
    assert lab.text == "<answer>B</answer><think></think>" and control(lab, "example").value == "empty thinking"
    from_browser(control(lab, "format"), index=list(FORMATS).index("no-think"))
    assert lab.text == "<answer>B</answer><think></think>", "no-think has no such example"
    assert (
        "empty thinking" not in [name for name, _ in control(lab, "example").options]
        and control(lab, "example").value == OWN
    )
    from_browser(control(lab, "text"), value="mine")
    from_browser(control(lab, "format"), index=0)
    assert lab.text == "mine" == control(lab, "text").value


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_text(name):
    lab = mk.reward_lab(options=[HOSTILE["script"], HOSTILE["broken"], HOSTILE["null"]])
    assert lab.root
    lab.type(HOSTILE[name])
    assert "script" not in check_safe(control(lab, "main").value).elements


def test_hostile_options_are_text_in_the_static_form_too():
    seen = check_safe(mk.reward_lab(options=[HOSTILE["script"], HOSTILE["broken"], HOSTILE["null"]]).static())
    assert "script" not in seen.elements


def test_as_many_options_as_there_are_letters():
    assert check_safe(mk.reward_lab(solution="Z", options=[f"option {k}" for k in LETTERS]).static())


def test_the_summary_is_the_explanation():
    assert str(mk.reward_lab()).splitlines()[:2] == [
        "think-before, gold B",
        "answer: B (the answer block holds the letter B)",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"solution": "D", "options": ["a", "b"]}, "the gold is 'D', but there are 2 options"),
        ({"solution": "A", "options": ["a"]}, "options has 1 of at least 2 texts"),
        ({"options": "mass,cyst"}, "options is the text 'mass,cyst'; give a list of texts"),
        ({"options": None}, "options is None; give a list of texts"),
        ({"options": [1, 2]}, "give a list of texts"),
        ({"format": "think-never"}, "unknown format 'think-never'"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        mk.reward_lab(**given)


def test_half_of_a_pair_of_surrogates_is_shown():
    lab = mk.reward_lab(options=["\ud800", "b"])
    lab.type("<think>\ud800</think><answer>B</answer>")
    assert "[U+D800]" in check_safe(lab.static()).all
