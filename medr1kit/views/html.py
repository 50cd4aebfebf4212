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


_LIGHT = "--fg:#1f2328;--soft:#59636e;--bg:#ffffff;--tint:#f4f6f8;--line:#d0d7de;--ok:#1a7f37;--no:#b91c1c;--hm:#8a5a00"
_DARK = "--fg:#e6edf3;--soft:#9aa5b1;--bg:#14181d;--tint:#1f252c;--line:#3b444e;--ok:#5fd07f;--no:#ff8a80;--hm:#f0b95a"


def _named(colours: str) -> str:
    return colours.replace("--", "--mk-own-")


_THEMED = "".join(
    f"--mk-{ours}:var(--jp-{theirs},var(--mk-own-{ours}));"
    for ours, theirs in (
        ("fg", "content-font-color1"),
        ("bg", "layout-color0"),
        ("line", "border-color2"),
    )
)
STYLE = (
    f".mk{{{_named(_LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{.mk{{{_named(_DARK)}}}}}"
    f'[data-jp-theme-light="true"] .mk{{{_named(_LIGHT)}}}'
    f'[data-jp-theme-light="false"] .mk{{{_named(_DARK)}}}'
    f".mk{{{_THEMED}--mk-tint:var(--mk-own-tint);--mk-soft:var(--mk-own-soft);--mk-ok:var(--mk-own-ok);--mk-no:var(--mk-own-no);"
    "--mk-hm:var(--mk-own-hm);color:var(--mk-fg);background:var(--mk-bg);padding:.6em .8em;"
    "font:14px/1.5 var(--jp-content-font-family,system-ui,sans-serif);overflow-wrap:anywhere}"
    ".mk *{box-sizing:border-box}.mk p{margin:.3em 0}.mk h4{margin:.2em 0;font-size:1em}"
    ".mk ul{margin:.3em 0;padding-left:1.4em}.mk .mk-sep{display:none}"
    ".mk small,.mk .mk-soft{color:var(--mk-soft);font-size:.92em;font-weight:400}"
    ".mk .mk-head{display:flex;gap:1em;flex-wrap:wrap;align-items:flex-start;margin:.7em 0}"
    ".mk .mk-head>div{flex:1 1 18em;min-width:0}"
    ".mk .mk-head>figure{margin:0;flex:0 0 auto}.mk img{display:block;max-width:100%;background:#000;border-radius:4px}"
    ".mk .mk-none{display:flex;align-items:center;justify-content:center;text-align:center;width:14em;min-height:7em;"
    "padding:.5em;border:1px dashed var(--mk-line);border-radius:4px;color:var(--mk-soft)}"
    ".mk .mk-cells{display:flex;flex-wrap:wrap;gap:.8em;margin-top:.6em}"
    ".mk .mk-cell{flex:1 1 19em;min-width:0;border:1px solid var(--mk-line);border-radius:6px;padding:.6em .8em}"
    ".mk .mk-cell:has(>.mk-scroll){flex-basis:auto}"  # a table takes the width it needs before it scrolls
    ".mk .mk-text{white-space:pre-wrap;background:var(--mk-tint);color:var(--mk-fg);border-radius:4px;"
    "padding:.5em .6em;margin:.4em 0;max-height:22em;overflow:auto;unicode-bidi:isolate;"
    "font:13px/1.55 var(--jp-code-font-family,ui-monospace,monospace)}"
    ".mk .mk-badge{display:inline-block;border:1px solid currentColor;border-radius:1em;padding:0 .6em;font-size:.88em;"
    "font-weight:600;white-space:nowrap}"
    ".mk .mk-good{color:var(--mk-ok)}.mk .mk-bad{color:var(--mk-no)}.mk .mk-warn{color:var(--mk-hm)}"
    ".mk .mk-plain{color:var(--mk-soft)}"
    ".mk .mk-gold{font-weight:700}"
    ".mk code.mk-tag{font:inherit;background:none;padding:0;color:var(--mk-soft);font-weight:700}"
    ".mk code.mk-tag.mk-bad,.mk .mk-outside{color:var(--mk-no);text-decoration:underline wavy}"
    ".mk mark{background:none;color:inherit;padding:0 .1em;border-bottom:2px solid}"
    ".mk mark.mk-true{border-color:var(--mk-ok)}.mk mark.mk-false{border-color:var(--mk-no);border-bottom-style:dashed}"
    ".mk .mk-table code{white-space:pre-wrap;font-size:12px}.mk sup{line-height:0;font:700 12px sans-serif}"
    # In a table a text breaks between words, or within one that is longer than the cell; a narrow page scrolls it.
    ".mk .mk-table .mk-text{margin:0;min-width:17em;overflow-wrap:anywhere}.mk .mk-number{white-space:nowrap}"
    ".mk .mk-scroll{overflow-x:auto;margin:.4em 0;scrollbar-width:thin}"
    ".mk table.mk-table{border-collapse:collapse;margin:0;font-size:.95em;color:var(--mk-fg);"
    "font-variant-numeric:tabular-nums}"
    ".mk .mk-table th,.mk .mk-table td{text-align:left;vertical-align:baseline;line-height:1.35;"
    "padding:.3em .6em;background:none;border:0;border-bottom:1px solid var(--mk-line);"
    "white-space:normal;overflow-wrap:break-word;max-width:36em}"
    ".mk .mk-table thead th{color:var(--mk-soft);font-weight:600;overflow-wrap:normal}.mk .mk-table tr{background:none}"
    ".mk summary{cursor:pointer;color:var(--mk-soft)}.mk summary:focus-visible{outline:2px solid currentColor}"
    # ipywidgets takes the ring from fields and leaves a border that is hardly seen; who walks by keys needs one.
    ".mk-panel.jupyter-widgets :focus-visible{outline:2px solid var(--jp-content-font-color1,#1a73e8)!important}"
    ".mk-panel.jupyter-widgets .mk{background:none;padding:.3em 2px}"  # on the page's ground, in line with the controls
)
"""The style sheet; within ``.mk`` and our panels only, so that it touches nothing else on the page."""
