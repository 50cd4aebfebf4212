"""Notebooks: all are clean in git, and the builder notices what it should; `make test-notebooks` runs them."""

import asyncio
import base64
import copy
import importlib.util
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from medr1kit.data.phantoms import redraw

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
HOME = "/".join(("", "home", "me"))  # in parts: a test forbids such paths in the repository

_spec = importlib.util.spec_from_file_location("notebook_builder", FOLDER / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


def run(notebook, folder, **arguments):
    asyncio.run(build.execute(notebook, folder, **arguments))
    return notebook


def of_cells(*sources, prose="Prose."):
    cells = [new_markdown_cell(prose), *map(new_code_cell, sources)]
    for i, cell in enumerate(cells):
        cell["id"] = f"c{i:02d}"
    return new_notebook(cells=cells)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small notebook with all that may differ from run to run, executed."""
    styled = "import pandas as pd\npd.DataFrame({'n': [1]}).style"
    timed = "import time\nprint(f'took {time.perf_counter():.3f} s, found 3 lesions')"
    return run(of_cells(styled, "object()", timed), tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_fresh_executed_and_carries_nothing_foreign(path):
    assert build.faults(nbformat.read(path, as_version=4), path.stat().st_size) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_teaches_shows_and_costs_what_was_seen_and_what_comes_next(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.source.strip()]
    first, last = cells[0].source, cells[-1].source
    assert "**You will learn**" in first and "**Cost" in first
    assert len(re.findall("^- ", first.partition("**You will see**")[2], re.MULTILINE)) == 3
    recap = re.search(r"^## What you saw\n\n(.+)\n\n\*\*Try next\*\*: (.+)", last, re.MULTILINE | re.DOTALL)
    assert 2 <= len(re.findall(r"\.(?=\s|$)", recap[1])) <= 4 and "](" in recap[2]


def test_the_pictures_of_ideas_and_the_references_stand_where_the_idea_is_used():
    told = {path.stem[:2]: path.read_text(encoding="utf-8") for path in NOTEBOOKS}
    shown = {number: set(re.findall(r"\.\./docs/pictures/ideas/(\w+)\.svg", text)) for number, text in told.items()}
    assert shown["00"] == {"step"} and shown["01"] == {"blind_floor", "leak"} and shown["02"] == {"formats"}
    assert shown["03"] == {"step", "prompt"} and shown["04"] == {"shared_prefix"}
    assert all("../docs/references.md" in told[number] for number in ("00", "01", "02", "03", "04", "05", "09"))


WIDGET = re.compile(r"^mk\.(explore_\w+|reward_lab|inspect_outputs)\(", re.MULTILINE)


@pytest.mark.parametrize(("number", "widget"), {"01": "explore_data", "02": "reward_lab", "04": "explore_run"}.items())
def test_a_notebook_shows_its_widget(number, widget):
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert widget in [match[1] for match in map(WIDGET.search, sources) if match]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_widget_can_be_read_without_python_and_a_plain_picture_stands_beside_it(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    kinds = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in cells]
    widgets = [WIDGET.search(cell.source) for cell in cells]
    assert all("text/html" in there for there, widget in zip(kinds, widgets) if widget)
    # GitHub strips styles, and maybe pictures, from HTML
    assert not any(widgets) or any("image/png" in there for there, widget in zip(kinds, widgets) if not widget)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_medr1kit_before_torch_so_that_threads_do_not_wait_by_spinning(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    first = re.search(r"^(?:import|from) (torch|transformers|trl|peft|medr1kit)\b", "\n".join(cells), re.MULTILINE)
    assert first[1] == "medr1kit"


def test_a_notebook_built_twice_is_the_same_file_but_for_its_seconds(small, tmp_path):
    again = run(copy.deepcopy(small), tmp_path)
    assert nbformat.writes(of_same_seconds(again)) == nbformat.writes(of_same_seconds(copy.deepcopy(small)))
    assert build.faults(again, size=1) == []
    assert build.differences(small, again) == []


def of_same_seconds(notebook):
    notebook.cells[-1].outputs[0]["text"] = build._SECONDS.sub("1", notebook.cells[-1].outputs[0]["text"])
    return notebook


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def decoded(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture)))


def test_a_picture_is_written_with_a_palette_and_looks_the_same():
    skin = redraw("Dermoscopy-test-0-0")
    before = encoded(skin.convert("RGBA"))
    after = build.lighter(before)
    assert decoded(after).mode == "P" and len(after) < 0.6 * len(before)
    difference = abs(np.asarray(decoded(after).convert("RGB"), dtype=int) - np.asarray(skin, dtype=int))
    assert difference.mean() < 2
    assert build.lighter(after) == after


def test_a_picture_that_a_palette_would_spoil_or_enlarge_stays():
    clear, dot = encoded(Image.new("RGBA", (64, 64), (9, 9, 9, 128))), encoded(Image.new("RGB", (1, 1)))
    assert build.lighter(clear) == clear and build.lighter(dot) == dot


def test_pictures_within_html_are_made_lighter_too_and_looks_are_not_compared(small):
    rng = np.random.default_rng(0)
    tall, wide = (encoded(Image.fromarray(rng.integers(0, 256, size, np.uint8))) for size in ((80, 40, 3), (40, 80, 3)))
    pages = []
    for picture in (tall, wide):
        page = copy.deepcopy(small)
        html = f"<style>td {{ padding: {len(pages)}px }}</style><td>time/decode</td><td>{len(pages)}</td>"
        html += (
            f'<img alt="seconds a step, by phase at step 9: loss 0.{len(pages)}" src="data:image/png;base64,{picture}">'
        )
        page.cells[2].outputs[0].data["text/html"] = html
        build.clean(page)
        assert len(page.cells[2].outputs[0].data["text/html"]) < 0.6 * len(html)
        pages.append(page)
    assert build.differences(*pages) == []
    pages[0].cells[2].outputs[0].data["text/html"] += "another word"
    assert len(build.differences(*pages)) == 1


def test_a_check_names_the_cell_whose_output_changed(small):
    changed = copy.deepcopy(small)
    changed.cells[3].outputs[0]["text"] = changed.cells[3].outputs[0]["text"].replace("3 lesions", "4 lesions")
    (found,) = build.differences(changed, small)
    assert found.startswith("cell 3 ") and "4 lesions" in found and "3 lesions" in found


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ("low=0.15527534601905305", "low=0.1552753460190531", True),
        ("low=0.15527534601905305", "low=0.1552853460190531", False),
        ("in 3.2 s", "in 4.1 s", True),
        ("3.2 stages", "4.1 stages", False),
    ],
)
def test_a_check_forgives_seconds_and_last_digits_only(was, now, same):
    outputs = [new_output("stream", text=text) for text in (was, now)]
    assert (build._compared(outputs[0], False) == build._compared(outputs[1], False)) is same


def test_on_another_machine_only_what_a_loaded_model_said_may_differ(small):
    elsewhere = copy.deepcopy(small)
    elsewhere.metadata["medr1kit"]["machine"] = "another"
    elsewhere.cells[3].outputs[0]["text"] = "nothing found\n"
    assert len(build.differences(elsewhere, small)) == 1
    fresh = copy.deepcopy(small)
    for notebook in (elsewhere, fresh):
        notebook.cells[2]["source"] = "model, processor = mk.load_model('tiny')"
    assert build.differences(elsewhere, fresh) == []
    elsewhere.cells[3]["outputs"] = []
    assert len(build.differences(elsewhere, fresh)) == 1


SPOILS = {
    "edited after its outputs": lambda notebook: notebook.cells[0].update(source="Other prose."),
    "not run once each": lambda notebook: notebook.cells[1].update(execution_count=7),
    "holds widget state": lambda notebook: notebook.metadata.update(widgets={}),
    "cell 2 ended in an error": lambda notebook: notebook.cells[2].outputs.append(new_output("error", ename="E")),
    "cell 2 holds a widget view": lambda notebook: notebook.cells[2].outputs[0]["data"].update({build.WIDGET_VIEW: {}}),
    "cell 3 names a path": lambda notebook: notebook.cells[3].outputs[0].update(text=f"saved in {HOME}/runs\n"),
}


@pytest.mark.parametrize("sentence", SPOILS)
def test_the_lint_notices(sentence, small):
    spoilt = copy.deepcopy(small)
    SPOILS[sentence](spoilt)
    (found,) = build.faults(spoilt, size=1)
    assert sentence in found


def test_the_lint_notices_long_cells_and_large_files(small):
    assert "draw fewer figures" in build.faults(small, size=2_000_000)[0]
    assert build._cell_faults(new_code_cell("1\n" * 16)) == ["has more than 15 lines"]
    assert build._cell_faults(new_code_cell("1\n" * 15)) == []


def test_a_failing_cell_is_named(tmp_path):
    with pytest.raises(build.BuildError, match="cell 2 failed: ZeroDivisionError: division by zero"):
        run(of_cells("1", "1 / 0"), tmp_path)


def test_a_notebook_that_takes_too_long_is_stopped(tmp_path):
    with pytest.raises(build.BuildError, match="cell 2 was still running after 6 s"):
        run(of_cells("1", "import time\ntime.sleep(600)"), tmp_path, seconds=6)


def test_a_check_that_finds_something_fails_and_says_so(small, tmp_path, monkeypatch, capsys):
    stale = copy.deepcopy(small)
    stale.cells[3].outputs[0]["text"] = "took 1 s, found nothing\n"
    nbformat.write(stale, tmp_path / "09_stale.ipynb")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "09_stale.ipynb: cell 3 says something else" in said and "1 failed (09_stale)" in said
    assert build.main([]) == 0 and build.main(["--check", "09"]) == 0
    assert build.main(["--lint"]) == 0
