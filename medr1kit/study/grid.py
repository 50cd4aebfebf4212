"""A study's YAML file and the cells it stands for.

A file names what is varied, and passes everything else on: ``train`` and ``test`` hold arguments of
:func:`medr1kit.load_vqa`, a method holds arguments of :func:`medr1kit.train_sft` or :func:`medr1kit.train_grpo`,
``predict`` those of :func:`medr1kit.predict`. Rewards are given by name, ``grpo: {rewards: [accuracy, format]}``::

    name: quick
    model: tiny                                # as load_model takes it
    preset: tiny
    train: {name: phantoms, n: 960}            # a cell adds its modality or task, and its seed
    test: {name: phantoms, n: 800}             # the same questions for every cell
    train_by: {modality: all, task: [LG, DD]}
    methods: {sft: , sft-answer: , grpo: {max_steps: 80}}
    formats: [think-before, think-after, no-think]
    seeds: [0, 1, 2]
    # attn: sdpa, dtype: bfloat16, max_pixels: 401408, as load_model takes them

Three methods are known: ``sft`` writes the gold rationale, so it goes with the formats that think; ``sft-answer``
writes the answer alone, so it goes with the others; ``grpo`` goes with all. Seeds stand outermost: a study that is
stopped early is complete for its first seeds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medr1kit.data.sources import own_arguments
from medr1kit.formats import FORMATS, format_named
from medr1kit.given import choice, path_given, whole_number
from medr1kit.models.machine import ATTENTIONS, dtype_given
from medr1kit.models.predict import IMAGES
from medr1kit.training.presets import PRESETS
from medr1kit.vqa import MODALITIES, TASKS, DataError, modality_name, task_name

_THINKING = tuple(name for name, format in FORMATS.items() if "think" in format.blocks)
METHODS = {
    "sft": ("sft", _THINKING),
    "sft-answer": ("sft", tuple(name for name in FORMATS if name not in _THINKING)),
    "grpo": ("grpo", tuple(FORMATS)),
}
"""Method label -> the trainer behind it, and the formats it goes with."""

_REQUIRED = ("name", "train", "test", "train_by", "methods")
_MED_R1 = ["think-before", "think-after", "no-think"]  # the formats of a study that names none
_DEFAULTS = {"model": "tiny", "preset": "tiny", "formats": _MED_R1, "seeds": [0], "predict": {}}
_LOAD = ("attn", "dtype", "max_pixels")  # of load_model; nothing but what is given is part of a cell's definition
_SOURCE = (
    "name",
    "n",
    "size",
    "check",
    "frame",
    *dict.fromkeys(name for own in own_arguments().values() for name in own),
)
_DATA = {"train": _SOURCE, "test": (*_SOURCE, "modality", "task", "seed")}  # arguments of load_vqa; name: its source
_PREDICT = ("images", "batch_size", "max_new_tokens", "stop_at_answer")
_WHOLE = {"n": 1, "size": 1, "frame": 0, "seed": 0, "batch_size": 1, "max_new_tokens": 1}  # the smallest value of each
_LARGEST_SEED = 2**32 - 1
GROUPS = {"modality": (MODALITIES, modality_name), "task": (TASKS, task_name)}


@dataclass(frozen=True)
class Cell:
    """One training and its test, or the test of the untrained base.

    Attributes:
        name: also the name of its folder.
        train_by: "modality" or "task"; None for the base.
        trained_on: the modality or task; None for the base.
        method: a name in METHODS, or "base".
        format: name of the response format.
        seed: of training data, adapter and sampling; None for the base.
        definition: everything that decides the result, as JSON writes it; data files by name and digest.
    """

    name: str
    train_by: str | None
    trained_on: str | None
    method: str
    format: str
    seed: int | None
    definition: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, Any]:
        """The labels of its predictions; a model trained by task has no train_modality, and the reverse."""
        trained = {f"train_{by}": self.trained_on if by == self.train_by else None for by in GROUPS}
        return {"method": self.method, "seed": self.seed, **trained}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the definition: a finished cell is kept as long as it does not change."""
        return hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """A study as read from its file: ``name``, the ``settings`` with defaults filled in, the ``cells`` in order."""

    name: str
    settings: Mapping[str, Any]
    cells: tuple[Cell, ...]
    text: str


