import csv
import re

import pandas as pd
import pytest
from errors_fakes import OPTIONS, answer, says, table
from report_fakes import Page, check_page, unpack
from widget_fakes import check_safe

import medr1kit as mk
from medr1kit.views.page import write_report
from medr1kit.views.page.worksheet import READER, export_worksheet, read_worksheet, reader_agreement
from medr1kit.views.pictures import Pictures
from medr1kit.vqa import DataError

EVIL = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", "'=x", "plain", "'plain"]


@pytest.fixture
def errors():
    rows = [answer(n, says("B"), image_id=f"CT-test-0-{n}", question=text) for n, text in enumerate(EVIL)]
    return mk.errors(table(*rows, answer(9, says("A"))))


def cells(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path, verdicts, reader="ann", separator=","):
    """What a reader does in a spreadsheet."""
    sheet = pd.read_csv(path, dtype=str, keep_default_na=False)
    for row, verdict in verdicts.items():
        sheet.loc[row, list(READER)] = [reader, verdict, "=seen"]
    sheet.to_csv(path, index=False, sep=separator, encoding="utf-8-sig")


def test_no_cell_of_the_csv_is_a_formula_and_every_text_comes_back(errors, tmp_path):
    path = export_worksheet(errors, tmp_path / "sheet.csv")
    for row in cells(path):
        assert not any(re.match(r"[=+\-@\t\r]", text) for text in row.values())
    fill(path, dict.fromkeys(range(8), "gold wrong"))
    back = read_worksheet(path)
    assert sorted(back["question"]) == sorted(EVIL)
    assert (back["comment"] == "=seen").all()


def test_the_csv_has_a_row_an_error_with_all_a_reader_needs(errors, tmp_path):
    rows = cells(export_worksheet(errors, tmp_path / "sheet.csv"))
    assert len(rows) == 8 and not any(row[column] for row in rows for column in READER)
    row = rows[0]
    assert row["options"] == "A) liver | B) lung | C) brain | D) kidney"
    assert (row["gold"], row["predicted"], row["completion"]) == ("A) liver", "B) lung", says("B"))
    assert (row["error"], row["modality"], row["seed"]) == ("wrong", "CT", "0")


def test_annotations_come_back_joined_with_the_errors(errors, tmp_path):
    path = export_worksheet(errors, tmp_path / "sheet.csv")
    fill(path, {0: " gold wrong ", 3: "unclear"}, separator=";")
    joined = read_worksheet(path, errors)
    assert joined["id"].tolist() == ["q0", "q3"] and joined["verdict"].tolist() == ["gold wrong", "unclear"]
    assert list(joined["options"][0]) == OPTIONS and set(errors.rows) < set(joined)
    again = mk.errors(errors.answers.assign(seed=errors.answers["seed"].astype(float)))
    assert len(read_worksheet(path, again.rows)) == 2, "seed 0.0 is seed 0"


def test_a_sheet_of_some_rows_and_of_several_seeds_finds_back(tmp_path):
    e = mk.errors(table(*(answer(0, says("B"), seed=seed) for seed in (0, 1))))
    path = export_worksheet(e.rows.tail(1), tmp_path / "sheet.csv")
    fill(path, {0: "gold wrong"})
    assert read_worksheet(path, e)["seed"].tolist() == [e.rows["seed"].iloc[1]]


def test_a_sheet_is_never_overwritten(errors, tmp_path):
    path = export_worksheet(errors, tmp_path / "sheet.csv")
    before = path.read_bytes()
    with pytest.raises(DataError, match="may hold notes"):
        export_worksheet(errors, path)
    assert path.read_bytes() == before


def test_the_page_shows_phantoms_redrawn_and_asks_nothing_of_the_network(errors, tmp_path):
    held = Page(export_worksheet(errors, tmp_path / "sheet.html"))
    page = held.text
    assert len(held.held("questions")) == len(held.held("images")) == 8
    assert all(re.search('src="data:image/(png|jpeg);base64,', image) for image in held.held("images"))
    assert not re.search(r"(?:src|href)=.?(?:https?:)?//|@import|fetch\(|XMLHttp", page)


