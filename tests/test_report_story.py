"""The first view of a report: one image, one question before and after, one curve, one sentence; nothing pooled."""

import dataclasses
import re
from html import unescape

import pandas as pd
import pytest
from report_fakes import Page, check_page
from widget_fakes import HOSTILE, drawings, predictions

import medr1kit as mk
from medr1kit.formats import THINK_BEFORE
from medr1kit.results.runs import RunWriter, load_run
from medr1kit.results.tables import ROLLOUTS, check_predictions
from medr1kit.views.page import write_report
from medr1kit.views.page.story import CONSTANT, story_of, story_section, story_text

INTERVAL = r"\[[^\]a-z]*\d, [^\]a-z]*\d\]"
# Of one image, a small mass, single, lower, in the brain; the gold of every question is B.
NONE, HALF, ALL = "A cyst of the liver.", "A cyst of the brain.", "A small mass of the brain."
ASKED = {
    "modality": ["CT"] * 11 + ["MRI"],
    "task": ["Disease Diagnosis"] * 10 + [CONSTANT, "Disease Diagnosis"],
}


def said(letter, thought=HALF):
    return f"<think>{thought}</think><answer>{letter}</answer>"


def answered(texts, **columns):
    return predictions(texts, image_id="CT-test-0-1", **ASKED | columns)


def before_and_after(**trained):
    """Ten questions that count, of which training mends 4 and breaks 1; one of another task, one of MRI.

    Mended are number 4, whose letter was there without its tags, and 5, 6 and 7, whose thoughts gain 1, 0 and a half.
    """
    right, wrong = said("B"), said("A")
    mended = ["The answer is B.", said("A", NONE), said("A", HALF), said("A", NONE)]
    before = [right] * 4 + mended + [wrong, wrong, right, wrong]
    after = [right] * 3 + [wrong, right, said("B", ALL), said("B", HALF), said("B", HALF), wrong, wrong, right, right]
    labels = {"method": "grpo", "train_modality": "CT", "train_task": "all"} | trained
    return pd.concat([answered(before), answered(after, **labels)], ignore_index=True)


def rollout(step, row, i, predicted, answer, task):
    common = {"question": "?", "options": ["liver", "brain", "lung"], "modality": "CT", "text": said(predicted)}
    numbers = {"rollout": i, "accuracy_reward": 1, "advantage": 0.0, "n_tokens": 9, "truncated": False, "used": True}
    told = {"step": step, "id": row, "predicted": predicted, "answer": answer, "task": task}
    return dict.fromkeys(ROLLOUTS) | common | numbers | told


def write_run(folder, preds, **labels):
    """A run of two steps, 1 and then 3 of 4 answers right; beside them questions of one answer, all right."""
    labels = {"model": "tiny", "method": "grpo", "seed": 0, "train_modality": "CT", "train_task": "all"} | labels
    config = {"method": "grpo", "model": "tiny", "format": "think-before", "labels": labels}
    with RunWriter(folder, config) as writer:
        for step, right in ((1, 1), (2, 3)):
            writer.metrics_row({"step": step, "reward": right / 4})
            rows = [
                rollout(step, f"CT-train-0-{step}", i, "B" if i < right else "A", "B", "Disease Diagnosis")
                for i in range(4)
            ]
            rows += [rollout(step, f"CT-train-0-{step}{k}", i, "C", "C", CONSTANT) for k in range(3) for i in range(4)]
            writer.rollout_rows(rows)
    preds.to_parquet(folder / "predictions.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("story") / "run", before_and_after())


@pytest.fixture(scope="module")
def story(run):
    return story_of(check_predictions(load_run(run).predictions), load_run(run))


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run))


def words(html):
    return unescape(re.sub(r"<[^>]*>", " ", html))


# --- what is told -----------------------------------------------------------------------------------------------------


def test_the_first_view_holds_one_image_one_pair_of_answers_one_curve_and_one_sentence_with_interval(page):
    first = page.section("story")
    assert page.text.index('<section id="story">') < page.text.index('<section id="facts">')
    assert first.count('data-mk="image"') == 1 and first.count('data-mk="question"') == 1
    assert re.findall(r"<h4>(\w+ training)", first) == ["before training", "after training"]
    assert len(drawings(first)) == 1 and len(re.findall(INTERVAL, words(first))) == 1
    assert "nan" not in words(first).lower() and "<table" not in first
    assert "new questions" in drawings(first)[0], "before and after stand in the curve, too"
    check_page(page)


def test_the_sentence_counts_what_is_one_thing_and_says_how_sure(story, page):
    gain = mk.compare(before_and_after().iloc[:10], before_and_after().iloc[12:22])
    assert (gain.n, gain.fixed, gain.broken, gain.repaired_format) == (10, 4, 1, pytest.approx(0.1))
    assert story.sentence == (
        f"10 new CT questions: 40.0 → 70.0 % right, +30.0 points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] "
        "(95 % interval), of it +10.0 points by form alone; guessed from the words, without eyes: 100.0 %."
    )
    assert story.sentence in words(page.section("story")) and story.sentence in " ".join(story_text(story).split())
    assert "The model “tiny”, trained by GRPO on 8 CT questions about drawn images in 2 steps" in page.section("story")


