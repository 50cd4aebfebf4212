import numpy as np
import pandas as pd
import pytest
from errors_fakes import many

from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.slices import _against_rest, _correlation, _effective, slices_table, words_table
from medr1kit.vqa import DataError


def rows(verdicts, **columns):
    return describe(many(verdicts, **columns))


def test_slices_are_single_values_and_their_combinations_each_set_of_answers_once():
    data = rows([1] * 8, modality=["CT"] * 4 + ["MRI"] * 4, task=["a", "b"] * 4, source=["s"] * 8)
    table = slices_table(data, ["modality", "task", "source"])
    assert set(table["slice"]) == {"CT", "MRI", "a", "b", "CT · a", "CT · b", "MRI · a", "MRI · b"}
    assert table.set_index("slice").loc["CT", ["modality", "task", "n"]].tolist() == ["CT", "any", 4]


def test_the_surely_bad_slice_stands_before_the_small_one_with_bad_luck():
    verdicts = [0] * 2 + [0] * 70 + [1] * 30 + [1] * 98
    table = slices_table(rows(verdicts, task=["tiny"] * 2 + ["bad"] * 100 + ["good"] * 98), ["task"])
    assert table["slice"].tolist() == ["bad", "tiny", "good"]
    bad, tiny, _ = table.itertuples()
    assert bad.accuracy == pytest.approx(0.3) and bad.rest == pytest.approx(0.98)
    assert bad.p_holm < 1e-10 < 0.05 < tiny.p_holm
    assert bad.difference == pytest.approx(bad.accuracy - bad.rest) and bad.chance == 0.25


def test_p_is_fisher_s_where_every_answer_has_its_own_image():
    from scipy.stats import fisher_exact

    table = slices_table(rows([0, 0, 0, 1] + [1] * 12, task=["a"] * 4 + ["b"] * 12), ["task"])
    expected = fisher_exact([[1, 3], [12, 0]]).pvalue
    assert table["p"].to_numpy() == pytest.approx([expected, expected])
    assert table["p_holm"].to_numpy() == pytest.approx([2 * expected] * 2)


def test_answers_to_one_image_that_stand_and_fall_together_count_once():
    verdicts, task = [0] * 6 + [1] * 2 + [1] * 12, ["a"] * 8 + ["b"] * 12
    once = rows(verdicts, task=task)
    again = pd.concat([once, once, once], ignore_index=True)
    single, triple = (slices_table(data, ["task"]).set_index("slice").loc["a"] for data in (once, again))
    assert triple["p"] == pytest.approx(single["p"])
    assert (triple["n"], triple["images"]) == (24, 8)
    naive = slices_table(again.assign(unit=range(60)), ["task"]).set_index("slice").loc["a", "p"]
    assert naive < triple["p"] / 100


def test_slices_like_the_rest_are_seldom_called_worse():
    rng, low = np.random.default_rng(0), []
    images, mask = np.repeat(np.arange(300), 3), np.repeat(np.arange(300) < 30, 3)
    for _ in range(200):  # three seeds, questions of unequal difficulty, nine of ten answers right
        right = (rng.random((300, 3)) < rng.beta(1.8, 0.2, 300)[:, None]).ravel().astype(float)
        low.append(_against_rest(_effective(right, mask, images, _correlation(right, images))) < 0.05)
    assert 0 < np.mean(low) <= 0.08


def test_a_slice_of_one_image_has_no_p():
    table = slices_table(rows([0, 1, 1, 1], task=["a", "b", "b", "b"]), ["task"]).set_index("slice")
    assert np.isnan(table.loc["a", "p"]) and np.isnan(table.loc["a", "p_holm"])


def test_missing_values_are_a_slice_of_their_own_and_bad_columns_are_refused():
    data = rows([1, 1, 0, 0], task=["a", "a", None, None])
    assert set(slices_table(data, ["task"])["slice"]) == {"a", "unknown"}
    with pytest.raises(DataError, match="by='planet'"):
        slices_table(data, ["planet"])
    with pytest.raises(DataError, match="give one to four"):
        slices_table(data, [])


def test_words_that_go_with_errors_come_first_and_words_that_always_stand_together_share_a_row():
    questions = ["Which word does not fit?"] * 40 + ["What is shown here?"] * 60
    table = words_table(rows([0] * 30 + [1] * 70, question=questions))
    assert table["word"].tolist() == ["does, fit, not, …", "here, shown, what"]
    assert table["accuracy"].to_numpy() == pytest.approx([0.25, 1.0])
    assert table["p_holm"][0] < 0.001
    assert words_table(rows([0, 1])).empty