def test_the_page_takes_images_from_data_by_id_and_says_where_there_is_none(tmp_path):
    from datasets import Dataset
    from PIL import Image

    data = [{"id": "q1", "image": Image.new("RGB", (500, 250), "red")}, {"id": "q9", "image": None}]
    e = mk.errors(table(answer(0, says("B")), answer(1, says("B"))))
    page = export_worksheet(e, tmp_path / "a.html", data=Dataset.from_list(data)).read_text(encoding="utf-8")
    assert page.count("image not in data=") == 1 and page.count("data:image/png") == 1
    with pytest.warns(
        UserWarning, match="2 of 2 images are not given; write the page with data=, or with --dataset_name"
    ):
        bare = export_worksheet(e, tmp_path / "b.html")
    assert bare.read_text(encoding="utf-8").count("image not given") == 2
    with pytest.raises(DataError, match=r"no id of the errors is in data=; the first is 'q0'"):
        export_worksheet(e, tmp_path / "c.html", data=Dataset.from_list([data[0] | {"id": "other"}]))
    with pytest.raises(DataError, match="has no images"):
        export_worksheet(e, tmp_path / "d.html", data=Dataset.from_list([{"id": "q0"}]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_page_cannot_be_broken_by_what_a_model_writes(tmp_path):
    evil = "\"><script>alert(1)</script><b x='" + says("B")
    page = export_worksheet(mk.errors(table(answer(0, evil))), tmp_path / "s.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and page.count("<script>") == 1
    check_page(Page(tmp_path / "s.html"))
    held = unpack(Page(tmp_path / "s.html").held("questions")[0])
    assert held["texts"] == [evil] and evil in held["line"]
    check_safe(re.sub(r'<span data-image="0"></span>', "", held["html"] + held["shown"][0]))


def test_the_page_saves_the_columns_of_the_csv(errors, tmp_path):
    page = Page(export_worksheet(errors, tmp_path / "s.html"))
    ready, rows = page.held("reader"), cells(export_worksheet(errors, tmp_path / "s.csv"))
    assert [*ready["heads"], *ready["fields"]] == list(rows[0])
    for packed, key, row in zip(page.held("questions"), ready["keys"], rows, strict=True):
        saved = dict(zip(ready["heads"], unpack(packed)["line"]))
        assert saved["key"] == key == row["key"] and saved["completion"] == row["completion"]
    for field in READER:
        assert page.text.count(f' name="{field}"') == 1


def test_the_page_tells_whose_errors_they_are_where_there_are_several_models(tmp_path):
    said = (answer(0, says("B")), answer(0, says("C"), seed=1), answer(1, "B", format="no-think", seed=1))
    page = Page(export_worksheet(mk.errors(table(*said)), tmp_path / "s.html"))
    ready, held = page.held("reader"), [unpack(packed) for packed in page.held("questions")]
    whose = [[ready["names"][k] for k, place in enumerate(one["places"]) if place >= 0] for one in held]
    assert whose == [["think-before · seed 0"], ["think-before · seed 1"], ["no-think · seed 1"]]
    assert ["q0" in one["html"] for one in held] == [True, True, False], "the id is shown, not the key of the row"
    assert "3 errors (grpo). A verdict" in page.section("reader")


def test_a_thumbnail_takes_half_the_room_where_it_is_grey(tmp_path):
    page = Page(export_worksheet(mk.errors(table(answer(0, says("B"), image_id="CT-test-0-0"))), tmp_path / "s.html"))
    (image,) = page.held("images")
    assert image == Pictures().html({"id": "q0", "image_id": "CT-test-0-0"}) and len(image) < 12_000


def test_a_report_does_not_replace_a_worksheet(tmp_path):
    rows = table(answer(0, says("B")))
    rows.to_parquet(tmp_path / "predictions.parquet")
    sheet = export_worksheet(mk.errors(rows), tmp_path / "sheet.html")
    with pytest.raises(DataError, match="exists and is none that medr1kit wrote"):
        write_report(tmp_path / "predictions.parquet", sheet)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"x,y\n1,2\n", "no column 'key'"),
        ("b.csv", "key,reader,verdict,comment\n1,Bj\u00f6rn,x,\n".encode("latin-1"), "CSV UTF-8"),
        ("c.csv", b"key,reader,verdict,comment\n1,a,x,\n1,a,y,\n", "the row '1' twice"),
        ("d.html", b"<html>", "save it as CSV"),
    ],
)
def test_a_file_that_is_no_annotated_sheet_is_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_worksheet(tmp_path / name)


