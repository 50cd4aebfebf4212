"""Tables in the user's own words: read as their author sees them, understood, and refused by row where they are not."""

import base64
import datetime
import gzip
import io
import warnings

import datasets
import numpy as np
import openpyxl
import pandas as pd
import PIL.Image
import pytest

from medr1kit.data.columns import find_columns
from medr1kit.data.golds import listed, read_golds
from medr1kit.data.load import DroppedRows, load_vqa
from medr1kit.vqa import DataError

WORDS = {"question": "Frage", "answer": "Lösung", "patient_id": "Patient"}
TEXT = 'Patient;Frage;Antwort 1;Antwort 2;Lösung\n007;"Was; sicher?";Blutung;Größe;größe\n8;Was?;NA;None;None\n'


def row(**more):
    return {"question": "Which?", "A": "liver", "B": "lung", "answer": "A", **more}


def said(capsys):
    return capsys.readouterr().out.splitlines()


def png(shade=90):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_encoding_and_separator_of_a_csv_are_found_out(tmp_path, encoding, separator):
    frame = pd.read_csv(io.StringIO(TEXT), sep=";", dtype=str, keep_default_na=False)
    frame.to_csv(tmp_path / "exam.csv", sep=separator, encoding=encoding, index=False)
    ds = load_vqa(tmp_path / "exam.csv", columns=WORDS)
    assert ds["problem"] == ["Was; sicher? A)Blutung, B)Größe", "Was? A)NA, B)None"]
    assert (ds["answer"], ds["patient_id"], ds["id"]) == (["B", "B"], ["007", "8"], ["exam-2", "exam-3"])


def test_three_lines_say_what_was_understood(tmp_path, capsys):
    (tmp_path / "exam.csv").write_text(TEXT + "9;Wo?;links;rechts;oben\n9;Wo?;links;rechts;\n", encoding="cp1252")
    with pytest.warns(DroppedRows, match=r"row 4: gold matches no option: 'oben'.*row 5: gold is missing") as caught:
        load_vqa(tmp_path / "exam.csv", columns=WORDS, check="drop")
    assert [one["row"] for one in caught[0].message.rows] == [4, 5]
    first, second, third = said(capsys)
    assert first.endswith("exam.csv: 4 rows of 2 options (semicolons between columns, cp1252)")
    assert second == "question <- Frage; options <- Antwort 1…Antwort 2; answer <- Lösung; patient_id <- Patient"
    assert third == "gold as text: 2 matched, 2 not: rows 4, 5"


@pytest.mark.parametrize("name", ["exam.csv.gz", "exam.CSV", "exam.tsv", "exam.txt"])
def test_a_csv_is_known_by_its_name(tmp_path, name):
    content = TEXT.encode("cp1252")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert len(load_vqa(tmp_path / name, columns=WORDS)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("question,A,B,answer\n", "no rows below the column names"),
        ("question,A,A,answer\nq,a,b,A\n", "two columns are named 'A'"),
        ("question,A,B,answer\nq,a,b,A,and more\n", "row 2: more cells than columns: 5"),
        ("question,A,B,answer\nq,a\n", "row 2: gold is missing"),
        ("text,A,B,answer\nq,a,b,A\n", r"no column is the question; it has 'text, A, B, answer'; columns=\{'question'"),
        ("question,A,B,D,answer\nq,a,b,d,A\n", "columns 'A, B, D' skip one"),
        ("question,A,B,opt1,opt2,answer\nq,a,b,c,d,A\n", "which columns are the options, opt1…opt2 or A…B"),
        ("PK\x03\x04", "an Excel file by its content"),
    ],
)
def test_a_csv_that_is_no_table_of_questions_is_refused_in_one_sentence(tmp_path, content, message):
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_vqa(tmp_path / "q.csv")


CHINESE = "编号,问题,A,B,答案\n1,图中是什么器官,肝脏,肺部,A\n2,这是什么检查,超声,磁共振,B\n"
MAC = "id;Frage;A;B;Antwort\n1;Wie groß ist die Läsion in der Nähe?;größer;kleiner;A\n"


