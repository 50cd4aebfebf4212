"""Figures, tested on what they draw: positions, texts, marks; and on leaving everything else alone."""

import itertools

import datasets
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from medr1kit.audits import blind_floor
from medr1kit.views.plots.bars import plot_accuracy
from medr1kit.views.plots.curves import plot_lengths, plot_rewards
from medr1kit.views.plots.heatmaps import plot_counts, plot_transfer
from medr1kit.vqa import MODALITIES, TASKS, DataError


def questions(counts):
    rows = [{"modality": m, "task": t} for (m, t), n in counts.items() for _ in range(n)]
    return pd.DataFrame(rows)


def metrics(n=100):
    step = np.arange(1, n + 1)
    noise = np.where(step % 2 == 0, 0.1, -0.1)
    columns = {"step": step, "reward": 1 + noise, "rewards/accuracy_reward/mean": 0.4 + noise}
    columns |= {"rewards/format_reward/mean": 0.6, "completions/mean_length": 50 + noise}
    return pd.DataFrame(columns | {"completions/min_length": 20, "completions/max_length": 90})


def scores(**columns):
    frame = pd.DataFrame({"modality": ["CT", "OCT", "all"], "n": [20, 20, 40], "accuracy": [0.5, 0.9, 0.7]})
    frame = frame.assign(low=[0.3, 0.7, 0.6], high=[0.7, 0.95, 0.8], chance=[0.25, 0.5, 0.375])
    return frame.assign(**columns)[[*columns, *frame.columns]]


def transfer(names=("CT", "MRI"), by="modality", **columns):
    rows = [
        {f"train_{by}": a, "method": "grpo", "format": "no-think", by: b, "accuracy": 0.9 if a == b else 0.4,
         "difference": 0.5 if a == b else -0.02, "p_corrected": 0.001 if a == b else 1.0}
        for a in names for b in names
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def labels(ticks):
    return [tick.get_text().replace("\n", " ") for tick in ticks]


def marked(ax, label):
    return sorted((patch.get_y(), patch.get_x()) for patch in ax.patches if patch.get_label() == label)


DRAWINGS = {
    "counts": (plot_counts, questions({("CT", TASKS[0]): 3})),
    "rewards": (plot_rewards, metrics()),
    "lengths": (plot_lengths, metrics()),
    "accuracy": (plot_accuracy, scores()),
    "transfer": (plot_transfer, transfer()),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_draws_into_the_axes_it_is_given_and_nowhere_else(name):
    plot, frame = DRAWINGS[name]
    figure, (left, right) = plt.subplots(1, 2)
    before, settings = frame.copy(), dict(matplotlib.rcParams)  # the first figure of a process has chosen a backend
    assert plot(frame, ax=right) is right
    assert right.has_data() and not left.has_data()
    assert figure.axes == [left, right], "no colour bar or twin axes was added"
    assert plt.get_fignums() == [figure.number]
    assert dict(matplotlib.rcParams) == settings
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_axes_a_new_figure_is_made(name):
    plot, frame = DRAWINGS[name]
    first, second = plot(frame), plot(frame)
    assert first.figure is not second.figure


def test_no_label_is_cut_off_or_overlaps_in_a_figure_of_default_size():
    table = transfer(MODALITIES)
    for ax in (plot_transfer(table), plot_transfer(transfer(TASKS, "task")), plot_accuracy(scores())):
        ax.figure.canvas.draw()
        page = ax.figure.bbox
        boxes = [tick.get_window_extent() for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())]
        assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)
        if ax.get_xticklabels()[0].get_rotation() == 0:
            row = [tick.get_window_extent() for tick in ax.get_xticklabels()]
            assert all(one.x1 < other.x0 for one, other in itertools.pairwise(row))