def test_refusals_name_the_remedy(errors, tmp_path):
    with pytest.raises(DataError, match=r"sheet.xlsx' does not end in .csv or .html"):
        export_worksheet(errors, tmp_path / "sheet.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        export_worksheet(errors, tmp_path / "file" / "sheet.csv")
    (tmp_path / "book.xlsx").write_text("")
    with pytest.raises(DataError, match="is a workbook; save it as 'CSV UTF-8'"):
        read_worksheet(tmp_path / "book.xlsx")
    with pytest.raises(DataError, match="no errors to write"):
        export_worksheet(errors.rows.head(0), tmp_path / "sheet.csv")
    with pytest.raises(DataError, match="no column 'kind'"):
        export_worksheet(table(answer(0, says("B"))), tmp_path / "sheet.csv")
    with pytest.raises(DataError, match="options"):  # a table read back from CSV
        export_worksheet(errors.rows.assign(options="liver; lung"), tmp_path / "sheet.csv")
    for other in (None, "runs/ct", errors.rows["id"], [1]):
        with pytest.raises(DataError, match=r"errors is .*, not a table; pass what mk.errors"):
            export_worksheet(other, tmp_path / "sheet.csv")
    with pytest.raises(DataError, match="path is a list; give the path"):
        export_worksheet(errors, [1])
    with pytest.raises(DataError, match="one has no column 'key'"):
        reader_agreement(errors.rows, errors.rows)
    with pytest.raises(DataError, match="cannot be read"):
        read_worksheet(tmp_path / "none.csv")
    path = export_worksheet(errors, tmp_path / "sheet.csv")
    fill(path, {0: "x"})
    with pytest.raises(DataError, match="1 of 1 rows that are not among these errors"):
        read_worksheet(path, mk.errors(table(answer(50, says("B")))))


def sheet(verdicts):
    return pd.DataFrame({"key": list("abcdefghij")[: len(verdicts)], "verdict": verdicts})


def test_kappa_is_cohen_s():
    # 2 x 2: 20 both yes, 5 and 10 apart, 15 both no: (0.7 - 0.5) / (1 - 0.5)
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    frames = [pd.DataFrame({"key": range(50), "verdict": verdicts}) for verdicts in (one, other)]
    result = reader_agreement(*frames)
    assert result.kappa == pytest.approx(0.4) and result.agreed == pytest.approx(0.7) and result.n == 50
    assert result.low < 0.4 < result.high
    assert result.table.loc["yes", "no"] == 5


def test_readers_are_compared_on_what_both_judged():
    result = reader_agreement(sheet(["x", "y", "", "x"]), sheet(["x", "x", "x", ""]))
    assert result.n == 2 and result.agreed == 0.5
    same = reader_agreement(sheet(["x", "x"]), sheet(["x", "x"]))
    assert same.agreed == 1 and pd.isna(same.kappa)
    with pytest.raises(DataError, match="no row in common"):
        reader_agreement(sheet(["x", ""]), sheet(["", "x"]))
    other_case = reader_agreement(sheet(["Gold wrong", "unclear"]), sheet(["gold  wrong ", "Unclear"]))
    assert other_case.agreed == 1 and list(other_case.table) == ["gold wrong", "unclear"]
    from_pandas = sheet(["x", None, "y"])
    assert reader_agreement(from_pandas, from_pandas).n == 2
    with pytest.raises(DataError, match=r"one judges the row .* twice"):
        reader_agreement(pd.concat([from_pandas, from_pandas]), from_pandas)


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.html"])
def test_no_patient_is_on_a_sheet(tmp_path, name):
    rows = table(*(answer(n, says("B"), image_id=f"CT-test-0-{n}", patient_id="Doe, Jane") for n in range(3)))
    path = export_worksheet(mk.errors(rows, by="modality"), tmp_path / name)
    assert "Doe" not in path.read_text(encoding="utf-8-sig")
    if name.endswith(".html"):
        packed = re.findall(r"H4sI[\w+/=]+", path.read_text(encoding="utf-8"))
        assert packed and all("Doe" not in str(unpack(piece)) for piece in packed)


def test_errors_that_were_saved_as_csv_make_the_same_sheet(errors, tmp_path):
    errors.rows.to_csv(tmp_path / "errors.csv", index=False)
    one = export_worksheet(errors, tmp_path / "one.csv")
    other = export_worksheet(pd.read_csv(tmp_path / "errors.csv"), tmp_path / "other.csv")
    assert cells(one) == cells(other)


def test_a_sheet_without_any_image_says_so(tmp_path):
    rows = table(*(answer(n, says("B")) for n in range(3)))
    with pytest.warns(UserWarning, match="3 of 3 images are not given; write the page with data="):
        export_worksheet(mk.errors(rows, by="modality"), tmp_path / "sheet.html")
