"""A training, looked at along its way: the same questions asked of each of its checkpoints.

``--save_steps 100`` leaves ``checkpoint-100``, ``checkpoint-200``, … in a run's folder. Their answers stand below each
other in one table, told apart by ``step``; :func:`medr1kit.plot_checkpoints` draws them. With LoRA the base is loaded
once and its adapters are changed; checkpoints of all weights are loaded one after the other.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.formats import ResponseFormat
from medr1kit.given import choice, kind, path_given, whole_number
from medr1kit.models.found import find
from medr1kit.models.load import load_model, put_on, without_known_warnings
from medr1kit.models.predict import answered, predictions_file, write_predictions
from medr1kit.models.so_far import finish
from medr1kit.models.weights import refuse_not_finite
from medr1kit.progress import part_of_work
from medr1kit.results.runs import Run
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_LOADING = ("device", "dtype", "attn", "max_pixels")


@without_known_warnings()
def predict_checkpoints(
    run: str | Path | Run,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    steps: Sequence[int] | None = None,
    output: str | Path | None = None,
    labels: Mapping[str, Any] | None = None,
    loading: Mapping[str, Any] | None = None,
    **asking: Any,
) -> pd.DataFrame:
    """Ask every checkpoint of a training the same questions.

    Args:
        run: the run, its folder, or any folder that holds ``checkpoint-N`` folders.
        dataset: rows of :mod:`medr1kit.vqa` with images.
        format: the response format, or its name.
        steps: the steps to ask, in any order; None for all that were saved.
        output: a .parquet file for all answers. If it is interrupted, calling again goes on where it stopped.
        labels: as in :func:`medr1kit.predict`; ``step`` is each checkpoint's own. Checkpoints of a folder that is no
            run of ours are called by its name.
        loading: arguments of :func:`medr1kit.load_model`, such as ``{"max_pixels": 401408}``.
        **asking: more arguments of :func:`medr1kit.predict`, such as ``max_new_tokens``.

    Returns:
        The predictions tables of all checkpoints below each other, by rising ``step``. What scores and compares them
        keeps steps apart, or refuses to average them.

    Raises:
        DataError: if there are no checkpoints, or not those asked for; as :func:`medr1kit.load_model` and
            :func:`medr1kit.predict` do, before the first question is asked of a checkpoint.
    """
    found = checkpoints_of(run, steps)
    loading = dict(loading or {})
    for name in loading:
        choice(name, "loading", _LOADING)
    if asking.get("engine") is not None:
        raise DataError("checkpoints are answered one after the other here; give engine= to predict(…), one at a time")
    if not isinstance(labels, Mapping | None):
        raise DataError(f"labels is {kind(labels)}; give a dict, the run's own labels need no saying")
    if "step" in (labels or {}):
        raise DataError("labels name a step; each checkpoint has its own, leave it out")
    output = None if output is None else predictions_file(output)
    tables, kept = [], []
    for step, model, processor, ours in _loaded(found, loading):
        own = dict(labels or {}) | {"step": step}
        if not ours:
            own = {"model": str(found[step].parent)} | own
        beside = None if output is None else output.with_name(f"{output.name}.step-{step}")
        with part_of_work(f"step {step}"):
            table, answers = answered(model, processor, dataset, beside, format=format, labels=own, **asking)
        tables.append(table)
        kept.append(answers)
        del model  # of all weights: it goes before the next one comes
    frame = pd.concat(tables, ignore_index=True)
    finish(kept, lambda: write_predictions(frame, output))
    return frame


def checkpoints_of(run: str | Path | Run, steps: Sequence[int] | None = None) -> dict[int, Path]:
    """Return the folders of a training's checkpoints by step, rising.

    Args:
        run: the run, or a folder that holds them.
        steps: those that are wanted; None for all.

    Raises:
        DataError: if there are none, or one that is wanted is missing.
    """
    folder = path_given(run.path if isinstance(run, Run) else run, "run")
    there = {int(path.name[11:]): path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()}
    if not there:
        raise DataError(
            f"no checkpoints in {str(folder)!r}: give the folder of a run that was trained with save_steps=N "
            "(--save_steps N --save_strategy steps)"
        )
    if steps is None:
        return dict(sorted(there.items()))
    if isinstance(steps, (str, bytes)) or not isinstance(steps, (list, tuple, range)) or not len(steps):
        raise DataError(f"steps is {kind(steps)}; give a list of steps, such as [100, 200], or None for all")
    wanted = sorted({whole_number(step, "steps", 0) for step in steps})
    if missing := [step for step in wanted if step not in there]:
        known = ", ".join(map(str, sorted(there)))
        raise DataError(f"no checkpoint-{missing[0]} in {str(folder)!r}; there are those of the steps {known}")
    return {step: there[step] for step in wanted}


def _loaded(found: Mapping[int, Path], loading: dict[str, Any]) -> Iterator[tuple[int, Any, Any, bool]]:
    """Each checkpoint's step, model and processor, and whether a run of ours trained it."""
    model = processor = below = None
    for step, folder in found.items():
        base, adapter, run = find(folder, None)
        if model is not None and adapter is not None and below == base:
            model = put_on(model.unload(), adapter, run).eval()
            refuse_not_finite(model, f"the adapter at {adapter}")
        else:
            model = None
            gc.collect()
            model, processor = load_model(folder, **loading)
        below = base
        yield step, model, processor, run is not None
