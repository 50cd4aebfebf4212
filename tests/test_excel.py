"""Excel files: read is what a sheet shows, or the file is refused."""

import openpyxl
import pytest

from medr1kit.data.excel import read_sheet
from medr1kit.data.load import DroppedRows, load_vqa
from medr1kit.vqa import DataError

HEAD = ["question", "A", "B", "answer"]
ROW = ["Which?", "liver", "lung", "B"]


def saved(folder, *lines, edit=None):
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    if edit:
        edit(book, book.active)
    book.save(folder / "exam.xlsx")
    return folder / "exam.xlsx"


def test_a_formula_without_its_result_is_refused_by_its_cell(tmp_path):
    file = saved(tmp_path, HEAD, ["Which?", "liver", "lung", '=IF(1=1,"B","A")'])
    with pytest.raises(
        DataError, match="cell D2 of 'Sheet' holds a formula without its result; open the file in Excel"
    ):
        load_vqa(file)


def test_a_merged_cell_counts_for_each_of_its_rows(tmp_path, capsys):
    def merge(book, sheet):
        sheet.merge_cells("A2:A3")

    lines = ["P1", *ROW], [None, *ROW], ["P2", *ROW]
    ds = load_vqa(saved(tmp_path, ["patient", *HEAD], *lines, edit=merge))
    assert list(ds["patient_id"]) == ["P1", "P1", "P2"]
    assert "merged cells taken for each of their rows" in capsys.readouterr().out


def test_a_heading_over_several_columns_names_all_of_them(tmp_path):
    def merge(book, sheet):
        sheet.merge_cells("B1:D1")

    for head in (["question", "Options", None, None, "answer"], ["question", "Antworten", None, None, "answer"]):
        ds = load_vqa(saved(tmp_path, head, ["Which?", "liver", "lung", "heart", "C"], edit=merge))
        assert list(ds["options"]) == [["liver", "lung", "heart"]]


@pytest.mark.parametrize("above", [["Exam radiology", "2024"], ["Exam", "Options", None, "Key"], ["Exam"]])
def test_the_line_of_column_names_is_found_below_titles(tmp_path, above):
    assert list(load_vqa(saved(tmp_path, above, [], HEAD, ROW))["answer"]) == ["B"]


def test_columns_in_other_words_are_shown_from_the_line_that_names_them(tmp_path):
    head = ["Frage", "Antwort A", "Antwort B", "Richtige\nAntwort"]
    file = saved(tmp_path, ["Katalog", "2024"], ["Angaben", "Antworten", None, "Schlüssel"], head, ROW)
    with pytest.raises(DataError, match="it has 'Frage, Antwort A, Antwort B, Richtige Antwort'"):
        load_vqa(file)
    with pytest.raises(DataError, match=r"no column 'Richtige Antwrt'.*did you mean 'Richtige Antwort'"):
        load_vqa(file, columns={"question": "Frage", "answer": "Richtige Antwrt"})


def test_a_column_without_a_name_is_told_and_can_be_named(tmp_path, capsys):
    file = saved(tmp_path, ["Frage", "A", "B", None, None], ["Welches?", "Leber", "Lunge", None, "B"])
    ds = load_vqa(file, columns={"question": "Frage", "answer": "(column 5 without a name)"})
    assert list(ds["answer"]) == ["B"]
    load_vqa(saved(tmp_path, [*HEAD, None, None], [*ROW, None, "a note"]))
    assert "not read: (column 6 without a name)" in capsys.readouterr().out


def test_a_hidden_sheet_is_passed_over_and_told(tmp_path, capsys):
    def hide(book, sheet):
        other = book.create_sheet("old")
        other.append(["x", "y"])
        other.sheet_state = "hidden"

    file = saved(tmp_path, HEAD, ROW, edit=hide)
    assert len(load_vqa(file)) == 1
    assert "sheet 'Sheet', not the hidden 'old'" in capsys.readouterr().out
    assert read_sheet(file, "old") == ([["x", "y"]], "sheet 'old'")


def test_numbers_are_read_as_they_are_shown(tmp_path):
    def format(book, sheet):
        for cell, shown in zip(sheet[1], ("0000", "0.0 %", "#,##0.00", "0%", "General")):
            cell.number_format = shown

    lines, _ = read_sheet(saved(tmp_path, [7, 0.123, 3400.5, 0.5, 2.50], edit=format))
    assert lines == [["0007", "12.3 %", "3400.50", "50%", "2.5"]]


@pytest.mark.parametrize("failure", ["#REF!", "#N/A", "#NAME?", "#DIV/0!", "#NV", "#WERT!", "#####"])
def test_a_cell_whose_formula_failed_is_no_text(tmp_path, failure):
    file = saved(tmp_path, HEAD, ROW, ["Which?", "liver", failure, "A"], [failure, "liver", "lung", "A"])
    with pytest.warns(DroppedRows, match="row 3: formula failed: 'B' shows.*row 4: formula failed: 'question' shows"):
        assert len(load_vqa(file, check="drop")) == 1


def test_a_line_of_totals_is_no_question(tmp_path):
    with pytest.raises(
        DataError, match=r"row 3: row is no question: 'Total: 1' stands there without options and answer; delete"
    ):
        load_vqa(saved(tmp_path, HEAD, ROW, ["Total: 1"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "has a password, or is an old .xls"),
        ("x.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Excel file by its content"),
        ("x.xlsx", b"question,A,B,answer\n", "a text by its content, no Excel file; name it .csv"),
        ("x.csv", b'[{"question": "q"}]', "JSON by its content; name it .json"),
        ("x.csv", b"<html><table>", "a web page by its content"),
        ("x.csv", b"PAR1xxxx", "a Parquet file by its content"),
        ("x.jsonl", b'[{"question": "q"}]', "an array of rows by its content, no lines; name it .json"),
        ("x.ods", b"PK", "no file of questions by its name; save it as .xlsx or CSV"),
    ],
)
def test_a_file_of_another_kind_than_its_name_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_vqa(tmp_path / name)
