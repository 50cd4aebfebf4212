"""Answers as a log of Inspect, the evaluation framework of the UK's AI Security Institute, to be read in its viewer.

A log is one JSON file, version 2 of a format that Inspect documents and that its later releases read; nothing of
Inspect is needed to write it. Its viewer (``inspect view --log-dir FOLDER``) pages, sorts and filters, and shows each
question with its image and the whole answer. It lists files whose name begins with a time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.formats import ResponseFormat
from medr1kit.given import output_file, path_given
from medr1kit.results.answers import format_of
from medr1kit.results.runs import plain_or_text, replace_file
from medr1kit.results.tables import check_predictions, same_letter, who_varies
from medr1kit.views.pictures import Pictures
from medr1kit.vqa import DataError, format_problem

if TYPE_CHECKING:
    from datasets import Dataset

_SAID = ("image_id", "patient_id", "source", "modality", "task", "format", "seed", "step", "well_formed")
_SIZE = 384  # longer side of an image, pixels: what Med-R1's models see


def export_inspect(preds: pd.DataFrame, path: str | os.PathLike, data: Dataset | None = None) -> Path:
    """Write one model's answers as a log that ``inspect view`` shows.

    Args:
        preds: predictions of one model in one format with one seed, also imported ones.
        path: a folder of logs, in which the file is named as the viewer lists it; or a .json file, which is replaced if
            it is such a log.
        data: the questions with their images, joined on ``id``. None: phantoms are redrawn from their image id, other
            questions stand without an image.

    Returns:
        The file. A sample a question: the image, question and options as the user's message, the completion as the
        answer, a score "medr1kit" (C or I, the letter that was read and why) and, for imported answers, "reference"
        (what Med-R1's parser made of it); modality, task, source and patient as metadata.

    Raises:
        DataError: if ``preds`` are no predictions or several models', ``data`` has no images, or the file cannot be
            written.
    """
    path, preds = path_given(path, "path"), check_predictions(preds)
    varying = [name for name in who_varies(preds) if preds[name].nunique() > 1]
    if varying or preds["id"].duplicated().any():
        told = f"by {' and '.join(varying)}" if varying else "by seed or step"
        raise DataError(f"these are answers of several models, told apart {told}; a log is of one: select its rows")
    now = datetime.now(UTC)
    folder = path.is_dir() or not path.suffix[1:2].isalpha()  # logs, logs/2.5; not logs.eval
    if folder:
        model = re.sub(r"[^\w.-]+", "-", str(preds["model"].iloc[0]))[-60:]
        path = path / f"{now:%Y-%m-%dT%H-%M-%S}_medr1kit_{model}.json"
    path = output_file(path, "path", [".json"], [b'"task": "medr1kit '])
    scored = {"medr1kit": preds["correct"].to_numpy(dtype=bool)}
    if "reference_predicted" in preds:
        scored["reference"] = same_letter(preds["reference_predicted"], preds["answer"])
    addresses = _Addresses(data)
    rows = preds.astype(object).where(preds.notna(), None).to_dict("records")
    verdicts = [dict(zip(scored, right)) for right in zip(*scored.values())]
    format = format_of(preds)
    samples = [_sample(row, right, addresses.of(row), format) for row, right in zip(rows, verdicts)]
    replace_file(
        path,
        json.dumps(
            _header(rows, scored, now.isoformat(timespec="seconds")) | {"samples": samples}, default=plain_or_text
        ),
    )
    return path


class _Addresses(Pictures):
    """Pictures as data addresses."""

    def of(self, row: Mapping[str, Any]) -> str | None:
        """Return a row's image; None where there is none."""
        try:
            return self._thumbnail(str(row["id"]), str(row["image_id"]), _SIZE, _SIZE)[0]
        except DataError:
            return None


def _header(rows: list[dict], scored: Mapping[str, np.ndarray], now: str) -> dict[str, Any]:
    """What a log says of the evaluation as a whole."""
    first, n = rows[0], len(rows)
    name = sha1(repr([now, [(row["id"], row["text"]) for row in rows]]).encode(errors="replace")).hexdigest()[:22]
    evaluation = {"eval_id": name, "run_id": name, "task_id": name, "created": now, "config": {}}
    evaluation |= {"task": f"medr1kit {first['format']}", "model": str(first["model"])}
    evaluation["dataset"] = {"name": str(first["source"] or "questions"), "samples": n}
    evaluation["metadata"] = {key: first[key] for key in ("method", "train_modality", "train_task", "seed", "step")}
    scores = [
        {"name": by, "scorer": by, "metrics": {"accuracy": {"name": "accuracy", "value": right.mean()}}}
        for by, right in scored.items()
    ]
    return {
        "version": 2,
        "status": "success",
        "eval": evaluation,
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {"total_samples": n, "completed_samples": n, "scores": scores},
        "stats": {"started_at": now, "completed_at": now, "model_usage": {}},
    }


def _sample(row: dict, right: Mapping[str, bool], address: str | None, format: ResponseFormat) -> dict[str, Any]:
    """A question, its answer, and the verdicts on it."""
    options, model, text = list(row["options"]), str(row["model"]), _readable(row["text"])
    picture = [{"type": "image", "image": address}] if address else []
    question = {"type": "text", "text": _readable(format_problem(row["question"], options))}
    asked = {"role": "user", "content": [*picture, question]}
    said = {"role": "assistant", "content": text, "source": "generate", "model": model}
    scores = {by: {"value": "C" if verdict else "I"} for by, verdict in right.items()}
    reason = format.parse(text, options).reason
    scores["medr1kit"] |= {"answer": row["predicted"], "explanation": reason}
    if "reference" in scores:
        scores["reference"]["answer"] = row["reference_predicted"]
    return {
        "id": str(row["id"]),
        "epoch": 1,
        "input": [asked],
        "choices": options,
        "target": row["answer"],
        "messages": [asked, said],
        "output": {"model": model, "choices": [{"message": said, "stop_reason": "stop"}]},
        "scores": scores,
        "metadata": {name: row.get(name) for name in _SAID},
    }


def _readable(text: object) -> str:
    """A text that is one in every encoding: half a surrogate pair would make the log unreadable."""
    return str(text or "").encode("utf-8", "replace").decode()