@pytest.mark.parametrize(
    ("text", "encoding", "columns"),
    [
        (CHINESE, "gb18030", {"question": "问题", "answer": "答案"}),
        (MAC, "mac_roman", {"question": "Frage", "answer": "Antwort"}),
        ("вопрос,A,B,ответ\nЧто на снимке?,печень,лёгкое,A\n", "cp1251", {"question": "вопрос", "answer": "ответ"}),
    ],
)
def test_a_text_in_another_encoding_is_refused_until_it_is_named(tmp_path, text, encoding, columns):
    (tmp_path / "exam.csv").write_bytes(text.encode(encoding))
    with pytest.raises(
        DataError, match=r"exam\.csv: n.*cp1252.*save it as UTF-8, or name its encoding, encoding='gb18030'"
    ):
        load_vqa(tmp_path / "exam.csv", columns=columns)
    ds = load_vqa(tmp_path / "exam.csv", columns=columns, encoding=encoding)
    assert ds["question"][0] in text and ds["answer"][0] == "A"


def test_accents_marks_and_lines_of_dashes_are_cp1252(tmp_path):
    rows = "1;Größe der Läsion, 5 µm ± 2 (§ 5)?;l’œdème créé – où…;———;A\n2;¿Qué?;Aspirin®;20°–30°;B\n"
    (tmp_path / "exam.csv").write_bytes(("Patient;Frage;A;B;Lösung\n" + rows).encode("cp1252"))
    assert load_vqa(tmp_path / "exam.csv", columns=WORDS)["options"] == [
        ["l’œdème créé – où…", "———"],
        ["Aspirin®", "20°–30°"],
    ]


def test_an_encoding_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "exam.csv").write_text(TEXT, encoding="utf-8")
    for encoding, said in (
        ("utf8000", "encoding='utf8000' is none that Python knows"),
        ("ascii", "exam.csv: not ascii"),
    ):
        with pytest.raises(DataError, match=said):
            load_vqa(tmp_path / "exam.csv", encoding=encoding)
    pd.DataFrame({"question": ["q"]}).to_parquet(tmp_path / "exam.parquet")
    (tmp_path / "exam.jsonl").write_text("{}")
    for name in ("exam.parquet", "exam.jsonl"):
        with pytest.raises(DataError, match="encoding= does not go with"):
            load_vqa(tmp_path / name, encoding="cp1252")


def workbook(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, lines in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {i + 1}")
        for line in lines:
            sheet.append(line)
        for cell in sheet["B"]:
            if isinstance(cell.value, float):
                cell.number_format = "0%"
    book.save(path)
    return path


HEADER = ["question", "A", "B", "answer"]


def test_an_excel_sheet_is_read_as_it_looks(tmp_path, capsys):
    lines = [["Exam of 2026"], [], HEADER, ["How much?", 0.5, 64.0, "50%"], [None] * 4, ["How old?", 1, 2.5, 2.5]]
    ds = load_vqa(workbook(tmp_path / "exam.xlsx", lines, []))
    assert ds["problem"] == ["How much? A)50%, B)64", "How old? A)1, B)2.5"]
    assert (ds["answer"], ds["id"]) == (["A", "B"], ["exam-4", "exam-6"])
    assert "sheet 'Sheet 1', column names in row 3" in said(capsys)[0]


def test_of_several_sheets_one_is_named(tmp_path):
    path = workbook(tmp_path / "exam.xlsx", [HEADER, ["q", "a", "b", "A"]], [HEADER, ["q", "a", "b", "B"]])
    with pytest.raises(DataError, match=r"several sheets hold rows: 'Sheet 1', 'Sheet 2'; name one, sheet='Sheet 1'"):
        load_vqa(path)
    assert load_vqa(path, sheet="Sheet 2")["answer"] == ["B"]
    with pytest.raises(DataError, match="no sheet 'x'; it has 'Sheet 1'"):
        load_vqa(path, sheet="x")


def test_what_excel_made_a_date_is_refused_as_an_option(tmp_path):
    path = workbook(tmp_path / "exam.xlsx", [HEADER, ["q", datetime.datetime(2026, 2, 1), "b", "B"]])
    with pytest.raises(DataError, match=r"row 2: option is no text: '2026-02-01 00:00:00' is a date"):
        load_vqa(path)


def test_a_damaged_excel_file_and_an_old_one_are_refused(tmp_path):
    for name, message in (
        ("x.xlsx", "a text by its content"),
        ("x.xls", "no file of questions by its name"),
    ):
        (tmp_path / name).write_text("hello")
        with pytest.raises(DataError, match=message):
            load_vqa(tmp_path / name)


def test_bad_lines_of_json_lines_are_matters_of_their_row(tmp_path):
    good = '{"question": "q", "options": ["a", "b"], "answer": "b"}'
    (tmp_path / "q.jsonl").write_text(f'{good}\nno json\n{{"question": "q", "question": "r"}}\n{good}\n')
    with pytest.warns(DroppedRows, match="1 x line is not valid JSON, 1 x key is doubled"):
        assert load_vqa(tmp_path / "q.jsonl", check="drop")["id"] == ["q-0", "q-3"]


# --- frames, lists, data sets ----------------------------------------------------------------------------------------


def everywhere(rows, tmp_path):
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "q.parquet")
    frame.to_json(tmp_path / "q.json", orient="records")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    table = datasets.Dataset.from_list(rows)
    return [rows, frame, table, tmp_path / "q.parquet", tmp_path / "q.json", tmp_path / "saved"]


