import matplotlib

matplotlib.use("Agg")
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import medr1kit as mk
from medr1kit.vqa import DataError

FRAME = pd.DataFrame(
    {
        "comparison": ["GRPO gains", "SFT gains", "not run yet"],
        "difference": [0.10, 0.02, None],
        "low": [0.08, 0.0, None],
        "high": [0.12, 0.04, None],
        "low_all": [0.05, -0.03, None],
        "high_all": [0.15, 0.07, None],
    }
)


def test_each_comparison_is_a_line_with_both_intervals_in_points():
    ax = mk.plot_comparisons(FRAME)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["GRPO gains", "SFT gains"]
    drawn = [line.get_xdata() for line in ax.lines[1:]]  # the first is zero
    assert [list(map(float, x)) for x in drawn[:3]] == [
        pytest.approx([5, 15]), pytest.approx([8, 12]), pytest.approx([10])
    ]  # fmt: skip
    assert ax.yaxis_inverted()


def test_what_holds_when_all_are_looked_at_is_told_without_colour():
    points = [line for line in mk.plot_comparisons(FRAME).lines if line.get_marker() == "o"]
    assert [to_hex(point.get_markerfacecolor()) == "#ffffff" for point in points] == [False, True]


def test_it_draws_into_the_axes_given_and_refuses_what_is_no_table_of_comparisons():
    ax = matplotlib.pyplot.subplots()[1]
    assert mk.plot_comparisons(FRAME, ax=ax) is ax
    with pytest.raises(DataError, match=r"comparisons\.csv of a study"):
        mk.plot_comparisons(FRAME.drop(columns="low_all"))