def test_counts_are_printed_in_canonical_order_and_empty_cells_stay_empty():
    ax = plot_counts(questions({("OCT", TASKS[1]): 2, ("CT", TASKS[4]): 1234, ("CT", TASKS[1]): 7}))
    assert labels(ax.get_yticklabels()) == ["CT", "OCT"]
    assert labels(ax.get_xticklabels()) == ["Disease Diagnosis", "Other Biological Attributes"]
    assert texts(ax) == ["7", "1,234", "2"]


def test_counts_read_a_dataset_without_decoding_images_and_count_the_unknown():
    features = datasets.Features(
        modality=datasets.Value("string"), task=datasets.Value("string"), image=datasets.Image()
    )
    broken = {"path": None, "bytes": b"not an image"}
    rows = [{"modality": m, "task": TASKS[0], "image": broken} for m in ("CT", None, None)]
    ax = plot_counts(datasets.Dataset.from_list(rows, features=features))
    assert labels(ax.get_yticklabels()) == ["CT", "unknown"] and texts(ax) == ["1", "2"]


def test_rewards_have_a_raw_and_a_smooth_line_each_and_a_legend():
    ax = plot_rewards(metrics())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "reward (sum)", "accuracy reward", "format reward",
    ]  # fmt: skip
    raw, smooth = (line.get_ydata() for line in ax.lines[:2])
    assert len(ax.lines) == 6 and len(raw) == len(smooth) == 100
    assert np.ptp(smooth[3:-3]) < np.ptp(raw) / 3
    assert smooth[50] == pytest.approx(raw[48:53].mean())
    assert ax.lines[0].get_alpha() < 1 and ax.lines[1].get_linewidth() > ax.lines[0].get_linewidth()
    assert len({to_rgb(line.get_color()) for line in ax.lines}) == 3


def runs(seeds=3, **columns):
    """Seeds that differ by a constant: 0, 0.1, 0.2."""
    shifts = [metrics().assign(seed=s, reward=1 + 0.1 * s, **columns) for s in range(seeds)]
    return pd.concat(shifts, ignore_index=True)


def test_several_seeds_are_a_line_in_a_band():
    ax = plot_rewards(runs())
    assert len(ax.lines) == 3, "a mean for each reward, and no raw lines"
    assert ax.lines[0].get_ydata() == pytest.approx(np.full(100, 1.1))
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1.0, 1.2))
    assert "range of 3 seeds" in [text.get_text() for text in ax.get_legend().get_texts()]
    lengths = plot_lengths(runs())
    assert len(lengths.lines) == 1 and "shortest to longest" not in lengths.get_legend_handles_labels()[1]


def test_seeds_of_unequal_length_are_averaged_where_all_were_logged():
    short = runs(2)
    short = short[(short["seed"] == 0) | (short["step"] <= 40)]
    assert plot_rewards(short).lines[0].get_xdata().max() == 40


def test_several_methods_get_a_curve_of_the_whole_reward_each_with_its_own_dashes():
    both = pd.concat([runs(method="grpo"), runs(method="other")])
    for ax in (plot_rewards(both), plot_lengths(both)):
        assert [line.get_label() for line in ax.lines] == ["grpo", "other"]
        one, other = ax.lines
        assert one.get_color() != other.get_color() and one.get_linestyle() != other.get_linestyle()


def test_runs_that_are_not_told_apart_are_refused():
    with pytest.raises(DataError, match="hold step 1 more than once; tell runs apart in a column 'seed' or 'run'"):
        plot_rewards(runs().drop(columns="seed"))


def test_rewards_skip_rows_that_logged_something_else():
    frame = pd.concat([metrics(10), pd.DataFrame([{"step": 11, "train_runtime": 5.0}])])
    assert len(plot_rewards(frame).lines[0].get_xdata()) == 10
    with pytest.raises(DataError, match="only GRPO logs rewards"):
        plot_rewards(pd.DataFrame({"step": [1], "loss": [0.5]}))
    with pytest.raises(DataError, match="no column 'step'"):
        plot_rewards(pd.DataFrame({"reward": [1]}))