def test_the_same_rows_are_the_same_questions_wherever_they_come_from(tmp_path):
    rows = [row(patient="p1", image="a.png"), row(answer="lung", patient="p2", image="./b.png")]
    for source in everywhere(rows, tmp_path):
        ds = load_vqa(source, modality="CT")
        assert (ds["answer"], ds["patient_id"], ds["image_id"]) == (["A", "B"], ["p1", "p2"], ["a.png", "b.png"])


def test_without_an_image_column_each_question_is_an_image_of_its_own(tmp_path):
    assert load_vqa([row(), row()])["image_id"] == ["row-0", "row-1"]
    with pytest.raises(DataError, match=r"images= is given, and no column names an image"):
        load_vqa([row()], images=tmp_path)


def test_splits_are_named_and_streams_refused():
    table = datasets.Dataset.from_list([row()])
    assert len(load_vqa(datasets.DatasetDict({"test": table}), split="test")) == 1
    with pytest.raises(DataError, match="has no split 'train'; it has test"):
        load_vqa(datasets.DatasetDict({"test": table}))
    with pytest.raises(DataError, match="streamed"):
        load_vqa(table.to_iterable_dataset())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (pd.DataFrame(), "no rows"),
        ([], "no rows"),
        (["a"], "row 0: row is not an object: 'a'"),
        (5, "source is an int"),
        ({"question": ["a"]}, "source is a dict; give a list of dicts"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        ([row(predicted="A", well_formed=True)], "predictions, not questions"),
    ],
)
def test_what_holds_no_questions_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        load_vqa(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "question"}, "columns is the text 'question'; give a dict"),
        ({"columns": {"quesion": "question"}}, "columns='quesion' is unknown; did you mean 'question'"),
        ({"columns": {"question": "Qestion"}}, "no column 'Qestion', which columns= names for question"),
        ({"yes_no": "yes"}, "yes_no='yes' is neither True nor False"),
    ],
)
def test_mistaken_arguments_of_tables_are_answered(arguments, message):
    with pytest.raises(DataError, match=message):
        load_vqa([row()], **arguments)


def test_images_that_a_table_holds_are_taken_however_they_are_stored(tmp_path):
    picture = PIL.Image.open(io.BytesIO(png()))
    forms = [png(), picture, {"bytes": png(), "path": None}, [picture]]
    ds = load_vqa([row(image=image) for image in forms], size=28)
    assert [one["image"].getpixel((5, 5)) for one in ds] == [(90, 0, 0)] * 4
    assert ds["image_id"][0] == ds["image_id"][2] and ds["image_id"][1] == ds["image_id"][3]
    assert load_vqa([row(image=picture.convert("CMYK"))], size=28)[0]["image"].getpixel((5, 5))[1:] == (0, 0)
    with pytest.raises(DataError, match="questions are multiple choice, about one image each"):
        load_vqa([row(image=[picture, picture])])
    with pytest.raises(DataError, match="images= does not go with a table that holds its images"):
        load_vqa([row(image=png())], images=tmp_path)
    with pytest.raises(DataError, match="row 1: several images: 2 columns"):
        load_vqa([row(image_1="a.png", image_2=None), row(image_1="a.png", image_2="b.png")])


