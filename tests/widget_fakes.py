"""Predictions for the widgets' tests, and a reader of HTML that knows only our own elements."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd

from medr1kit.formats import THINK_BEFORE, format_named

OURS = {
    *("div", "span", "p", "h4", "small", "b", "em", "ul", "li", "figure", "img", "code", "mark", "sup", "style"),
    *("details", "summary", "table", "thead", "tbody", "tr", "th", "td"),
}
"""Every element that a widget may put into a page."""

HOSTILE = {
    "script": "<think>x</think><answer>B</answer><script>alert(1)</script><img src=x onerror=alert(2)>",
    "broken": "</div></td><table><b unclosed <a href='javascript:1'>&amp;&#60;script&#62; --> <!-- ]]>\"'`",
    "long": "<i>a</i> " * 120_000,
    "direction": "\u202e<script>\u2066 right to left \u05d0\u05d1\u200f",
    "emoji": "🩻👩‍⚕️ <answer>B</answer>",
    "null": "\0<script>\0</script>\x1b[31m",
    "half": "\ud800<script>",
}
"""Completions that try to be more than text."""


class Seen(HTMLParser):
    """What stands in a page: ``elements``, ``attributes``, and the text of each ``data-mk`` by its name."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.open, self.texts = [], [], [], {}
        self.all = ""
        self.feed(page)
        self.close()
        assert self.open == [], f"not closed: {[name for name, _ in self.open]}"

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        hook = dict(attrs).get("data-mk")
        if hook:
            self.texts.setdefault(hook, []).append("")
        if tag != "img":
            self.open.append((tag, hook))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.all += data
        for hook in {hook for _, hook in self.open if hook}:
            self.texts[hook][-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def check_safe(page: str) -> Seen:
    """Assert that a page has no element, handler or address that is not ours, and return what stands in it."""
    page.encode("utf-8")
    assert "\0" not in page
    seen = Seen(page)
    assert set(seen.elements) <= OURS
    for tag, name, value in seen.attributes:
        assert not name.startswith("on") and name != "href", (tag, name)
        assert name != "src" or value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
        assert name != "class" or all(word == "mk" or word.startswith("mk-") for word in value.split())
    return seen


SVG = "data:image/svg+xml;base64,"


def drawings(page: str) -> list[str]:
    """The code of each curve in a page."""
    return [base64.b64decode(part.split('"')[0]).decode() for part in page.split(SVG)[1:]]


def safe(page: str) -> Seen:
    """As :func:`check_safe`, for a page with curves. An SVG in an <img> can do nothing; it is read by itself."""
    for drawing in drawings(page):
        ElementTree.fromstring(drawing)
    return check_safe(page.replace(SVG, "data:image/png;base64,"))


def controls(panel, hook) -> list:
    """Every control of a panel with the class ``mk-<hook>``, in the order of the page."""

    def within(box):
        for child in getattr(box, "children", ()):
            yield child
            yield from within(child)

    return [one for one in within(panel.root) if f"mk-{hook}" in one._dom_classes]


def control(panel, hook):
    """The control of a panel that has the class ``mk-<hook>``."""
    (found,) = controls(panel, hook)
    return found


def predictions(texts, method="base", format=THINK_BEFORE, image_id="CT-test-0-{}", **columns) -> pd.DataFrame:
    """Predictions on phantoms whose gold is B of liver, brain, lung; read from the texts."""
    format, options = format_named(format), ["liver", "brain", "lung"]
    parsed = [format.parse(text, options) for text in texts]
    n = len(texts)
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(n)],
            "image_id": [image_id.format(i) for i in range(n)],
            "source": "phantoms",
            "modality": ["CT" if i % 2 == 0 else "MRI" for i in range(n)],
            "task": "Anatomy Identification",
            "question": [f"What is shown in picture {i}?" for i in range(n)],
            "options": [list(options) for _ in range(n)],
            "answer": "B",
            "model": "tiny",
            "train_modality": None,
            "train_task": None,
            "method": method,
            "format": format.name,
            "seed": 0,
            "text": texts,
            "think": [p.think for p in parsed],
            "predicted": [p.answer for p in parsed],
            "lenient_predicted": [p.lenient_answer for p in parsed],
            "correct": [p.answer == "B" for p in parsed],
            "well_formed": [p.well_formed for p in parsed],
            "n_tokens": 9,
        }
        | columns
    )
