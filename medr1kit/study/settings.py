"""What a study's YAML file may say: every key and value is looked at before the first cell.

A file names what is varied, and passes everything else on: ``train`` and ``test`` hold arguments of
:func:`medr1kit.load_vqa`, a method holds arguments of :func:`medr1kit.train_sft` or :func:`medr1kit.train_grpo`,
``predict`` those of :func:`medr1kit.predict`. Rewards are given by name, ``grpo: {rewards: [accuracy, format]}``::

    name: formats
    model: tiny                                # as load_model takes it
    preset: tiny
    train: {name: phantoms, n: 960}            # a cell adds its modality or task, and its seed
    test: {name: phantoms, n: 800}             # the same questions for every cell
    train_by: {modality: all, task: [LG, DD]}
    methods: {sft: , sft-answer: , grpo: {max_steps: 80}}
    formats: [think-before, think-after, no-think]
    seeds: [0, 1, 2]
    # attn: sdpa, dtype: bfloat16, max_pixels: 401408, as load_model takes them

Instead of one test there may be several, by name; tables of accuracies are of the first one. Each may say more::

    test:
      B: {name: phantoms, n: 800, scanner: B}
      B shuffled: {name: phantoms, n: 800, scanner: B, own: true, predict: {images: shuffled}}

    own: true            a model is asked about what it was trained on alone; the base about everything
    of: [base]           only models of these methods are asked
    predict: {…}         beside the study's own; samples: 8 draws several answers a question
    wording: readme      another instruction, of medr1kit.models.probes.WORDINGS; formats without it are not asked
    thoughts: true       answers after other thoughts, as thought_reliance asks; formats that think first
    undone: true         phantoms whose scanner B is undone by arithmetic on the pixels

A study of several ``parts`` has a grid for each, with what is given there in place of what is given above. In a part,
``train`` may say ``wrong_pictures: true`` (each question beside another picture of its modality: a control), and
``train_by: {modality: [together]}`` trains one model on everything::

    parts:
      machine: {train: {name: phantoms, n: 2000, scanner: B}, train_by: {modality: all}}
      joint: {train: {name: phantoms, n: 2000, scanner: B}, train_by: {modality: [together]}, formats: [no-think]}

``comparisons`` are what a study is for, stated before it runs: :mod:`medr1kit.study.comparisons`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medr1kit.data.sources import own_arguments
from medr1kit.formats import FORMATS, format_named
from medr1kit.given import choice, number, truth, whole_number
from medr1kit.models.machine import ATTENTIONS, dtype_given
from medr1kit.models.predict import IMAGES
from medr1kit.models.probes import WORDINGS
from medr1kit.study.comparisons import check_comparisons
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
LOADING = ("attn", "dtype", "max_pixels")
"""Keys of load_model: nothing but what is given is part of a cell's definition."""

_OF_A_PART = ("preset", "train", "test", "train_by", "methods", "formats", "seeds", "predict")
_SOURCE = (
    "name",
    "n",
    "size",
    "check",
    "frame",
    *dict.fromkeys(name for own in own_arguments().values() for name in own),
)
_DATA = {"train": _SOURCE, "test": (*_SOURCE, "modality", "task", "seed")}  # arguments of load_vqa; name: its source
CHANGED = ("wrong_pictures", "undone")
"""What is done to the questions once they are loaded."""

ASKING = ("own", "of", "predict", "wording", "thoughts")
"""What a test of several may say beside its questions."""

_PREDICT = ("images", "batch_size", "max_new_tokens", "stop_at_answer", "samples", "temperature")
_WHOLE = {"n": 1, "size": 1, "frame": 0, "seed": 0}  # the smallest value of each
_LARGEST_SEED = 2**32 - 1
GROUPS = {"modality": (MODALITIES, modality_name), "task": (TASKS, task_name)}
TOGETHER = "together"
"""In place of a modality or task: one model is trained on all of them."""