def test_a_tsv_of_vlmevalkit_is_read_with_its_images(tmp_path):
    first, second = (base64.b64encode(png(shade)).decode() for shade in (90, 200))
    table = {"index": [0, 1, 2], "image": [first, "0", second], "question": ["q?"] * 3, "A": ["a"] * 3, "B": ["b"] * 3}
    pd.DataFrame({**table, "answer": ["A", "B", "A"], "category": ["x"] * 3}).to_csv(
        tmp_path / "v.tsv", sep="\t", index=False
    )
    ds = load_vqa(tmp_path / "v.tsv", size=28)
    assert ds["id"] == ["0", "1", "2"] and ds["image_id"][0] == ds["image_id"][1] != ds["image_id"][2]
    assert [one["image"].getpixel((5, 5))[0] for one in ds] == [90, 90, 200]


def test_columns_as_lmms_eval_s_hub_sets_have_them_are_understood():
    table = {
        "question": ["q?"] * 2,
        "options": ["['x', 'y']", "A. x\nB. y"],
        "answer": ["B", "A"],
        "image": [png()] * 2,
    }
    features = {name: datasets.Value("string") for name in ("question", "options", "answer")} | {
        "image": datasets.Image()
    }
    ds = load_vqa(datasets.Dataset.from_dict(table, features=datasets.Features(features)), size=28)
    assert (ds["options"], ds["answer"]) == ([["x", "y"]] * 2, ["B", "A"]) and ds[0]["image"].size == (28, 28)
    classes = datasets.Dataset.from_dict({"question": ["a?", "b?"], "choices": [["x", "y"]] * 2, "label": [0, 1]})
    assert load_vqa(classes.cast_column("label", datasets.ClassLabel(names=["y", "x"])))["answer"] == ["B", "A"]


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["A", "B", "C"],
        ["a", "b", "c"],
        ["opt1", "opt2", "opt3"],
        ["option_A", "option_B", "option_C"],
        ["opa", "opb", "opc"],
        ["Choice A", "Choice B", "Choice C"],
        ["Antwort 1", "Antwort 2", "Antwort 3"],
        ["Réponse A", "Réponse B", "Réponse C"],
        ["choice_0", "choice_1", "choice_2"],
    ],
)
def test_columns_that_count_are_the_options(names):
    others = ["Nr", "question", "answer", "Alter", "note 1", "note 2"] if names[0] in "Aa" else ["question", "answer"]
    assert find_columns([*others, *reversed(names)], None, "t").options == names


def test_named_columns_go_before_guessed_ones():
    names = ["question", "Frage", "A", "B", "x", "y", "answer", "id"]
    found = find_columns(names, {"question": "frage", "options": ["x", "y"], "id": None}, "t")
    assert found.of == {"question": "Frage", "answer": "answer"} and found.options == ["x", "y"]


def test_a_column_named_modality_whose_values_are_none_is_not_read(capsys):
    assert load_vqa([row(modality="mammography", task="VQA")], modality="X-Ray")["modality"] == ["X-Ray"]
    assert "not read: modality, task" in said(capsys)[1]
    rows = [row(modality="CT"), row(modality="mammography")]
    with pytest.raises(DataError, match=r"row 1: unknown modality 'mammography'.*keeps your own word as the source"):
        load_vqa(rows)
    ds = load_vqa(rows, columns={"modality": None, "source": "modality"})
    assert (ds["modality"], ds["source"]) == ([None, None], ["CT", "mammography"])
    assert load_vqa([row(modality="Chest X-ray")])["modality"] == ["X-Ray"]


def test_an_open_question_is_refused_with_what_can_be_asked_and_what_to_do():
    said = "is open, and questions are multiple choice, about one image each; .*leave the row out, or yes_no=True"
    with pytest.raises(DataError, match=said):
        load_vqa([{"question": "What is seen?", "answer": "a mass"}])


