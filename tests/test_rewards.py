"""Rewards: ours pay by the parser of the evaluation, the reference's as the reference pays."""

from inspect import Parameter, signature
from types import SimpleNamespace

import pytest

from medr1kit.formats import ANSWER_THINK_ANSWER, FORMATS, NO_THINK, THINK_AFTER, THINK_BEFORE, ResponseFormat
from medr1kit.rewards import (
    accuracy_reward,
    agreement_reward,
    concluded_option,
    explain_reward,
    format_reward,
    reference_accuracy_reward,
    reference_format_reward,
    repetition_reward,
    soft_overlong_reward,
    text_of,
)
from medr1kit.vqa import DataError

OPTIONS = ["liver", "MRI", "CT", "lung"]
GOLD = "<answer> C </answer>"
each_format = pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)

COMPLETIONS = [
    "<think>x</think><answer>C</answer>",
    "<answer>C</answer><think>x</think>",
    "<answer>C</answer>",
    "<think>x</think><answer>\nc)\n</answer>",
    "<think>x</think> <answer>C) CT</answer>\n",
    "<answer>CT.</answer>",
    "<think>x</think><answer>A</answer>",
    "<answer>A</answer><think>x</think>",
    "<answer>A</answer>",
    "<think>x</think><answer>C) MRI</answer>",
    "<answer>C</answer><answer>A</answer>",
    "<answer>A</answer><think>x</think><answer>C</answer>",
    "<answer>C</answer><answer>C</answer>",
    "<think>maybe <answer>C</answer></think>",
    "<think>maybe <answer>A</answer></think><answer>C</answer>",
    "<think></think><answer>C</answer>",
    "<think>Not an MRI but a CT.</think><answer>C</answer>",
    "<think>Not a CT but an MRI but not an MRI but not an MRI.</think><answer>C</answer>",
    "<answer>E</answer>",
    "<answer></answer>",
    "C",
    "",
]


def chat(text):
    return [{"role": "assistant", "content": text}]


# --- ours -------------------------------------------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize("options", [OPTIONS, dict(zip("ABCD", OPTIONS)), None], ids=["list", "dict", "unknown"])
def test_accuracy_pays_if_and_only_if_the_answer_that_is_read_is_the_gold(format, options):
    n = len(COMPLETIONS)
    for letter in "ABCD":
        paid = accuracy_reward(format)(COMPLETIONS, [f"<answer> {letter} </answer>"] * n, options=[options] * n)
        assert paid == [float(format.parse(text, options).answer == letter) for text in COMPLETIONS]


@each_format
def test_format_pays_if_and_only_if_the_completion_is_well_formed(format):
    paid = format_reward(format)(COMPLETIONS, [GOLD] * len(COMPLETIONS), options=[OPTIONS] * len(COMPLETIONS))
    assert paid == [float(format.parse(text, OPTIONS).well_formed) for text in COMPLETIONS]
    assert 0 < sum(paid) < len(COMPLETIONS)


@pytest.mark.parametrize(
    ("completion", "accuracy", "well_formed"),  # in think-before
    [
        ("<think>x</think><answer>C</answer>", 1, 1),
        ("<think>x</think><answer>A</answer>", 0, 1),
        ("<answer>C</answer>", 1, 0),
        ("<think>x</think><answer>\nC\n</answer>", 1, 1),
        ("<think>x</think><answer>C) CT</answer>", 1, 1),
        ("<think>x</think><answer>C) MRI</answer>", 0, 0),
        ("<think>x</think><answer>C</answer><answer>A</answer>", 0, 0),
        ("<think>maybe <answer>C</answer></think><answer>A</answer>", 0, 0),
        ("<think></think><answer>C</answer>", 1, 0),
        ("C", 0, 0),
    ],
)
def test_what_ours_pay(completion, accuracy, well_formed):
    columns = {"solution": [GOLD], "options": [OPTIONS]}
    assert accuracy_reward(THINK_BEFORE)([completion], **columns) == [accuracy]
    assert format_reward(THINK_BEFORE)([completion], **columns) == [well_formed]


def test_each_completion_is_read_with_its_own_options_and_gold():
    completions = ["<answer>CT</answer>", "<answer>CT</answer>", "<answer>C</answer>"]
    options = [["MRI", "CT"], ["CT", "MRI"], ["MRI", "CT"]]
    solutions = ["<answer> B </answer>", "B", "<answer> C </answer>"]
    assert accuracy_reward(NO_THINK)(completions, solutions, options=options) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("solutions", [["<answer> 3 </answer>"], ["the liver"], [""]])
