import pandas as pd
import pytest
from errors_fakes import many

from medr1kit.results.errors.kinds import add_seeds, describe, seeds_table
from medr1kit.vqa import DataError


def runs(*verdicts):
    return pd.concat([many(right).assign(seed=seed) for seed, right in enumerate(verdicts)])


def test_the_hard_core_is_what_all_seeds_get_wrong_beside_what_independent_seeds_would():
    table = seeds_table(add_seeds(describe(runs([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]))))
    assert table["wrong_in"].tolist() == [0, 1, 2, 3] and table["n"].tolist() == [2, 0, 1, 1]
    assert table["expected"].to_numpy() == pytest.approx([0.1875, 0.4375, 0.3125, 0.0625])
    assert (table["of"] == 4).all() and (table["seeds"] == 3).all()


def test_each_answer_knows_how_many_seeds_missed_its_question():
    rows = add_seeds(describe(runs([0, 1], [0, 0])))
    assert rows["wrong_in"].tolist() == [2, 1, 2, 1] and (rows["seeds"] == 2).all()


def test_formats_are_not_seeds_of_each_other_and_one_seed_has_no_table():
    one = many([0, 1])
    rows = add_seeds(describe(pd.concat([one, one.assign(format="no-think")])))
    assert (rows["seeds"] == 1).all() and seeds_table(rows).empty


def test_two_answers_of_one_seed_are_refused():
    with pytest.raises(DataError, match="'q0' is answered more than once by one model and seed"):
        add_seeds(describe(pd.concat([many([1]), many([1])])))