# --- the gold --------------------------------------------------------------------------------------------------------


def golds(values, *options):
    read = read_golds(values, options if len(options) > 1 else options * len(values))
    return read.letters, read.way


@pytest.mark.parametrize(
    ("values", "letters", "way"),
    [
        (["A", "c", "(B)", "<answer> B </answer>", "C) skin"], list("ACBBC"), "letter"),
        (["liver", "Skin.", "LUNG"], list("ACB"), "text"),
        (["1", "3", "2.0"], list("ACB"), "number from 1"),
        (["0", "2", "1"], list("ACB"), "number from 0"),
        (["1", "2", "1"], [None] * 3, None),
        (["A", "lung", "B) skin", "x"], ["A", "B", None, None], "letter and text"),
    ],
)
def test_a_column_of_golds_is_read_as_a_whole(values, letters, way):
    assert golds(values, ["liver", "lung", "skin"]) == (letters, way)


@pytest.mark.parametrize(
    "gold",
    [
        *(
            "Option B",
            "option_b",
            "Answer: B",
            "B - lung",
            "B = lung",
            "B (lung)",
            "B lung",
            "\uff22",
            "B\u200b",
            "**B**",
        ),
        *('"B"', "2) lung", "Lung.", "b)", "[B]"),
    ],
)
def test_one_gold_in_many_spellings(gold):
    assert golds([gold, "B"], ["liver", "lung", "skin"])[0] == ["B", "B"]
    assert golds(["opt2", "Option 3"], ["liver", "lung", "skin"])[0] == ["B", "C"]


@pytest.mark.parametrize("gold", ["B) liver", "2) liver", "B liver", "\u0412", "not B", "probably B", "BB"])
def test_a_gold_that_contradicts_itself_or_is_no_letter_is_refused(gold):
    assert golds([gold], ["liver", "lung", "skin"])[0] == [None]


def test_one_of_yes_and_no_in_numbers_is_not_guessed_at():
    assert golds(["1", "0"], ["yes", "no"]) == ([None, None], None)
    assert "may be a place, or 1 stand for yes" in read_golds(["1"], [["yes", "no"]]).reasons[0]
    mixed = read_golds(["1", "0", "0"], [["Ja", "Nein"], ["Ja", "Nein"], ["liver", "lung"]])
    assert mixed.letters == ["B", "A", "A"], "the third row shows that the column counts from 0"


@pytest.mark.parametrize("gold", ["TRUE", "ja", "Y", "yes"])
def test_yes_is_yes_in_other_words(gold):
    assert golds([gold, "No"], ["Yes", "No"])[0] == ["A", "B"]
    assert golds([gold, "No"], ["no", "yes"])[0] == ["B", "A"]


def test_letters_of_options_that_are_out_of_order_are_refused():
    for options in (["B) liver", "A) lung"], [{"key": "B", "value": "liver"}, {"key": "A", "value": "lung"}]):
        with pytest.raises(DataError, match="keys out of order: 'B, A'"):
            load_vqa([{"question": "Which?", "options": options, "answer": "A"}])
    species = ["E. coli", "B. cereus", "A. baumannii"]
    assert list(load_vqa([{"question": "Which?", "options": species, "answer": "B. cereus"}])["options"]) == [species]


@pytest.mark.parametrize(
    "cell", ["a) liver b) lung", "1. liver 2. lung", "- liver\n- lung", "\u2022 liver\n\u2022 lung", "liver | lung |"]
)
def test_marks_of_a_list_are_no_part_of_its_options(cell):
    ds = load_vqa([{"question": "Which?", "options": cell, "answer": "lung"}])
    assert list(ds["options"]) == [["liver", "lung"]]


def test_numbers_that_make_the_options_differ_stay():
    ribs = ["1. Rippe", "2. Rippe"]
    assert list(load_vqa([{"question": "Which?", "options": ribs, "answer": "2. Rippe"}])["options"]) == [ribs]


