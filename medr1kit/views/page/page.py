"""The page around the sections: its style, its script, and how texts are embedded so that they stay texts.

What a model wrote reaches the page in two ways only: as HTML that the widgets' functions made of it, all of it escaped,
and as JSON in elements that no browser runs. JSON is written in plain ASCII with ``<``, ``>`` and ``&`` spelled out, so
that nothing in it can end its element; large parts are packed (gzip, base64), and unpacked one by one when looked at.
Should anything slip through, the page's own policy (Content-Security-Policy) still lets no script run but the one whose
hash it names, and no address be asked.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medr1kit.views.html import STYLE, ZOOM, attribute, escape
from medr1kit.views.look import COLOURS

_FOLDER = Path(__file__).parent
_SCRIPT = ("common", "scores", "maps", "reader", "steps", "start")
_SPELLED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
_NAMES = {"story": "first view", "facts": "what this is", "run": "training"}
_NAMES |= {"scores": "scores", "maps": "transfer", "reader": "reader"}

_NO_SCRIPT = (
    '<noscript><p class="mk-warn">This page needs its own script to sort, to choose and to show answers; the tables of '
    "scores and the first map stand without it.</p></noscript>"
)
_FOOT = (
    "Research and teaching only. Not for clinical use. This page is one file: it asks for nothing and sends nothing. "
    "Notes stay in this browser."
)

# What a browser shows on the tab: a finding in a slice of something round.
_ICON = quote(
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" '
    f'fill="{COLOURS[0]}"/><circle cx="8" cy="8" r="5" fill="none" stroke="#fff" stroke-width="2"/>'
    f'<circle cx="9.5" cy="7" r="2.2" fill="{COLOURS[1]}"/></svg>',
    safe="",
)


def generator(kind: str) -> str:
    """Return the element by which a page of a kind, "report" or "worksheet", is known as one of ours."""
    return f'<meta name="generator" content="medr1kit {kind}">'


def embed(value: Any, name: str) -> str:
    """Return a value as a script element that holds JSON and cannot be ended from inside.

    >>> embed({"a": "</script>&"}, "x")
    '<script type="application/json" id="mk-x">{"a":"\\\\u003c/script\\\\u003e\\\\u0026"}</script>'
    """
    text = json.dumps(value, separators=(",", ":")).translate(_SPELLED)  # ASCII, so U+2028 and half pairs are spelled
    return f'<script type="application/json" id="mk-{name}">{text}</script>'


def pack(value: Any) -> str:
    """Return a value as JSON, compressed, in base64; texts that repeat cost little.

    >>> len(pack(["a rationale"] * 1000)) < 120
    True
    """
    text = json.dumps(value, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), 6, mtime=0)).decode("ascii")


def section(name: str, title: str, body: str) -> str:
    """Return a section of the page; ``name`` is its id, and decides its place in the list at the top."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>'


def select(name: str, label: str, options: Collection[str], values: Collection[object] = ()) -> str:
    """Return a labelled list to choose from; its ``data-mk`` is its name."""
    pairs = zip(options, values or options)
    items = "".join(f'<option value="{attribute(value)}">{escape(text, 200)}</option>' for text, value in pairs)
    return f'<label>{escape(label)} <select data-mk="{name}">{items}</select></label>'


def button(name: str, label: str) -> str:
    """Return a button; its ``data-mk`` is its name."""
    return f'<button type="button" data-mk="{name}">{escape(label)}</button>'


def page_of(
    title: str, identity: str, sections: Iterable[str], embedded: Mapping[str, Any], kind: str = "report"
) -> str:
    """Return the whole page.

    Args:
        title: what it is about.
        identity: under what a browser keeps the reader's notes.
        sections: their HTML; an empty one is left out.
        embedded: name -> what the script reads.
        kind: "report", which may be written anew, or "worksheet", which may not.
    """
    sections = [one for one in sections if one]
    parts = [(_FOLDER / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPT]
    script = "\n".join((ZOOM, *parts))
    style = STYLE + (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    links = "".join(
        f'<a href="#{name}">{text}</a>' for name, text in _NAMES.items() if any(f'id="{name}"' in s for s in sections)
    )
    data = "".join(embed(value, name) for name, value in embedded.items())
    named = escape(title, 200)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{generator(kind)}'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:image/svg+xml,{_ICON}">'
        f"<title>{named} - medr1kit</title><style>{style}</style></head>"
        f'<body class="mk" data-store="medr1kit-{kind}-{identity}"><header><h1>{named}</h1><nav>{links}</nav></header>'
        f'{_NO_SCRIPT}<p id="trouble" class="mk-warn" role="alert"></p><main>{"".join(sections)}</main>'
        f"<footer><small>{_FOOT}</small></footer>{data}<script>{script}</script></body></html>\n"
    )
