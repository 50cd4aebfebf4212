"""Keys alone: every control of a widget is reached in order, is seen to be, is changed, keeps the focus, is left."""

from __future__ import annotations

import io

import pytest
import scenes
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

# What a reader can stop at, in the order of the page, tables that scroll among them; and what it is called.
STOPS = """[...document.querySelectorAll(
    '.mk-panel :is(select, input, textarea, button, summary, a[href], [tabindex="0"], [contenteditable], .mk-scroll)'
)].filter(e => e.checkVisibility() && !e.disabled && (!e.matches('.mk-scroll') || e.scrollWidth > e.clientWidth))"""
NAME = """(e => {
    const text = (e.innerText || e.tagName).split('\\n')[0].trim(), shown = e.closest('[data-mk]');
    if (shown) return shown.dataset.mk + ': ' + text;
    return [...e.closest('.jupyter-widgets').classList].find(c => c.startsWith('mk-')) + ': ' + text;
})"""
KIND = "(e => e.getAttribute('role') || (e.tagName == 'INPUT' ? e.type : e.tagName))"

# Each control is changed, and changed back where there is a way back.
KEYS = {"number": ("ArrowUp", "ArrowDown"), "checkbox": ("Space", "Space"), "slider": ("ArrowLeft", "ArrowRight")}
KEYS |= {"text": ("x", "Backspace"), "TEXTAREA": ("x", "Backspace"), "BUTTON": ("Enter", "Space")}
KEYS |= {"SELECT": ("ArrowDown", "ArrowUp"), "SELECT at its end": ("ArrowUp", "ArrowDown")}

# A cell behind a widget: it counts what Python hears of each control.
HEARD = """
import ipywidgets
from collections import Counter
counts, heard = Counter(), ipywidgets.Label().add_class("mk-heard")

def hear(control):
    counts[control._dom_classes[0]] += 1
    heard.value = "".join(f"{name}={n} " for name, n in counts.items())

def listen(control):
    for child in getattr(control, "children", ()):
        listen(child)
    if hasattr(control, "value") and not isinstance(control, ipywidgets.HTML):
        control.observe(lambda _: hear(control), "value")

listen(panel.root)
click = ipywidgets.Button.click  # of all buttons: those of a map are made anew with the map
ipywidgets.Button.click = lambda button: (click(button), hear(button))
ipywidgets.VBox([heard, ipywidgets.Button(description="what follows").add_class("mk-after")])
"""

SCENES = {**scenes.WIDGETS, "transfer": scenes.FEW}
SCENES.pop("quiz")  # an answer cannot be taken back, and its button goes: test_quiz_and_zoom.py has its keys


def focused(page: Page) -> int:
    """Which of the stops has the focus; -1 for none of them."""
    return page.evaluate(f"{STOPS}.indexOf(document.activeElement)")


def seen(page: Page, box: dict) -> Image.Image:
    """A stop and what is closely around it."""
    clip = {"x": int(box["x"]) - 3, "y": int(box["y"]) - 3}
    clip |= {"width": int(box["width"]) + 6, "height": int(box["height"]) + 6}
    return Image.open(io.BytesIO(page.screenshot(clip=clip, caret="hide", animations="disabled"))).convert("L")


def changed(before: Image.Image, after: Image.Image) -> float:
    """How many pixels differ clearly, in lengths of the picture's edge."""
    return sum(ImageChops.difference(before, after).histogram()[64:]) / (2 * sum(before.size))


@pytest.mark.parametrize("widget", SCENES)
def test_every_control_is_reached_seen_and_changed_by_keys_alone(show, widget):
    page = show(SCENES[widget], HEARD)
    page.set_viewport_size({"width": 1000, "height": 2600})
    expect(page.locator(".mk-after")).to_be_visible()
    reached_and_seen(page)
    page.locator(".mk-after").evaluate("button => { button.blur(); getSelection().removeAllRanges() }")
    page.evaluate("document.body.tabIndex = -1, document.body.focus()")
    page.keyboard.press("Tab")
    walked = -1
    while (at := focused(page)) >= 0:
        assert at > walked, "the focus went back"
        walked = at
        changed_by_keys(page, at)
        page.keyboard.press("Tab")
    expect(page.locator(".mk-after")).to_be_focused()


def reached_and_seen(page: Page) -> None:
    """Tab leads from stop to stop in the order of the page and out; each looks otherwise while it has the focus."""
    names = page.evaluate(f"{STOPS}.map({NAME})")
    boxes = page.evaluate(f"{STOPS}.map(e => e.getBoundingClientRect().toJSON())")
    bare = [seen(page, box) for box in boxes]
    page.locator("body").press("Tab")
    visited, faint = [], {}
    while (at := focused(page)) >= 0 and at not in visited:
        visited.append(at)
        if (share := changed(bare[at], seen(page, boxes[at]))) < 0.5:
            faint[names[at]] = round(share, 2)
        page.keyboard.press("Tab")
    assert [names[at] for at in visited] == names
    expect(page.locator(".mk-after")).to_be_focused()
    assert faint == {}, "the focus is hardly seen at these"
    page.keyboard.press("Shift+Tab")
    assert focused(page) == len(names) - 1


def changed_by_keys(page: Page, at: int) -> None:
    """Keys change the control that has the focus, Python hears of it, and the focus stays."""
    name, kind = page.evaluate(f"[{NAME}, {KIND}].map(f => f(document.activeElement))")
    hook = name.split(":")[0]
    if kind == "SELECT" and page.evaluate("document.activeElement.selectedIndex == document.activeElement.length - 1"):
        kind = "SELECT at its end"
    for key in KEYS.get(kind, ()):
        count = f"Number((document.querySelector('.mk-heard').textContent.match(/{hook}=(\\d+)/) || [0, 0])[1])"
        before = page.evaluate(count)
        page.keyboard.press(key)
        page.wait_for_function(f"{count} > {before}")
        assert focused(page) == at, f"{name} loses the focus when it is changed"
