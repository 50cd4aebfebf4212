"""What the flags of training and prediction say about model and data, loaded."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medr1kit.commands.flags import COLUMNS, ENCODING, FRAME, LANGUAGE, SHEET, UNDERSTOOD, YES_NO
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import choice
from medr1kit.vqa import DataError

# Flags of TRL's ModelConfig that something here reads.
_MODEL_FLAGS = {"model_name_or_path", "dtype", "attn_implementation"}
_MODEL_FLAGS |= {"use_peft", "lora_r", "lora_alpha", "lora_dropout"}


def refuse_unused(flags: dict[str, Any], more: tuple[str, ...] = ()) -> None:
    """Refuse flags of TRL's models that nothing here reads, and those of ``more``."""
    from trl import ModelConfig

    unread = {"trust_remote_code", *ModelConfig.__dataclass_fields__} - _MODEL_FLAGS | {*more}
    for name in flags:
        if name in unread:
            raise DataError(f"--{name} is not supported by this command; leave it out")


def has_splits(name: str) -> bool:
    """Phantoms, a saved DatasetDict, hub data sets and others' sets have splits; other files and folders have none."""
    from medr1kit.data.benchmark_sets import benchmark_set

    path = Path(name).expanduser()
    if not path.exists() or (path / "dataset_dict.json").is_file():
        return True
    found = benchmark_set(path)
    return found == "VQA-RAD" or (found is not None and path.is_dir())


def columns_of(words: Sequence[str]) -> dict[str, str | list[str]]:
    """Return the columns that a command line names: ``question=Frage``, ``options=A,B,C`` or ``options=A options=B``.

    >>> columns_of(["question=Frage", "options=A,B", "options=C"])
    {'question': 'Frage', 'options': ['A', 'B', 'C']}
    """
    columns: dict[str, str | list[str]] = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not (role and equals and name):
            raise DataError(f"--columns {word!r} is no pair; write question=NAME, with quotes where NAME has blanks")
        if role == "options":
            columns["options"] = [*columns.get("options", ()), *name.split(",")]
        elif role in columns:
            raise DataError(f"--columns names {role} twice, {columns[role]!r} and {name!r}; give one")
        else:
            columns[role] = name
    if len(columns.get("options", ())) == 1:
        columns["options"] = columns["options"][0]
    return columns


def add_table_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how a source is to be understood: those of training and prediction."""
    parser.add_argument("--columns", nargs="+", help=COLUMNS)
    parser.add_argument("--yes_no", action="store_true", default=None, help=YES_NO)
    parser.add_argument("--sheet", help=SHEET)
    parser.add_argument("--encoding", help=ENCODING)
    parser.add_argument("--language", help=LANGUAGE)
    parser.add_argument("--frame", type=int, help=FRAME)


def labels_of(words: Sequence[str]) -> dict[str, str | int]:
    """Return the labels that a command line gives: ``method=grpo seed=1``.

    >>> labels_of(["method=grpo", "seed=1", "model=Med-R1"])
    {'method': 'grpo', 'seed': 1, 'model': 'Med-R1'}
    """
    from medr1kit.results.tables import LABELS

    labels: dict[str, str | int] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise DataError(f"--labels {word!r} is no pair; write method=grpo, with quotes where the value has blanks")
        choice(name, "--labels", LABELS)
        if name in labels:
            raise DataError(f"--labels names {name} twice, {labels[name]!r} and {value!r}; give one")
        whole = name in ("seed", "step")
        if whole and not value.isdecimal():
            raise DataError(f"--labels {word!r}: {name} is a whole number")
        labels[name] = int(value) if whole else value
    return labels


def loading_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of :func:`medr1kit.load_model` that say how, not what."""
    names = {"dtype": "dtype", "attn_implementation": "attn", "max_pixels": "max_pixels"}
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    return chosen | ({"device": "cpu"} if flags.get("use_cpu") else {})


def load_model_of(flags: dict[str, Any]):
    from medr1kit.models.load import load_model

    name, adapter = flags.get("model_name_or_path", "tiny"), flags.get("adapter")
    return load_model(name, adapter=adapter, **loading_of(flags))


def load_data(flags: dict[str, Any], split: str | None):
    from medr1kit.data.load import load_vqa

    names = {"image_folder": "images", "num_rows": "n"}
    names |= {name: name for name in ("meta", "modality", "task", "check", *UNDERSTOOD)}
    if flags["dataset_name"] == "medmnist":
        names["image_folder"] = "data_dir"  # its files hold images and labels
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    if "columns" in chosen:
        chosen["columns"] = columns_of(flags["columns"])
    return load_vqa(flags["dataset_name"], split=split, seed=flags.get("seed", 0), **chosen)


def hold_out(dataset, flags: dict[str, Any]):
    from medr1kit.audits import image_disjoint_split

    train, test = image_disjoint_split(dataset, test_size=flags["test_size"], seed=flags.get("seed", 0))
    print(f"held out {len(test)} of {len(dataset)} questions; no image or patient is on both sides")
    return train, test


def format_for(run: str | Path | None, flags: dict[str, Any]) -> ResponseFormat:
    """The format asked for; a run that was trained in another one is worth a word."""
    from medr1kit.results.runs import load_run

    format = format_named(flags.get("format", "no-think"))
    trained = load_run(run).config["format"] if run else format.name
    if trained != format.name:
        warnings.warn(
            f"the run was trained in the {trained} format and is asked in {format.name} (--format)", stacklevel=2
        )
    return format