def test_the_words_of_an_option_go_before_its_number():
    assert golds(["3", "4"], ["2", "3", "4"]) == (["B", "C"], "text")
    assert golds(["64.0", "7"], ["64", "7"]) == (["A", "B"], "text")


def test_options_that_are_letters_themselves_are_not_guessed_at():
    groups = ["0", "A", "B", "AB"]
    assert golds(["B", "AB"], groups) == (["C", "D"], "text")
    assert golds(["B", "A"], groups) == ([None, None], "letter")
    assert "is a letter and the text of another option" in read_golds(["B"], [groups]).reasons[0]


def test_two_columns_that_tell_the_gold_must_agree():
    assert load_vqa([row(answer="lung", answer_idx="B")])["answer"] == ["B"]
    with pytest.raises(DataError, match="answer and answer_idx disagree: 'lung', 'A'"):
        load_vqa([row(answer="lung", answer_idx="A")])


@pytest.mark.parametrize("answer", ["A, B", ["A", "B"], "A;C"])
def test_several_right_answers_are_told(answer):
    with pytest.raises(DataError, match="several right answers"):
        load_vqa([row(answer=answer)])


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        ["liver", "lung, left"],
        {"A": "liver", "B": "lung, left"},
        [{"key": "A", "value": "liver"}, {"key": "B", "value": "lung, left"}],
        "['liver', 'lung, left']",
        '["liver", "lung, left"]',
        "['liver' 'lung, left']",
        "{'A': 'liver', 'B': 'lung, left'}",
        "liver | lung, left",
        "liver\nlung, left",
        "A. liver B. lung, left",
        "(A) liver\n(B) lung, left",
        "A: liver, B: lung, left",
    ],
)
def test_options_of_one_cell_are_told_apart(cell):
    assert listed(cell) == ["liver", "lung, left"]


@pytest.mark.parametrize("cell", ["liver, lung", "liver", {"x": "liver"}])
def test_options_of_one_cell_that_cannot_be_told_apart_are_refused(cell):
    with pytest.raises(DataError, match="options"):
        listed(cell)


def test_rows_may_have_fewer_options_but_no_gap():
    rows = [row(C="skin", D=None), row(C=float("nan"), D=""), row(C="nan", D="heart")]
    with pytest.raises(DataError, match="row 2: option is empty: 'C'"):
        load_vqa(rows)
    assert [len(options) for options in load_vqa(rows[:2])["options"]] == [3, 2]


