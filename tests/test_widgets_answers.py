"""Several predictions side by side: who is who, and which questions changed."""

import pandas as pd
import pytest
from widget_fakes import predictions

from medr1kit.results.answers import Answers
from medr1kit.vqa import DataError

RIGHT, WRONG = "<think>x</think><answer>B</answer>", "<think>x</think><answer>A</answer>"
UNREAD, BARE = "perhaps", "<answer>B</answer>"
BEFORE = [RIGHT, RIGHT, WRONG, WRONG, UNREAD]
AFTER = [RIGHT, WRONG, RIGHT, "<think>x</think><answer>C</answer>", BARE]


def where(answers, kind, shown=(0, 1)):
    return answers.where(kind, list(shown)).nonzero()[0].tolist()


def test_kinds_of_change():
    answers = Answers([predictions(BEFORE), predictions(AFTER, "grpo")])
    assert {kind: where(answers, kind) for kind in ("fixed", "broken", "both wrong", "both right")} == {
        "fixed": [2, 4],
        "broken": [1],
        "both wrong": [3],
        "both right": [0],
    }
    assert where(answers, "malformed") == [4]
    assert where(answers, "disagree") == [1, 2, 3, 4]
    assert where(answers, "fixed", (1, 0)) == [1], "the other way round"
    assert where(answers, "wrong", (0,)) == [2, 3, 4] and where(answers, "right", (0,)) == [0, 1]
    with pytest.raises(DataError, match="unknown filter 'repaired'; use one of all, fixed"):
        answers.where("repaired", [0, 1])


def test_rows_are_paired_by_id_whatever_their_order_and_gaps():
    after = predictions(AFTER, "grpo").iloc[[4, 2, 0]]
    extra = predictions([RIGHT], "grpo").assign(id="new")
    answers = Answers([predictions(BEFORE), pd.concat([after, extra])])
    assert answers.ids.tolist() == ["q0", "q1", "q2", "q3", "q4", "new"]
    assert answers.answerers[1].answer(2)["text"] == AFTER[2] and answers.answerers[1].answer(1) is None
    assert answers.question(5)["id"] == "new" and answers.answerers[0].answer(5) is None
    assert where(answers, "fixed") == [2, 4] and where(answers, "both wrong") == []
    assert answers.column("modality").tolist() == ["CT", "MRI", "CT", "MRI", "CT", "CT"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ([{}, {"method": "grpo"}], ["base", "grpo"]),
        ([{}, {}], ["before", "after"]),
        (
            [{"seed": None}, {"method": "grpo"}, {"method": "grpo", "seed": 1}],
            ["base", "grpo · seed 0", "grpo · seed 1"],
        ),
        ([{"train_modality": "CT"}, {"train_modality": "OCT"}], ["trained on CT", "trained on OCT"]),
    ],
)
def test_answerers_are_named_by_what_tells_them_apart(columns, names):
    frames = [predictions(BEFORE).assign(**some) for some in columns]
    assert [one.name for one in Answers(frames).answerers] == names


def test_one_table_with_several_formats_holds_several_answerers():
    table = pd.concat(
        [predictions(BEFORE), predictions(AFTER, format="no-think"), predictions(AFTER, "grpo")], ignore_index=True
    )
    answers = Answers([table.sample(frac=1, random_state=1)])
    assert {one.name: one.format.name for one in answers.answerers} == {
        "base · think-before": "think-before",
        "base · no-think": "no-think",
        "grpo · think-before": "think-before",
    }
    by_name = {one.name: k for k, one in enumerate(answers.answerers)}
    changed = where(answers, "fixed", (by_name["base · think-before"], by_name["grpo · think-before"]))
    assert sorted(answers.ids[changed]) == ["q2", "q4"]


def test_no_frame_is_copied():
    before = predictions(BEFORE)
    assert Answers([before]).answerers[0].frame is before


def test_search_reads_stems_options_and_the_completions_shown():
    answers = Answers([predictions([RIGHT, "<think>A CYST</think>"]), predictions([WRONG, "a tumour"], "grpo")])

    def find(text, shown=(0, 1)):
        return answers.containing(text, answers.where("all", [0]).nonzero()[0], list(shown)).tolist()

    assert find("cyst") == [1] and find("picture 0") == [0] and find("BRAIN") == [0, 1]
    assert find("tumour", (0,)) == [] and find("tumour") == [1] and find("[") == []


def test_form_that_is_not_known_is_not_malformed():
    early = predictions([BARE, RIGHT]).assign(well_formed=[None, True])
    assert where(Answers([early]), "malformed", (0,)) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="text"), r"without the column\(s\) text"),
        (lambda f: pd.concat([f, f]), "'grpo' answers 'q0' more than once"),
        (lambda f: f.assign(answer=["C", *f["answer"][1:]]), "gold answer of 'q0' differs between 'base' and 'grpo'"),
        (lambda f: f.assign(id="z" + f["id"]), "no question is answered twice: 'base' has ids such as 'q0'"),
        (lambda f: f.assign(id="z" + f["id"], answer="D"), "row 0: the gold answer is 'D', but there are 3 options"),
        (lambda f: f.assign(id="z" + f["id"], options="liver"), "row 0: options are 'liver'; expected a list"),
    ],
)
def test_what_cannot_stand_side_by_side_is_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        Answers([predictions(BEFORE), spoil(predictions(AFTER, "grpo"))])


@pytest.mark.parametrize(
    ("names", "message"), [(["a"], "1 names for 2 answerers: base, grpo"), (["a", "a"], "repeats")]
)
def test_names_must_fit(names, message):
    with pytest.raises(DataError, match=message):
        Answers([predictions(BEFORE), predictions(AFTER, "grpo")], names)
