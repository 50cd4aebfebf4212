"""Phantoms: drawn medical pictures whose truth is known.

A small honest world to teach and test with: eight modalities, five tasks, every one of the forty cells filled, each
image with one question. :mod:`~medr1kit.data.phantoms.truth` says what is true, one module a modality paints it,
:mod:`~medr1kit.data.phantoms.scanner` puts a machine in between, :mod:`~medr1kit.data.phantoms.questions` asks about
it, and :mod:`~medr1kit.data.phantoms.rationales` explains it and checks explanations. Nothing here is anatomy; nothing
here is fit for clinical use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import count

import numpy as np
from PIL import Image

from medr1kit.data.phantoms import ct, dermoscopy, fundus, microscopy, mri, oct, ultrasound, xray
from medr1kit.data.phantoms.questions import Question, ask
from medr1kit.data.phantoms.rationales import write_rationale
from medr1kit.data.phantoms.scanner import SCANNERS, burn_marker, scan, scan_mask
from medr1kit.data.phantoms.truth import GRADES, NUMBERS, SIZES, SPLITS, ImageId, Truth
from medr1kit.data.phantoms.twins import TWINS, asks_twins, twin_of
from medr1kit.progress import progress
from medr1kit.vqa import MODALITIES, TASKS, DataError, modality_name, task_name, write_question

PAINTERS = dict(zip(MODALITIES, (ct, mri, xray, ultrasound, dermoscopy, fundus, oct, microscopy)))
_TASK_SHORT = dict(zip(TASKS, ("AI", "DD", "LG", "MR", "OBA")))


def words_of(modality: str) -> dict[str, tuple[str, ...]]:
    """Return, for each fact, the words that are true of some image of a modality.

    >>> words_of("CT")["anatomy"]
    ('liver', 'lung', 'kidney', 'brain')
    """
    painter = PAINTERS[modality]
    return {
        "modality": MODALITIES,
        "view": painter.VIEWS,
        "anatomy": painter.ANATOMIES,
        "finding": painter.FINDINGS,
        "size": SIZES,
        "number": NUMBERS,
        "grade": GRADES,
        "attribute": painter.ATTRIBUTES,
    }


@lru_cache(maxsize=1)
def fact_words() -> dict[str, str]:
    """Return every word that a rationale can state, with the fact it is about; views are not stated.

    >>> fact_words()["cyst"], fact_words()["mild"]
    ('finding', 'grade')
    """
    words = {}
    for modality in MODALITIES:
        for fact, vocabulary in words_of(modality).items():
            words |= {} if fact == "view" else dict.fromkeys(vocabulary, fact)
    return words


@lru_cache(maxsize=4096)  # many models are asked about one image
def truth_of(image_id: ImageId) -> Truth:
    """Return what a phantom image shows, without drawing it."""
    rng, words = image_id.stream(0), words_of(image_id.modality)
    drawn = ("anatomy", "finding", "size", "number", "attribute", "view")
    facts = {fact: image_id.choose(rng, words[fact]) for fact in drawn}
    return Truth(image_id.modality, **facts)


def question_of(image_id: ImageId, about: Truth | None = None) -> Question:
    """Return the one question that is asked about a phantom image, or about what somebody takes it to show."""
    rng, words, about = image_id.stream(2), words_of(image_id.modality), about or truth_of(image_id)
    return ask(about, image_id.task, words, rng, decoys=_gives_away(image_id))


def needs_twins(row_id: str) -> bool:
    """Say whether a question needs two findings told apart that the built-in model was never taught to tell apart.

    Args:
        row_id: an ``id`` or ``image_id`` of a phantom row. Where a shortcut gives the answer away, what counts is what
            would have been asked without it.

    Raises:
        DataError: if the id names no phantom.

    >>> needs_twins("CT-test-0-1-DD"), needs_twins("CT-test-0-6-DD")
    (True, False)
    """
    return _needs_twins(ImageId.read(row_id))


def _needs_twins(image_id: ImageId) -> bool:
    if image_id.task != TASKS[1] or twin_of(truth := truth_of(image_id)) is None:
        return False
    return asks_twins(truth, ask(truth, image_id.task, words_of(image_id.modality), image_id.stream(2)))


def _gives_away(image_id: ImageId) -> bool:
    """Whether marker and distractors of this image tell the answer; happens with probability `shortcut`."""
    return bool(image_id.stream(5).random() < image_id.shortcut)


def _marker_place(image_id: ImageId) -> int:
    question = question_of(image_id)
    anywhere = int(image_id.stream(6).integers(question.n_places))
    return question.place if _gives_away(image_id) else anywhere


def pixels(image_id: ImageId, size: int = 112) -> np.ndarray:
    """Draw a phantom: (size, size, 3) uint8, the same for the same id and size."""
    return draw(image_id, size)[0]


def draw(image_id: ImageId, size: int = 112, marker: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw a phantom and the place of its lesion.

    Args:
        image_id: the image, with its scanner and other axes.
        size: side in pixels, at least 28.
        marker: where the marker is burnt in, see :data:`medr1kit.data.phantoms.scanner.MARKER_PLACES`; None: where
            the image has it.

    Returns:
        The picture (size, size, 3), uint8, and the lesion's mask (size, size), bool, satellites included.
    """
    paint, scanner = PAINTERS[image_id.modality].paint, SCANNERS[image_id.scanner]
    canvas = paint(truth_of(image_id), image_id.stream(1), size, image_id.own_difficulty())
    canvas.pixels = scan(canvas.pixels, scanner, image_id.stream(4))
    picture = canvas.to_uint8()
    burn_marker(picture, _marker_place(image_id) if marker is None else marker)
    return picture, scan_mask(canvas.mask, scanner)