def test_numbers_stay_what_the_author_sees():
    frame = pd.DataFrame([row(A=64.0, B=np.nan, answer=64), row(A=3.0, B=4.5, answer=4.5)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedRows)
        assert load_vqa(frame.assign(C=[7.0, np.nan]), check="drop")["options"] == [["3", "4.5"]]
    assert load_vqa(pd.DataFrame([row(A=64.0, B=7, answer=64)]))["options"] == [["64", "7"]]


def test_letters_before_the_options_are_not_written_twice():
    ds = load_vqa([row(A="A: liver", B="B: lung")])
    assert ds["problem"] == ["Which? A)liver, B)lung"]


def test_an_option_that_looks_like_a_letter_survives():
    ds = load_vqa([row(A="see fig A), B)x", B="B) y", answer="B")])
    assert (ds[0]["options"], ds[0]["answer"]) == (["see fig A), B)x", "B) y"], "B")


def test_a_question_that_holds_its_options_is_not_given_them_twice():
    one = load_vqa([{"question": "Which? A)liver, B)lung", "answer": "lung"}])
    two = load_vqa([{"question": "Which? A)liver, B)lung", "options": ["liver", "lung"], "answer": "lung"}])
    assert one["problem"] == two["problem"] == ["Which? A)liver, B)lung"] and one["question"] == two["question"]


def test_yes_and_no_become_options_on_request():
    rows = [{"question": "Is it?", "answer": "Yes"}, {"question": "Ist es?", "answer": "nein"}]
    with pytest.raises(DataError, match=r"row 0: options are missing: 'Is it\?' is open, .*yes_no=True"):
        load_vqa(rows)
    ds = load_vqa(rows, yes_no=True)
    assert (ds["options"], ds["answer"]) == ([["yes", "no"], ["ja", "nein"]], ["A", "B"])
    with pytest.raises(DataError, match=r"row 2: options are missing: 'What\?' .*leave it out"):
        load_vqa([*rows, {"question": "What?", "answer": "a cyst"}], yes_no=True)


@pytest.mark.parametrize("count", [2, 5, 7, 26])
def test_any_number_of_options_up_to_26_is_taken(count):
    options = [f"finding {i}" for i in range(count)]
    ds = load_vqa([{"question": "q", "options": options, "answer": options[-1]}])
    assert ds[0]["options"] == options and ds[0]["answer"] == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[count - 1]


# --- what is told, not guessed --------------------------------------------------------------------------------------


def base64_image(shade=90):
    return base64.b64encode(png(shade)).decode()


def test_images_of_a_tsv_are_shared_by_index_and_never_two_in_one(tmp_path):
    lines = ["index\timage\tquestion\tA\tB\tanswer", f"0\t{base64_image()}\tq?\tx\ty\tx", "1\t0\tq?\tx\ty\tx"]
    lines += ["2\t1\tq?\tx\ty\tx", f"3\t['{base64_image()}', '{base64_image(3)}']\tq?\tx\ty\tx", "4\t77\tq?\tx\ty\tx"]
    lines += [f"5\t{base64_image()[:-21]}\tq?\tx\ty\tx"]
    (tmp_path / "bench.tsv").write_text("\n".join(lines))
    with pytest.warns(DroppedRows) as caught:
        ds = load_vqa(tmp_path / "bench.tsv", check="drop")
    assert ds["id"] == ["0", "1", "2"] and len(set(ds["image_id"])) == 1
    several, absent, broken = (row["reason"] for row in caught[0].message.rows)
    assert (
        several.startswith("several images: 2 in one row") and "it names row '77'" in absent and "no base64" in broken
    )


@pytest.mark.parametrize("columns", [["options", "A", "B"], ["A", "B", "choices"]])
def test_options_in_columns_and_in_a_list_must_agree(columns):
    listed = columns[0] if columns[0] != "A" else "choices"
    assert load_vqa([row(**{listed: ["liver", "lung"]})])["answer"] == ["A"]
    with pytest.raises(DataError, match=f"options and {listed} disagree"):
        load_vqa([row(**{listed: ["lung", "liver"]})])


def test_an_index_with_a_name_is_a_column():
    frame = pd.DataFrame([row(), row()]).set_index(
        pd.MultiIndex.from_tuples([(7, "a"), (8, "b")], names=["patient", "id"])
    )
    ds = load_vqa(frame)
    assert (ds["patient_id"], ds["id"]) == (["7", "8"], ["a", "b"])


def test_patients_that_differ_in_spelling_alone_are_told():
    with pytest.warns(UserWarning, match="patients that may be one: 'P1' and 'p 01', 'x-7' and 'X 07'; they count as"):
        load_vqa([row(patient=one) for one in ("P1", "p 01", "P2", "x-7", "X 07", "1-23", "12-3", None)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_vqa([row(patient=one) for one in ("P1", "P10", "1-23", "12-3", "1", "10", None, "-")])


def test_images_that_nobody_can_open_are_told(capsys):
    load_vqa([row(image="a.png")])
    assert "image <- image (not loaded: images= is not given)" in said(capsys)[1]
    load_vqa([row(image=png())])
    assert "not loaded" not in said(capsys)[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([{"id": 1, "conversations": []}], "'conversations' holds chats, not questions"),
        (["a.csv", "b.csv"], "source is a list of 2 files; load each"),
        (
            pd.DataFrame([["q"]], columns=pd.MultiIndex.from_tuples([("a", "question")])),
            "column names of several levels",
        ),
        (pd.Series(["a"]), "source is a Series; give a file, a DataFrame"),
        (datasets.DatasetDict({"test": datasets.Dataset.from_list([row()])}), "choose one, split='test'"),
        ([{"question": "Which?", "answer": "A"}], "options are missing.*columns={'options'"),
    ],
)
def test_what_is_close_to_a_table_gets_the_remedy_that_fits(source, message):
    with pytest.raises(DataError, match=message):
        load_vqa(source)