def read_study(path: str | Path) -> Study:
    """Read a study's YAML file.

    Args:
        path: the file; see the module's docstring for what it holds.

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
        settings = _check(_read_yaml(text))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Study(settings["name"], settings, tuple(_cells(settings)), text)


def _read_yaml(text: str) -> Any:
    """What YAML says, and that a key stands twice: of these it would silently take the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                    raise DataError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice; keep one")
                seen |= {key.value} if isinstance(key.value, str) else set()
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2026-99-99, a thousand brackets
        if isinstance(error, DataError):
            raise
        raise DataError(f"this is not YAML ({' '.join(str(error).split())[:300]})") from error


def _check(values: Any) -> dict[str, Any]:
    _mapping(values, "the file", (*_REQUIRED, *_DEFAULTS, *_LOAD))
    if missing := [key for key in _REQUIRED if key not in values]:
        raise DataError(f"the key {missing[0]!r} is missing; a study needs {', '.join(_REQUIRED)}")
    settings = _DEFAULTS | values
    for key in ("name", "model"):
        if not isinstance(settings[key], str) or not settings[key]:
            raise DataError(f"{key}: {settings[key]!r} is no name; write a text")
    if not re.fullmatch(r"\w[\w .+-]{0,99}", settings["name"]):  # it names a folder in runs/
        raise DataError(f"name: {settings['name'][:200]!r} is no name of a folder; write letters, digits, '-' and '_'")
    if settings["preset"] not in PRESETS:
        raise DataError(f"preset: {settings['preset']!r} is unknown; use one of {', '.join(PRESETS)}")
    _check_loading(settings)
    for key, allowed in _DATA.items():
        _mapping(settings[key], key, allowed)
        if "name" not in settings[key]:
            raise DataError(f"{key}: 'name' is missing; write 'phantoms', a file, a folder or a hub name")
        _numbers(settings[key], key)
    settings["predict"] = _mapping(settings["predict"] or {}, "predict", _PREDICT)
    _numbers(settings["predict"], "predict")
    if "images" in settings["predict"]:
        choice(settings["predict"]["images"], "predict: images", IMAGES)
    if not isinstance(settings["predict"].get("stop_at_answer", False), bool):
        raise DataError(f"predict: stop_at_answer: {settings['predict']['stop_at_answer']!r}; write true or false")
    settings["train_by"] = _groups(settings["train_by"])
    settings["methods"] = _methods(settings["methods"])
    settings["formats"] = [format_named(name).name for name in _list(settings["formats"], "formats", str)]
    settings["seeds"] = _list(settings["seeds"], "seeds", int)
    for seed in settings["seeds"]:
        whole_number(seed, "seeds: a seed", 0, _LARGEST_SEED)
    return settings


def _check_loading(settings: dict[str, Any]) -> None:
    if settings.get("attn") is not None:
        choice(settings["attn"], "attn", ATTENTIONS)
    if settings.get("max_pixels") is not None:
        whole_number(settings["max_pixels"], "max_pixels")
    if settings.get("dtype") is not None:
        settings["dtype"] = dtype_given(settings["dtype"], "cpu")
        if settings["preset"] == "med-r1" and settings["dtype"] != "float32":
            raise DataError(f"dtype: {settings['dtype']}: the preset med-r1 trains weights in float32; leave dtype out")


def _numbers(values: Mapping[str, Any], key: str) -> None:
    for name, low in _WHOLE.items():
        if values.get(name) is not None:
            whole_number(values[name], f"{key}: {name}", low, _LARGEST_SEED if name == "seed" else None)


