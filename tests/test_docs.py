"""The pages and the README: links lead somewhere, code runs, command lines are understood, numbers are true."""

import argparse
import ast
import contextlib
import csv
import inspect
import io
import json
import re
import runpy
import shlex
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import medr1kit as mk
from medr1kit.__main__ import COMMANDS, main
from medr1kit.data.medmnist import SETS
from medr1kit.data.sources import own_arguments
from medr1kit.vqa import format_problem

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN = [page for page in DOCS if page.stem in ("concepts", "your_own_data", "from_tiny_to_gpu")]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTS = re.compile(r"\n+(?:It )?prints\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = "<!-- not run -->"


def names(page):
    return str(page.relative_to(ROOT))


def prose(page):
    """A page without its code blocks; a notebook's markdown."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return _FENCE.sub("", text)


def blocks(page, language):
    """Code blocks of a language: whether the block is to be run, its line, its text."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        if match.group(1) == language:
            before = text[: match.start()]
            yield not before.rstrip().endswith(_NOT_RUN), before.count("\n") + 2, match.group(2)


# --- links -----------------------------------------------------------------------------------------------------------


def anchor(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=names)
def test_every_relative_link_and_picture_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+://|mailto:", target):
            continue
        path, _, fragment = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, target


def test_the_index_lists_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in index for page in DOCS if page.name != "README.md")


