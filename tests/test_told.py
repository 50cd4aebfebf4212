"""What notebooks and pages tell of the recorded study is what its tables hold."""

from pathlib import Path

import nbformat
import pytest
from told import recorded_number, told

ROOT = Path(__file__).parent.parent
PROSE = {
    path.name: "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    for path in sorted((ROOT / "notebooks").glob("0[6-9]*.ipynb"))
}
PROSE["findings.md"] = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
PROSE["recorded"] = (ROOT / "medr1kit" / "results" / "recorded" / "README.md").read_text(encoding="utf-8")
TOLD = [(name, *number) for name, text in PROSE.items() for number in told(text)]


@pytest.mark.parametrize(("name", "numbers", "table", "what"), TOLD)
def test_a_number_that_is_told_is_the_recorded_one(name, numbers, table, what):
    assert numbers == pytest.approx(recorded_number(table, what)[: len(numbers)], abs=0.051), name


def test_every_page_that_tells_of_the_study_tells_numbers():
    assert all(any(told(text)) for text in PROSE.values()) and len(TOLD) > 15


def test_a_number_is_read_with_its_interval_and_its_sign():
    text = "gains +20.0 [+10.4, +29.6] points<!-- comparisons: a, b -->, and \u22124.4 %<!-- thoughts: x -->; 7 of 9"
    assert list(told(text)) == [([20.0, 10.4, 29.6], "comparisons", "a, b"), ([-4.4], "thoughts", "x")]