def _mapping(value: Any, key: str, allowed: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{key}: expected 'key: value' pairs with keys among {', '.join(allowed)}")
    if unknown := [name for name in value if name not in allowed]:
        where = "" if key == "the file" else f"{key}: "
        raise DataError(f"{where}the key {unknown[0]!r} is unknown; allowed are {', '.join(allowed)}")
    return value


def _list(value: Any, key: str, kind: type) -> list:
    what = "whole numbers" if kind is int else "names"
    right = isinstance(value, list) and value and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)
    if not right:
        raise DataError(f"{key}: {value!r} is not a list of {what}; write them in brackets, such as [0, 1, 2]")
    if repeated := [v for v in value if value.count(v) > 1]:
        raise DataError(f"{key}: {repeated[0]!r} stands twice; write each once")
    return value


def _groups(value: Any) -> dict[str, list[str]]:
    groups = {}
    for by, chosen in _mapping(value, "train_by", tuple(GROUPS)).items():
        everything, named = GROUPS[by]
        chosen = list(everything) if chosen == "all" else _list(chosen, f"train_by: {by}", str)
        groups[by] = [named(name) for name in chosen]
    return groups


def _methods(value: Any) -> dict[str, dict[str, Any]]:
    value = dict.fromkeys(value) if isinstance(value, list) else value
    methods = {name: settings or {} for name, settings in _mapping(value, "methods", tuple(METHODS)).items()}
    for name, settings in methods.items():
        if not isinstance(settings, Mapping):
            raise DataError(f"methods: {name}: {settings!r} are no settings; write them as {{max_steps: 80}}")
    return methods


def _cells(settings: Mapping[str, Any]) -> list[Cell]:
    """The base in each format, then everything for the first seed, then for the second, ..."""
    always = {"model": settings["model"], "medr1kit": version("medr1kit"), "predict": settings["predict"]}
    if loading := {name: settings[name] for name in _LOAD if settings.get(name) is not None}:
        always["load"] = loading
    always["test"] = _with_digest({"split": "test"} | settings["test"])
    train = _with_digest({"split": "train"} | settings["train"])
    cells = []
    for format in settings["formats"]:
        definition = always | {"method": None, "format": format, "label": "base"}
        cells.append(Cell(f"base_{format}", None, None, "base", format, None, definition))
    varied = settings["seeds"], settings["train_by"].items(), settings["methods"].items(), settings["formats"]
    for seed, (by, names), (label, changes), format in itertools.product(*varied):
        method, formats = METHODS[label]
        for name in names if format in formats else ():
            definition = always | {"method": method, "format": format, "label": label, "seed": seed}
            definition |= {"train": train | {by: name, "seed": seed}}
            definition |= {"preset": PRESETS[settings["preset"]][method], "settings": changes}
            folder = f"{name.lower().replace(' ', '-')}_{label}_{format}_{seed}"
            cells.append(Cell(folder, by, name, label, format, seed, definition))
    return cells


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
            written as "-". Keys: name, modality, task, method, format, seed.

    Raises:
        DataError: if a key is unknown, or no cell fits.
    """
    keys = ("name", "modality", "task", "method", "format", "seed")
    chosen = list(cells)
    for word in only.split():
        key, _, values = word.partition("=")
        if key not in keys or not values:
            raise DataError(f"--only {word!r} is not understood; write key=value with keys among {', '.join(keys)}")
        wanted = set(values.split(","))
        if key in GROUPS:
            wanted = {GROUPS[key][1](value) for value in wanted}
            chosen = [cell for cell in chosen if cell.train_by == key and cell.trained_on in wanted]
        else:
            chosen = [cell for cell in chosen if str(getattr(cell, key)) in wanted]
    if not chosen:
        raise DataError(f"--only {only!r} leaves none of the {len(cells)} cells; `study status` lists what there is")
    return chosen
