"""Figures worth printing: nothing overlaps, numbers stand out from their cells, letters stay letters in a PDF."""

from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns

from medr1kit.views.look import ink_on
from medr1kit.views.plots.bars import plot_accuracy
from medr1kit.views.plots.canvas import PAPER
from medr1kit.views.plots.curves import plot_rewards
from medr1kit.views.plots.heatmaps import plot_counts, plot_transfer
from medr1kit.vqa import MODALITIES, TASKS


def matrix(differences, names=MODALITIES, by="modality", p=0.01):
    pairs = [(train, test) for train in names for test in names]
    table = pd.DataFrame(pairs, columns=[f"train_{by}", by])
    return table.assign(difference=np.resize(differences, len(pairs)), accuracy=0.5, p_corrected=p)


def scores(lines, models=("base", "grpo")):
    rows = [(line, model) for line in lines for model in models]
    frame = pd.DataFrame(rows, columns=["modality", "method"])
    return frame.assign(accuracy=0.5, low=0.4, high=0.6, chance=0.25)


def draw(plot, table, size=None):
    """Draw at a size in inches; axes and renderer."""
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    plot(table, ax=ax)
    figure.canvas.draw()
    return ax, figure.canvas.get_renderer()


def boxes(texts, renderer):
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


def printed(ax):
    return [text.get_text() for text in ax.texts]


def test_a_title_stands_above_the_legend():
    ax, _ = draw(plot_accuracy, scores(MODALITIES))
    ax.set_title("trained on CT")
    ax.figure.canvas.draw()
    title, legend = ax.title.get_window_extent(), ax.get_legend().get_window_extent()
    assert title.ymin >= legend.ymax - 1
    assert title.ymax <= ax.figure.bbox.ymax and legend.ymin >= ax.get_window_extent().ymax - 1


@pytest.mark.parametrize("names", [[f"{a} to {b}" for a in MODALITIES for b in MODALITIES[:3]], TASKS, ["CT"]])
def test_names_below_each_other_never_touch(names):
    ax, renderer = draw(plot_accuracy, scores(names))
    for upper, lower in pairwise(boxes(ax.get_yticklabels(), renderer)):
        assert upper.ymin >= lower.ymax


def test_a_legend_wider_than_the_figure_gets_fewer_columns():
    methods = ["think-before · base", "think-after · reinforced", "no-think · reinforced", "no-think · supervised"]
    with plt.rc_context(PAPER):
        ax, renderer = draw(plot_accuracy, scores(["CT", "MRI"], methods), (3.5, 3))
        legend = ax.get_legend().get_window_extent(renderer)
    assert legend.xmin >= 0 and legend.xmax <= ax.figure.bbox.xmax
    assert ax.get_window_extent().width > 0.6 * ax.figure.bbox.width, "the legend leaves the axes their room"


def test_names_side_by_side_are_slanted_only_where_they_would_touch():
    table = matrix([0.1], TASKS, "task")
    wide, renderer = draw(plot_transfer, table)
    assert {label.get_rotation() for label in wide.get_xticklabels()} == {0}
    for left, right in pairwise(boxes(wide.get_xticklabels(), renderer)):
        assert left.xmax <= right.xmin
    with plt.rc_context(PAPER):
        narrow, _ = draw(plot_transfer, table, (3.5, 3))
    assert {label.get_rotation() for label in narrow.get_xticklabels()} == {45}


def test_numbers_fit_their_cells_at_the_width_of_a_column():
    with plt.rc_context(PAPER):
        ax, renderer = draw(plot_transfer, matrix([-1.0, 0.985]), (3.5, 3))
    cell = ax.get_window_extent().width / len(MODALITIES)
    assert max(box.width for box in boxes(ax.texts, renderer)) < cell
    assert min(text.get_fontsize() for text in ax.texts) >= 5


def test_numbers_stand_out_from_every_colour_of_the_map():
    ax, _ = draw(plot_transfer, matrix(np.linspace(-0.4, 0.4, 64)))
    faces = ax.collections[0].get_facecolors()
    for text, face in zip(ax.texts, faces, strict=True):
        light, dark = sorted((sns.utils.relative_luminance(c) for c in (face, text.get_color())), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.4, text.get_text()


def test_a_large_count_is_not_printed_dark_on_dark():
    table = pd.DataFrame({"modality": ["CT"] * 3000 + ["MRI"], "task": TASKS[0]})
    ax, _ = draw(plot_counts, table)
    assert [text.get_color() for text in ax.texts] == [ink_on(face) for face in ax.collections[0].get_facecolors()]


def test_differences_are_whole_only_where_all_of_them_are():
    names = ("CT", "MRI")
    assert printed(plot_transfer(matrix([0.36, -0.02, 0.0, 0.29], names))) == ["+36", "−2", "+0", "+29"]
    assert printed(plot_transfer(matrix([0.36, -0.025, 0.0, -0.0001], names))) == ["+36.0", "−2.5", "+0.0", "+0.0"]
    assert printed(plot_transfer(matrix([0.36, np.nan, 0.0, 0.29], names))) == ["+36", "+0", "+29"]


def test_no_stroke_of_a_hatch_runs_through_a_number():
    ax = plot_transfer(matrix([0.1, -0.3], ("CT", "MRI")).assign(p_corrected=[0.01, 0.2, 0.2, 0.01]))
    assert [text.get_bbox_patch() is not None for text in ax.texts] == [False, True, True, False]


def test_many_runs_are_drawn_smoothed_only():
    steps = pd.DataFrame({"step": range(20), "reward": np.linspace(0, 1, 20)})
    runs = pd.concat([steps.assign(train_modality=name) for name in MODALITIES])
    assert len(plot_rewards(runs).lines) == len(MODALITIES)
    assert len(plot_rewards(runs[runs["train_modality"].isin(MODALITIES[:3])]).lines) == 6


def test_points_at_the_ends_of_the_scale_are_drawn_whole():
    ax, _ = draw(plot_accuracy, scores(["CT"]).assign(accuracy=[0.0, 1.0], low=[0.0, 0.9], high=[0.1, 1.0]))
    low, high = ax.get_xlim()
    assert low < 0 and high > 1


def test_a_paper_figure_keeps_its_letters_as_letters(tmp_path):
    with plt.rc_context(PAPER):
        ax, _ = draw(plot_transfer, matrix([0.1, -0.3]), (3.5, 3))
        ax.figure.savefig(tmp_path / "transfer.pdf")
    content = (tmp_path / "transfer.pdf").read_bytes()
    assert b"/CIDFontType2" in content and b"/Type3" not in content  # Type 42, which a PDF calls so
