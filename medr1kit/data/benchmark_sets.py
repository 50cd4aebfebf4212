"""The closed questions of five sets that others report: SLAKE, VQA-RAD, PathVQA, PMC-VQA and MedXpertQA-MM.

Each is read in the layout its authors publish, and only the questions that can be scored without a judge: with options
(PMC-VQA, MedXpertQA), answered with yes or no, or with the options in the question itself ("CT or MRI?", "left or
right?"). An open question has no options and cannot be read here; neither can a question that its authors call closed
where nobody states what else could have been answered. How many were read and how many left out is printed: a score on
the rest is not a score on the set.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from medr1kit.data.closed import closed_question, left_out
from medr1kit.data.files import image_folder, read_json
from medr1kit.data.record import make_record
from medr1kit.data.rows import Source
from medr1kit.data.tables import read_table
from medr1kit.given import choice, path_given
from medr1kit.vqa import LETTERS, DataError, fold

# What the first rows of a file hold, by which its set is known.
_KEYS = {
    "SLAKE": ('"img_name"', '"q_lang"'),
    "VQA-RAD": ('"phrase_type"', '"image_name"'),
    "PMC-VQA": ("Figure_path", "Choice A"),
    "MedXpertQA": ('"medical_task"', '"body_system"'),
}
_FILES = {  # in the set's folder: a split and the file that holds it
    "SLAKE": (("train", "train.json"), ("validate", "validate.json"), ("test", "test.json")),
    "VQA-RAD": (("train", "VQA_RAD Dataset Public.json"), ("test", "VQA_RAD Dataset Public.json")),
    "PMC-VQA": (
        *(("train", "train.csv"), ("test", "test.csv"), ("test_clean", "test_clean.csv")),
        *(("train", "train_2.csv"), ("test", "test_2.csv")),
    ),
    "MedXpertQA": (("dev", "MM/dev.jsonl"), ("test", "MM/test.jsonl"), ("dev", "dev.jsonl"), ("test", "test.jsonl")),
}
_TASKS = {  # SLAKE's content_type, VQA-RAD's question_type; what is not here has no counterpart among ours
    "modality": "Modality Recognition",
    "organ": "Anatomy Identification",
    "abnormality": "Disease Diagnosis",
    "abn": "Disease Diagnosis",
}


def benchmark_set(source: str | os.PathLike) -> str | None:
    """Return which of the five sets a file or folder is, by its layout; None if it is none of them."""
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix.lower() not in (".json", ".jsonl", ".csv"):
            return None
        with path.open("rb") as file:
            start = file.read(8192).decode(errors="replace")
        return next((name for name, keys in _KEYS.items() if all(key in start for key in keys)), None)
    if _pickles(path):
        return "PathVQA"
    there = (path / file for files in _FILES.values() for _, file in files)
    return next((found for file in there if file.is_file() and (found := benchmark_set(file))), None)


def read_slake(
    source: str | os.PathLike,
    *,
    split: str | None = None,
    images: str | os.PathLike | None = None,
    language: str = "en",
) -> Source:
    """Read SLAKE: the folder with train.json, validate.json, test.json and imgs/, or one of these files.

    Args:
        source: folder or file.
        split: "train" (default), "validate" or "test".
        images: the folder of images. Default: ``imgs`` beside the file.
        language: "en" or "zh".
    """
    choice(language, "language", ("en", "zh"))
    file, split, images = _file(source, "SLAKE", split, images, ("imgs",))

    def row(item: dict) -> dict | str:
        if item["q_lang"] != language:
            return f"in {item['q_lang']}, language={item['q_lang']!r} reads them"
        known = {"image": item["img_name"], "modality": _modality(item.get("modality"))}
        return left_out(item, item["answer_type"]) or {**known, "task": _task(item.get("content_type"))}

    return _read("SLAKE", file, split, images, read_json(file), row)


def read_vqa_rad(
    source: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None
) -> Source:
    """Read VQA-RAD: ``VQA_RAD Dataset Public.json`` or its folder; the authors mark test rows by ``phrase_type``.

    Args:
        source: folder or file.
        split: "train" or "test" (freeform and paraphrased); default "train".
        images: the folder of images. Default: ``VQA_RAD Image Folder`` beside the file.
    """
    choice(split or "train", "split", ("train", "test"))
    file, _, images = _file(source, "VQA-RAD", None, images, ("VQA_RAD Image Folder", "images"))
    split = split or "train"

    def row(item: dict) -> dict | str:
        if str(item["phrase_type"]).startswith("test") != (split == "test"):
            return "of the other split"
        known = {"image": item["image_name"], "task": _task(item.get("question_type"))}
        return left_out(item, item["answer_type"]) or known

    return _read("VQA-RAD", file, split, images, read_json(file), row)


def read_path_vqa(
    source: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None
) -> Source:
    """Read PathVQA's yes/no questions: the folder ``pvqa`` with qas/ and images/.

    The authors' files are pickles. They are read by an unpickler that makes lists, dicts, texts and numbers and refuses
    everything else, so that no code of a file can run.

    Args:
        source: the folder.
        split: "train" (default), "val" or "test".
        images: the folder of images. Default: ``images``.
    """
    path = path_given(source, "source")
    files = _pickles(path)
    split = choice(split or "train", "split", tuple(files))
    root = next(parent.parent for parent in files[split].parents if parent.name == "qas")
    images = images or _first_folder([root / "images"])

    def row(item: dict) -> dict | str:
        name = str(item["image"])
        image = name if "." in name else f"{split}/{name}.jpg"
        return left_out(item, "yes or no") or {"image": image}

    return _read("PathVQA", files[split], split, images, _unpickled(files[split]), row)


def read_pmc_vqa(
    source: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None
) -> Source:
    """Read PMC-VQA: one of its CSV files, of version 1 (train.csv) or 2 (train_2.csv), or the folder of one version.

    Args:
        source: folder or file.
        split: "train" (default), "test" or "test_clean"; of a folder with both versions the first is read.
        images: the folder of images. Default: ``images``, for version 2 ``images_2`` or ``figures``, if there.
    """
    second = ("images_2", "figures", "images")
    is_second = Path(source).name in ("train_2.csv", "test_2.csv")
    file, split, images = _file(source, "PMC-VQA", split, images, second if is_second else ("images", "figures"))
    table = read_table(file)

    def row(item: dict) -> dict:
        choices = [str(item.get(f"Choice {letter}") or "").strip() for letter in "ABCD"]
        options = [re.sub(rf"^{letter}\s*:\s*", "", text) for letter, text in zip(LETTERS, choices)]
        gold = str(item.get("Answer_label") or item["Answer"] or "").strip()
        said = {"solution": gold} if len(gold) == 1 else {"answer": gold}
        return {"image": item["Figure_path"], "question": str(item["Question"]).strip(), "options": options, **said}

    return _read("PMC-VQA", file, split, images, table.rows, row, table.numbers)


def read_medxpertqa(
    source: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None
) -> Source:
    """Read MedXpertQA-MM: the folder with MM/dev.jsonl and MM/test.jsonl, or one of these files.

    Questions with several images are left out and counted: one image a question is supported.

    Args:
        source: folder or file.
        split: "dev" or "test"; default "test", there is nothing to train on.
        images: the folder of images. Default: ``images`` beside the file or above it.
    """
    split = split or ("test" if Path(source).is_dir() else None)
    file, split, images = _file(source, "MedXpertQA", split, images, ("images", "../images"))
    table = read_table(file)

    def row(item: dict) -> dict | str:
        pictures = item.get("images") or []
        if len(pictures) != 1:
            return "with several images" if pictures else "without an image"
        options = dict(sorted(item["options"].items()))
        if "".join(options) != LETTERS[: len(options)]:
            raise DataError(f"options have keys out of order: {', '.join(options)!r}; correct the row")
        question = re.sub(r"\s*Answer Choices:(?!.*Answer Choices:).*", "", item["question"], flags=re.DOTALL)
        known = {"id": item["id"], "image": pictures[0], "question": question, "options": list(options.values())}
        return {**known, "solution": item["label"]}

    return _read("MedXpertQA", file, split, images, table.rows, row, table.numbers)


READ_SETS = {
    "SLAKE": read_slake,
    "VQA-RAD": read_vqa_rad,
    "PathVQA": read_path_vqa,
    "PMC-VQA": read_pmc_vqa,
    "MedXpertQA": read_medxpertqa,
}


# --- files -----------------------------------------------------------------------------------------------------------


def _file(
    source: str | os.PathLike, name: str, split: str | None, images: Any, folders: Sequence[str]
) -> tuple[Path, str, Any]:
    """The file that holds a split, the split's name, and the image folder."""
    path = path_given(source, "source")
    if path.is_dir():
        there = {}
        for one, file in _FILES[name]:
            if (path / file).is_file():
                there.setdefault(one, path / file)
        file = there[choice(split or "train", "split", tuple(there))]
        split = split or "train"
    else:
        held = next((one for one, file in _FILES[name] if Path(file).name == path.name), None)
        if split is not None and held not in (None, split):
            raise DataError(f"split={split!r}, but {path.name!r} is {held}; leave split= out, or give the folder")
        file, split = path, split or held or path.name.partition(".")[0]
    return file, split, images or _first_folder([file.parent / one for one in folders])


