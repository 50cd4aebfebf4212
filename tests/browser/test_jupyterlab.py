"""A notebook in JupyterLab, which is what readers use: run, changed, saved; and opened without being run."""

from __future__ import annotations

import json
import re

import nbformat
import scenes
import serving
from nbclient import NotebookClient
from playwright.sync_api import expect
from serving import opened, run_all


def test_a_widget_is_run_changed_and_saved_without_its_state(page, lab):
    serving.write_notebook(lab[0] / "run.ipynb", [scenes.INSPECT])
    opened(page, lab, "run.ipynb")
    run_all(page)
    asked = page.locator('[data-mk="id"]')
    expect(asked).to_be_visible()
    first = asked.inner_text()
    page.locator("button.mk-next").click()
    expect(asked).not_to_have_text(first)
    page.locator(".mk-kind select").select_option(label="broken")
    expect(page.locator('[data-mk="status"] b')).not_to_have_text("400")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads((lab[0] / "run.ipynb").read_text())
    assert "widgets" not in saved["metadata"]
    [output] = [output for cell in saved["cells"] for output in cell["outputs"]]
    assert "data-mk" in "".join(output["data"]["text/html"])


def test_the_keys_of_a_list_are_not_taken_for_shortcuts(page, lab):
    serving.write_notebook(lab[0] / "keys.ipynb", [scenes.INSPECT, "1 + 1"])
    opened(page, lab, "keys.ipynb")
    run_all(page)
    kinds = page.locator(".mk-kind select")
    kinds.focus()
    first = kinds.evaluate("list => list.selectedIndex")
    kinds.press("ArrowDown")  # to JupyterLab: the next cell
    expect(kinds).to_be_focused()
    assert kinds.evaluate("list => list.selectedIndex") == first + 1
    kinds.press("m")  # to JupyterLab: make it Markdown, which removes the output
    expect(page.locator(".jp-MarkdownCell")).to_have_count(0)
    expect(kinds).to_be_visible()
    page.locator("button.mk-next").press("Escape")  # everything else is JupyterLab's as before
    page.keyboard.press("m")
    expect(page.locator(".jp-MarkdownCell")).to_have_count(1)


def test_the_letters_of_a_quiz_answer_and_are_not_taken_for_shortcuts(page, lab):
    serving.write_notebook(lab[0] / "quiz.ipynb", [scenes.QUIZ, "1 + 1"])
    opened(page, lab, "quiz.ipynb")
    run_all(page)
    page.locator('[data-mk="question"]').click()
    page.keyboard.press("b")  # to JupyterLab: a new cell below
    expect(page.locator('[data-mk="gold"]')).to_have_count(1)
    page.keyboard.press("Enter")  # to JupyterLab: edit the cell
    expect(page.locator('[data-mk="place"]')).to_have_text("question 2 of 3")
    page.keyboard.press("a")
    expect(page.locator('[data-mk="gold"]')).to_have_count(1)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)
    page.locator(".mk-main img").click()
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.mk-zoom")).to_have_count(0)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)


def test_a_committed_notebook_shows_its_static_form_without_being_run(page, lab, monkeypatch):
    path = serving.write_notebook(lab[0] / "kept.ipynb", [scenes.INSPECT])
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, store_widget_state=False, kernel_name="python3").execute()
    nbformat.write(notebook, path)
    [output] = notebook.cells[0].outputs
    assert set(output["data"]) == {"text/html", "text/plain"}
    opened(page, lab, "kept.ipynb")  # not trusted, as after a clone: JupyterLab takes the style away
    shown = page.locator(".jp-OutputArea")
    expect(shown).to_contain_text(re.compile(r"question \d+ of 400"))
    expect(shown).to_contain_text("✓ gold")
    expect(shown.locator("h4")).to_have_text(["Read answers side by side", re.compile("^base"), re.compile("^grpo")])
    assert shown.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(page.locator(".jupyter-widgets")).to_have_count(0)
