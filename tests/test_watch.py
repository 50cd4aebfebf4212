"""The watch: silent on honest rollouts, one sentence for each way of gaming, said once."""

import random
from dataclasses import asdict
from functools import partial

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.formats import FORMATS, NO_THINK, THINK_AFTER, THINK_BEFORE, ResponseFormat
from medr1kit.results.runs import RunWriter
from medr1kit.results.watch import RULES, WINDOW, RewardWatch, watch_rollouts
from medr1kit.vqa import DataError

OPTIONS = ["mass", "cyst", "nodule", "left lung"]
WORDS = "small large dark bright ring shadow line upper lower single many round grey pale dense soft".split()  # noqa: SIM905


def composed(format, answer, thought=""):
    """A completion with the format's tags and anything in them, as a policy that games its reward writes it."""
    content = {"answer": answer, "think": thought}
    return "".join(f"<{block}>{content[block]}</{block}>" for block in format.blocks)


def honest(format, steps, seed=0, size=32, accuracy=0.6):
    """Steps of rollouts, groups of 8: prose about each picture, letters right in a share of cases."""
    dice = random.Random(seed)
    run = []
    for step in range(1, steps + 1):
        rows, golds = [], dice.choices("ABCD", k=size // 8)
        for i in range(size):
            gold = golds[i // 8]
            letter = gold if dice.random() < accuracy else dice.choice("ABCD")
            thought = " ".join(dice.choices(WORDS, k=12))
            rows.append(paid(format, step, i, gold, letter, composed(format, letter, thought), 12))
        run.append(rows)
    return run


def paid(format, step, i, gold, letter, text, n_tokens, truncated=False):
    parsed = format.parse(text, OPTIONS)
    row = {"step": step, "id": f"q{step}-{i // 8}", "rollout": i % 8, "question": "What?", "options": OPTIONS}
    row |= {"answer": gold, "modality": "CT", "task": None, "text": text, "predicted": parsed.answer}
    row |= {"accuracy_reward": float(parsed.answer == gold), "format_reward": float(parsed.well_formed)}
    return row | {"advantage": 0.0, "n_tokens": n_tokens, "truncated": truncated, "letter": letter}


def hacked(format, steps, start, write, n_tokens=12, truncated=False):
    """Honest rollouts that turn into ``write(letter, thought)`` at a step."""
    run = honest(format, steps)
    for rows in run[start - 1 :]:
        for i, row in enumerate(rows):
            thought = format.parse(row["text"]).think or ""
            text = write(row["letter"], thought)
            rows[i] = paid(format, row["step"], i, row["answer"], row["letter"], text, n_tokens, truncated)
    return run


def said(run, format):
    watch = RewardWatch(format)
    for rows in run:
        watch.step(rows)
    return watch.warnings


W = partial(composed, THINK_BEFORE)
HACKS = {
    "several_answers": (lambda letter, thought: W("A or B", thought), {}),
    "trailing_text": (lambda letter, thought: W(letter, thought) + " I am sure.", {}),
    "option_text": (lambda letter, thought: W(OPTIONS["ABCD".index(letter)], thought), {}),
    "empty_thoughts": (lambda letter, thought: W(letter, "…"), {}),
    "common_thought": (lambda letter, thought: W(letter, f"The picture was seen with care and shows {letter}."), {}),
    "answer_first": (lambda letter, thought: W(letter, f"The answer is {letter} because {thought}"), {}),
    "thought_ratio": (lambda letter, thought: W(letter, " ".join(thought.split()[:4])), {}),
    "length_ratio": (W, {"n_tokens": 40}),
    "truncated": (lambda letter, thought: W(letter, thought)[:-6], {"truncated": True}),
    "repetition": (lambda letter, thought: W(letter, thought + " seen in the lung" * 4), {}),
    "looping": (lambda letter, thought: W(letter, thought + "-" * 400), {}),
    "letter_excess": (lambda letter, thought: W("A", thought), {}),
    "form_loss": (lambda letter, thought: f"{thought} {letter}", {}),
}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("size", [8, 32, 320])
def test_honest_rollouts_give_no_warning(format, size):
    steps = 2 + 4 * WINDOW // min(size, WINDOW)
    for seed in range(2):
        assert said(honest(format, steps, seed, size), format) == []


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_is_named_within_one_window(name):
    write, columns = HACKS[name]
    warnings = said(hacked(THINK_BEFORE, 24, 13, write, **columns), THINK_BEFORE)
    rule = next(rule for rule in RULES if rule.column == name)
    found = [w for w in warnings if rule.look in w]
    assert len(found) == 1, warnings
    assert 13 <= int(found[0].split()[1].strip(":")) <= 12 + WINDOW // 32


def test_form_learned_without_skill_is_named():
    def untagged(letter, thought):
        return f"{thought}: {letter}"

    def tagged(letter, thought):
        return W(letter, thought)

    early, late = (hacked(THINK_BEFORE, 24, 1, write) for write in (untagged, tagged))
    guesses = honest(THINK_BEFORE, 24, seed=1, accuracy=0.0)
    for rows, blind in zip(late[8:], guesses[8:]):
        for row, other in zip(rows, blind):  # the letters of another, blind run
            row["text"] = other["text"]
    (warning,) = (w for w in said(early[:8] + late[8:], THINK_BEFORE) if "while accuracy gained nothing" in w)
    assert "only form was learned so far" in warning
    # The same reward with accuracy that grows is no reason to warn.
    skilled = honest(THINK_BEFORE, 24, seed=1, accuracy=0.95)
    assert not [w for w in said(early[:8] + skilled[8:], THINK_BEFORE) if "while accuracy gained nothing" in w]


def test_every_rule_has_its_hack():
    assert {rule.column for rule in RULES} == {*HACKS, "hollow_gain"}


def test_a_sentence_holds_step_number_limit_and_where_to_look():
    write, _ = HACKS["trailing_text"]
    (warning,) = (w for w in said(hacked(THINK_BEFORE, 12, 9, write), THINK_BEFORE) if "closing tag" in w)
    # Steps 9 to 11 make 96 of 256 completions.
    assert warning == (
        "step 11: of the last 256 completions, the share with text after the last closing tag is 0.38 (at most 0.25 is "
        "expected); see what stands there, and whether a reward reads it"
    )


def test_a_warning_stands_until_a_window_has_passed_without_it():
    write, _ = HACKS["several_answers"]
    clean, bad = honest(THINK_BEFORE, 60), hacked(THINK_BEFORE, 60, 1, write)

    def steps_of(run):
        return [int(w.split()[1].strip(":")) for w in said(run, THINK_BEFORE) if "several answers" in w]

    assert steps_of(clean[:10] + bad[10:]) == [11]
    assert steps_of(clean[:10] + bad[10:20] + clean[20:24] + bad[24:]) == [11]
    assert steps_of(clean[:10] + bad[10:20] + clean[20:40] + bad[40:]) == [11, 41]


def test_alarms_count_the_standing_warnings():
    write, _ = HACKS["several_answers"]
    watch = RewardWatch("think-before")
    alarms = [watch.step(rows)[0]["watch/alarms"] for rows in hacked(THINK_BEFORE, 14, 11, write)]
    assert alarms[:10] == [0] * 10
    assert alarms[10] == 1  # several answers
    assert alarms[13] == 2  # and the form is lost: 4 of 8 steps are not well-formed


def test_no_warning_before_a_window_is_full():
    write, _ = HACKS["several_answers"]
    run = hacked(THINK_BEFORE, 8, 1, write)
    assert said(run[:7], THINK_BEFORE) == []
    assert said(run, THINK_BEFORE)[0].startswith("step 8: of the last 256 completions, the share that names several")


def test_a_step_larger_than_the_window_is_its_own_window():
    write, _ = HACKS["letter_excess"]
    run = [[row for rows in run for row in rows] for run in (hacked(THINK_BEFORE, 12, 1, write),)]
    (warning,) = said(run, THINK_BEFORE)
    assert "over the last 384 completions, the top letter's share" in warning


# --- finished runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path):
    write, _ = HACKS["empty_thoughts"]
    with RunWriter(tmp_path / "run", {"format": "think-before"}) as writer:
        for rows in hacked(THINK_BEFORE, 13, 9, write):
            writer.rollout_rows(rows)
    return tmp_path / "run"


def test_a_run_its_folder_and_its_table_tell_the_same(run_folder):
    run = mk.load_run(run_folder)
    frame = mk.watch_rollouts(run)
    assert list(frame["step"]) == list(range(1, 14))
    assert frame["watch/empty_thoughts"].tolist() == [0.0] * 8 + [1.0] * 5
    warnings = frame["warnings"].explode().dropna()
    # Step 9: 32 of 256 thoughts. Step 10: 64 of 256 are "…", which is no thought. Step 13: 160 thoughts of 1 word and
    # 96 of 12, 5.1 words instead of 12.
    assert [index + 1 for index in warnings.index] == [9, 10, 13]
    assert "the share below 3 words is 0.12" in warnings.iloc[0]
    assert "the fall of the well-formed share since the start is 0.25" in warnings.iloc[1]
    assert "relative to the run's start, are 0.43" in warnings.iloc[2]
    pd.testing.assert_frame_equal(frame, watch_rollouts(str(run_folder)))
    pd.testing.assert_frame_equal(frame, watch_rollouts(run.rollouts, format="think-before"))


def test_a_run_in_a_format_of_one_s_own_knows_it(tmp_path):
    own = ResponseFormat("mine", ("think", "answer"), "", {"think": "REASONING", "answer": "SOLUTION"})
    with RunWriter(tmp_path / "run", {"format": "mine", "response_format": asdict(own)}) as writer:
        for rows in hacked(THINK_BEFORE, 3, 9, HACKS["empty_thoughts"][0]):
            texts = (row["text"].replace("think>", "REASONING>").replace("answer>", "SOLUTION>") for row in rows)
            writer.rollout_rows([row | {"text": text} for row, text in zip(rows, texts)])
    assert mk.load_run(tmp_path / "run").format == own
    assert mk.watch_rollouts(tmp_path / "run")["watch/well_formed"].tolist() == [1.0] * 3


def test_live_and_afterwards_give_the_same_sentences(run_folder):
    write, _ = HACKS["empty_thoughts"]
    live = said(hacked(THINK_BEFORE, 13, 9, write), THINK_BEFORE)
    assert live == watch_rollouts(run_folder)["warnings"].explode().dropna().tolist() != []


def test_what_cannot_be_watched_is_said_in_a_sentence(run_folder, tmp_path):
    frame = mk.load_run(run_folder).rollouts
    with pytest.raises(DataError, match="pass format="):
        watch_rollouts(frame)
    with pytest.raises(DataError, match=r"without the column\(s\) step"):
        watch_rollouts(frame.drop(columns="step"), THINK_BEFORE)
    with pytest.raises(DataError, match="unknown format 'thinking'"):
        RewardWatch("thinking")
    with RunWriter(tmp_path / "sft", {"format": "no-think"}):
        pass
    with pytest.raises(DataError, match="SFT runs"):
        watch_rollouts(tmp_path / "sft")


def test_formats_without_thoughts_are_watched_too():
    run = hacked(NO_THINK, 16, 9, lambda letter, thought: "<answer>A</answer>")
    assert "one letter for everything" in said(run, NO_THINK)[0]
    run = hacked(THINK_AFTER, 12, 9, lambda letter, thought: composed(THINK_AFTER, letter, "…"))
    assert "tags around nothing" in said(run, THINK_AFTER)[0]
