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
from medr1kit.views.widgets.curves import LEFT, RIGHT, WIDTH
from medr1kit.views.widgets.question import group_html, groups_of, label_of
from medr1kit.views.widgets.run import curves_html, metrics_of, step_html


def steps_section(run: Run, gallery: Gallery, n: int) -> tuple[str, dict[str, Any]]:
    """Return the section of a training, and what its slider needs.

    Args:
        run: the run.
        gallery: where the images of its questions come from.
        n: groups of completions to embed, at most but for one step's; spread evenly over the steps.
    """
    metrics, rollouts = metrics_of(run), Rollouts(run)
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
    ready = {
        "steps": steps,
        "places": [_place(step, first, last) for step in steps],
        "numbers": pack([step_html(metrics, step) for step in steps]),
        "sampled": sampled,
        "groups": packed,
    }
    said = f"completions of {len(sampled):,} of {len(rollouts.steps):,} steps are in this page"
    if rollouts.trouble:
        said += f"; {rollouts.trouble}"
    elif not rollouts.steps:
        said = "no completions: supervised training samples none, and a run killed in its first step has none"
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
    if not rollouts.steps:
        return {}
    ends = {rollouts.steps[0]: groups_of(rollouts.at(rollouts.steps[0]))}
    fit = max(1, n // max(1, len(ends[rollouts.steps[0]])))
    places = np.unique(np.linspace(0, len(rollouts.steps) - 1, min(fit, len(rollouts.steps))).round().astype(int))
    chosen = [rollouts.steps[place] for place in (places if fit > 1 else [len(rollouts.steps) - 1])]
    return {step: ends.get(step) or groups_of(rollouts.at(step)) for step in chosen}


def _place(step: int, first: int, last: int) -> float:
    """Where a step stands across a curve, in percent of its width."""
    share = min(1.0, max(0.0, (step - first) / max(1, last - first)))
    return round(100 * (LEFT + share * (WIDTH - LEFT - RIGHT)) / WIDTH, 2)
