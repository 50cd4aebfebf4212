"""One pairing for every comparison: the numbers of the release before it, and the same numbers wherever they stand.

`tables/` holds what `transfer_table` and `compare_modes` of commit 6a11831, when each paired its answers itself, return
for recorded answers.
"""

import base64
import gzip
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_widgets_transfer import study

import medr1kit as mk
from medr1kit.results.answers import Answers
from medr1kit.results.compare import compare_all
from medr1kit.results.multiplicity import flip_p, max_t
from medr1kit.results.tables import PREDICTIONS
from medr1kit.views.page.scores import maps_section
from medr1kit.vqa import DataError

TABLES = Path(__file__).parent / "tables"
LIMITS = ("low", "high", "low_seeds", "high_seeds")
FORMATS = ("think-before", "think-after", "no-think")


@pytest.fixture(scope="module")
def two_seeds():
    """Recorded answers about scanner A in three formats: of the base, and SFT and GRPO as if one method's two seeds."""
    preds = mk.recorded("clinic/answers", asked="A", part=["", "machine"], format=FORMATS)
    preds = preds[preds["seed"].fillna(10).eq(10)].reset_index(drop=True)[list(PREDICTIONS)]
    seeds = preds["method"].map({"sft": 0, "sft-answer": 0, "grpo": 1}).astype("Int64")
    return preds.assign(seed=seeds, method=preds["method"].where(seeds.isna(), "trained"))


@pytest.mark.parametrize(("name", "compute"), [("transfer", mk.transfer_table), ("modes", mk.compare_modes)])
def test_recorded_answers_have_the_numbers_they_had_when_each_table_was_paired_by_itself(name, compute, two_seeds):
    kept, now = pd.read_parquet(TABLES / f"{name}.parquet"), compute(two_seeds)
    names = kept.select_dtypes(exclude="number").columns
    numbers = [name for name in kept if name not in (*names, "p_holm", "p_corrected")]
    assert now[names].equals(kept[names]) and now["cluster"][now["seeds"] > 1].eq("id").all()
    np.testing.assert_allclose(now[numbers], kept[numbers], rtol=0, atol=1e-12)
    more = now["p_corrected"] - kept["p_corrected"]  # that was step-down max-T, to which no intervals belong
    assert more.min() > -1e-12
    sure = (now["low_corrected"] > 0) | (now["high_corrected"] < 0)
    assert sure.equals(now["p_corrected"] <= 0.05)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("by", ["modality", "task"])
def test_a_map_holds_every_number_of_the_transfer_table(seeds, by):
    frame = study(
        seeds, formats=["no-think"], by=by, trained={"modality": ["CT", "MRI"], "task": ["Lesion Grading"]}[by]
    )
    table, whole = mk.explore_transfer(frame).table, mk.transfer_table(frame, by=by)
    names = {"base_accuracy": "before", "low": "accuracy_low", "high": "accuracy_high"}
    whole = whole.rename(columns=names | {f"difference_{limit}": limit for limit in LIMITS})
    both = whole.merge(table, on=[f"train_{by}", by], suffixes=("", "_map"))
    assert len(both) == len(table) == len(whole)
    for column in ("n", "seeds", "accuracy", "accuracy_low", "accuracy_high", "before", "difference", *LIMITS, "p"):
        assert both[column].equals(both[f"{column}_map"]), column
    assert both["p_corrected"].equals(both["p_corrected_map"])


def test_a_map_of_two_formats_holds_every_number_of_compare_modes():
    frame = study((0, 1))
    panel = mk.explore_transfer(frame)
    panel.choose_map([one.compares_formats for one in panel.maps].index(True))
    names = {"accuracy_one": "accuracy", "accuracy_other": "before"}
    table = panel.table.drop(columns="sides")
    pd.testing.assert_frame_equal(table, mk.compare_modes(frame).rename(columns=names), check_exact=True)


def test_the_report_says_the_numbers_of_the_transfer_table_too():
    frame = study((0, 1), formats=["no-think"])
    [held] = maps_section(frame, Answers([frame]))[1]
    cells = json.loads(gzip.decompress(base64.b64decode(held["cells"])))
    for row in mk.transfer_table(frame).itertuples():
        text = cells[f"{row.train_modality} → {row.modality}"]["html"].replace("−", "-")
        assert f"{100 * row.difference:+.1f} points [{100 * row.difference_low:+.1f}" in text
        assert f"{100 * row.accuracy:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}]" in text


def test_many_comparisons_at_once_have_the_numbers_of_each_by_itself(two_seeds):
    preds = two_seeds[two_seeds["format"].eq("no-think")].reset_index(drop=True)
    base, trained = preds["method"].eq("base"), preds["train_modality"].eq("CT")
    sides = [trained & preds["modality"].eq("CT"), trained & preds["seed"].eq(1), base & preds["modality"].eq("OCT")]
    sides.append(trained & ~preds["seed"].eq(preds["id"].str.len() % 2))  # no question with every seed
    found = compare_all(preds, [(np.flatnonzero(base), np.flatnonzero(side)) for side in sides])
    assert found["fault"].tolist()[:3] == [""] * 3
    assert found["fault"][3] == "no question was answered by every seed; compare one seed at a time"
    for row, side in zip(found.drop(columns="fault").to_dict("records"), sides[:3]):
        with pytest.warns(UserWarning, match="left out") if side.sum() < base.sum() else nullcontext():
            assert row == pytest.approx(vars(mk.compare(preds[base], preds[side])), nan_ok=True, abs=0)


def test_a_cell_by_itself_has_the_p_that_max_t_gives_it_alone():
    rng = np.random.default_rng(3)
    changes = [rng.integers(-1, 2, n) for n in (8, 60, 61, 60, 200, 1)] + [np.zeros(5, int), np.zeros(0, int)]
    clusters = [list(rng.integers(0, 80, len(cell))) for cell in changes]
    alone = [max_t([one], [names]).p[0] for one, names in zip(changes, clusters)]
    np.testing.assert_array_equal(flip_p(changes, clusters), alone)


def test_a_cell_that_cannot_be_compared_is_empty_on_the_map_and_refused_by_the_table():
    frame = study()
    twice = pd.concat([frame, frame[frame["train_modality"].eq("MRI") & frame["modality"].eq("OCT")]])
    with pytest.raises(DataError, match="the model trained on 'MRI' answers 'q2' more than once"):
        mk.transfer_table(twice)
    panel = mk.explore_transfer(twice)
    empty = panel.table[panel.table["difference"].isna()]
    assert empty[["train_modality", "modality"]].to_numpy().tolist() == [["MRI", "OCT"]]
    with pytest.raises(DataError, match="answers 'q2' more than once"):
        panel.choose_cell("MRI", "OCT")
    assert (panel.train, panel.test) == ("CT", "CT")
