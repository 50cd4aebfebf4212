"""MedMNIST+: real images with open licences as multiple-choice questions, minutes after a download.

MedMNIST is a collection of small classification sets; MedMNIST+ has them at 64, 128 and 224 pixels, too. Each set is
one ``.npz`` file with train, val and test images and labels, to be had from the collection's own page. Twelve of them
are two-dimensional and serve seven of the eight modalities (none is MRI). The files are read here directly, picture by
picture, so that the 12 GB of ``pathmnist_224.npz`` need not fit into memory.

A class label becomes a question: one stem a set, the gold is the image's class, the distractors are other classes of
the same set. Classes are far from equally frequent (67 % of DermaMNIST are melanocytic nevi), so distractors drawn at
random would make the frequent class the best guess. Here classes are taken as equally often as there are images of
them, and options come in exchangeable blocks (:mod:`medr1kit.data.blocks`): every class is right in exactly one of k
rows in which it is offered, and the blind floor is chance.

Three things to know. ChestMNIST has several findings an image; only images with exactly one are asked about. DermaMNIST
shows some lesions in training and test both. All licences are CC BY 4.0, DermaMNIST's is CC BY-NC 4.0. Like everything
here, this is for research and teaching, not for clinical use.

Source: names of files, arrays and classes are those of the ``medmnist`` package 3.0.2, ``INFO`` in its ``info.py``.
Changed are RetinaMNIST's classes "0" to "4", named after the five grades they stand for, and ChestMNIST's "pleural",
which is pleural thickening in NIH ChestX-ray14. The stems, and which of our tasks a set belongs to, are ours. All of
it stands in ``medmnist.csv`` beside this file.
"""

from __future__ import annotations

import csv
import math
import os
import random
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import PIL.Image
from numpy.lib import format as npy

from medr1kit.data.blocks import exchangeable_blocks, lay_out, most_blocks
from medr1kit.data.images import to_png
from medr1kit.progress import progress
from medr1kit.vqa import LETTERS, DataError, modality_name, task_name, write_question

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class MedMNIST:
    """One set of the collection: what its images are, what is asked about them, and its classes in label order."""

    modality: str
    task: str
    question: str
    classes: tuple[str, ...]


def read_sets(path: Path) -> dict[str, MedMNIST]:
    """Return the sets of a table by name; classes stand between bars.

    Raises:
        DataError: if a name comes twice, or a row has no question, classes that repeat, or an unknown modality or task.
    """
    sets = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name, classes = row["name"], tuple(row["classes"].split("|"))
            if name in sets or not row["question"].endswith("?") or not 2 <= len(set(classes)) == len(classes):
                raise DataError(f"{path.name}, {name}: named twice, no question, or classes that repeat; mend the row")
            sets[name] = MedMNIST(modality_name(row["modality"]), task_name(row["task"]), row["question"], classes)
    return sets


SETS = read_sets(Path(__file__).with_suffix(".csv"))


def medmnist_rows(
    data_dir: str | os.PathLike | None,
    split: str | None = None,
    modality: str | None = None,
    task: str | None = None,
    n: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Read questions from the MedMNIST files in a folder.

    Args:
        data_dir: a folder with files such as ``pathmnist.npz`` or ``pathmnist_224.npz``; of several sizes of a set the
            largest is read. Or one such file.
        split: "train" (default), "val" or "test", as the collection divides its images.
        modality, task: canonical names; only sets of these are read.
        n: number of rows (default 2000), from all sets as equally as their images allow. Fewer are returned, with a
            warning, if there are not so many.
        seed: which images, and which options.

    Returns:
        Rows with the columns of :mod:`medr1kit.vqa`, ``image`` as PNG bytes; four options, or fewer where a set has
        fewer classes. Rows with the same options make up a block; if ``n`` is no multiple, a set's last block is asked
        in part.

    Raises:
        DataError: if there are no such files, one is not in MedMNIST's layout, or nothing fits modality and task.
    """
    split = split or "train"
    if split not in SPLITS:
        raise DataError(f"medmnist has no split {split!r}; use one of {', '.join(SPLITS)}")
    files = _files(data_dir)
    chosen = {
        name: path
        for name, path in files.items()
        if modality in (None, SETS[name].modality) and task in (None, SETS[name].task)
    }
    if not chosen:
        there = ", ".join(f"{name} ({SETS[name].modality} x {SETS[name].task})" for name in files)
        wanted = " and ".join(value for value in (modality, task) if value)
        raise DataError(f"{os.fspath(data_dir)!r} has no MedMNIST file of {wanted}; it has {there}")
    labels = {name: _labels(path, name, split) for name, path in chosen.items()}
    rows = []
    for name, quota in _quotas(labels, 2000 if n is None else n).items():
        rows += _asked(name, chosen[name], split, labels[name], quota, random.Random(f"{seed} {name} {split}"))
    if not rows:
        raise DataError(f"{', '.join(chosen)}: {split} has images of fewer than two classes; there is nothing to ask")
    if n is not None and len(rows) < n:
        warnings.warn(f"medmnist: only {len(rows)} of the {n} rows asked for are there; took all", stacklevel=4)
    return rows


def _files(data_dir: str | os.PathLike | None) -> dict[str, Path]:
    """The file of each set, in the order of SETS; of several sizes the largest."""
    if data_dir is None:
        raise DataError("medmnist needs data_dir=, the folder with files such as pathmnist_224.npz")
    folder = Path(data_dir)
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.npz"))
    matches = [(re.fullmatch(r"([a-z]+)(?:_(\d+))?\.npz", path.name), path) for path in paths]
    sized = sorted((int(match[2] or 28), path, match[1]) for match, path in matches if match and match[1] in SETS)
    found = {name: path for _, path, name in sized}  # of several sizes the largest, which comes last
    if not found:
        what = "does not exist" if not folder.exists() else "has no file of a two-dimensional MedMNIST set"
        raise DataError(
            f"{os.fspath(data_dir)!r} {what}; expected names such as {'.npz, '.join(list(SETS)[:3])}_224.npz"
        )
    return {name: found[name] for name in SETS if name in found}


def _labels(path: Path, name: str, split: str) -> np.ndarray:
    """The class of each image, (n,) int; -1 where an image has none or several of ChestMNIST's findings."""
    with _member(path, f"{split}_labels") as (file, shape, dtype):
        raw = np.frombuffer(file.read(), dtype)
        values = raw.reshape(shape) if raw.size == math.prod(shape) else raw
    classes = len(SETS[name].classes)
    if values.ndim == 1 and len(shape) == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] not in (1, classes) or not np.issubdtype(dtype, np.integer):
        raise DataError(f"{path}: {split}_labels are {dtype} {shape}; expected whole numbers, (n, 1) or (n, {classes})")
    if values.shape[1] == 1:
        labels = values[:, 0].astype(int)
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"{path}: {split}_labels go from {labels.min()} to {labels.max()}; {name} has {classes} classes"
            )
        return labels
    return np.where((values != 0).sum(1) == 1, (values != 0).argmax(1), -1)


