"""The cells that a study's YAML file stands for; what the file may say, :mod:`medr1kit.study.settings` tells.

Three methods are known: ``sft`` writes the gold rationale, so it goes with the formats that think; ``sft-answer``
writes the answer alone, so it goes with the others; ``grpo`` goes with all. Seeds stand outermost within a part: a part
that is stopped early is complete for its first seeds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medr1kit.formats import FORMATS
from medr1kit.given import path_given
from medr1kit.models.probes import WORDINGS
from medr1kit.study.settings import GROUPS, LOADING, METHODS, TOGETHER, checked
from medr1kit.training.presets import PRESETS
from medr1kit.vqa import DataError


@dataclass(frozen=True)
class Cell:
    """One training and its test, or the test of the untrained base.

    Attributes:
        name: also the name of its folder.
        train_by: "modality" or "task"; None for the base.
        trained_on: the modality or task, or "together"; None for the base.
        method: a name in METHODS, or "base".
        format: name of the response format.
        seed: of training data, adapter and sampling; None for the base.
        definition: everything that decides the result, as JSON writes it; data files by name and digest.
        part: of the study; "" where it has but one, and for the base.
    """

    name: str
    train_by: str | None
    trained_on: str | None
    method: str
    format: str
    seed: int | None
    definition: Mapping[str, Any]
    part: str = ""

    @property
    def labels(self) -> dict[str, Any]:
        """The labels of its predictions; a model trained by task has no train_modality, and the reverse."""
        name = "all" if self.trained_on == TOGETHER else self.trained_on
        trained = {f"train_{by}": name if by == self.train_by else None for by in GROUPS}
        return {"method": self.method, "seed": self.seed, **trained}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the definition: a finished cell is kept as long as it does not change."""
        return hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """A study as read from its file.

    Attributes:
        name: the study's.
        settings: what the file says, with defaults.
        parts: the settings of each part; the one part of a study without any is "".
        cells: in order.
        text: the file's.
    """

    name: str
    settings: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]
    text: str


def read_study(path: str | Path) -> Study:
    """Read a study's YAML file.

    Args:
        path: the file; :mod:`medr1kit.study.settings` tells what it holds.

    Raises:
        DataError: if the file cannot be read, or a key or value is not allowed; it says which are.
    """
    path = path_given(path, "file")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"the study {path} cannot be read ({error.strerror}); pass a YAML file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not YAML ({error}); save it as UTF-8") from error
    try:
        settings, parts = checked(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Study(settings["name"], settings, parts, tuple(_cells(parts)), text)


def _cells(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[Cell]:
    """The base in each format, then part by part everything for the first seed, then for the second, ..."""
    of_parts = [list(_of_a_part(part, settings)) for part, settings in parts.items()]
    yield from _bases([cell for cells in of_parts for cell in cells if cell.method == "base"])
    for cells in of_parts:
        yield from (cell for cell in cells if cell.method != "base")


def _bases(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Cells of the base; of a later part it is asked what no earlier part has asked it."""
    known: dict[tuple[str, str], Any] = {}
    seen: set[str] = set()
    for cell in cells:
        tests = cell.definition.get("tests", {"": cell.definition.get("test")})
        for name, test in tests.items():
            if known.get((cell.format, name), test) != test:
                raise DataError(
                    f"part {cell.part}: test: {name} is another set in an earlier part; give it another name"
                )
        new = {name: test for name, test in tests.items() if (cell.format, name) not in known}
        known |= {(cell.format, name): test for name, test in new.items()}
        if not new:
            continue
        definition = cell.definition | ({"tests": new} if "tests" in cell.definition else {})
        name = cell.name if cell.name not in seen else f"{cell.name}_{cell.part}"
        seen.add(name)
        yield replace(cell, name=name, part="", definition=definition)


def _of_a_part(part: str, settings: Mapping[str, Any]) -> Iterator[Cell]:
    always = {"model": settings["model"], "medr1kit": version("medr1kit"), "predict": settings["predict"]}
    if loading := {name: settings[name] for name in LOADING if settings.get(name) is not None}:
        always["load"] = loading
    train = _with_digest({"split": "train"} | settings["train"])
    begin = f"{part}_" if part else ""
    for format in settings["formats"]:
        definition = always | _asked(settings["test"], "base", format)
        definition |= {"method": None, "format": format, "label": "base"}
        yield Cell(f"base_{format}", None, None, "base", format, None, definition, part)
    varied = settings["seeds"], settings["train_by"].items(), settings["methods"].items(), settings["formats"]
    for seed, (by, names), (label, changes), format in itertools.product(*varied):
        method, formats = METHODS[label]
        for name in names if format in formats else ():
            definition = always | _asked(settings["test"], label, format)
            definition |= {"method": method, "format": format, "label": label, "seed": seed}
            definition |= {"train": train | ({} if name == TOGETHER else {by: name}) | {"seed": seed}}
            definition |= {"preset": PRESETS[settings["preset"]][method], "settings": changes}
            folder = f"{begin}{name.lower().replace(' ', '-')}_{label}_{format}_{seed}"
            yield Cell(folder, by, name, label, format, seed, definition, part)


def _asked(tests: Mapping[str, Any], method: str, format: str) -> dict[str, Any]:
    """What a model of a method and a format is asked, for a cell's definition: ``test``, or several ``tests``."""
    if "name" in tests:
        return {"test": _with_digest({"split": "test"} | tests)}
    found = {}
    for name, test in tests.items():
        one = FORMATS[format]
        thinks_first = one.blocks == ("think", "answer") and not one.think_optional
        worded = "wording" not in test or test["wording"] in WORDINGS.get(format, {})
        if method in test.get("of", [method]) and worded and (thinks_first or not test.get("thoughts")):
            found[name] = _with_digest({"split": "test"} | {key: test[key] for key in test if key != "of"})
    return {"tests": found}


def _with_digest(data: dict[str, Any]) -> dict[str, Any]:
    """The arguments, and a digest of each file among them, so that a changed file counts as a changed definition."""
    files = [data[name] for name in ("name", "meta") if isinstance(data.get(name), str)]
    paths = {file: path_given(file, "file") for file in files if file}
    found = {file: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for file, path in paths.items() if path.is_file()}
    return data | ({"digests": found} if found else {})


def select(cells: tuple[Cell, ...], only: str) -> list[Cell]:
    """Return the cells that fit a filter such as ``"method=grpo seed=0,1"``.

    Args:
        cells: of a study.
        only: ``key=value`` words that must all hold; several values are parted by commas, and spaces in a name may be
            written as "-". Keys: name, part, modality, task, method, format, seed.

    Raises:
        DataError: if a key is unknown, or no cell fits.
    """
    keys = ("name", "part", "modality", "task", "method", "format", "seed")
    chosen = list(cells)
    for word in only.split():
        key, _, values = word.partition("=")
        if key not in keys or not values:
            raise DataError(f"--only {word!r} is not understood; write key=value with keys among {', '.join(keys)}")
        wanted = set(values.split(","))
        if key in GROUPS and wanted != {TOGETHER}:
            wanted = {GROUPS[key][1](value) for value in wanted}
            chosen = [cell for cell in chosen if cell.train_by == key and cell.trained_on in wanted]
        else:
            name = "trained_on" if key in GROUPS else key
            wanted = {value.replace(" ", "-") for value in wanted}
            chosen = [cell for cell in chosen if str(getattr(cell, name)).replace(" ", "-") in wanted]
    if not chosen:
        raise DataError(f"--only {only!r} leaves none of the {len(cells)} cells; `study status` lists what there is")
    return chosen
