"""From values to HTML: escaping, tables, badges and one style for light and dark. Pure functions, no state.

What a model writes is never trusted. :func:`escape` lets no character act: not as markup, not as a control character,
and not as a mark that turns the direction of the text around it. A megabyte is cut, and the cut says how much it hides.

Everything stands inside ``<div class="mk">`` (:func:`page`), classes begin with ``mk-``, and the places that tests and
style sheets may rely on carry ``data-mk="…"``. Colours come from JupyterLab's theme where there is one, otherwise from
the reader's preference. Nothing is told by colour alone, because GitHub takes the style away.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

LIMIT = 4000
"""Characters of one text that are shown at once."""
MORE = 40_000
"""Characters that unfold behind the cut; what lies beyond is only counted."""

# Control characters but tab and line end; marks of direction and of no width; half of a pair; a byte order mark.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def visible(text: str) -> str:
    """Return the text with every character that acts unseen written out.

    >>> visible("a\\x00b\\u202ec"), visible("line\\nend")
    ('a[U+0000]b[U+202E]c', 'line\\nend')
    """
    return _UNSEEN.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)


def escape(text: object, limit: int = LIMIT) -> str:
    """Return a text as HTML that shows it, character by character, and does nothing else.

    Args:
        text: anything; None and nan become a dash.
        limit: characters shown at once; up to :data:`MORE` further ones unfold on demand, the rest is counted.

    >>> escape("<script>"), escape(None), escape("abcdef", limit=4)[:4]
    ('&lt;script&gt;', '–', 'abcd')
    """
    if text is None or text != text:  # nan differs from itself
        return "–"
    return marked(str(text), (), limit)


def attribute(text: object) -> str:
    """Return a text for use between the quotes of an attribute, at most 200 characters of it."""
    return html.escape(visible(str(text)[:200]))


Span = tuple[int, int, Callable[[str], str]]
"""Start and end in a text, and what makes HTML of the escaped text between them."""


def marked(text: str, spans: Iterable[Span], limit: int = LIMIT) -> str:
    """Return a text as :func:`escape` does, with stretches of it marked.

    Args:
        text: the text.
        spans: stretches in order; one that overlaps the one before or reaches beyond ``limit`` is left unmarked.
        limit: as in :func:`escape`.

    >>> marked("a < b", [(2, 3, lambda inner: f"<b>{inner}</b>")])
    'a <b>&lt;</b> b'
    """
    shown, done, parts = text[:limit], 0, []
    for start, end, mark in spans:
        if done <= start < end <= len(shown):
            parts += [_plain(shown[done:start]), mark(_plain(shown[start:end]))]
            done = end
    parts.append(_plain(shown[done:]))
    return "".join(parts) + _rest(text, limit)


def _plain(text: str) -> str:
    return html.escape(visible(text))


def _rest(text: str, limit: int) -> str:
    """What lies behind a cut: how much, some of it to unfold, and how much is still left out."""
    if len(text) <= limit:
        return ""
    beyond = len(text) - limit - MORE
    left_out = f"<em>… and {beyond:,} more, not shown here</em>" if beyond > 0 else ""
    return (
        f'<details class="mk-more" data-mk="more"><summary>… {len(text) - limit:,} more characters '
        f"(of {len(text):,})</summary>{_plain(text[limit : limit + MORE])}{left_out}</details>"
    )


def badge(text: str, kind: str = "plain") -> str:
    """Return a short label; ``kind`` is "good", "bad", "warn" or "plain" and only colours what the text says.

    >>> badge("right", "good")
    '<span class="mk-badge mk-good">right</span>'
    """
    return f'<span class="mk-badge mk-{kind}">{escape(text, 120)}</span>'


def badges(parts: Iterable[str]) -> str:
    """Return badges one after the other, with a comma between them where there is no style.

    >>> badges([badge("a"), badge("b")]).count("mk-sep")
    1
    """
    return '<span class="mk-sep">,</span> '.join(parts)


def table(rows: Iterable[Sequence[str]], columns: Sequence[str], hook: str = "table") -> str:
    """Return a table.

    Args:
        rows: one sequence a row, cells as HTML: escape what is not yours.
        columns: headings, as text.
        hook: its ``data-mk``.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="mk-scroll"><table class="mk-table" data-mk="{attribute(hook)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def side_by_side(cells: Iterable[str]) -> str:
    """Return pieces of HTML next to each other, below each other where there is no room."""
    return '<div class="mk-cells">' + "".join(f'<div class="mk-cell">{cell}</div>' for cell in cells) + "</div>"


def page(content: str, hook: str = "panel") -> str:
    """Return content with the style it needs; this is what a notebook shows.

    Args:
        content: HTML.
        hook: its ``data-mk``.
    """
    return f'<style>{STYLE}</style><div class="mk" data-mk="{attribute(hook)}">{content}</div>'


ZOOM = Path(__file__).with_name("zoom.js").read_text(encoding="utf-8")
"""The script by which an image enlarges, in a panel as in a page: ``enlarging(root)``."""

_LINES = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8").splitlines()
STYLE = "".join(line.strip() for line in _LINES if not line.startswith("/*"))
"""The style sheet; within ``.mk`` and our panels only, so that it touches nothing else on the page."""