def test_an_unreadable_gold_is_an_error_and_not_a_zero(solutions):
    with pytest.raises(DataError, match="unknown answer letter"):
        accuracy_reward(NO_THINK)(["<answer>A</answer>"], solutions)


def test_columns_of_different_length_are_an_error():
    with pytest.raises(DataError, match="solution has 1 entries for 2 completions"):
        accuracy_reward(NO_THINK)(["<answer>A</answer>"] * 2, [GOLD])
    with pytest.raises(DataError, match="options has 1 entries for 2 completions"):
        format_reward(NO_THINK)(["<answer>A</answer>"] * 2, options=[OPTIONS])


# --- the reference's, row by row of its measured behaviour (Med-R1 facts, section 3) ----------------------------------

LONG = "It is bright and round, which speaks for a CT of the liver."
REFERENCE = [  # completion, accuracy, format think, format no-think; None: the facts leave it open
    ("<think>x</think><answer>C</answer>", 1, 1, 0),
    ("<answer>C</answer>", 1, 0, 1),
    ("<think>x</think><answer>\nC\n</answer>", 0, 1, 0),
    ("<think>x</think><answer>c</answer>", 0, 1, None),
    ("<think>x</think><answer>C)</answer>", 0, 1, None),
    ("<think>x</think><answer>C) CT</answer>", 0, 1, None),
    ("<think>x</think><answer>C. CT</answer>", 0, 1, None),
    ("<think>x</think><answer>(C)</answer>", 0, 1, None),
    ("<answer>C)</answer>", 0, None, 1),
    ("<answer>C) CT</answer>", 0, None, 1),
    ("<answer>C. CT</answer>", 0, None, 1),
    ("<answer>(C)</answer>", 0, None, 1),
    ("C", 1, 0, 0),
    (" C \n", 1, 0, 0),
    ("C.", 0, 0, 0),
    ("<answer>C</answer><answer>A</answer>", 1, None, 1),
    ("<think>x</think><answer>C</answer><answer>A</answer>", 1, 1, 0),
    ("<think>maybe <answer>A</answer></think><answer>C</answer>", 0, 1, 0),
    ("<think>maybe <answer>C</answer></think><answer>A</answer>", 1, 1, 0),
    ("<think>x</think><answer>C</answer>\n", 1, 0, 0),
    ("<think>x</think><answer>C</answer> ", 1, 0, 0),
    ("<answer>C</answer>\n", 1, 0, 0),
    ("<answer>C</answer> ", 1, 0, 0),
    (" <think>x</think><answer>C</answer>", 1, 0, None),
    (" <answer>C</answer>", 1, None, 1),
    ("<think>x</think> so <answer>C</answer>", 1, 0, 0),
    ("<think></think><answer></answer>", 0, 1, 0),
    (f"<think>x</think><answer>{LONG} C</answer>", 0, 1, None),
    (f"<answer>{LONG} C</answer>", 0, None, 1),
    ("<answer>$C$</answer>", 0, None, 1),
    (r"<answer>\boxed{C}</answer>", 0, None, 1),
]


@pytest.mark.parametrize(("completion", "accuracy", "think", "no_think"), REFERENCE)
@pytest.mark.parametrize("as_message", [False, True], ids=["text", "message"])
def test_the_reference_rewards_behave_as_the_reference(completion, accuracy, think, no_think, as_message):
    completions = [chat(completion) if as_message else completion]
    assert reference_accuracy_reward()(completions, [GOLD]) == [accuracy]
    for format, expected in ((THINK_BEFORE, think), (NO_THINK, no_think)):
        if expected is not None:
            assert reference_format_reward(format)(completions, solution=[GOLD]) == [expected]


def test_the_reference_accuracy_never_pays_for_another_letter():
    paid = reference_accuracy_reward()(["<answer>C</answer>", "C"] * 3, [f"<answer> {x} </answer>" for x in "AABBDD"])
    assert paid == [0.0] * 6


def test_the_reference_has_no_think_after():
    with pytest.raises(DataError, match="the reference has no think-after reward"):
        reference_format_reward(THINK_AFTER)


# --- shaping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "penalty"),  # limit 100, margin 20: 0 up to 80, then (80 - tokens) / 20, -1 above 100
    [
        (0, 0.0),
        (79, 0.0),
        (80, 0.0),
        (81, -0.05),
        (85, -0.25),
        (90, -0.5),
        (99, -0.95),
        (100, -1.0),
        (101, -1.0),
        (999, -1.0),
    ],
)
def test_the_overlong_penalty_is_equation_13_of_dapo(tokens, penalty):
    paid = soft_overlong_reward(100, 20)(["x"], completion_ids=[[7] * tokens], solution=[GOLD])
    assert paid == [pytest.approx(penalty)]


