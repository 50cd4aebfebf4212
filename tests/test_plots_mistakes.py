"""Figures of errors and probes, tested on what they draw."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from errors_fakes import answer, many, says, table
from matplotlib.colors import to_rgb

import medr1kit as mk
from medr1kit.views.plots.bars import plot_kinds, plot_letters, plot_probe, plot_slices
from medr1kit.views.plots.heatmaps import plot_confusion
from medr1kit.vqa import DataError


@pytest.fixture(scope="module")
def errors():
    bad = {"task": ["Lesion Grading"] * 20 + ["Disease Diagnosis"] * 20, "modality": ["CT", "OCT"] * 20}
    one = many([n % 4 == 0 for n in range(20)] + [n % 4 > 0 for n in range(20)], **bad)
    unread = one.assign(
        format="no-think", text="It is A", predicted=None, lenient_predicted="A", correct=False, well_formed=False
    )
    return mk.errors(pd.concat([one, unread]))


def reliance():
    numbers = {"accuracy": [0.7, 0.3], "low": [0.6, 0.2], "high": [0.8, 0.4]}
    numbers |= {"flipped": [0.0, 0.6], "flipped_low": [0.0, 0.5], "flipped_high": [0.0, 0.7]}
    return pd.DataFrame({"images": ["right", "blank"], "n": 50, **numbers})


def positions():
    measures = [("chosen", "A", 0.5), ("chosen", "none", 0.1), ("accuracy", "A", 0.6), ("accuracy", "all", 0.4)]
    measures += [("consistent", "all", 0.3), ("right in all", "all", 0.2)]
    frame = pd.DataFrame(measures, columns=["measure", "letter", "value"])
    return frame.assign(n=50, low=frame["value"] - 0.1, high=frame["value"] + 0.1, chance=0.25)


def names(ticks):
    return [tick.get_text().replace("\n", " ") for tick in ticks]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", ["kinds", "letters", "slices", "confusion", "images", "measure"])
def test_a_plot_draws_into_the_axes_it_is_given_and_nowhere_else(errors, name):
    if name in ("images", "measure"):
        plot, frame = plot_probe, reliance() if name == "images" else positions()
    else:
        plot, frame = getattr(mk, f"plot_{name}"), getattr(errors, name)
    if name == "confusion":
        frame = frame[frame["modality"] == "CT"]
    figure, (left, right) = plt.subplots(1, 2)
    before, settings = frame.copy(), dict(matplotlib.rcParams)  # the first figure of a process has chosen a backend
    assert plot(frame, ax=right) is right
    assert right.has_data() and not left.has_data() and figure.axes == [left, right]
    assert dict(matplotlib.rcParams) == settings and plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(frame, before)
    assert plot(frame).figure is not figure


@pytest.mark.parametrize("projection", ["polar", "3d"])
def test_axes_of_another_kind_are_refused(errors, projection):
    ax = plt.figure().add_subplot(projection=projection)
    with pytest.raises(DataError, match=r"ax is .*; pass one of the axes of a figure"):
        plot_kinds(errors.kinds, ax=ax)


def test_kinds_are_bars_that_end_at_one_with_a_hatch_for_what_colour_does_not_tell(errors):
    ax = plot_kinds(errors.kinds)
    assert names(ax.get_yticklabels()) == ["think-before", "no-think"]
    ends = {round(bar.get_y()): 0.0 for bar in ax.patches}
    for bar in ax.patches:
        ends[round(bar.get_y())] = max(ends[round(bar.get_y())], bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([1, 1])
    assert legend(ax) == ["right", "wrong", "unread, right letter", "unread, wrong letter"]
    styles = {(to_rgb(c.patches[0].get_facecolor()), c.patches[0].get_hatch()) for c in ax.containers}
    assert len(styles) == 4
    assert texts(ax) == ["50", "50", "25", "75"]


def test_letters_have_a_point_with_interval_for_each_model_and_a_mark_for_gold():
    forward = table(*(answer(n, says("A"), "ABCD"[n % 4]) for n in range(20)))
    backward = table(*(answer(n, says("D"), "ABCD"[n % 4]) for n in range(20))).assign(method="sft")
    ax = plot_letters(mk.errors(pd.concat([forward, backward])).letters)
    assert names(ax.get_yticklabels()) == list("ABCD") and ax.get_ylim()[0] > ax.get_ylim()[1]
    one, other = (bar.lines[0] for bar in ax.containers)
    assert list(one.get_xdata()) == [1, 0, 0, 0] and list(other.get_xdata()) == [0, 0, 0, 1]
    assert one.get_marker() != other.get_marker()
    (gold,) = [c for c in ax.collections if c.get_label() == "gold"]
    assert [segment[0, 0] for segment in gold.get_segments()] == pytest.approx([0.25] * 4)
    assert [label.split(" · ")[0] for label in legend(ax)] == ["grpo", "sft", "gold"], "the points come first"


def test_slices_are_filled_where_they_survive_correction_and_named_with_their_n():
    verdicts = [0] * 30 + [1] * 60 + [0] * 3 + [1] * 8 + [0] * 4
    e = mk.errors(many(verdicts, task=["bad"] * 30 + ["good"] * 60 + ["few"] * 3 + ["mid"] * 12), by="task")
    few = e.slices.set_index("slice").loc["few"]
    assert few["p"] < 0.05 < few["p_holm"], "else this shows nothing"
    ax = plot_slices(e.slices)
    assert names(ax.get_yticklabels()) == ["bad (n=30)", "few (n=3)", "mid (n=12)", "good (n=60)"]
    sure, doubtful = ax.containers
    assert (sure.get_label(), list(sure.lines[0].get_ydata())) == ("differs from the rest", [0, 3])
    assert (doubtful.get_label(), list(doubtful.lines[0].get_ydata())) == ("may be chance", [1, 2])
    assert doubtful.lines[0].get_markerfacecolor() == "white"
    rest = next(c for c in ax.collections if c.get_label() == "all other answers")
    assert [s[0, 0] for s in rest.get_segments()] == pytest.approx(e.slices["rest"].to_list())
    assert len(plot_slices(e.slices, 2).get_yticklabels()) == 2
    with pytest.raises(DataError, match="slices has no rows"):
        plot_slices(e.slices.head(0))


def test_words_are_drawn_like_slices():
    questions = ["Which is odd?"] * 30 + ["What is shown?"] * 30
    e = mk.errors(many([0] * 30 + [1] * 30, question=questions), by="question")
    assert names(plot_slices(e.words).get_yticklabels()) == ["odd, which (n=30)", "shown, what (n=30)"]


def test_confusion_prints_shares_and_counts_frames_the_right_and_leaves_grey_what_never_met():
    rows = [answer(n, says("B")) for n in range(3)] + [answer(3, says("A"))]
    rows += [answer(9, says("B"), options=["yes", "no"])]
    ax = plot_confusion(mk.errors(table(*rows)).confusion, n=4)
    said = names(ax.get_xticklabels())
    assert said == names(ax.get_yticklabels()) and set(said) >= {"liver", "lung", "yes", "no"}
    assert "75\n3/4" in texts(ax) and "100\n1/1" in texts(ax)
    assert "25" in texts(ax) and "0" in texts(ax), "accuracy where liver and yes are gold"
    assert sum(patch.get_label() == "_diagonal" for patch in ax.patches) == 4
    values = np.ma.filled(ax.collections[0].get_array().astype(float), np.nan).reshape(4, 4)
    assert np.isnan(values[said.index("liver"), said.index("yes")])
    assert abs(said.index("yes") - said.index("no")) == 1, "options of one question stand together"


def test_confusion_of_several_modalities_or_of_nothing_is_refused(errors):
    with pytest.raises(DataError, match="select one"):
        plot_confusion(errors.confusion)
    one = errors.confusion[errors.confusion["modality"] == errors.confusion["modality"].iloc[0]]
    with pytest.raises(DataError, match="several rows belong to one cell"):
        plot_confusion(pd.concat([one, one]))
    with pytest.raises(DataError, match="no confusion to draw"):
        plot_confusion(mk.errors(many([1, 1])).confusion)


def test_a_probe_of_images_shows_accuracy_and_what_changed():
    ax = plot_probe(reliance())
    accuracy, changed = (bar.lines[0] for bar in ax.containers)
    assert list(accuracy.get_xdata()) == [0.7, 0.3] and list(changed.get_xdata()) == [0.6]
    assert names(ax.get_yticklabels()) == ["right", "blank"] and legend(ax) == ["accuracy", "answers that changed"]
    assert names(plot_probe(reliance().rename(columns={"images": "wording"})).get_yticklabels()) == ["right", "blank"]


def test_a_probe_of_positions_names_its_measures_and_marks_guessing():
    ax = plot_probe(positions())
    expected = ["chose A", "not read", "right, gold at A", "right, all", "same text always", "always right"]
    assert names(ax.get_yticklabels()) == expected
    (guess,) = [c for c in ax.collections if c.get_label() == "guessing evenly"]
    assert len(guess.get_segments()) == 6
    with pytest.raises(DataError, match="plot_probe draws"):
        plot_probe(pd.DataFrame({"x": [1]}))


def test_the_paper_style_is_a_plain_dict_that_matplotlib_takes(tmp_path):
    with plt.rc_context(mk.PAPER):
        figure, ax = plt.subplots(figsize=(3.3, 2.5), layout="constrained")
        plot_probe(positions(), ax=ax)
        figure.savefig(tmp_path / "figure.pdf")
        figure.canvas.draw()
    assert b"/Type3" not in (tmp_path / "figure.pdf").read_bytes()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    assert all(box.x0 >= figure.bbox.x0 for box in boxes)
