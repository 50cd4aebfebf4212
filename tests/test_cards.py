"""Data cards: their numbers are compared with files made by hand; the cards of the repository are well-formed."""

import gzip
import json
from pathlib import Path

import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.audits.cards import _tables, check_card, read_card
from medr1kit.vqa import MODALITIES, TASKS, DataError

ROOT = Path(__file__).resolve().parents[1]
CARDS = sorted((ROOT / "data_cards").glob("*.md"))
HEADINGS = {"One record", "Splits and leaks", "Known problems"}


def question(number, answer, options=("cyst", "mass", "stone"), image=None):
    texts = ", ".join(f"{letter}){text}" for letter, text in zip("ABCD", options))
    image = image or f"Images/Made up/{number}.png"
    return {"image": image, "problem": f"What is shown? {texts}", "solution": f"<answer> {answer} </answer>"}


@pytest.fixture
def folder(tmp_path):
    """Four training and three test questions; one test image is also in training."""
    train = [question(0, "A"), question(1, "A"), question(2, "B"), question(2, "C", ("x", "y", "z", "cyst"))]
    test = [question(7, "A"), question(8, "B", ("mass", "cyst")), question(9, "C", image="Images/Made up/0.png")]
    for side, rows in (("train", train), ("test", test)):
        path = tmp_path / "modality" / side / "CT.json.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return tmp_path


CARD = """---
license: unknown
pretty_name: Made up
---
# Made up

| modality | views |
|---|---|
| CT | supine |

| file | rows | images | sources | 2 options | 3 options | 4 options | A | B | C | D | chance |
|---|---|---|---|---|---|---|---|---|---|---|---|
| modality/train/CT | 4 | 3 | 1 | 0 | 3 | 1 | 2 | 1 | 1 | 0 | – |
| modality/test/CT | 3 | 3 | 1 | 1 | 2 | – | 1 | 1 | 1 | | 38.9 |
| modality/test/MRI | 6,370 | – | – | – | – | – | – | – | – | – | 25.0 % |

| pair | `n_test` | `test_rows_with_train_image` | blind_options | `letters_train.A` |
|---|---|---|---|---|
| modality/*/CT | 3 | 1 | 66.7 | 2 |
"""


def write(tmp_path, text):
    path = tmp_path / "card.md"
    path.write_text(text)
    return path


def test_every_number_of_a_right_card_agrees_and_missing_files_are_said(folder):
    table = check_card(write(folder, CARD), folder)
    assert table["verdict"].value_counts().to_dict() == {"agrees": 23, "not there": 2}
    assert table.loc[table["verdict"] == "not there", "file"].tolist() == ["modality/test/MRI"] * 2
    assert table["found"].dropna().tolist()[:7] == [4, 3, 1, 0, 3, 1, 2]
    assert mk.check_card is check_card


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("| 4 | 3 | 1 | 0 |", "| 5 | 3 | 1 | 0 |", ("modality/train/CT", "rows", "5", 4)),
        ("38.9", "38.8", ("modality/test/CT", "chance", "38.8", pytest.approx(100 * (1 / 2 + 2 / 3) / 3))),
        ("| 3 | 1 | 66.7 |", "| 3 | 0 | 66.7 |", ("modality/*/CT", "test_rows_with_train_image", "0", 1)),
        ("66.7", "67", None),
        ("66.7", "66", ("modality/*/CT", "blind_options", "66", pytest.approx(200 / 3))),
    ],
)
def test_a_wrong_number_differs_to_the_decimals_that_are_printed(folder, right, wrong, line):
    assert right in CARD
    table = check_card(write(folder, CARD.replace(right, wrong)), folder)
    differs = table[table["verdict"] == "differs"].drop(columns="verdict")
    assert list(differs.itertuples(index=False, name=None)) == ([] if line is None else [line])