def checked(text: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what a study's file says, and the settings of each of its parts: with defaults, names in full.

    Args:
        text: of the YAML file.

    Returns:
        The settings, and a mapping from the name of a part to its settings; the one part of a study without any is "".

    Raises:
        DataError: if it is no YAML, or a key or value is not allowed; it says which are.
    """
    values = _mapping(_read_yaml(text), "the file", (*_REQUIRED, *_DEFAULTS, *LOADING, "parts", "comparisons"))
    given = values.get("parts", {"": {}})
    if not isinstance(given, Mapping) or not given:
        raise DataError("parts: expected the name of a part, then its settings")
    for name, part in given.items():
        if name:
            _folder_name(name, "parts: a part")
            _mapping(part, f"parts: {name}", _OF_A_PART)
    parts = {}
    for name, part in given.items():
        merged = {key: value for key, value in (values | (part or {})).items() if key not in ("parts", "comparisons")}
        try:
            parts[name] = _check(merged)
        except DataError as error:
            raise DataError(f"part {name}: {error}" if name else str(error)) from error
    settings = {**_DEFAULTS, **values} if "parts" in values else parts[""]
    check_comparisons(values.get("comparisons", {}), parts)
    return settings | {"comparisons": values.get("comparisons", {})}, parts


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


def _check(values: dict[str, Any]) -> dict[str, Any]:
    if missing := [key for key in _REQUIRED if key not in values]:
        raise DataError(f"the key {missing[0]!r} is missing; a study needs {', '.join(_REQUIRED)}")
    settings = _DEFAULTS | values
    for key in ("name", "model"):
        if not isinstance(settings[key], str) or not settings[key]:
            raise DataError(f"{key}: {settings[key]!r} is no name; write a text")
    _folder_name(settings["name"], "name")
    if settings["preset"] not in PRESETS:
        raise DataError(f"preset: {settings['preset']!r} is unknown; use one of {', '.join(PRESETS)}")
    _check_loading(settings)
    settings["predict"] = _predict(settings["predict"] or {}, "predict")
    settings["train"] = _questions(settings["train"], "train", _DATA["train"], ("wrong_pictures",))
    settings["test"] = _tests(settings["test"])
    settings["train_by"] = _groups(settings["train_by"])
    settings["methods"] = _methods(settings["methods"])
    settings["formats"] = [format_named(name).name for name in _list(settings["formats"], "formats", str)]
    settings["seeds"] = _list(settings["seeds"], "seeds", int)
    for seed in settings["seeds"]:
        whole_number(seed, "seeds: a seed", 0, _LARGEST_SEED)
    return settings


def _folder_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]{0,99}", name):  # it names a folder in runs/
        raise DataError(f"{what}: {str(name)[:200]!r} is no name of a folder; write letters, digits, '-' and '_'")


def _check_loading(settings: dict[str, Any]) -> None:
    if settings.get("attn") is not None:
        choice(settings["attn"], "attn", ATTENTIONS)
    if settings.get("max_pixels") is not None:
        whole_number(settings["max_pixels"], "max_pixels")
    if settings.get("dtype") is not None:
        settings["dtype"] = dtype_given(settings["dtype"], "cpu")
        if settings["preset"] == "med-r1" and settings["dtype"] != "float32":
            raise DataError(f"dtype: {settings['dtype']}: the preset med-r1 trains weights in float32; leave dtype out")


def _questions(values: Any, key: str, allowed: tuple[str, ...], more: tuple[str, ...]) -> Mapping[str, Any]:
    """Arguments of load_vqa, and ``more`` words of ours."""
    _mapping(values, key, (*allowed, *more))
    if "name" not in values:
        raise DataError(f"{key}: 'name' is missing; write 'phantoms', a file, a folder or a hub name")
    for name, low in _WHOLE.items():
        if values.get(name) is not None:
            whole_number(values[name], f"{key}: {name}", low, _LARGEST_SEED if name == "seed" else None)
    for name in (name for name in CHANGED if name in values):
        truth(values[name], f"{key}: {name}")
    if values.get("undone") and (values["name"], values.get("scanner")) != ("phantoms", "B"):
        raise DataError(f"{key}: undone: only of phantoms with scanner: B is it known what to undo")
    return values


def _tests(values: Any) -> Mapping[str, Any]:
    """One test, or several by name."""
    named = isinstance(values, Mapping) and values and all(isinstance(test, Mapping) for test in values.values())
    if not named:
        return _questions(values, "test", _DATA["test"], ())
    for name, test in values.items():
        key = f"test: {name}"
        _questions(test, key, _DATA["test"], (*ASKING, "undone"))
        _predict(test.get("predict", {}), f"{key}: predict")
        for switch in ("own", "thoughts"):
            truth(test.get(switch, False), f"{key}: {switch}")
        for method in _list(test.get("of", ["base"]), f"{key}: of", str):
            choice(method, f"{key}: of", ("base", *METHODS))
        if "wording" in test:
            choice(test["wording"], f"{key}: wording", tuple(dict.fromkeys(w for f in WORDINGS.values() for w in f)))
    return values


def _predict(values: Any, key: str) -> Mapping[str, Any]:
    _mapping(values, key, _PREDICT)
    for name, low in {"batch_size": 1, "max_new_tokens": 1, "samples": 0}.items():
        if values.get(name) is not None:
            whole_number(values[name], f"{key}: {name}", low)
    if "images" in values:
        choice(values["images"], f"{key}: images", IMAGES)
    number(values.get("temperature", 1.0), f"{key}: temperature", 0.01, 10)
    if not isinstance(values.get("stop_at_answer", False), bool):
        raise DataError(f"{key}: stop_at_answer: {values['stop_at_answer']!r}; write true or false")
    return values


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
        groups[by] = [name if name == TOGETHER else named(name) for name in chosen]
    return groups


def _methods(value: Any) -> dict[str, dict[str, Any]]:
    value = dict.fromkeys(value) if isinstance(value, list) else value
    methods = {name: settings or {} for name, settings in _mapping(value, "methods", tuple(METHODS)).items()}
    for name, settings in methods.items():
        if not isinstance(settings, Mapping):
            raise DataError(f"methods: {name}: {settings!r} are no settings; write them as {{max_steps: 80}}")
    return methods