def test_the_curve_and_the_floor_are_of_the_same_questions_as_the_sentence(story):
    """Of all 32 sampled answers 28 would be right, and a lookup learned from all eight questions would say lung."""
    assert story.steps.tolist() == [1, 2] and story.right.tolist() == [0.25, 0.75]
    assert story.floor.accuracy == 1.0 and story.floor.n == 10


def test_the_question_is_the_middle_one_of_those_that_were_mended(story, page):
    assert story.before["id"] == story.after["id"] == "q7"
    why = "of 4 that went from wrong to right (1 went the other way), the one in the middle when ordered by how much"
    assert why in page.section("story")
    before, after = re.findall(r'data-mk="text".*?</div>', page.section("story"))
    assert before.count("statement-false") == 2 and "statement-true" not in before
    assert after.count("statement-true") == after.count("statement-false") == 1
    options = re.search(r'<ul data-mk="options">(.*?)</ul>', page.section("story"))[1]
    assert re.findall(r"<li[^>]*>(?:<b>)?(\w)\).*?← (\w+)", options) == [("A", "before"), ("B", "after")]


def test_where_nothing_changed_the_first_question_is_shown_and_it_is_said(tmp_path):
    preds = before_and_after()
    preds.loc[12:, ["text", "think", "predicted", "correct", "well_formed"]] = preds.loc[
        :11, ["text", "think", "predicted", "correct", "well_formed"]
    ].to_numpy()
    run = load_run(write_run(tmp_path / "run", preds))
    story = story_of(check_predictions(run.predictions), run)
    assert story.after["id"] == "q0" and story.how == "no answer changed, so the first"


def test_a_joint_training_is_told_of_all_questions(tmp_path):
    run = load_run(write_run(tmp_path / "run", before_and_after(train_modality="all"), train_modality="all"))
    story = story_of(check_predictions(run.predictions), run)
    assert story.sentence.startswith("12 new questions: 41.7 → 75.0 % right") and story.right.tolist() == [
        13 / 16,
        15 / 16,
    ]


def test_questions_that_were_trained_on_are_not_called_new(tmp_path):
    preds = before_and_after()
    preds["id"] = preds["id"].replace("q3", "CT-train-0-1")
    run = load_run(write_run(tmp_path / "run", preds))
    assert story_of(check_predictions(run.predictions), run).asked == "CT questions"


# --- where there is none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [
        {"method": ["grpo"]},
        {"method": ["base"]},
        {"format": ["no-think"], "of": "base"},
        {"source": ["exam.csv"], "of": "base"},
        {"model": ["another"], "of": "base"},
    ],
    ids=str,
)
def test_without_a_pair_on_drawn_images_the_report_begins_with_the_facts(tmp_path, left):
    preds = before_and_after()
    if "of" in left:
        name, (value,) = next(iter(left.items()))
        preds.loc[preds["method"].eq(left["of"]), name] = value
    else:
        preds = preds[preds["method"].isin(left["method"])]
    run = load_run(write_run(tmp_path / "run", preds))
    assert story_of(check_predictions(run.predictions), run) is None
    if "method" in left:
        page = Page(write_report(run.path))
        assert 'id="story"' not in page.text and 'href="#story"' not in page.text


# --- safe, and in a terminal ------------------------------------------------------------------------------------------


def test_hostile_texts_stay_texts_in_the_first_view(tmp_path):
    preds = before_and_after()
    preds["question"], preds["options"] = HOSTILE["script"], [["<b>liver</b>", "brain</script>", "=lung"]] * len(preds)
    run = write_run(tmp_path / "run", preds)
    page = Page(write_report(run))
    check_page(page)
    assert "&lt;script&gt;alert(1)" in page.section("story") and "brain&lt;/script&gt;" in page.section("story")
    told = story_section(story_of(check_predictions(preds), load_run(run)), "<img src=x onerror=alert(1)>")
    assert "<img src=x" not in told and "&lt;img src=x" in told
    preds["question"] = HOSTILE["null"]
    assert "\0" not in (told := story_text(story_of(check_predictions(preds), load_run(run)))) and "[U+001B]" in told


def test_a_run_that_does_not_say_whose_it_is_has_a_report_without_a_first_view(tmp_path):
    run = write_run(tmp_path / "run", before_and_after())
    (run / "run.json").write_text('{"written_by": "medr1kit", "method": "grpo", "model": "tiny"}')
    assert 'id="story"' not in Page(write_report(run)).text


def test_an_answer_without_a_thought_is_shown_as_it_was_written(story):
    bare = dataclasses.replace(
        story, before=dict(story.before) | {"think": None, "predicted": None, "text": "It is B."}
    )
    assert "before – ✗: It is B." in story_text(bare).splitlines()


def test_the_terminal_shows_the_image_the_question_both_answers_and_the_curve(story):
    lines = story_text(story, "Read it so. " * 20).splitlines()
    assert max(map(len, lines)) <= 100
    picture = [line[2:42] for line in lines[2:22]]
    assert set("".join(picture)) == set(" ░▒▓█") and "█" in picture[10]
    text = "\n".join(lines)
    assert "What is shown in picture 7?" in text and re.search(r"B\) brain +✓ gold", text)
    assert "before A ✗: A cyst✗ of the liver✗." in lines and "after B ✓: A cyst✗ of the brain✓." in lines
    assert "right of those it sampled: 25 → 75 %" in text
    assert THINK_BEFORE.name not in text and text.rstrip().endswith("Read it so.")
