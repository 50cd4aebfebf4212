"""Text that tries to be more than text, in a real page: it is shown, runs nothing, and leaves the page in order.

``page`` fails a test in which a dialog opens, and any script that runs here would open one.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from widget_fakes import HOSTILE

HEAD = """
import sys; sys.path.insert(0, {tests!r})
import medr1kit as mk, pandas as pd, ipywidgets
from medr1kit.results.runs import RunWriter
from datasets import Dataset
from widget_fakes import HOSTILE, predictions
texts = [text for name, text in HOSTILE.items() if name != "half"]  # no table of pandas holds half a character
"""

INSPECT = """
before, after = predictions(texts), predictions(texts, method="grpo")
before["question"] = after["question"] = [text[:500] for text in texts]
panel = mk.inspect_outputs(before, after, names=["<script>alert(1)</script>", HOSTILE["broken"]])
panel
"""

RUN = """
with RunWriter("hostile", {"summary": {}}) as run:
    for step, text in enumerate(texts):
        answers = predictions([text] * 2).to_dict("records")
        rows = [{key: row[key] for key in ("question", "options", "answer", "modality", "task", "text", "predicted")}
                | {"step": step, "id": HOSTILE["script"], "rollout": n, "accuracy_reward": 0.0, "advantage": 0.0,
                   "n_tokens": 9, "truncated": False, "used": True} for n, row in enumerate(answers)]
        run.rollout_rows(rows)
        run.metrics_row({"step": step, "reward": 1.0})
panel = mk.explore_run("hostile")
panel
"""

DATA = """
rows = predictions(texts)[["id", "image_id", "modality", "task", "question", "options", "answer"]]
panel = mk.explore_data(Dataset.from_pandas(rows.assign(question=texts, options=[[text[:99], "b"] for text in texts])))
panel
"""

TRANSFER = """
base, grpo = predictions(texts), predictions(texts, method="grpo", train_modality=HOSTILE["script"])
panel = mk.explore_transfer(pd.concat([base, grpo]).assign(question=HOSTILE["broken"], modality=HOSTILE["broken"]))
panel
"""

BEHIND = """
counted = ipywidgets.IntText(0).add_class("mk-counted")
more = ipywidgets.Button(description="count").add_class("mk-count")
more.on_click(lambda _: setattr(counted, "value", counted.value + 1))
ipywidgets.VBox([more, counted])
"""


def check(page: Page) -> None:
    """Nothing stands in the panel that a text has made, and nothing of it lies on what follows."""
    bad = ":is(script, a, b[unclosed], img:not(.mk-image, .mk-curve), [onerror], iframe)"
    expect(page.locator(f".mk {bad}")).to_have_count(0)
    for box in page.locator(".mk-text").all():
        inside = box.evaluate("e => getComputedStyle(e).unicodeBidi")
        assert inside == "isolate", "the direction of a text may reach beyond it"
    page.wait_for_function(
        """() => {
            const place = name => document.querySelector(name).getBoundingClientRect();
            const panel = place('.mk-panel'), after = place('.mk-count');
            return after.top >= panel.bottom - 1 && panel.width <= 1000 && panel.height < 8000;
        }"""
    )
    counted = page.locator(".mk-counted input")
    before = int(counted.input_value())
    page.locator(".mk-count").click()
    expect(counted).to_have_value(str(before + 1))


@pytest.mark.parametrize("widget", ["inspect", "run", "data", "transfer"])
def test_what_is_read_is_shown_as_text(show, request, widget):
    cell = {"inspect": INSPECT, "run": RUN, "data": DATA, "transfer": TRANSFER}[widget]
    page = show(HEAD.format(tests=str(request.path.parent.parent)), cell, BEHIND)
    expect(page.locator(".mk-count")).to_be_visible()
    place = page.locator('[data-mk="text"], [data-mk="completions"] .mk-text, [data-mk="question"]')
    where = page.locator({"run": ".mk-completions .mk-text", "transfer": ".mk-answer p"}.get(widget, '[data-mk="id"]'))
    everything = ""
    for number in range(6):
        everything += "".join(place.all_inner_texts())
        check(page)
        here = where.first.text_content()  # with what is folded: that is what is compared below
        if number < 5:
            step = page.locator(".mk-step .noUi-handle" if widget == "run" else "button.mk-next")
            step.press("ArrowLeft" if widget == "run" else "Enter")
            if widget == "run":
                expect(page.locator(".mk-curve").first).to_have_attribute("alt", re.compile(f"at step {4 - number}:"))
            expect(where.first).not_to_have_text(here)
    for said in ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "[U+202E]", "🩻👩", "[U+0000]<script>"):
        assert said in everything, said
    assert "<a href='javascript:1'>&amp;&#60;script&#62;" in everything


def test_what_is_typed_is_shown_as_text(show):
    options = "['<b>bold</b>', '</select><script>alert(3)</script>']"
    page = show(f"import medr1kit as mk, ipywidgets\nmk.reward_lab(options={options})", BEHIND)
    expect(page.locator(".mk-count")).to_be_visible()
    shown, typed = page.locator('[data-mk="text"]'), page.locator(".mk-text textarea")
    for name, start in (("script", 30), ("broken", 30), ("direction", 0), ("emoji", 2)):
        typed.fill(HOSTILE[name])
        expect(shown).to_contain_text(HOSTILE[name][:start] or "[U+202E]<script>")
        check(page)
    typed.fill(HOSTILE["long"])
    expect(shown).to_contain_text(re.compile(r"[\d,]+ more characters"))
    check(page)
    expect(page.locator('[data-mk="options"]')).to_contain_text("<b>bold</b>")
