"""The layouts of other tools' result files: what a file holds, which tool wrote it, and what each row says.

A layout is recognised by the key that only it has (:data:`READERS`), because names of files say nothing. What a row
says is kept as it stands; what it means is said in :mod:`medr1kit.results.imports`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

import pandas as pd

from medr1kit.data.tables import cells_of
from medr1kit.tags import TAG
from medr1kit.vqa import LETTERS, DataError, parse_problem


@dataclass
class Answered:
    """One answer, and what the file says of its question.

    Attributes:
        where: the row's number, as an error calls it.
        text: what the model wrote.
        stems: what the question may be, the longest first: a prompt also holds the instruction.
        gold: as the file has it.
        options: in letter order; None where the file has none.
        known: of the columns of predictions, and of :data:`BESIDE`, what the file says.
        answer: the gold letter, once the options are known.
    """

    where: int
    text: str
    stems: list[str]
    gold: str
    options: list[str] | None
    known: dict[str, Any]
    answer: str | None = None


# --- files ------------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> tuple[list[Answered], dict[int, str]]:
    """Read a file by what it holds.

    Returns:
        Its rows, and why others could not be read, by their number.

    Raises:
        DataError: if it is none of the four layouts or is damaged.
    """
    name = os.fspath(path)
    items, first = _items(path, name)
    whole = items if isinstance(items, dict) else {}
    held = [whole[key] for key in ("results", "logs") if isinstance(whole.get(key), list)]  # logs: lmms-eval before 0.3
    items = held[0] if held else items if isinstance(items, list) else [items]
    if not items:
        raise DataError(f"{name}: there are no rows in it; it may be of a run that did not finish")
    read = _reader(set().union(*(item for item in items if isinstance(item, dict))), name)
    rows, unread = [], {}
    for where, item in enumerate(items, first):
        try:
            if not isinstance(item, dict):
                raise DataError(f"expected an object, found {str(item)[:60]!r}")
            rows.append(Answered(where, *read(_readable(item))))
        except DataError as error:
            unread[where] = str(error)
    said, found = whole.get("accuracy"), 100 * sum(row.known.get("their_correct") is True for row in rows) / len(items)
    if isinstance(said, (int, float)) and not unread and abs(said - found) > 0.01:
        warnings.warn(f"{name}: says accuracy {said}, but its {len(rows)} rows give {found:.2f}", stacklevel=3)
    return rows, unread


def _reader(keys: set, name: str) -> Callable[[dict], tuple]:
    """What reads a row, by the key that only its layout has."""
    read = next((reader for mark, reader in READERS.items() if mark in keys), None)
    if read is None and {"id", "predicted", "correct"} <= keys:
        raise DataError(f"{name} holds predictions of ours already; read it with pandas, and pass the table on")
    if read is None:
        raise DataError(
            f"{name}: no result file of Med-R1, VLMEvalKit, lmms-eval (its samples) or MedEvalKit: it has "
            f"{', '.join(sorted(map(str, keys)))[:60] or 'no rows'}, …, and none of {', '.join(READERS)}"
        )
    return read


def _items(path: Path, name: str) -> tuple[Any, int]:
    """What a file holds, rows as objects, and the number of the first: a spreadsheet's row 1 is its header."""
    if not path.is_file():
        what = "is a folder; name the file in it" if path.is_dir() else "is not there; check the path"
        raise DataError(f"path={name!r} {what}")
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        if not content.strip(b"\xef\xbb\xbf \t\r\n"):
            raise DataError(f"{name}: the file is empty; fetch it again")
        if content.startswith(b"PAR1"):
            raise DataError(f"{name}: a Parquet file, as predict(…, output=) writes it; pandas.read_parquet reads it")
        if content.startswith(b"\x80"):
            raise DataError(f"{name}: a pickle, which may run anything; have it written with PRED_FORMAT=tsv instead")
        if content.startswith(b"PK"):
            table = pd.read_excel(io.BytesIO(content), dtype=str, na_filter=False)
            return table.to_dict("records"), 2
        if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"[", b"{"):
            header, *body = [line for line in cells_of(content, name)[0] if line]
            return [dict(zip(header, line)) for line in body], 2
        text = content.decode("utf-8-sig")
    except DataError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise DataError(f"{name}: cannot be read ({error}); fetch it again") from error
    try:
        return json.loads(text), 0
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") != "Extra data":
            raise DataError(f"{name}: not valid JSON ({error}); fetch it again") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            lines += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: line {number} is not valid JSON ({error}); correct it") from error
    return lines, 0


# --- rows: text, stems, gold, options, what else is known -------------------------------------------------------------


def _of_med_r1(item: dict) -> tuple:
    row = item.get("question")
    if not isinstance(row, dict):
        raise DataError(f"question is {str(row)[:60]!r}; expected the row of the test file, with image and problem")
    question, options = parse_problem(_text(row, "problem"))
    extracted, gold = item.get("extracted_answer"), TAG.sub("", _text(item, "ground_truth")).strip()
    known = {"image_id": row.get("image"), "modality": row.get("modality"), "task": row.get("task")}
    known |= {"patient_id": row.get("patient_id"), "source": row.get("source"), "own": row.get("id")}
    if "extracted_answer" in item:  # what its own script took for the answer
        known |= {"reference_predicted": letter_only(extracted), "their_correct": extracted == gold}
    return _said(item, "model_output"), [question], gold, options, known


def _of_vlmevalkit(item: dict) -> tuple:
    known = {"own": item.get("index"), "image_id": item.get("image_path"), "category": item.get("category") or None}
    known["their_correct"] = _verdict(item.get("hit", item.get("verifier_match")))
    stems, options = [_text(item, "question")], _options(item)
    if options is None:
        stems, options = _of_prompt(stems[0])
    return _said(item, "prediction"), stems, _text(item, "answer"), options, known


