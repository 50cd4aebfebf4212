"""docs/your_own_data.md, its lines of Python and its lines of shell, on files as spreadsheets write them."""

import ast
import contextlib
import csv
import io
import re
import shlex

import openpyxl
import pandas as pd
import pytest
from test_docs import ROOT, make_exam, short_training

import medr1kit as mk
from medr1kit.__main__ import main

PAGE = (ROOT / "docs/your_own_data.md").read_text(encoding="utf-8").split("## What is understood")[0]


def write_exam(folder, name):
    """The exam of the docs as openpyxl, a German Excel, or an Excel that was asked for UTF-8 writes it."""
    lines = make_exam(folder)
    path = folder / name
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for line in [list(lines[0]), *(list(line.values()) for line in lines)]:
            book.active.append([cell or None for cell in line])
        book.save(path)
        return
    encoding, separator = ("cp1252", ";") if name == "german.csv" else ("utf-8-sig", ",")
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(lines)


@pytest.mark.parametrize("name", ["exam.xlsx", "german.csv", "bom.csv"])
def test_the_lines_of_the_page_lead_from_a_spreadsheet_to_a_worksheet(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_exam(tmp_path, name)
    short_training(monkeypatch)
    code = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    assert len(ast.parse(code).body) <= 8, "statements, the import among them"
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("exam.csv", name), namespace)
    assert "gold as text: 80 matched" in printed.getvalue()
    train, test, preds = (namespace[key] for key in ("train", "test", "preds"))
    assert len(train) + len(test) == 80 and {len(options) for options in train["options"]} == {4, 5}
    assert not set(train["patient_id"]) & set(test["patient_id"]) and len(preds) == len(test)
    assert (tmp_path / "audit.html").is_file() and "data:image" in (tmp_path / "worksheet.html").read_text()


def test_the_shell_lines_of_the_page_do_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_exam(tmp_path, "german.csv")
    (shell,) = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in shell.replace("\\\n", " ").replace("exam.csv", "german.csv").splitlines():
        words = shlex.split(line)[1:]
        short = ["--max_steps", "1", "--per_device_train_batch_size", "4"] if words[0] == "sft" else []
        assert main([*words, *short]) == 0, capsys.readouterr().err
    held_out = re.findall(r"held out (\d+) of 80", capsys.readouterr().out)
    preds = pd.read_parquet("runs/shell/predictions.parquet")
    assert held_out == [str(len(preds))] * 2, "audit and training split alike"
    assert "data:image" in (tmp_path / "runs/worksheet.html").read_text()
    ds = mk.load_vqa("german.csv", columns={"question": "Frage", "answer": "Lösung", "patient_id": "Patient"})
    assert set(preds["id"]) <= set(ds["id"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Frage"], "--columns 'Frage' is no pair"),
        (["question=Frage", "question=Text"], "--columns names question twice"),
        (["frage=Frage"], "columns='frage' is unknown"),
    ],
)
def test_mistaken_columns_on_the_command_line_are_answered(words, message, tmp_path, capsys):
    write_exam(tmp_path, "bom.csv")
    command = ["audit", "--dataset_name", str(tmp_path / "bom.csv"), "--test_size", "0.3", "--columns", *words]
    assert main(command) == 2
    assert message in capsys.readouterr().err