def test_pictures_have_a_text_for_those_who_cannot_see_them_and_are_small():
    pictures, readme = sorted((ROOT / "docs/pictures").glob("*.png")), (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(pictures) == 4 and all(path.stat().st_size < 250_000 for path in pictures)
    shown = dict(re.findall(r"!\[([^\]]*)\]\((docs/pictures/[^)]+)\)", readme))
    path, text = re.search(r'<img src="([^"]+)" alt="([^"]+)">', readme).groups()
    dark = re.search(r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">', readme)[1]
    assert {ROOT / one for one in (path, dark, *shown.values())} == set(pictures)
    assert all(len(text) > 40 for text in (text, *shown))


def test_above_the_fold_stand_one_picture_two_commands_and_three_sentences():
    fold = (ROOT / "README.md").read_text(encoding="utf-8").split("\nResearch and teaching only")[0]
    assert fold.count("<picture>") == 1 and "![" not in fold
    assert len(re.findall(r"^make \w+", fold, re.MULTILINE)) == 2
    told = fold.split("```")[-1]
    assert len(re.findall(r"[.](?:\s|$)", told)) == 3


def test_the_pictures_can_be_drawn_anew(tmp_path):
    make = runpy.run_path(str(ROOT / "docs/pictures/make.py"))
    make["draw"](tmp_path)
    for path in tmp_path.glob("*.png"):  # those of widgets and demo need a browser: tests/browser
        with Image.open(make["FOLDER"] / path.name) as kept, Image.open(path) as drawn:
            assert abs(kept.width - drawn.width) < 30 and abs(kept.height - drawn.height) < 30


# --- code ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_python_block_is_python_and_names_what_there_is(page):
    for _, line, code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mk":
                assert node.attr in mk.__all__, f"{names(page)}:{line}: mk.{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                check_keywords(node, f"{names(page)}:{line}")


def check_keywords(call, where):
    """Keywords of a call of the toolkit are its own or, for the trainers, TRL's."""
    if not (isinstance(call.func.value, ast.Name) and call.func.value.id == "mk"):
        return
    parameters = inspect.signature(getattr(mk, call.func.attr)).parameters
    known = set(parameters)
    if call.func.attr in ("train_grpo", "train_sft"):
        from trl import GRPOConfig, SFTConfig

        known |= set((GRPOConfig if call.func.attr == "train_grpo" else SFTConfig).__dataclass_fields__)
    if call.func.attr == "load_vqa":
        known |= {name for arguments in own_arguments().values() for name in arguments}
    for keyword in call.keywords:
        assert keyword.arg is None or keyword.arg in known, f"{where}: {call.func.attr}({keyword.arg}=)"


@pytest.mark.parametrize("page", RUN, ids=names)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    short_training(monkeypatch)
    text, namespace, compared = page.read_text(encoding="utf-8"), {}, 0
    for to_run, line, code in blocks(page, "python"):
        if not to_run:
            continue
        printed = io.StringIO()
        padded = "\n" * (line - 1) + code  # so that a traceback names the page's own line
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(padded, str(page), "exec"), namespace)
        said = re.match(
            r"\n+(?:It )?prints\n\n```text\n(.*?)^```$", text.split(code + "```", 1)[1], re.MULTILINE | re.DOTALL
        )
        if said:
            assert printed.getvalue() == said.group(1), f"{names(page)}:{line}"
            compared += 1
    assert compared == text.count("```text\n") > 0
    if page.stem == "your_own_data":
        before, after = (mk.blind_floor(*pair) for pair in both_pairs(namespace))
        assert before.accuracy == 1 > before.chance and after.accuracy == pytest.approx(after.chance)
        assert len(namespace["again"]) == len(namespace["ds"]) == 80 and (tmp_path / "audit.html").is_file()
        assert (tmp_path / "worksheet.html").is_file() and set(namespace["preds"]["method"]) == {"sft"}
        assert set(namespace["skin"]["modality"]) == {"Dermoscopy"} and len(namespace["omni"]) == 2


def short_training(monkeypatch):
    """A training of one step, whatever the page says: it shows that the lines run, not what they teach."""
    train = mk.train_sft
    short = {"max_steps": 1, "per_device_train_batch_size": 4}
    monkeypatch.setattr(mk, "train_sft", lambda *given, **keywords: train(*given, **keywords | short), raising=False)


def both_pairs(namespace):
    return [[namespace[prefix + side] for side in ("train", "test")] for prefix in ("", "fair_")]


FINDINGS = ("cyst", "mass", "bleeding", "normal", "stone", "gas", "fracture", "stent")
NEVER_RIGHT = ("the sea", "a car", "a dog", "a tree", "a house", "a boat", "a lamp")


def make_files(folder):
    """What the page about one's own data starts from, small: a spreadsheet, pictures, meta, MedMNIST, OmniMedVQA."""
    rng, lines = np.random.default_rng(0), make_exam(folder)
    with open(folder / "exam.csv", "w", newline="", encoding="cp1252") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(lines)
    rows, meta = [], []
    for line in lines:
        options = [line[f"Antwort {i}"] for i in range(1, 6) if line[f"Antwort {i}"]]
        letter = "ABCDE"[options.index(line["Lösung"])]
        rows.append({"image": line["Datei"], "problem": format_problem(line["Frage"], options), "solution": letter})
        meta.append(
            {"image": line["Datei"], "modality": "CT", "task": "Disease Diagnosis", "patient_id": line["Patient"]}
        )
    (folder / "questions.json").write_text(json.dumps(rows))
    (folder / "questions_meta.json").write_text(json.dumps(meta))
    (folder / "medmnist").mkdir()
    classes = len(SETS["dermamnist"].classes)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 255, (10 * classes, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.repeat(np.arange(classes), 10)[:, None].astype(np.uint8)
    np.savez(folder / "medmnist/dermamnist.npz", **arrays)
    make_omnimedvqa(folder / "OmniMedVQA")


def make_exam(folder, count=80):
    """An exam in German words, five options or four, the gold as text: its rows, and its pictures in ``films``."""
    (folder / "films/scans").mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for i in range(count):
        name = f"scans/{i // 2}.png"
        if i % 2 == 0:
            Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(folder / "films" / name)
        options = list(rng.choice(NEVER_RIGHT, 3 + i % 2, replace=False))
        options.insert(i % 4, FINDINGS[i % 8])
        answers = {f"Antwort {k + 1}": text for k, text in enumerate([*options, ""][:5])}
        question = "Welcher Befund ist zu sehen?" if i % 2 == 0 else "Was zeigt die Aufnahme; sicher?"
        line = {"Patient": f"p{i // 4}", "Datei": name, "Frage": question, **answers, "Lösung": FINDINGS[i % 8]}
        lines.append(line | {"Notiz": "für später"})
    return lines


def make_omnimedvqa(folder):
    items = [
        {
            "dataset": "Chest CT Scan",
            "question_id": f"chest_{i}",
            "question_type": "Modality Recognition",
            "question": "Which modality is it?",
            "gt_answer": "CT",
            "image_path": f"Images/Chest CT Scan/{i}.png",
            "option_A": "CT",
            "option_B": "MRI",
            "modality_type": "CT(Computed Tomography)",
        }
        for i in range(2)
    ]
    (folder / "QA_information/Open-access").mkdir(parents=True)
    (folder / "QA_information/Open-access/Chest CT Scan.json").write_text(json.dumps(items))


# --- command lines ---------------------------------------------------------------------------------------------------


def command_lines(page):
    """Every ``medr1kit …`` of the code blocks of a page, as words after the program's name."""
    shell = "\n".join(code for _, _, code in blocks(page, "bash")).replace("\\\n", " ").splitlines()
    for line in shell:
        found = re.search(r"""(^|\s|"|')medr1kit ([a-z].*)""", line)
        if found:
            quote, command = found.groups()
            yield shlex.split(command.partition(quote)[0] if quote in ("'", '"') else command, comments=True)


def mentions(page):
    """Every ``medr1kit …`` within the text of a page: a command, perhaps with some of its flags."""
    return [shlex.split(words) for words in re.findall(r"`medr1kit ([a-z][^`]*)`", prose(page))]


def params(find):
    return [pytest.param(words, id=f"{page.stem}: {' '.join(words)}") for page in PAGES for words in find(page)]


class Parsed(Exception):
    """The command line was read to its end."""


@pytest.fixture
def parse_only(monkeypatch):
    """Commands read their flags and stop."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments, **keywords):
        parse(parser, *arguments, **keywords)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)


@pytest.mark.parametrize("words", params(command_lines))
def test_every_command_line_is_understood(words, parse_only, capsys):
    assert words[0] in COMMANDS
    with pytest.raises(Parsed):
        main(words)
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("words", params(mentions))
def test_every_flag_that_is_mentioned_exists(words, capsys):
    """A mention need not be a whole command line, so its flags are looked up in the command's help."""
    commands = words[: next((i for i, word in enumerate(words) if word.startswith("-")), len(words))][:2]
    with pytest.raises(SystemExit) as left:
        main([*commands[: 2 if commands[0] == "study" else 1], "--help"])
    assert left.value.code == 0
    help_text = capsys.readouterr().out
    assert all(re.search(rf"{word}\b", help_text) for word in words if word.startswith("--"))


def test_command_lines_are_found():
    lines, mentioned = params(command_lines), params(mentions)
    assert len(lines) > 15 and mentioned
    assert {param.values[0][0] for param in lines} >= set(COMMANDS) - {"demo"}


def test_a_flag_that_does_not_exist_is_noticed(monkeypatch, capsys):
    assert main(["grpo", "--dataset_name", "phantoms", "--colour", "red"]) == 2
    with pytest.raises(SystemExit):
        main(["study", "run", "x.yaml", "--colour", "red"])
    assert "--colour" in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(code for _, _, code in blocks(page, "bash")) + "\n".join(
        re.findall(r"`(make [^`]+)`", prose(page))
    )
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# --- what the pages claim --------------------------------------------------------------------------------------------


def test_the_readme_stays_readable():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 220


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_readme_s_table_says_of_a_notebook_what_the_notebook_says(path):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Notebooks")[1].split("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("|") and path.name in line]
    cells = nbformat.read(path, as_version=4).cells
    cost = next(line for line in cells[0].source.splitlines() if line.startswith("**Cost"))
    assert row.split("|")[3].strip() in cost and "no gpu" in cost.lower()
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    torch_free = re.search(r"^([\d, and]+) need no model", section, re.MULTILINE).group(1)
    assert (path.stem[:2] in torch_free) == (not re.search(r"load_model|import torch", code))


def test_no_page_names_this_machine():
    for page in PAGES:
        assert not re.search(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|mnt)/\w", page.read_text(encoding="utf-8")), (
            page
        )


def test_what_troubleshooting_quotes_is_what_the_code_says():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "medr1kit").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # sentences that are written over several lines
    for words in (
        "has no images, and they are needed here",
        "needs gold rationales (column 'rationale')",
        "no model at ",
        "which is no multiple of the group size",
        "prompts are not shared, TRL's own step is run",
        "processes were started, but the trainer sees",
        "already holds a run",
        "was not written by a run in this folder",
        "another training writes to ",
        "this model was trained in ",
        "the trained weights are no longer finite numbers",
        "holds a run of other settings",
        "holds no optimizer",
        "was written empty",
    ):
        page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
        assert words.strip() in page and words in code, words


@pytest.mark.parametrize(("patch", "tokens"), [(14, 196), (16, 144)])
def test_an_image_has_as_many_tokens_as_the_gpu_page_says(patch, tokens):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    grid = Qwen2VLImageProcessorPil(patch_size=patch)(images=[Image.new("RGB", (384, 384))])["image_grid_thw"][0]
    assert np.prod(grid) // 4 == tokens
    assert str(tokens) in (ROOT / "docs/from_tiny_to_gpu.md").read_text(encoding="utf-8")