def test_the_command_prints_each_line_and_fails_when_one_differs(folder, capsys):
    card = write(folder, CARD)
    assert main(["audit", "--check-card", str(card), "--data", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "agrees     modality/train/CT  rows: 4"
    assert lines[-1] == "23 agrees, 0 differs, 2 not there"
    card.write_text(CARD.replace("38.9", "40.0"))
    assert main(["audit", "--check-card", str(card), "--data", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "differs    modality/test/CT   chance: 40.0; found 38.8888888889" in out
    assert "1 of 25 numbers of" in err and "differ from the files" in err


def test_the_command_wants_either_two_files_or_a_card_with_its_folder(folder, capsys):
    for flags in (
        ["--check-card", "phantoms"],
        ["--train", "phantoms"],
        ["--check-card", "x", "--data", "y", "--test", "z"],
    ):
        with pytest.raises(SystemExit):
            main(["audit", *flags])
        assert "or --dataset_name and --test_size, or --check-card and --data" in capsys.readouterr().err


def test_what_these_files_are_too_small_for_is_not_there_and_the_rest_is_checked(folder):
    card = CARD.replace("| blind_options | `letters_train.A` |", "| `curve.300` | `letters_train.E` |")
    table = check_card(write(folder, card.replace("| 2 options |", "| 5 options |")), folder)
    assert table.loc[table["verdict"] == "not there", "measure"].tolist()[2:] == ["curve.300", "letters_train.E"]
    assert table.loc[table["measure"] == "5 options", "found"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("| rows |", "| patients |"), "'patients' is not measured; known are rows, images, sources"),
        (("| 4 | 3 | 1 |", "| four | 3 | 1 |"), "rows is 'four'; write a number, or a dash"),
        (("blind_options", "blind_option"), "'blind_option' is not measured; known are n_train, .* …$"),
        (("modality/", "task/"), "holds nothing of card.md, such as task/train/CT"),
        (("| file |", "| thing |"), None),
    ],
)
def test_bad_cards_are_refused_in_words(folder, change, words):
    card = write(folder, CARD.replace(*change))
    if words is None:
        assert len(check_card(card, folder)) == 4, "a table with another head is for people"
        return
    with pytest.raises(DataError, match=words):
        check_card(card, folder)


def test_a_card_without_counts_or_a_wrong_name_or_folder_is_refused(folder):
    with pytest.raises(DataError, match=r"phantoms\.md has no table of counts"):
        check_card("phantoms", folder)
    with pytest.raises(DataError, match=r"no data card 'phantom'; give a Markdown file or one of .*phantoms"):
        read_card("phantom")
    with pytest.raises(DataError, match="is not a folder"):
        check_card("phantoms", folder / "nowhere")


def test_modality_by_task_is_counted_over_the_open_part_of_omnimedvqa(tmp_path):
    item = {"dataset": "Made up", "question": "What?", "gt_answer": "cyst", "option_A": "cyst", "option_B": "mass"}
    for access, tasks in (
        ("Open", ("Disease Diagnosis", "Disease Diagnosis", "Anatomy Identification")),
        ("Restricted", ("Lesion Grading",)),
    ):
        rows = [
            item | {"question_id": f"{access}{i}", "question_type": task, "image_path": f"Images/Made up/{i}.png"}
            | {"modality_type": "X-Ray" if i < 2 else "unknown"}
            for i, task in enumerate(tasks)
        ]  # fmt: skip
        path = tmp_path / "QA_information" / f"{access}-access" / "Made up.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(rows))
    card = write(
        tmp_path,
        "| modality | DD | AI | LG | rows |\n|---|---|---|---|---|\n"
        "| X-Ray | 2 | 0 | 0 | 2 |\n| CT | 0 | 0 | 0 | 0 |\n| unknown | 0 | 1 | 0 | 1 |\n| all | 2 | 1 | 0 | 4 |\n",
    )
    table = check_card(card, tmp_path)
    assert table[table["verdict"] != "agrees"][["file", "measure", "found"]].values.tolist() == [["all", "rows", 3]]


# --- the cards of this repository -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_has_front_matter_and_says_what_it_must(path):
    card = read_card(path.stem)
    fields = card.data.to_dict()
    assert {"pretty_name", "license", "language", "size_categories", "tags"} <= set(fields)
    headings = {line.removeprefix("## ") for line in card.text.splitlines() if line.startswith("## ")}
    assert headings >= HEADINGS
    assert "not for clinical use" in " ".join(card.text.split()).lower()


def counts(name):
    """kind -> row -> column -> number, of a card's tables."""
    found = {}
    for kind, columns, rows in _tables((ROOT / "data_cards" / f"{name}.md").read_text(encoding="utf-8")):
        for row, *cells in rows:
            numbers = {c: float(v.replace(",", "")) for c, v in zip(columns, cells) if v != "–"}
            found.setdefault(kind, {}).setdefault(row, {}).update(numbers)
    return found


def test_the_numbers_of_the_splits_add_up():
    files = counts("med-r1-splits")["file"]
    for family in ("modality", "question_type"):
        rows = [row["rows"] for name, row in files.items() if name.startswith(f"{family}/")]
        assert sum(rows) == 88_996 - (family == "modality")  # one row has lost its modality
    for row in files.values():
        if "A" in row:
            assert row["rows"] == sum(row[letter] for letter in "ABCD") == sum(row[f"{n} options"] for n in (2, 3, 4))
            chance = 100 * sum(row[f"{n} options"] / n for n in (2, 3, 4)) / row["rows"]
            assert row.get("chance", chance) == pytest.approx(chance, abs=0.005)


def test_the_crossing_of_omnimedvqa_adds_up_to_the_splits():
    cells, files = counts("omnimedvqa")["modality"], counts("med-r1-splits")["file"]
    assert set(cells) == {*MODALITIES, "unknown", "all"}
    for name, row in cells.items():
        assert row["rows"] == sum(row[task] for task in TASKS)
        if name in MODALITIES:
            assert row["rows"] == sum(files[f"modality/{side}/{name}"]["rows"] for side in ("train", "test"))
    for task in TASKS:
        there = (files[f"question_type/{side}/{task.replace(' ', '_')}"]["rows"] for side in ("train", "test"))
        assert cells["all"][task] == sum(cells[name][task] for name in cells if name != "all") == sum(there)
    assert sum(cells[m][t] == 0 for m in MODALITIES for t in TASKS) == 12


def test_the_published_card_lists_every_table_with_its_rows():
    table = check_card("published", ROOT / "medr1kit" / "results" / "published")
    assert (table["verdict"] == "agrees").all()
    assert table["file"].tolist() == mk.published()["name"].tolist()
