"""No CSV file of ours holds a formula, and every text comes back."""

import itertools

import pandas as pd
import pytest

from medr1kit.results.formulas import as_written, harmless, harmless_table


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\n=1", "  =1", ";=1+1", "; -2", "'=1", "'';'=1"])
@pytest.mark.parametrize("blank", ["", "\u3000", "\u00a0", "\u200b", "\ufeff", "\x1f"])
def test_what_a_spreadsheet_would_run_has_an_apostrophe_in_front(text, blank):
    assert harmless(blank + text) == "'" + (blank + text).replace(";", ";'")


@pytest.mark.parametrize("text", ["\tx", "\rx", "\nx", "'\tx"])
def test_what_begins_with_a_tab_or_a_line_end_has_one_too(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("sign", "\uff1d\uff0b\uff0d\uff20\ufe66")
def test_signs_in_full_width_are_signs(sign):
    assert harmless(f"{sign}1") == f"'{sign}1"


def test_what_follows_a_semicolon_begins_a_cell():
    assert harmless("a;=1; b; -2") == "a;'=1; b;' -2"


@pytest.mark.parametrize(
    "text", ["", "liver", "a - b", "x = 1, y", "3-4 cm", "'tis", "A) left; B) right", "first\n- second"]
)
def test_plain_texts_stay(text):
    assert harmless(text) == text == as_written(text)


def test_every_text_comes_back():
    for letters in itertools.product("=;' \ta\uff1d", repeat=5):
        text = "".join(letters)
        assert as_written(harmless(text)) == text
        assert harmless(harmless(text)) != harmless(text) or harmless(text) == text, "else one is lost in reading"


def test_in_a_table_texts_and_headings_are_made_harmless_and_numbers_stay():
    table = pd.DataFrame({"=name": ["=1", None, "b"], "difference": [-0.5, 0.1, None], "mixed": [-1, "-1", True]})
    safe = harmless_table(table)
    assert list(safe) == ["'=name", "difference", "mixed"] and safe["difference"].tolist()[:2] == [-0.5, 0.1]
    assert (
        safe["'=name"].tolist()[0] == "'=1"
        and pd.isna(safe["'=name"][1])
        and safe["mixed"].tolist() == [-1, "'-1", True]
    )