def redraw(row_id: str, size: int = 112) -> Image.Image:
    """Draw the image of a question or image id again.

    Args:
        row_id: an ``id`` or ``image_id`` of a phantom row.
        size: side in pixels.

    Raises:
        DataError: if the id names no phantom.
    """
    return Image.fromarray(pixels(ImageId.read(row_id), size))


def lesion_mask(row_id: str, size: int = 112) -> np.ndarray:
    """Return where the lesion of a question or image id lies, (size, size) bool; arguments as in `redraw`."""
    return draw(ImageId.read(row_id), size)[1]


def rationale_of(row_id: str) -> str:
    """Return the true rationale of the question that is asked about a phantom.

    Args:
        row_id: an ``id`` or ``image_id`` of a phantom row.

    Raises:
        DataError: if the id names no phantom.

    >>> rationale_of("CT-test-0-1-DD")
    'A small mass, single, lower, in the brain. So the answer is lower mass'
    """
    image_id = ImageId.read(row_id)
    return write_rationale(truth_of(image_id), question_of(image_id), image_id.stream(7))


def phantom_rows(
    split: str | None = "train",
    modality: str | None = None,
    task: str | None = None,
    n: int | None = None,
    seed: int = 0,
    size: int | None = None,
    scanner: str = "A",
    shortcut: float = 0.0,
    difficulty: float | None = None,
    imbalance: float = 0.0,
    twins: float | None = None,
) -> list[dict]:
    """Draw phantoms and ask one question about each.

    Modalities and tasks take turns, so any number of rows is balanced as well as it can be, and asking for one modality
    or task gives exactly the rows that it has in the whole.

    Args:
        split: "train", "val" or "test"; they share no image, whatever the seeds.
        modality: the only modality wanted; None for all eight.
        task: the only task wanted; None for all five.
        n: number of rows, at least 1 (default 2000).
        seed: 0 or more; another seed gives other images.
        size: side in pixels, at least 28 (default 112).
        scanner, shortcut, difficulty, imbalance: the axes of :class:`ImageId`. The same seed under another scanner,
            shortcut or difficulty shows the same patients; a shortcut is meant for the training data only.
        twins: share of the rows that need twins told apart (:func:`needs_twins`), 0 to 1; above 0 only of the
            modalities that have twins. None: as they come, about one in thirteen there.

    Returns:
        Rows with the columns of :mod:`medr1kit.vqa`, and ``rationale``, ``n_facts`` (visual facts that the answer
        combines) and ``truth`` (the facts, and the lesion's ``box``: left, top, right, bottom in pixels).

    Raises:
        DataError: if an argument is outside its range.
    """
    split, n, size = split or "train", 2000 if n is None else n, 112 if size is None else size
    _check(split, n, seed, size, scanner, shortcut, difficulty, imbalance)
    modalities = MODALITIES if modality is None else (modality_name(modality),)
    task = None if task is None else task_name(task)
    if twins is not None:
        modalities = _with_twins(modalities, task, twins)
    ids = [
        _image_ids(twins, task, ImageId(name, split, seed, 0, scanner, shortcut, difficulty, imbalance))
        for name in modalities
    ]
    return [_row(next(ids[i % len(ids)]), size) for i in progress(range(n), "drawing phantoms", unit="image")]