def _size(labels: np.ndarray) -> int:
    """Options a question: four, or as many as there are classes with images."""
    return min(4, int((np.array(_counts(labels)) > 0).sum()))


def _quotas(labels: dict[str, np.ndarray], n: int) -> dict[str, int]:
    """Rows a set, as equal as their images allow."""
    sizes = {name: _size(values) for name, values in labels.items()}
    most = {name: size * most_blocks(_counts(labels[name]), size) if size > 1 else 0 for name, size in sizes.items()}
    quotas = {}
    for i, name in enumerate(sorted(most, key=most.get)):  # who has little first; the others share the rest
        quotas[name] = min(most[name], -(-(n - sum(quotas.values())) // (len(most) - i)))
    return {name: quotas[name] for name in labels}


def _counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels[labels >= 0]).tolist()


def _asked(name: str, path: Path, split: str, labels: np.ndarray, quota: int, rng: random.Random) -> list[dict]:
    """``quota`` questions of one set, in the order of its images."""
    if not quota:
        return []
    size, classes = _size(labels), SETS[name].classes
    wanted = -(-quota // size)
    members = {label: np.flatnonzero(labels == label).tolist() for label in range(len(classes))}
    level = 0  # images a class: the smallest number with which the blocks can be made
    while sum(min(len(images), level) for images in members.values()) < size * wanted:
        level += 1
    taken = [image for images in members.values() for image in rng.sample(images, min(len(images), level))]
    blocks, _ = exchangeable_blocks([int(labels[image]) for image in taken], size, rng)
    questions = {}
    for block in rng.sample(blocks, wanted):
        for number, order in zip(block, lay_out(block, rng)):
            if len(questions) < quota:
                questions[taken[number]] = [classes[labels[taken[other]]] for other in order]
    pictures = _pictures(path, split, sorted(questions), len(labels))
    return [
        _row(name, split, image, picture, questions[image], classes[labels[image]])
        for image, picture in zip(progress(sorted(questions), f"reading {name}", unit="image"), pictures)
    ]


def _row(name: str, split: str, image: int, picture: bytes, options: list[str], gold: str) -> dict:
    return {
        "id": f"{name}-{split}-{image}",
        "image": picture,
        **write_question(SETS[name].question, options, LETTERS[options.index(gold)]),
        "modality": SETS[name].modality,
        "task": SETS[name].task,
        "source": name,
        "image_id": f"{name}/{split}/{image}",
    }


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """One array of an .npz file, open for reading behind its header, with its shape and dtype."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                there = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist())
                raise DataError(f"{path} has no {name}; it has {there[:200]}; fetch the file again")
            with archive.open(f"{name}.npy") as file:
                first_version = npy.read_magic(file) == (1, 0)
                read_header = npy.read_array_header_1_0 if first_version else npy.read_array_header_2_0
                shape, fortran, dtype = read_header(file)
                if fortran or dtype.hasobject:
                    raise DataError(f"{path}: {name} is not stored row by row as numbers; fetch the file again")
                yield file, shape, dtype
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({str(error)[:120]}); fetch the file again") from error


def _pictures(path: Path, split: str, images: list[int], n_labels: int) -> Iterator[bytes]:
    """The images of these numbers, ascending, as PNG; the others are passed over."""
    with _member(path, f"{split}_images") as (file, shape, dtype):
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3) or dtype != np.uint8:
            raise DataError(f"{path}: {split}_images are {dtype} {shape}; expected uint8, (n, side, side) or with RGB")
        if shape[0] != n_labels:
            raise DataError(f"{path}: {shape[0]} images, but {n_labels} labels in {split}; fetch the file again")
        length, place = math.prod(shape[1:]), 0
        for image in images:
            file.seek((image - place) * length, os.SEEK_CUR)
            pixels, place = file.read(length), image + 1
            yield to_png(PIL.Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(shape[1:])))
