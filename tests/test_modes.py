import pandas as pd
import pytest
from errors_fakes import many

from medr1kit.results.compare import compare_modes
from medr1kit.results.stats import mcnemar, paired_difference
from medr1kit.vqa import DataError

BEFORE, AFTER = [0, 0, 1, 1, 0, 0, 0, 1], [1, 1, 1, 0, 1, 1, 1, 1]


def modes(one=AFTER, other=BEFORE, **columns):
    sides = [many(right).assign(format=name, **columns) for right, name in ((one, "no-think"), (other, "think-before"))]
    return pd.concat(sides)


def test_a_cell_is_the_paired_difference_of_the_two_formats():
    (row,) = compare_modes(modes()).itertuples()
    assert (row.train_modality, row.modality, row.method, row.n, row.seeds) == ("CT", "CT", "grpo", 8, 1)
    assert (row.accuracy_one, row.accuracy_other) == (7 / 8, 3 / 8)
    assert (row.difference, row.low, row.high) == pytest.approx(paired_difference(BEFORE, AFTER))
    assert row.p == mcnemar(5, 1) and pd.isna(row.low_seeds)
    assert row.quantity == "no-think minus think-before"
    back = compare_modes(modes(), "think_before", "no_think").iloc[0]
    assert back["difference"] == -0.5


def test_seeds_are_paired_with_themselves_and_averaged():
    both = pd.concat([modes(seed=0), modes(one=BEFORE, other=BEFORE, seed=1)])
    (row,) = compare_modes(both).itertuples()
    assert (row.n, row.seeds, row.difference) == (8, 2, 0.25)
    assert row.low_seeds < row.low < 0.25 < row.high < row.high_seeds


def test_rows_stand_in_canonical_order_and_the_base_is_untrained():
    data = pd.concat([modes(modality=name, train_modality=trained, method=method)
                      for name in ("OCT", "MRI") for trained, method in (("CT", "grpo"), (None, "base"))])  # fmt: skip
    table = compare_modes(data)
    assert table[["method", "train_modality", "modality"]].to_numpy().tolist() == [
        [method, trained, name]
        for method, trained in (("base", "untrained"), ("grpo", "CT"))
        for name in ("MRI", "OCT")
    ]
    assert (table["p_corrected"] >= table["p"] - 0.02).all()


def test_models_trained_on_a_task_are_no_part_of_the_map_by_modality():
    by_task = modes(train_modality=None, train_task="Lesion Grading", model="other")
    assert compare_modes(pd.concat([modes(), by_task]))["model"].tolist() == ["m"]
    assert compare_modes(modes(train_modality=None))["train_modality"].tolist() == ["unknown"]


def test_images_can_be_what_is_independent():
    table = compare_modes(modes(image_id=list("aabbccdd")), cluster="image_id")
    assert table["p"][0] != mcnemar(5, 1) and table["low"][0] < 0.5


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (modes().query("format == 'no-think'"), "no predictions in the format 'think-before'; there are no-think"),
        (pd.concat([modes(), modes()]), "'q0' is answered more than once in no-think"),
        (modes().assign(answer=list("ABCDABCD") + list("BBCDABCD")), "gold answer of 'q0' differs"),
        (modes().assign(id=range(16)), "no question is answered in both"),
    ],
)
def test_what_cannot_be_paired_is_refused(data, sentence):
    with pytest.raises(DataError, match=sentence):
        compare_modes(data)


def test_by_is_modality_or_task():
    with pytest.raises(DataError, match="by 'modality' or by 'task'"):
        compare_modes(modes(), by="source")
    assert compare_modes(modes(train_task="Lesion Grading"), by="task")["train_task"].tolist() == ["Lesion Grading"]
