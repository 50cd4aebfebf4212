"""A table of predictions from anywhere is read as what it says, by one check, or refused with its row."""

import io

import numpy as np
import pandas as pd
import pytest
from errors_fakes import many
from test_tables import predictions

import medr1kit as mk
from medr1kit.results.answers import Answers
from medr1kit.results.columns import label_values
from medr1kit.results.compare import compare_all
from medr1kit.results.errors.kinds import describe
from medr1kit.results.maps import slim
from medr1kit.results.perturbations import position_table
from medr1kit.results.tables import PREDICTIONS, check_predictions
from medr1kit.results.thoughts import thought_table
from medr1kit.vqa import DataError


def from_csv(frame, **how):
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)), **how)


def plain(frame):
    """Cells as plain Python, None for what is missing, numbers as float."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [
        {k: float(v) if isinstance(v, (int, float, bool, np.number, np.bool_)) else v for k, v in row.items()}
        for row in rows
    ]


@pytest.mark.parametrize("how", [{}, {"dtype": str}, {"dtype": str, "keep_default_na": False}])
def test_a_table_read_back_from_csv_is_the_table_that_was_written(how):
    frame = predictions("AaB?", well_formed=[True, None, False, True], patient_id=["7", None, "p1", "p1"], seed=1)
    frame["options"] = [["it's", 'a "mass"', "x, y"], ["a", "b"], ["a\\b", "ü"], ["['a']", "b"]]
    frame["predicted"] = frame["lenient_predicted"] = ["A", None, "B", None]
    back = check_predictions(from_csv(frame, **how))
    wanted = plain(check_predictions(frame.fillna({"text": ""})))
    for name in PREDICTIONS:
        if name != "think":  # "" where the file was read without missing values
            assert [row[name] for row in plain(back)] == [row[name] for row in wanted], name


def test_options_printed_by_numpy_are_read_and_other_texts_refused():
    frame = predictions("A", options=None)
    for text in ("['cyst' 'mass']", "['cyst'\n 'mass']", '["cyst", "mass"]', "('cyst', 'mass')", "['cyst', 'mass',]"):
        assert check_predictions(frame.assign(options=text))["options"][0] == ["cyst", "mass"], text
    assert check_predictions(frame.assign(options=[np.array(["cyst", "mass"])]))["options"][0] == ["cyst", "mass"]
    for odd in ("cyst, mass", "['cyst' ... 'mass']", "[]", "{'a': 1}", "[1, 2]", "__import__('os')", 3, None, ["a", 1]):
        with pytest.raises(DataError, match=r"row 0: options are .*; expected a list of option texts"):
            check_predictions(frame.assign(options=[odd]))


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("correct", [True, "yes"], "row 1: correct is 'yes'; it must be True or False"),
        ("correct", [True, np.nan], "row 1: correct is nan"),
        ("correct", [1, 2], "row 1: correct is 2"),
        ("well_formed", [0.5, True], "row 0: well_formed is 0.5"),
        ("answer", ["A", np.nan], "row 1: answer is nan; expected the capital letter"),
        ("answer", ["A", "cyst"], "row 1: answer is 'cyst'"),
        ("answer", ["A", "E"], "row 1: the gold answer is 'E', but there are 4 options"),
        ("predicted", ["F", "A"], "row 0: predicted is 'F', but there are 4 options"),
        ("predicted", ["A", ["A"]], r"row 1: predicted is \['A'\]; expected the capital letter"),
        ("n_tokens", [1, "many"], "row 1: n_tokens is 'many'"),
        ("seed", ["0", "first"], "row 1: seed is 'first'"),
        ("id", ["q0", None], "row 1: id is None"),
        ("method", ["GRPO", "base"], "method is 'GRPO' in some predictions; write 'grpo'"),
        ("method", ["sft answer", "mine"], "write 'sft-answer'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_row(column, values, sentence):
    with pytest.raises(DataError, match=sentence):
        mk.score(predictions("AB").assign(**{column: pd.Series(values, dtype=object)}), by=None)


def test_a_word_of_one_s_own_is_a_method():
    assert check_predictions(predictions("AB", method="ppo-2"))["method"].tolist() == ["ppo-2"] * 2


def test_numbers_that_were_names_are_names_again():
    frame = predictions("ABAB", id=[1, 2, 3, 4], image_id=[1.0, 1.0, 2.0, 2.0], patient_id=[17.0, 17.0, np.nan, "nan"])
    read = check_predictions(frame)
    assert read["id"].tolist() == ["1", "2", "3", "4"] and read["image_id"].tolist() == ["1", "1", "2", "2"]
    assert read["patient_id"].tolist()[:2] == ["17", "17"] and read["patient_id"][2:].isna().all()
    assert mk.compare(frame, frame.assign(id=["1", "2", "3", "4"])).n == 4, "a text and a number name one question"


def test_a_frame_in_order_comes_back_itself_and_none_is_changed():
    frame = predictions("AB")
    assert check_predictions(frame) is frame
    shuffled = frame.iloc[::-1]
    before = shuffled.copy()
    assert check_predictions(shuffled).index.tolist() == [0, 1]
    pd.testing.assert_frame_equal(shuffled, before)


# --- every door -------------------------------------------------------------------------------------------------------

DOORS = {
    "score": mk.score,
    "compare": lambda preds: mk.compare(preds, many([1, 0, 1])),
    "compare, after": lambda preds: mk.compare(many([1, 0, 1]), preds),
    "compare_all": lambda preds: compare_all(preds, [(np.array([0]), np.array([0]))]),
    "transfer_table": mk.transfer_table,
    "compare_modes": mk.compare_modes,
    "errors": lambda preds: str(mk.errors(preds, by="modality")),
    "errors, before": lambda preds: mk.errors(many([1, 0, 1]), by="modality", before=preds),
    "describe": describe,
    "rationale_truth": mk.rationale_truth,
    "inspect_outputs": mk.inspect_outputs,
    "explore_transfer": mk.explore_transfer,
    "slim": slim,
    "Answers": lambda preds: Answers([preds]),
    "position_table": position_table,
    "pass_at_k": mk.pass_at_k,
    "thought_table": thought_table,
    "inspect_outputs, thoughts": lambda preds: mk.inspect_outputs(many([1, 0, 1]), thoughts=preds),
}


class Run:
    predictions = None


@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_alike(door):
    use, rows = DOORS[door], many([1, 0, 1])
    for given, sentence in (
        ("p.parquet", r"not a path; read it first: pandas.read_parquet\('p.parquet'\)"),
        (Run(), "not a Run; pass its table: run.predictions"),
        (None, "predictions are a table, not None"),
        ([rows], "predictions are a table, not a list; pass what predict"),
        (mk.score(rows), "these are scores, not predictions"),
        (rows[:0], "predictions without rows"),
        (rows.assign(correct="maybe"), "row 0: correct is 'maybe'"),
        (rows.assign(options="liver, lung"), "row 0: options are 'liver, lung'"),
        (rows.assign(answer=["A", "Z", "B"]), "row 1: the gold answer is 'Z', but there are 4 options"),
        (rows.drop(columns="correct"), "correct"),
        (rows.assign(method="Grpo"), "method is 'Grpo'"),
        (rows.assign(published=True), "these are published numbers"),
    ):
        if (given is None and door in ("errors, before", "inspect_outputs", "inspect_outputs, thoughts")) or (
            door == "rationale_truth" and sentence == "correct"  # it needs none
        ):
            continue
        with pytest.raises(DataError, match=sentence):
            use(given)


def test_a_misspelt_column_is_answered_with_the_one_that_was_meant():
    frame = predictions("AB")
    with pytest.raises(DataError, match="by='modallity': the predictions have no such column; did you mean 'modality'"):
        mk.score(frame, by="modallity")
    with pytest.raises(DataError, match=r"by='modallity'.*did you mean 'modality'"):
        mk.errors(many([1, 0]), by="modallity")
    for use in (mk.score, lambda preds, cluster: mk.compare(preds, preds, cluster=cluster)):
        with pytest.raises(
            DataError, match="cluster='img': the predictions have no such column; did you mean 'image_id'"
        ):
            use(frame, cluster="img")
        for value in (["id"], True, 0, frame["id"]):
            with pytest.raises(DataError, match=r"cluster is an? \w+; give the name of one column"):
                use(frame, cluster=value)
        with pytest.raises(DataError, match="cluster='options': a list makes no group"):
            use(frame, cluster="options")


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (3, "by is an int"),
        ({"modality"}, "by is a set"),
        (["modality", "modality"], "by= names 'modality', twice"),
        ("n", "by= names 'n', as a column of the result is called"),
        ("options", "by='options': a list makes no group"),
    ],
)
def test_groups_are_made_of_columns(by, said):
    with pytest.raises(DataError, match=said):
        mk.score(predictions("AB").assign(n=1), by=by)


def test_a_number_is_the_same_as_a_number_or_as_a_text():
    frame = pd.concat([predictions("A").assign(step=10), predictions("B").assign(step="10", id="other")])
    assert mk.score(frame, by="step")["n"].tolist() == [2]


def test_one_question_of_two_patients_is_refused():
    frame = predictions("AB").assign(patient_id=["P1", "P2"])
    same = frame.assign(id="q", seed=[0, 1])
    with pytest.raises(DataError, match="the question 'q' is of patient 'P1' in one row and of 'P2' in another"):
        mk.score(same)
    assert mk.score(frame)["cluster"].eq("patient_id").all()
    assert mk.score(same, by=None, cluster=False)["cluster"].tolist() == ["row"]


def test_labels_are_read_as_their_columns_will_be():
    labels = {"method": "sft", "seed": "0", "step": None, "train_modality": "US", "train_task": "all", "model": "m"}
    said = {"seed": 0, "train_modality": "Ultrasound"}
    assert label_values(labels, ["base"]) == labels | said
    for wrong in ({"method": "Base"}, {"method": None}, {"seed": "zero"}, {"step": "last"}, {"model": ["m"]}):
        with pytest.raises(DataError, match=f"labels: {next(iter(wrong))} is"):
            label_values(wrong, ["base"])