def _first_folder(folders: Iterable[Path]) -> Path | None:
    return next((folder for folder in folders if folder.is_dir()), None)


def _pickles(path: Path) -> dict[str, Path]:
    """PathVQA's files of questions, split to file."""
    found = {}
    for qas in (path / "qas", path / "pvqa" / "qas"):
        for split in ("train", "val", "test"):
            for file in (qas / split / f"{split}_qa.pkl", qas / f"{split}_qa.pkl"):
                if file.is_file():
                    found.setdefault(split, file)
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Makes what needs no class: lists, dicts, texts, numbers. No name is looked up, so nothing can be called."""

    def find_class(self, module: str, name: str) -> None:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickled(file: Path) -> list:
    name = os.fspath(file)
    try:
        with file.open("rb") as opened:
            rows = _PlainUnpickler(opened).load()
    except Exception as error:  # a damaged pickle fails in many ways
        raise DataError(f"{name}: not a list of questions, {error}; fetch PathVQA again from its authors") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{name}: expected a list of questions, found {type(rows).__name__}; fetch PathVQA again")
    return rows


# --- rows ------------------------------------------------------------------------------------------------------------


def _read(
    name: str,
    file: Path,
    split: str,
    images: Any,
    items: Sequence[Any],
    row: Callable[[dict], dict | str],
    numbers: Sequence[int] | None = None,
) -> Source:
    """Read rows; ``row`` makes what :func:`make_record` takes, or says why a question is not read. Prints a count."""
    source, left, kept = Source(os.fspath(file), image_folder(images)), Counter(), []
    for number, item in zip(range(len(items)) if numbers is None else numbers, items, strict=True):
        read = _understood(item, row)
        if isinstance(read, str):
            left[read] += 1
        else:
            kept.append((number, read))

    def convert(read: dict | DataError, number: int) -> dict:
        if isinstance(read, DataError):
            raise read
        return make_record({"source": name, **read}, f"{name}-{split}-{number}", name)

    source.read([read for _, read in kept], os.fspath(file), convert, [number for number, _ in kept])
    others = "".join(f", {count:,} {why}" for why, count in left.most_common())
    print(f"{os.fspath(file)}: {name}, {split}: {len(kept):,} closed{'; left out:' + others[1:] if others else ''}")
    if not kept:
        raise DataError(
            f"{os.fspath(file)}: no closed question in {split}{'; left out:' + others[1:] if others else ''}"
        )
    return source


def _understood(item: Any, row: Callable[[dict], dict | str]) -> dict | str | DataError:
    """What a row says, why it is left out, or what is wrong with it."""
    if isinstance(item, DataError):
        return item
    if not isinstance(item, dict):
        return DataError(f"row is not an object: {str(item)[:60]!r}; expected a question")
    try:
        said = row(item)
        return said if isinstance(said, str) or "question" in said else {**said, **closed_question(item)}
    except KeyError as error:
        return DataError(f"key is missing: {error}, the row has {', '.join(map(str, item))[:120]!r}; add it")
    except (DataError, TypeError, AttributeError) as error:
        return DataError(f"row cannot be read: {str(error)[:120]!r}; correct it")


def _modality(value: object) -> str | None:
    return value if fold(value) in ("ct", "mri", "x-ray") else None


def _task(value: object) -> str | None:
    return _TASKS.get(fold(str(value)))