def test_the_overlong_penalty_counts_tokens_and_not_the_text():
    ids = [[1] * 4, [1] * 8, [1] * 7]
    assert soft_overlong_reward(8, 4)(["long " * 99, "", "x"], completion_ids=ids) == [0.0, -1.0, -0.75]


@pytest.mark.parametrize(("limit", "margin"), [(10, 0), (10, -1), (10, 10), (10, 11), (0, 0)])
def test_an_impossible_overlong_margin_is_refused(limit, margin):
    with pytest.raises(DataError, match=f"1 <= margin < max_length; got {margin} and {limit}"):
        soft_overlong_reward(limit, margin)


@pytest.mark.parametrize(
    ("words", "text", "penalty"),
    [
        (3, "", 0.0),
        (3, "a b", 0.0),  # too short to hold a trigram
        (3, "a b c", 0.0),
        (3, "a b c a b c", -1 / 4),  # abc bca cab abc
        (3, "a a a a a", -2 / 3),  # aaa three times
        (2, "a b\na  b", -1 / 3),  # ab ba ab; blanks of any kind
        (1, "a a a a", -3 / 4),
        (2, "a A a A", -1 / 3),  # case is kept: aA Aa aA
    ],
)
def test_the_repetition_penalty_is_the_share_of_repeated_n_grams(words, text, penalty):
    assert repetition_reward(words)([text]) == [pytest.approx(penalty)]


def test_n_grams_without_words_are_refused():
    with pytest.raises(DataError, match="1 word or more; got words=0"):
        repetition_reward(0)


@pytest.mark.parametrize(
    ("think", "options", "concluded"),
    [
        ("Not a mass but a cyst.", ["mass", "cyst"], "B"),
        ("Not a CYST but a\tMass", ["mass", "cyst"], "A"),
        ("The left lung is dark.", ["lung", "left lung"], "B"),
        ("The left lung, no: the lung.", ["lung", "left lung"], "A"),
        ("Masses and cystic walls.", ["mass", "cyst"], None),  # whole words only
        ("It is bright.", ["mass", "cyst"], None),
        ("", ["mass", "cyst"], None),
        ("Stain (H&E), clearly.", ["PAS", "stain (H&E)."], "B"),  # nothing in an option is a pattern
        ("A mass.", {"A": "mass", "B": None}, "A"),
        ("A mass.", {"C": "mass", "D": "cyst"}, "C"),
        ("SPECT it is.", ["SPECT", "CT", "spect."], None),  # the text stands under two letters
        ("SPECT, or rather CT.", ["SPECT", "CT", "spect."], "B"),
        ("Dots ...", ["mass", "."], None),
        ("A mass.", None, None),
    ],
)
def test_the_conclusion_is_the_option_named_last(think, options, concluded):
    letter = "C" if isinstance(options, dict) and "C" in options else "A"
    parsed = THINK_BEFORE.parse(f"<think>{think}</think><answer>{letter}</answer>", options)
    assert concluded_option(parsed, options) == concluded


@pytest.mark.parametrize(
    ("completion", "paid"),
    [
        ("<think>Not a mass but a cyst.</think><answer>B</answer>", 1.0),
        ("<think>Not a mass but a cyst.</think><answer>A</answer>", 0.0),
        ("<answer>B</answer><think>Not a mass but a cyst.</think>", 1.0),
        ("<think>It is bright.</think><answer>B</answer>", None),
        ("<think>A cyst.</think>", None),  # no answer
        ("<think>A cyst.</think><answer>A</answer><answer>B</answer><answer>B</answer>", None),
        ("<answer>B</answer>", None),  # no thinking
    ],
)
@each_format
def test_agreement_pays_where_conclusion_and_answer_are_one(format, completion, paid):
    assert agreement_reward(format)([completion], options=[["mass", "cyst"]]) == [paid]


def test_of_two_answers_the_last_is_paid():
    texts = [f"<answer>{first}</answer><think>A CT.</think><answer>{last}</answer>" for first, last in ("AC", "CA")]
    assert accuracy_reward(ANSWER_THINK_ANSWER)(texts, [GOLD] * 2) == [1.0, 0.0]
    assert agreement_reward(ANSWER_THINK_ANSWER)(texts, options=[OPTIONS] * 2) == [1.0, 0.0]
    assert "first answer: A" in str(explain_reward(texts[0], "C", format=ANSWER_THINK_ANSWER))


