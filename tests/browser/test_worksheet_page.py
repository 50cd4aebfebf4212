"""The worksheet in a browser, from a file: filled in, closed, opened again, saved, read back and printed."""

from __future__ import annotations

import pandas as pd
import pytest
from errors_fakes import OPTIONS, answer, says, table
from playwright.sync_api import Page, expect
from widget_fakes import HOSTILE

import medr1kit as mk
from medr1kit.views.csv import write_csv
from medr1kit.views.page.worksheet import VERDICTS, export_worksheet, read_worksheet

CELLS = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "'=x", "''=x", "'plain", " =1", "plain", ""),
    *(";=1+1", "\uff1d1", "\u3000\uff0b1", "\x85=1", "; -x", "a;=b", "a; '=b", ";;=1", "\ufeff=1"),
    *(
        'a "quoted" cell',
        "a,b;c\td",
        "line\nend\r\n",
        "\0",
        "\0=1",
        "=\0",
        "\ud800",
        "\udc00\ud800=",
        "x\udfffy",
        "\ud83e",
    ),
    *(text for name, text in HOSTILE.items() if name != "long"),
]
"""Texts that a guard may take for something else, or write in another way."""


def at(page: Page, hook: str):
    return page.locator(f"[name='{hook}'],[data-mk='{hook}']:not(p)").first


@pytest.fixture(scope="module")
def errors():
    texts = [says("B"), "<think>No.</think><answer>C</answer> <script>alert(1)</script>", "B", '=cmd|"!"']
    rows = [answer(n, text, image_id=f"CT-test-0-{n}", question=f"Question {n}?") for n, text in enumerate(texts)]
    rows += [answer(9, says("D"), image_id="MRI-test-0-9", modality="MRI")]
    return mk.errors(table(*rows))


@pytest.fixture
def sheet(errors, tmp_path):
    return export_worksheet(errors, tmp_path / "sheet.html")


def save(page: Page, folder, name="worksheet-Ann-B-.csv"):
    with page.expect_download() as download:
        at(page, "save").click()
    assert download.value.suggested_filename == name
    download.value.save_as(folder / "saved.csv")
    return folder / "saved.csv"


def test_what_is_annotated_survives_a_reload_is_saved_and_read_back(page, errors, sheet, tmp_path):
    page.goto(sheet.as_uri())
    expect(at(page, "status")).to_have_text("5 of 5 errors · 0 of 5 annotated")
    at(page, "reader").fill("Ann B.")
    at(page, "verdict").fill("gold wrong")
    at(page, "next").click()
    expect(page.locator(".stage [data-mk=question] [data-mk=question]")).to_have_text("Question 1?")
    expect(at(page, "verdict")).to_have_value("")
    at(page, "comment").fill('=a "faint"\nring')
    expect(at(page, "status")).to_have_text("5 of 5 errors · 2 of 5 annotated")
    page.reload()
    expect(at(page, "status")).to_have_text("5 of 5 errors · 2 of 5 annotated")
    expect(at(page, "reader")).to_have_value("Ann B.")
    expect(at(page, "verdict")).to_have_value("gold wrong")
    at(page, "modality").select_option("MRI")
    expect(at(page, "status")).to_contain_text("1 of 5 errors")
    back = read_worksheet(save(page, tmp_path), errors)
    assert back["id"].tolist() == ["q0", "q1"], "all rows are saved, not those alone that a filter leaves"
    assert back["reader"].tolist() == ["Ann B."] * 2
    assert back["verdict"].tolist() == ["gold wrong", ""] and back["comment"].tolist() == ["", '=a "faint"\nring']


def test_an_empty_sheet_saved_by_the_browser_is_the_csv_that_python_writes(page, errors, sheet, tmp_path):
    page.goto(sheet.as_uri())
    expect(at(page, "status")).to_contain_text("5 of 5 errors")
    saved = save(page, tmp_path, "worksheet-reader.csv")
    assert saved.read_bytes() == export_worksheet(errors, tmp_path / "python.csv").read_bytes()


def test_the_guard_against_formulas_is_the_same_in_both_languages(page, sheet, tmp_path):
    assert len(set(CELLS)) == len(CELLS)
    page.goto(sheet.as_uri())
    units = [[ord(unit) for unit in units_of(text)] for text in CELLS]  # a lone half travels as a number
    made = page.evaluate("units => csv([['=head'], ...units.map(some => [String.fromCharCode(...some)])])", units)
    path = write_csv(pd.DataFrame({"=head": CELLS}, dtype=object), tmp_path / "python.csv")
    assert made.encode("utf-8") == path.read_bytes()


def units_of(text: str) -> str:
    """The text in the units that JavaScript counts in: a pair of halves for what lies beyond U+FFFF."""
    packed = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(int.from_bytes(packed[i : i + 2], "little")) for i in range(0, len(packed), 2))


def test_the_filters_find_what_is_left_to_do(page, sheet):
    page.goto(sheet.as_uri())
    expect(page.locator("#verdicts option")).to_have_count(len(VERDICTS))
    at(page, "verdict").fill("unclear")
    at(page, "kind").select_option("without a note")
    expect(at(page, "status")).to_contain_text("4 of 5 errors")
    at(page, "kind").select_option("with a note")
    expect(page.locator("[data-mk=id]:visible")).to_contain_text("q0 · CT")
    at(page, "kind").select_option("all")
    at(page, "error").select_option("unread, wrong letter")
    expect(page.locator("#reader .mk-cell:visible .mk-text")).to_have_text("B")
    at(page, "error").select_option("all")
    at(page, "search").fill("<script>")
    expect(at(page, "status")).to_contain_text("1 of 5 errors")
    at(page, "search").fill("no such word")
    expect(page.locator("#reader")).to_contain_text("No error is left")
    expect(at(page, "verdict")).to_be_disabled()


def test_an_error_is_shown_with_its_image_options_letter_and_reason(page, sheet):
    page.goto(sheet.as_uri())
    shown = page.locator("#reader .stage")
    expect(shown.locator("img.mk-image")).to_have_count(1)
    expect(shown.locator("[data-mk=options] li")).to_have_count(len(OPTIONS))
    expect(shown.locator("[data-mk=gold]")).to_contain_text("A) liver ✓ gold")
    expect(shown.locator("[data-mk=options] li").nth(1)).to_contain_text("lung ←")
    expect(shown.locator("[data-mk=verdict]").first).to_contain_text("wrong")
    at(page, "number").fill("4")
    at(page, "number").press("Enter")
    expect(shown.locator("[data-mk=answer]")).to_contain_text("because")
    expect(shown.locator(".mk-text")).to_have_text('=cmd|"!"')


def test_paper_gets_every_error_with_what_was_written(page, sheet):
    page.goto(sheet.as_uri())
    at(page, "verdict").fill("<b>gold wrong")
    papers = page.locator("#reader .paper article")
    expect(papers).to_have_count(5)
    expect(papers.first).to_be_hidden()
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(papers.first).to_be_visible()
    expect(papers.first).to_contain_text("Question 0?")
    expect(papers.first.locator("img.mk-image")).to_be_visible()
    expect(papers.first).to_contain_text("verdict: <b>gold wrong")
    expect(papers.nth(1)).to_contain_text("verdict: ________ · comment: ________")
    expect(page.locator("#reader .stage")).to_be_hidden()
    expect(at(page, "save")).to_be_hidden()
    assert page.pdf().count(b"/Type /Page\n") >= 2
