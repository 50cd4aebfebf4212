"""A training, step by step: its curves, the numbers of each step, and the groups of completions behind some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.rollouts import Rollouts
from medr1kit.results.runs import Run
from medr1kit.views.html import escape
from medr1kit.views.page.page import button, pack, section
from medr1kit.views.pictures import Gallery
from medr1kit.views.widgets.curves import LEFT, MOST, RIGHT, WIDTH
from medr1kit.views.widgets.question import group_html, groups_of, label_of
from medr1kit.views.widgets.run import curves_html, steps_html


def steps_section(run: Run, gallery: Gallery, n: int) -> tuple[str, dict[str, Any]]:
    """Return the section of a training, and what its slider needs.

    Args:
        run: the run.
        gallery: where the images of its questions come from.
        n: groups of completions to embed, at most but for one step's; spread evenly over the steps.
    """
    metrics, rollouts = run.metrics, Rollouts(run)
    logged = pd.to_numeric(metrics.get("step", pd.Series(dtype=int)), "coerce").dropna().astype(int)
    steps = sorted({*logged, *rollouts.steps})
    if not steps:
        return "", {}
    groups = _groups(rollouts, n)
    sampled = sorted(groups)
    packed = [
        pack([{"name": label_of(g, i, len(found)), "html": group_html(g, gallery)} for i, g in enumerate(found)])
        for found in (groups[step] for step in progress(sampled, "rendering groups", unit="step"))
    ]
    first, last = int(logged.min()) if len(logged) else 0, int(logged.max()) if len(logged) else 0
    along = np.clip((np.array(steps) - first) / max(1, last - first), 0, 1)
    across = 100 * (LEFT + along * (WIDTH - LEFT - RIGHT)) / WIDTH  # a step on a curve, in percent of its width
    ready = {"steps": steps, "places": across.round(2).tolist(), "sampled": sampled, "groups": packed}
    ready["numbers"] = pack(steps_html(metrics, steps))
    said = f"completions of {len(sampled):,} of {len(rollouts.steps):,} steps are in this page"
    if rollouts.trouble:
        said += f"; {rollouts.trouble}"
    elif not rollouts.steps:
        said = "no completions: supervised training samples none, and a run killed in its first step has none"
    if len(metrics) > MOST:
        said += f"; curves of more than {MOST} points show the lowest and the highest of each stretch"
    more = next((column for column in ("entropy", "grad_norm") if column in metrics), None)
    place = f'<input type="range" data-mk="step" min="0" max="{len(steps) - 1}" value="{len(steps) - 1}">'
    chooser = '<label>group <select data-mk="group"></select></label>'
    body = (
        f'<div class="controls"><label>step {place}</label><output data-mk="step-shown"></output>'
        f"{button('step-back', '◀ step')}{button('step-on', 'step ▶')}</div>"
        f'<div data-mk="curves-of-run">{curves_html(metrics, None, more)}</div>'
        '<div data-mk="step-numbers"></div>'
        f'<h3>The groups of a step</h3><p data-mk="groups-said"><small>{escape(said)}</small></p>'
    )
    if sampled:
        body += (
            f'<div class="controls">{chooser}{button("group-back", "◀ group")}{button("group-on", "group ▶")}</div>'
            '<p data-mk="group-from" role="status"></p><div data-mk="group-shown"></div>'
        )
    return section("run", "Training, step by step", body), ready


def _groups(rollouts: Rollouts, n: int) -> dict[int, list[pd.DataFrame]]:
    """The groups of some steps, the first and the last among them: all groups of a step or none."""
    if not (steps := rollouts.steps):
        return {}
    fit = min(len(steps), n // max(1, len(groups_of(rollouts.at(steps[0])))))
    places = np.linspace(0, len(steps) - 1, fit).round().astype(int) if fit > 1 else [-1]
    return {step: groups_of(rows) for step, rows in rollouts.at_each([steps[place] for place in places]).items()}