def test_lengths_show_the_band_only_when_it_was_logged():
    ax = plot_lengths(metrics())
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (20, 90)
    assert "tokens" in ax.get_ylabel() and ax.get_ylim()[0] == 0
    assert not plot_lengths(metrics().drop(columns="completions/min_length")).collections


def test_accuracy_points_carry_their_intervals_in_the_order_of_the_frame():
    ax = plot_accuracy(scores())
    assert labels(ax.get_yticklabels()) == ["CT", "OCT", "all"]
    (bar,) = ax.containers
    assert bar.lines[0].get_xdata().tolist() == [0.5, 0.9, 0.7]
    segments = [segment[:, 0].tolist() for segment in bar.lines[2][0].get_segments()]
    assert np.array(segments) == pytest.approx(np.array([[0.3, 0.7], [0.7, 0.95], [0.6, 0.8]]))
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"


def ticks(ax, label):
    (marks,) = [c for c in ax.collections if c.get_label() == label]
    return [(segment[0, 0], segment[:, 1].mean()) for segment in marks.get_segments()]


def test_chance_and_the_blind_floor_stand_on_their_own_line():
    test = [{"options": ["a", "b"], "answer": letter, "modality": m} for m, letter in (("CT", "A"), ("OCT", "B"))]
    floor = blind_floor([{"options": ["a", "c"], "answer": "A"}], test)
    for given in (floor, floor.frame):
        ax = plot_accuracy(scores(), given)
        assert sorted(ticks(ax, "chance"), key=lambda t: t[1]) == [(0.25, 0), (0.5, 1), (0.375, 2)]
        assert sorted(ticks(ax, "blind floor"), key=lambda t: t[1]) == [(1.0, 0), (0.0, 1), (0.5, 2)]
    (line,) = [line for line in plot_accuracy(scores(), 0.83).lines if line.get_label() == "blind floor"]
    assert list(line.get_xdata()) == [0.83, 0.83]
    assert not [c for c in plot_accuracy(scores()).collections if c.get_label() == "blind floor"]


def test_the_ceiling_stands_on_its_own_line_in_another_stroke_than_floor_and_chance():
    ceiling = scores().iloc[[2, 0]].assign(accuracy=[0.8, 0.6])
    ax = plot_accuracy(scores(), 0.4, ceiling)
    assert ticks(ax, "ceiling (probe)") == [(0.8, 2), (0.6, 0)]
    strokes = {artist.get_label(): str(artist.get_linestyle()) for artist in (*ax.collections, *ax.lines)}
    assert len({strokes[name] for name in ("ceiling (probe)", "chance", "blind floor")}) == 3
    assert "ceiling (probe)" in labels(ax.get_legend().get_texts())
    with pytest.raises(DataError, match="ceiling has several rows for 'CT'; select one"):
        plot_accuracy(scores(), ceiling=pd.concat([ceiling, ceiling.iloc[1:]]))
    with pytest.raises(DataError, match="ceiling"):
        plot_accuracy(scores(), ceiling=1.2)


def test_several_models_are_told_apart_by_place_marker_colour_and_name():
    both = pd.concat([scores(method="base", format="no-think"), scores(method="grpo", format="no-think")])
    ax = plot_accuracy(both)
    one, other = (bar.lines[0] for bar in ax.containers)
    assert (one.get_ydata() < other.get_ydata()).all()
    assert one.get_marker() != other.get_marker() and one.get_color() != other.get_color()
    assert [bar.get_label() for bar in ax.containers] == ["base · no-think", "grpo · no-think"]
    with pytest.raises(DataError, match="two rows of the scores are the same point"):
        plot_accuracy(both.drop(columns="method"))


def test_a_single_score_without_any_grouping_can_be_drawn():
    assert labels(plot_accuracy(scores().iloc[-1:].drop(columns="modality")).get_yticklabels()) == ["accuracy"]


