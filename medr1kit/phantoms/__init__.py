"""Phantoms: drawn medical pictures whose truth is known.

A small honest world to teach and test with: eight modalities, five tasks, every one of the forty cells filled, each
image with one question. :mod:`~medr1kit.phantoms.truth` says what is true, one module a modality paints it, and
:mod:`~medr1kit.phantoms.questions` asks about it. Nothing here is anatomy; nothing here is fit for clinical use.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from medr1kit.phantoms import ct, dermoscopy, fundus, microscopy, mri, oct, ultrasound, xray
from medr1kit.phantoms.questions import ask, rationale
from medr1kit.phantoms.truth import GRADES, SPLITS, ImageId, Truth
from medr1kit.vqa import MODALITIES, TASKS, DataError, format_problem, format_solution

PAINTERS = {
    "CT": ct,
    "MRI": mri,
    "X-Ray": xray,
    "Ultrasound": ultrasound,
    "Dermoscopy": dermoscopy,
    "Fundus": fundus,
    "OCT": oct,
    "Microscopy": microscopy,
}
_TASK_SHORT = dict(zip(TASKS, ("AI", "DD", "LG", "MR", "OBA")))


def vocabulary(modality: str, task: str) -> tuple[str, ...]:
    """Return the words that are gold for some image of a modality and task, each equally often.

    >>> vocabulary("CT", "Lesion Grading")
    ('minimal', 'mild', 'moderate', 'severe')
    """
    painter = PAINTERS[modality]
    return {
        "Anatomy Identification": painter.ANATOMIES,
        "Disease Diagnosis": painter.FINDINGS,
        "Lesion Grading": GRADES,
        "Modality Recognition": MODALITIES,
        "Other Biological Attributes": painter.ATTRIBUTES,
    }[task]


def truth_of(image_id: ImageId) -> Truth:
    """Return what a phantom image shows, without drawing it."""
    rng = image_id.stream(0)
    painter = PAINTERS[image_id.modality]
    words = (painter.ANATOMIES, painter.FINDINGS, GRADES, painter.ATTRIBUTES)
    return Truth(image_id.modality, *(choices[rng.integers(len(choices))] for choices in words))


def pixels(image_id: ImageId, size: int = 112) -> np.ndarray:
    """Draw a phantom: (size, size, 3) uint8, the same for the same id and size."""
    return PAINTERS[image_id.modality].paint(truth_of(image_id), image_id.stream(1), size)


def redraw(row_id: str, size: int = 112) -> Image.Image:
    """Draw the image of a question or image id again.

    Args:
        row_id: an ``id`` or ``image_id`` of a phantom row.
        size: side in pixels.

    Raises:
        DataError: if the id names no phantom.
    """
    return Image.fromarray(pixels(ImageId.read(row_id), size))


def phantom_rows(
    split: str | None = "train",
    modality: str | None = None,
    task: str | None = None,
    n: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> list[dict]:
    """Draw phantoms and ask one question about each.

    Modalities and tasks take turns, so any number of rows is balanced as well as it can be, and asking for one modality
    or task gives exactly the rows that it has in the whole.

    Args:
        split: "train", "val" or "test"; they share no image, whatever the seeds.
        modality: canonical name of the only modality wanted; None for all eight.
        task: canonical name of the only task wanted; None for all five.
        n: number of rows, at least 1 (default 2000).
        seed: 0 or more; another seed gives other images.
        size: side in pixels, at least 28 (default 112).

    Returns:
        Rows with the columns of :mod:`medr1kit.vqa` and ``rationale``.

    Raises:
        DataError: if an argument is outside its range.
    """
    split, n, size = split or "train", 2000 if n is None else n, 112 if size is None else size
    if split not in SPLITS:
        raise DataError(f"phantoms have no split {split!r}; use one of {', '.join(SPLITS)}")
    if n < 1 or seed < 0 or size < 28:
        raise DataError(f"phantoms need n >= 1, seed >= 0 and size >= 28; got n={n}, seed={seed}, size={size}")
    modalities = MODALITIES if modality is None else (modality,)
    tasks = TASKS if task is None else (task,)
    rows = []
    for i in range(n):
        turn, name = i // len(modalities), modalities[i % len(modalities)]
        wanted = tasks[turn % len(tasks)]
        number = turn if task is None else turn * len(TASKS) + TASKS.index(task)
        rows.append(_row(ImageId(name, split, seed, number), wanted, size))
    return rows


def _row(image_id: ImageId, task: str, size: int) -> dict:
    truth = truth_of(image_id)
    question, options, answer = ask(truth, task, vocabulary(image_id.modality, task), image_id.stream(2))
    return {
        "id": f"{image_id}-{_TASK_SHORT[task]}",
        "image": Image.fromarray(pixels(image_id, size)),
        "problem": format_problem(question, options),
        "solution": format_solution(answer),
        "question": question,
        "options": options,
        "answer": answer,
        "modality": image_id.modality,
        "task": task,
        "source": "phantoms",
        "image_id": str(image_id),
        "rationale": rationale(truth, task, answer),
    }


__all__ = [
    "GRADES",
    "PAINTERS",
    "SPLITS",
    "ImageId",
    "Truth",
    "phantom_rows",
    "pixels",
    "redraw",
    "truth_of",
    "vocabulary",
]
