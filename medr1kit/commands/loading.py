"""What the flags of training and prediction say about model and data, loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from medr1kit.formats import ResponseFormat, format_named
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

    if not Path(name).exists() or (Path(name) / "dataset_dict.json").is_file():
        return True
    return benchmark_set(name) is not None and (Path(name).is_dir() or benchmark_set(name) == "VQA-RAD")


def load_model_of(flags: dict[str, Any]):
    from medr1kit.models.load import load_model

    names = {"dtype": "dtype", "attn_implementation": "attn", "max_pixels": "max_pixels"}
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    if flags.get("use_cpu"):
        chosen["device"] = "cpu"
    return load_model(flags.get("model_name_or_path", "tiny"), **chosen)


def load_data(flags: dict[str, Any], split: str | None):
    from medr1kit.data.load import load_vqa

    names = {"image_folder": "images", "num_rows": "n"}
    names |= {name: name for name in ("meta", "modality", "task", "check")}
    if flags["dataset_name"] == "medmnist":
        names["image_folder"] = "data_dir"  # its files hold images and labels
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    return load_vqa(flags["dataset_name"], split=split, seed=flags.get("seed", 0), **chosen)


def hold_out(dataset, flags: dict[str, Any]):
    from medr1kit.audits import image_disjoint_split

    train, test = image_disjoint_split(dataset, test_size=flags["test_size"], seed=flags.get("seed", 0))
    print(f"held out {len(test)} of {len(dataset)} questions; no image or patient is on both sides")
    return train, test


def format_for(model, flags: dict[str, Any]) -> ResponseFormat:
    """The format asked for; a run that was trained in another one is worth a word."""
    from medr1kit.models.load import origin_of
    from medr1kit.results.runs import load_run

    format, run = format_named(flags.get("format", "no-think")), origin_of(model).run
    trained = load_run(run).config["format"] if run else format.name
    if trained != format.name:
        warnings.warn(
            f"the run was trained in the {trained} format and is asked in {format.name} (--format)", stacklevel=2
        )
    return format