def test_own_tags_are_paid():
    mine = ResponseFormat("mine", ("think", "answer"), "", {"think": "REASONING", "answer": "SOLUTION"})
    texts = ["<REASONING>A CT.</REASONING><SOLUTION>C</SOLUTION>", "<think>A CT.</think><answer>C</answer>"]
    assert accuracy_reward(mine)(texts, [GOLD] * 2) == format_reward(mine)(texts) == [1.0, 0.0]
    assert agreement_reward(mine)(texts, options=[OPTIONS] * 2) == [1.0, None]
    assert explain_reward(texts[0], "C", format=mine).rewards["format"] == 1


# --- as TRL calls them ------------------------------------------------------------------------------------------------

REWARDS = {
    "accuracy_reward": accuracy_reward(THINK_BEFORE),
    "format_reward": format_reward(THINK_BEFORE),
    "reference_accuracy_reward": reference_accuracy_reward(),
    "reference_format_reward": reference_format_reward(THINK_BEFORE),
    "soft_overlong_reward": soft_overlong_reward(100, 20),
    "repetition_reward": repetition_reward(),
    "agreement_reward": agreement_reward(THINK_BEFORE),
}


@pytest.mark.parametrize("as_messages", [False, True], ids=["texts", "messages"])
@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_takes_all_that_trl_passes(name, as_messages):
    n = len(COMPLETIONS)
    paid = REWARDS[name](
        prompts=[[{"role": "user", "content": "What?"}]] * n,
        completions=[chat(text) if as_messages else text for text in COMPLETIONS],
        completion_ids=[[1] * 90] * n,
        # every other column of the data set
        solution=[GOLD] * n,
        options=[OPTIONS] * n,
        image=[None] * n,
        modality=["CT"] * n,
        task=[None] * n,
        # and what TRL adds
        trainer_state=SimpleNamespace(global_step=3),
        log_extra=lambda *_: None,
        log_metric=lambda *_: None,
        environments=None,
    )
    assert len(paid) == n
    assert all(value is None or type(value) is float for value in paid)
    # A message pays what its text pays; all of these are equally long.
    alone = REWARDS[name](
        completions=COMPLETIONS, completion_ids=[[1] * 90] * n, solution=[GOLD] * n, options=[OPTIONS] * n
    )
    assert paid == alone
    assert len(set(paid)) > 1 or name == "soft_overlong_reward"


@pytest.mark.parametrize("name", REWARDS)
def test_the_name_that_trl_logs_is_the_name_of_the_maker(name):
    assert REWARDS[name].__name__ == name  # TRL: rewards/<__name__>/mean
    parameters = signature(REWARDS[name]).parameters.values()
    assert any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)


def test_the_last_message_is_what_is_paid():
    turns = [*chat("<answer>A</answer>"), {"role": "user", "content": "Sure?"}, *chat("<answer>C</answer>")]
    assert text_of(turns) == "<answer>C</answer>"
    assert accuracy_reward(NO_THINK)([turns], [GOLD]) == [1.0]


# --- explain_reward ---------------------------------------------------------------------------------------------------


def test_an_explanation_sets_ours_beside_the_reference():
    explanation = explain_reward("<think>A CT.</think><answer>C) CT</answer>", GOLD, options=OPTIONS)
    assert explanation.parsed == THINK_BEFORE.parse("<think>A CT.</think><answer>C) CT</answer>", OPTIONS)
    assert explanation.rewards == {
        "accuracy": 1.0,
        "format": 1.0,
        "agreement": 1.0,
        "repetition": 0.0,
        "reference accuracy": 0.0,
        "reference format": 1.0,
    }
    assert str(explanation).splitlines() == [
        "answer: C (the answer block holds the letter C and its text)",
        "well-formed: yes",
        "accuracy: 1.0",
        "format: 1.0",
        "agreement: 1.0",
        "repetition: 0.0",
        "reference accuracy: 0.0",
        "reference format: 1.0",
    ]


def test_two_answers_cost_everything_here_and_nothing_there():
    explanation = explain_reward("<answer>B</answer><answer>A</answer>", "B", format=NO_THINK)
    assert (explanation.rewards["accuracy"], explanation.rewards["format"]) == (0.0, 0.0)
    assert (explanation.rewards["reference accuracy"], explanation.rewards["reference format"]) == (1.0, 1.0)
    assert "answer: none (there are 2 answer blocks" in str(explanation)
    assert "agreement: does not apply" in str(explanation)


