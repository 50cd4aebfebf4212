"""An audit as HTML: verdict, findings, figure, lookalikes side by side, and every number."""

from __future__ import annotations

import html
from io import StringIO
from typing import Any

import pandas as pd

from medr1kit.audits.lookalikes import pairs_html

TITLE = "<title>medr1kit audit</title>"
"""By this a page is known as an audit's, which a later one may replace."""
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;line-height:1.4}li{margin:.4em 0}"
    "svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:.9em}"
    "th,td{padding:.1em .6em;text-align:right;border-bottom:1px solid #8888}"
    "th:nth-child(-n+2),td:nth-child(-n+2),th:nth-child(4),td:nth-child(4){text-align:left}"
)
_FORMS = {"%": "{:.1f}", "Cramér's V": "{:.2f}"}  # the others are counts


def page(report: Any) -> str:
    """Return an AuditReport as a page of its own, in one file."""
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'>{TITLE}<style>{_STYLE}</style>"
    return f"{head}<h1>Audit</h1>{body(report)}</html>"


def body(report: Any) -> str:
    """Return an AuditReport as a notebook shows it."""
    train, test = (measure.n for measure in report.measures if measure.section == "size")
    head = f"<p><strong>{html.escape(report.verdict)}</strong></p>"
    head += f"<p>{train:,} training and {test:,} test questions. The worst first; 95 % intervals in brackets.</p>"
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in report.findings)
    pairs = pairs_html(report.pairs, 0 if report.lookalikes is None else len(report.lookalikes))
    details = f"<details><summary>All numbers</summary>{_table(report.frame)}</details>"
    return f"{head}<ol>{items}</ol>{_figure(report.frame)}{pairs}{details}"


def _figure(frame: pd.DataFrame) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: a notebook would show the figure a second time

    from medr1kit.audits.picture import plot_audit

    figure, drawn = Figure(figsize=(7, 4), layout="constrained"), StringIO()
    plot_audit(frame, ax=figure.subplots())
    with rc_context({"svg.hashsalt": "medr1kit"}):  # the same ids every time
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def _table(frame: pd.DataFrame) -> str:
    """The frame as an HTML table: counts whole, shares with one decimal, texts to the left."""
    shown = frame.assign(
        value=[_FORMS.get(unit, "{:,.0f}").format(value) for unit, value in zip(frame["unit"], frame["value"])],
        n=[f"{n:,}" for n in frame["n"]],
    )
    return shown.to_html(index=False, na_rep="", float_format="{:.1f}".format, border=0)