def _image_ids(twins: float | None, task: str | None, first: ImageId) -> Iterator[ImageId]:
    """The images of a modality in the order in which they are asked for."""
    start, step = (0, 1) if task is None else (TASKS.index(task), len(TASKS))
    if twins is None:
        yield from (replace(first, number=number) for number in count(start, step))
    waiting = {True: count(start, step), False: count(start, step)}  # two walks through the same numbers
    for i in count():
        wanted = int((i + 1) * twins) > int(i * twins)
        yield next(
            one for one in (replace(first, number=k) for k in waiting[wanted]) if needs_twins(str(one)) == wanted
        )


def _with_twins(modalities: tuple[str, ...], task: str | None, twins: float) -> tuple[str, ...]:
    """Which of the modalities can have such a share of twins."""
    if not 0 <= twins <= 1:
        raise DataError(f"twins={twins} is out of range; it goes from 0 to 1")
    if twins and task not in (None, TASKS[1]):
        raise DataError(f"twins={twins} does not go with task={task!r}: only {TASKS[1]} asks for twins")
    if twins and not (having := tuple(name for name in modalities if name in TWINS)):
        raise DataError(f"{modalities[0]} has no twins; choose modality= from {', '.join(TWINS)}, or leave twins= out")
    return having if twins else modalities


def _check(split, n, seed, size, scanner, shortcut, difficulty, imbalance) -> None:
    if split not in SPLITS:
        raise DataError(f"phantoms have no split {split!r}; use one of {', '.join(SPLITS)}")
    if n < 1 or seed < 0 or size < 28:
        raise DataError(f"phantoms need n >= 1, seed >= 0 and size >= 28; got n={n}, seed={seed}, size={size}")
    if scanner not in SCANNERS:
        raise DataError(f"phantoms have no scanner {scanner!r}; use one of {', '.join(SCANNERS)}")
    for name, value in (("shortcut", shortcut), ("difficulty", difficulty), ("imbalance", imbalance)):
        if value is not None and not 0 <= value <= 1:
            raise DataError(f"{name}={value} is out of range; it goes from 0 to 1")
    if imbalance == 1:
        raise DataError("imbalance=1 would leave a single class and no question; stay below 1")


def _row(image_id: ImageId, size: int) -> dict:
    truth, question = truth_of(image_id), question_of(image_id)
    picture, mask = draw(image_id, size)
    facts = {fact: getattr(truth, fact) for fact in words_of(image_id.modality)}
    return {
        "id": f"{image_id}-{_TASK_SHORT[image_id.task]}",
        "image": Image.fromarray(picture),
        **write_question(question.stem, question.options, question.answer),
        "modality": image_id.modality,
        "task": image_id.task,
        "source": "phantoms",
        "image_id": str(image_id),
        "rationale": write_rationale(truth, question, image_id.stream(7)),
        "n_facts": question.kind.n_facts,
        "truth": {**facts, "box": _box(mask)},
    }


def _box(mask: np.ndarray) -> list[int]:
    """The smallest box around a mask: left, top, right, bottom, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