def test_think_after_is_explained_without_the_reward_that_does_not_exist():
    rewards = explain_reward("<answer>B</answer><think>x</think>", "b", format=THINK_AFTER).rewards
    assert "reference format" not in rewards
    assert rewards["reference accuracy"] == 1.0


@pytest.mark.parametrize("options", [OPTIONS, dict(zip("ABCD", OPTIONS)), {"A": "CT", "B": None}, None])
@each_format
def test_an_explanation_says_what_the_rewards_pay(format, options):
    for text in COMPLETIONS:
        rewards = explain_reward(text, "A", format=format, options=options).rewards
        columns = {"solution": ["A"], "options": [options]}
        assert rewards["accuracy"] == accuracy_reward(format)([text], **columns)[0]
        assert rewards["format"] == format_reward(format)([text], **columns)[0]
        assert rewards["agreement"] == agreement_reward(format)([text], **columns)[0]


def test_an_explanation_shows_its_tags_in_a_notebook():
    explanation = explain_reward("C", GOLD, options=OPTIONS)
    assert "there is no <answer>" in str(explanation), "text that a browser would take for a tag"
    page = explanation._repr_html_()
    assert page.startswith("<pre>") and page.endswith("</pre>")
    assert "<" not in page.removeprefix("<pre>").removesuffix("</pre>")
    assert repr(explanation) == str(explanation)


def test_an_explanation_refuses_a_gold_that_is_no_letter():
    with pytest.raises(DataError, match="unknown answer letter"):
        explain_reward("<answer>C</answer>", "the liver")


# --- what is passed ---------------------------------------------------------------------------------------------------


def test_a_message_in_parts_is_read():
    parts = [{"type": "text", "text": "<answer>"}, {"type": "image"}, {"type": "text", "text": "C</answer>"}]
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}]
    assert text_of(turns) == "<answer>C</answer>"
    assert accuracy_reward("no-think")([turns], [GOLD]) == [1.0]


@pytest.mark.parametrize(
    "completion", [None, 3, [], {}, [{"role": "assistant"}], [["x"]], [{"content": [{"text": 3}]}]]
)
@pytest.mark.parametrize(
    "reward", [format_reward("no-think"), repetition_reward(), reference_accuracy_reward()], ids=lambda r: r.__name__
)
def test_a_completion_that_is_no_text_is_refused_in_a_sentence(reward, completion):
    with pytest.raises(DataError, match="a completion is"):
        reward([completion], solution=[GOLD])


@pytest.mark.parametrize("maker", [accuracy_reward, format_reward, agreement_reward])
def test_a_format_may_be_given_by_its_name(maker):
    columns = {"solution": [GOLD] * len(COMPLETIONS), "options": [OPTIONS] * len(COMPLETIONS)}
    assert maker("think_before")(COMPLETIONS, **columns) == maker(THINK_BEFORE)(COMPLETIONS, **columns)
    with pytest.raises(DataError, match="unknown format 'nothink'"):
        maker("nothink")
    assert reference_format_reward("no-think")(["<answer></answer>"]) == [1.0]
    assert explain_reward("<answer>B</answer>", "B", format="no-think").rewards["format"] == 1.0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"options": "mass,cyst"}, "options are 'mass,cyst'; give a list of the option texts"),
        ({"options": 2}, "options are '2'; give a list"),
        ({"options": ["mass", 3]}, "give a list of the option texts"),
        ({"solution": "cyst", "options": ["mass", "cyst"]}, "solution='cyst' is the text of option B; give the letter"),
        ({"solution": "C", "options": ["mass", "cyst"]}, "solution='C' names none of the options A, B"),
        ({"solution": "the cyst"}, "unknown answer letter in 'the cyst'"),
        ({"solution": None}, "unknown answer letter in 'None'"),
        ({"text": None}, "a completion is None"),
        ({"format": 3}, "a format has a name, not 3"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(DataError, match=sentence):
        explain_reward(**{"text": "<answer>B</answer>", "solution": "B", **given})


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"solution": "B"}, "solution is the text 'B'; give a list"),
        ({"solution": ["B"], "options": ["mass"]}, "options are 'mass'; give a list of the option texts"),
        ({"solution": ["B"], "options": 3}, "options is an int; give a list"),
    ],
)
def test_columns_that_are_no_lists_are_refused_in_a_sentence(columns, sentence):
    with pytest.raises(DataError, match=sentence):
        accuracy_reward(NO_THINK)(["<answer>B</answer>"], **columns)
    with pytest.raises(DataError, match="completions is the text"):
        accuracy_reward(NO_THINK)("<answer>B</answer>", ["B"])