def _of_lmms_eval(item: dict) -> tuple:
    raw = item["resps"] if "resps" in item else item.get("filtered_resps")  # not written twice where they are the same
    while isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if not isinstance(raw, str):
        several = isinstance(raw, list) and all(isinstance(one, str) for one in raw)
        advice = "have one logged a question (repeats: 1)"
        raise DataError(
            f"{len(raw)} responses, not one; {advice}" if several else f"no text in the response {str(raw)[:60]!r}"
        )
    doc = item.get("doc") if isinstance(item.get("doc"), dict) else {}
    stems, options = _of_prompt(item.get("input"))
    if isinstance(doc.get("question"), str):
        stems = [doc["question"]]
    count, image = (_first(item.get(key)) for key in ("token_counts", "input_media"))
    known = {"own": item.get("doc_id"), "image_id": _place(image)}
    known["n_tokens"] = count.get("output_tokens") if isinstance(count, dict) else None
    known |= {"modality": doc.get("modality"), "category": doc.get("category")}
    known["their_correct"] = _verdict(item.get("exact_match"))
    return raw, stems, _text(item, "target"), _options(doc) or options, known


def _place(image: object) -> str | None:
    """The path or address of an image; of one that stands in the file itself a digest."""
    if not isinstance(image, str):
        return None
    return sha1(image.encode()).hexdigest()[:16] if image.startswith("data:") else image


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _of_medevalkit(item: dict) -> tuple:
    if "response" not in item:
        raise DataError("the key 'response' is missing; this question was not answered")
    stems, options = _of_prompt(item.get("question") or item.get("prompt"))
    path = item.get("image_path") or item.get("image") or None
    known = {"own": item.get("question_id", item.get("id")), "image_id": path if isinstance(path, str) else None}
    known |= {"modality": item.get("modality_type", item.get("modality")), "task": item.get("question_type")}
    known |= {"source": item.get("dataset"), "their_correct": _verdict(item.get("correct"))}
    return _said(item, "response"), stems, _text(item, "answer"), _options(item) or options, known


READERS = {
    "model_output": _of_med_r1,
    "filtered_resps": _of_lmms_eval,
    "prediction": _of_vlmevalkit,
    "response": _of_medevalkit,
}
"""The key that marks a layout, and what reads a row of it."""


def _readable(value: Any) -> Any:
    """The same with half surrogate pairs replaced: no table can hold them, and a model may stop within an emoji."""
    if isinstance(value, dict):
        return {key: _readable(one) for key, one in value.items()}
    if isinstance(value, list):
        return list(map(_readable, value))
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _said(item: dict, key: str) -> str:
    """What the model wrote; nothing, where the tool wrote null or NaN: not answered is wrong, and not left out."""
    return "" if item.get(key, 0) is None else _text(item, key)


def _verdict(value: object) -> bool | None:
    """A tool's verdict on an answer, however it writes one; None if it is none, or a score between."""
    return {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}.get(str(value).lower())


def _text(item: dict, key: str) -> str:
    if key not in item:
        raise DataError(f"the key {key!r} is missing")
    if not isinstance(item[key], (str, int, float)):
        raise DataError(f"{key} is {str(item[key])[:60]!r}; expected a text")
    return _cell(item[key])


def _cell(value: object) -> str:
    """What a cell says; nan is pandas' word for nothing."""
    return "" if value is None or value != value else str(value)


def _options(item: Mapping[str, Any]) -> list[str] | None:
    """The options of a row, out of a list, a mapping, or a column a letter; None where it has none."""
    texts = item.get("choices") or item.get("options") or item.get("index2ans")  # of MMMU in MedEvalKit
    if isinstance(texts, Mapping):
        texts = list(texts.values())
    if not isinstance(texts, list):
        cells = [_cell(item.get(letter, item.get(f"option_{letter}"))).strip() for letter in LETTERS]
        texts = cells[: max((k + 1 for k, cell in enumerate(cells) if cell), default=0)]
    texts = [_cell(text).strip() for text in texts]
    if all(re.match(rf"\(?{letter}[.):]", text) for letter, text in zip(LETTERS, texts)):
        texts = [re.sub(r"^\(?[A-Z][.):]\s*", "", text) for text in texts]
    if texts and not all(texts):
        raise DataError(f"option {LETTERS[texts.index('')]} is empty, of {texts}")
    return texts or None


def _of_prompt(prompt: object) -> tuple[list[str], list[str] | None]:
    """What a prompt may ask, and its options: below each other, a line a letter, or in a line as Med-R1 writes them."""
    text = prompt if isinstance(prompt, str) else ""
    bare = re.sub(r"^\s*Question:|<image>|\bOptions:\s*$", "", text, flags=re.MULTILINE)
    lines = [line.strip() for line in bare.split("\n")]
    for start in range(len(lines)):
        run = lines[start : start + len(LETTERS)]
        n = next((k for k, line in enumerate(run) if not re.match(rf"\(?{LETTERS[k]}[.):]\s*\S", line)), len(run))
        if n > 1:
            stem = "\n".join(lines[:start]).strip()
            return [stem], [re.sub(r"^\(?[A-Z][.):]\s*", "", line) for line in run[:n]]
    for end in range(1, len(lines) + 1):  # "Which? A)liver, B)lung" in one line
        with suppress(DataError):
            stem, options = parse_problem("\n".join(lines[:end]))
            return [stem], options
    ends = range(len(lines), 0, -1)
    return [stem for end in ends if (stem := "\n".join(lines[:end]).strip())], None


def letter_only(text: object) -> str | None:
    """A capital letter, if that is all; nothing else can equal a gold letter."""
    return text if isinstance(text, str) and text in LETTERS and len(text) == 1 else None
