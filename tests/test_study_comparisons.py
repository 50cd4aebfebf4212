import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from medr1kit.results.multiplicity import holm
from medr1kit.study.comparisons import check_comparisons, compare_stated
from medr1kit.vqa import DataError

BASE = {"part": "", "method": "base", "train_modality": None, "train_task": None, "seed": None}
GRPO = {"part": "machine", "method": "grpo", "train_modality": "CT", "train_task": None, "seed": 10}
WHO = {"of": {"part": "machine", "method": "grpo"}, "against": {"method": "base"}}


def answers(who, right, asked="B", modality="CT", sample=None, thought=None, tokens=4, task="Disease Diagnosis"):
    """A row for each verdict."""
    rows = [
        {"id": f"{modality}-{i}", "modality": modality, "task": task, "format": "no-think", "asked": asked, **who}
        | {"correct": bool(one), "lenient_predicted": "A", "answer": "A", "n_tokens": tokens, "sample": sample}
        | {"thought": thought}
        for i, one in enumerate(right)
    ]
    return pd.DataFrame(rows)


def compared(stated, *tables):
    return compare_stated({"one": stated} if "of" in stated else stated, pd.concat(tables, ignore_index=True)).iloc[0]


def test_pairs_are_the_same_questions_and_the_difference_is_theirs():
    before, after = [0, 0, 1, 1, 0, 1], [1, 1, 1, 1, 0, 0]
    row = compared({**WHO, "asked": "B"}, answers(BASE, before), answers(GRPO, after), answers(GRPO, [0] * 6, "A"))
    known = ttest_1samp(np.subtract(after, before), 0)
    assert (row["n"], row["questions"], row["trainings"]) == (6, 6, 1)
    assert (row["of"], row["against"]) == pytest.approx((4 / 6, 3 / 6)) and row["difference"] == pytest.approx(1 / 6)
    assert row["p"] == pytest.approx(known.pvalue)
    assert [row["low"], row["high"]] == pytest.approx(list(known.confidence_interval()))


def test_home_and_away_are_told_by_what_was_trained_on_whichever_side_that_is():
    tables = [answers(who, right, modality=modality) for who, right, modality in [
        (BASE, [0, 0], "CT"), (GRPO, [1, 1], "CT"), (BASE, [0, 1, 1], "OCT"), (GRPO, [0, 0, 0], "OCT"),
    ]]  # fmt: skip
    home, away = (compared({**WHO, "where": where}, *tables) for where in ("home", "away"))
    assert (home["n"], home["difference"]) == (2, 1) and (away["n"], away["difference"]) == (3, pytest.approx(-2 / 3))
    turned = {"of": WHO["against"], "against": WHO["of"], "where": "home"}
    assert compared(turned, *tables)["difference"] == -1
    joint = GRPO | {"train_modality": "all"}
    assert compared({**WHO, "where": "home"}, tables[0], tables[2], answers(joint, [1] * 3, modality="OCT"))["n"] == 3


def test_trained_sides_are_paired_training_by_training():
    sft = GRPO | {"method": "sft-answer"}
    stated = {"of": {"method": "grpo"}, "against": {"method": "sft-answer"}}
    tables = [answers(GRPO | {"seed": seed}, [1, 1]) for seed in (10, 11)] + [answers(sft | {"seed": 11}, [0, 1])]
    row = compared(stated, *tables)
    assert (row["n"], row["trainings"], row["difference"]) == (2, 1, 0.5)


def test_less_makes_it_a_difference_of_differences():
    tables = [answers(BASE, [1, 0]), answers(BASE, [0, 0], "B shuffled")]
    tables += [answers(GRPO, [1, 1]), answers(GRPO, [0, 0], "B shuffled")]
    row = compared({**WHO, "asked": "B", "less": {"asked": "B shuffled"}}, *tables)
    assert (row["of"], row["against"], row["difference"]) == (1, 0.5, 0.5)


def test_samples_are_asked_for_by_their_measure_and_greedy_answers_by_the_others():
    drawn = [answers(GRPO, [0, 1], sample=i) for i in range(3)] + [answers(GRPO, [1, 1], sample=3)]
    base = [answers(BASE, [0, 0], sample=i) for i in range(4)]
    greedy = [answers(GRPO, [0, 0]), answers(BASE, [0, 0])]
    assert compared({**WHO, "measure": "any"}, *drawn, *base, *greedy)["of"] == 1
    assert compared({**WHO, "measure": "mean"}, *drawn, *base, *greedy)["of"] == pytest.approx((0.25 + 1) / 2)
    assert compared(WHO, *drawn, *base, *greedy)["of"] == 0


def test_a_thought_is_asked_for_and_tasks_can_be_left_out():
    own = [answers(GRPO, [1, 1], thought="own"), answers(GRPO, [0, 1], thought="empty"), answers(GRPO, [0, 0])]
    sides = {"of": {"method": "grpo", "thought": "own"}, "against": {"method": "grpo", "thought": "empty"}}
    assert compared(sides, *own)["difference"] == 0.5
    more = [answers(who, [1, 1], modality="MRI", task="Modality Recognition") for who in (BASE, GRPO)]
    kept = compared({**WHO, "without": ["MR"]}, answers(BASE, [0, 0]), answers(GRPO, [1, 1]), *more)
    assert kept["n"] == 2


def test_a_family_is_corrected_together_and_what_has_no_answers_does_not_count():
    tables = [answers(BASE, [0] * 8), answers(GRPO, [1, 1, 1, 1, 1, 0, 0, 1]), answers(GRPO, [1, 0] * 4, "A")]
    tables += [answers(BASE, [0] * 8, "A")]
    stated = {"b": {**WHO, "asked": "B"}, "a": {**WHO, "asked": "A"}, "nothing": {**WHO, "asked": "C"}}
    table = compare_stated(stated, pd.concat(tables)).set_index("comparison")
    assert table["n"].to_dict() == {"b": 8, "a": 8, "nothing": 0}
    assert table["p_corrected"].dropna().tolist() == pytest.approx(list(holm(table["p"].dropna())))
    assert (table["low_all"] < table["low"])[:2].all() and (table["high_all"] > table["high"])[:2].all()
    # Bonferroni over three, power .8: (2.394 + .842) standard errors of the eight changes of "b"
    error = np.std([1, 1, 1, 1, 1, 0, 0, 1], ddof=1) / np.sqrt(8)
    assert table.loc["b", "smallest"] == pytest.approx((2.3940 + 0.8416) * error, rel=1e-3)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ([], "expected the name of a comparison"),
        ({"x": {"of": {}}}, "comparisons: x: expected of and against"),
        ({"x": {**WHO, "when": 1}}, "nothing but asked"),
        ({"x": {**WHO, "of": {"metod": "grpo"}}}, "of: expected 'key: value' pairs with keys among part, method"),
        ({"x": {**WHO, "asked": "C"}}, "asked='C' is unknown; use one of B"),
        ({"x": {**WHO, "of": {"part": "machin"}}}, "did you mean 'machine'"),
        ({"x": {**WHO, "where": "hom"}}, "did you mean 'home'"),
        ({"x": {**WHO, "measure": "accuracy"}}, "measure='accuracy' is unknown"),
        ({"x": {**WHO, "of": {"format": "thinking"}}}, "unknown format 'thinking'"),
        ({"x": {**WHO, "without": ["Radiology"]}}, "Radiology"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_comparison_s_name(stated, message):
    parts = {"machine": {"test": {"B": {"name": "phantoms"}}}}
    with pytest.raises(DataError, match=message):
        check_comparisons(stated, parts)
