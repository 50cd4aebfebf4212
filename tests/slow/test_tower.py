"""Whole runs that train the vision tower end where stock TRL's end, in the cases that the fast tests leave out."""

import pytest
from shared_prefix_cases import stock_and_shared
from test_shared_prefix_trainer import CASES, EXACT, SMALL, TOWER, difference, load, rows, same_log, with_tower

__all__ = ["load", "rows"]  # fixtures


@pytest.mark.parametrize("case", [case for case in CASES if case not in TOWER])
def test_a_run_ends_where_stock_ends(load, rows, tmp_path, case):
    runs = list(stock_and_shared(load, with_tower, rows, tmp_path, **CASES[case]))
    assert difference(runs) < EXACT
    same_log(runs, but=("entropy", "kl") if CASES[case].items() >= SMALL.items() else ())
