"""Published numbers: complete, labelled, with their source, and drawn as what they are."""

import math

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.kept import _FOLDER, published
from medr1kit.vqa import MODALITIES, TASKS, DataError

matplotlib.use("Agg")
NAMES = published()["name"].tolist()
HEAT_MAPS = {"modality": MODALITIES, "task": TASKS}


def test_the_list_names_every_file_and_no_other():
    assert sorted(NAMES) == sorted(path.stem for path in (_FOLDER / "published").glob("*.csv") if path.stem != "index")
    assert mk.published()["rows"].min() > 2


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_labelled_as_published_and_says_where_it_is_from(name):
    table = published(name)
    assert table["published"].all()
    assert table["source"].notna().all() and table["read"].notna().all() and table["remark"].notna().all()
    values = table.columns.difference(["published", "source", "read", "remark"])
    assert not table.duplicated([*values, "source"]).any()


@pytest.mark.parametrize("by", HEAT_MAPS)
def test_a_heat_map_has_every_cell_once_and_the_questions_of_its_tests(by):
    heat_map = published(f"med-r1-no-think-minus-think-{by}")
    names = HEAT_MAPS[by]
    assert set(zip(heat_map[f"train_{by}"], heat_map[by])) == {(a, b) for a in names for b in names}
    assert heat_map.groupby(by)["n_test"].nunique().eq(1).all()
    for row in heat_map.itertuples():
        assert row.half_width == round(195.9964 * math.sqrt(2 * 0.7 * 0.3 / row.n_test), 1)
        assert row.difference == pytest.approx(row.points / 100)


def test_the_means_of_the_heat_maps_are_the_printed_ones():
    """The means that the pictures themselves do not print, computed by hand in the reference: a typing error shows."""
    modality, task = (published(f"med-r1-no-think-minus-think-{by}") for by in HEAT_MAPS)
    assert modality["points"].mean() == pytest.approx(2.57, abs=0.005)
    assert (modality["points"] < 0).sum() == 13
    assert modality.groupby("modality")["points"].mean()["Ultrasound"] == pytest.approx(-2.88, abs=0.005)
    other = task[task["train_task"] != task["task"]]
    assert task["points"].mean() == pytest.approx(0.58, abs=0.006)
    assert other["points"].mean() == pytest.approx(0.06, abs=0.005)


def test_lesion_grading_s_small_test_is_remarked_on():
    task = published("med-r1-no-think-minus-think-task")
    assert task.loc[task["task"] == "Lesion Grading", "remark"].str.contains("only 436 test questions").all()
    assert not task.loc[task["task"] != "Lesion Grading", "remark"].str.contains("436").any()


def test_printed_means_agree_with_the_printed_cells():
    zero_shot = published("omnimedvqa-zero-shot-modality").pivot(index="model", columns="modality", values="percent")
    off = (zero_shot[list(MODALITIES)].mean(axis=1) - zero_shot["all"]).abs()
    assert off[off > 0.1].index.tolist() == ["LLaVA-v1.5-LLaMA3-8B"], "the paper's own slip, which the remark says"
    fork = published("kepo-fork-modality")
    best = fork[(fork["run"] == "GRPO") & (fork["step"] == 140)]
    assert set(best["modality"]) == set(MODALITIES)
    assert best["percent"].mean() == pytest.approx(79.71, abs=0.005)


def test_shares_stand_beside_what_was_printed():
    table = published("omnimedvqa-zero-shot-modality")
    assert table["accuracy"].between(0, 1).all() and table["percent"].max() > 1
    curves = published("med-r1-curves")
    assert curves["reward"].dropna().between(0, 2).all() and curves["tokens"].between(20, 100).all()


@pytest.mark.parametrize("by", HEAT_MAPS)
def test_a_heat_map_is_drawn_as_published_without_p_values(by):
    ax = mk.plot_transfer(published(f"med-r1-no-think-minus-think-{by}"), limit=15)
    assert ax.get_title() == "published: no-think minus think (points)"
    assert len([text for text in ax.texts if text.get_text()]) == len(HEAT_MAPS[by]) ** 2
    assert not [patch for patch in ax.patches if patch.get_label() == "_doubtful"]
    plt.close(ax.figure)


def test_own_rows_and_published_ones_are_not_scored_together():
    mixed = pd.concat([pd.DataFrame({"correct": [True]}), published("kepo-fork-modality")])
    with pytest.raises(DataError, match="these are published numbers, not predictions"):
        mk.score(mixed)


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(DataError, match="did you mean 'med-r1-curves'"):
        published("med-r1-curve")