def test_transfer_prints_points_frames_the_diagonal_and_hatches_doubt():
    ax = plot_transfer(transfer(["MRI", "CT"]))
    assert labels(ax.get_xticklabels()) == labels(ax.get_yticklabels()) == ["CT", "MRI"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("trained on", "tested on")
    assert texts(ax) == ["+50", "−2", "−2", "+50"]
    assert marked(ax, "_diagonal") == [(0, 0), (1, 1)]
    assert marked(ax, "_doubtful") == [(0, 1), (1, 0)]
    assert all(patch.get_hatch() for patch in ax.patches if patch.get_label() == "_doubtful")
    assert "hatched" in ax.get_title()
    mesh = ax.collections[0]
    assert mesh.get_clim() == (-30.0, 30.0), "white is no difference"


def test_transfer_of_accuracy_has_no_hatching_and_a_plain_scale():
    ax = plot_transfer(transfer(), value="accuracy")
    assert texts(ax) == ["90", "40", "40", "90"]
    assert marked(ax, "_doubtful") == [] and "hatched" not in ax.get_title()
    assert ax.collections[0].get_clim() == (0, 100)


def test_transfer_leaves_untested_cells_empty_and_frames_only_what_is_a_diagonal():
    table = transfer(["CT", "MRI", "OCT"]).iloc[:-1]
    table = table[table["train_modality"] != "MRI"]
    table.loc[table["modality"] == "MRI", ["difference", "p_corrected"]] = np.nan
    ax = plot_transfer(table)
    assert texts(ax) == ["+50", "−2", "−2"]
    assert marked(ax, "_diagonal") == [(0, 0), (1, 2)]
    assert marked(ax, "_doubtful") == [(0, 2), (1, 0)]


def test_a_map_of_one_row_is_as_flat_as_a_row_and_one_of_eight_as_high_as_any_figure():
    one = plot_transfer(transfer().query("train_modality == 'CT'"))
    assert one.get_figure().get_figheight() == pytest.approx(2.0)
    eight = plot_transfer(transfer(names=MODALITIES))
    assert eight.get_figure().get_figheight() == pytest.approx(4.8)


def test_transfer_by_task_and_the_refusals():
    ax = plot_transfer(transfer(["Lesion Grading", "Anatomy Identification"], by="task"))
    assert labels(ax.get_yticklabels()) == ["Anatomy Identification", "Lesion Grading"]
    with pytest.raises(DataError, match="select one format"):
        plot_transfer(pd.concat([transfer(), transfer(format="think-after")]))
    with pytest.raises(DataError, match="value='p' is unknown; use one of difference, accuracy"):
        plot_transfer(transfer(), value="p")
    with pytest.raises(DataError, match="no column 'p_corrected'"):
        plot_transfer(transfer().drop(columns="p_corrected"))


def test_a_difference_of_modes_says_what_it_is_and_keeps_its_doubt():
    ax = plot_transfer(transfer(quantity="no-think minus think-before"))
    assert ax.get_title().startswith("no-think minus think-before (points)\nhatched")
    theirs = plot_transfer(transfer(published=True, quantity="no-think minus think"))
    assert theirs.get_title().startswith("published: no-think minus think (points)")


def test_the_diagonal_can_be_seen_on_dark_cells():
    ax = plot_transfer(transfer())
    seams = [patch for patch in ax.patches if patch.get_label() == "_seam"]
    frames = [patch for patch in ax.patches if patch.get_label() == "_diagonal"]
    assert len(seams) == len(frames) == 2
    assert seams[0].get_linewidth() > frames[0].get_linewidth() and to_rgb(seams[0].get_edgecolor()) == (1, 1, 1)


def test_own_and_published_rows_do_not_mix_in_one_map():
    own, theirs = transfer(("CT",)), transfer(("MRI",), published=True)
    mixed = pd.concat([own, theirs])
    with pytest.raises(DataError, match="own and published"):
        plot_transfer(mixed)
