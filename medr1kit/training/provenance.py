"""Where a run came from: what it takes to repeat it, and the card that says so to people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.models.load import base_of, origin_of
from medr1kit.models.weights import is_four_bit
from medr1kit.results.numbers import percent
from medr1kit.results.runs import replace_file
from medr1kit.results.tables import score

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from huggingface_hub import ModelCard


def run_config(method, model, dataset, format, args, adapter, eval_dataset=None) -> dict[str, Any]:
    """Everything needed to repeat the run, as it goes to run.json."""
    found = {column: list(dict.fromkeys(dataset[column][:])) for column in ("modality", "task", "source")}
    names = {column: [name for name in values if name] for column, values in found.items()}
    origin = origin_of(model)
    if adapter is None and hasattr(model, "peft_config"):
        adapter = model.peft_config["default"]
    trained_on = {f"train_{name}": _trained_on(found[name]) for name in ("modality", "task")}
    packages = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets")
    asked = {"method": method, "model": origin.name, "format": format.name, "seed": args.seed}
    asked["response_format"] = asdict(format) | {"blocks": list(format.blocks)}  # as JSON gives it back
    here = Path(origin.name).expanduser()
    known = {
        "model_path": str(here.resolve()) if origin.name != "tiny" and here.is_dir() else None,  # from any folder
        "labels": {"model": origin.labels["model"], "method": method, "seed": args.seed, **trained_on},
        "continued_from": origin.run,
        "load_in_4bit": is_four_bit(base_of(model)),
        "data": {"rows": len(dataset), "fingerprint": fingerprint(dataset), **names, "card": _data_card(dataset)},
        "eval_data": eval_dataset and {"rows": len(eval_dataset), "fingerprint": fingerprint(eval_dataset)},
        "lora": adapter.to_dict() if adapter is not None else None,
        "arguments": args.to_dict(),
        "processes": args.world_size,
        "versions": {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in packages}},
        "command": _without_token(sys.argv),
    }
    return without_home(asked | known)


def _without_token(words: list[str]) -> list[str]:
    """A command line without the token of the Hub that it may hold: run.json is shown to others."""
    shown = [re.sub(r"^(--hub_token=).*", r"\1…", word) for word in words]
    return ["…" if before == "--hub_token" else word for before, word in zip(["", *words], shown)]


def _data_card(dataset: Dataset) -> str | None:
    """The name of the questions' data card: there are those of phantoms, and of images in OmniMedVQA's own folders."""
    pairs = set(zip(dataset["source"][:], dataset["image_id"][:]))
    if all(source == "phantoms" for source, _ in pairs):
        return "phantoms"
    return "omnimedvqa" if all(image.startswith(f"Images/{source}/") for source, image in pairs) else None


def _trained_on(names: list[str | None]) -> str | None:
    """The one modality or task of the questions, "all" for several, and None where it is not known of each."""
    if not all(names):
        return None
    return names[0] if len(names) == 1 else "all"


def without_home(value: Any) -> Any:
    """Return settings in which ``~`` stands for the user's home folder: its name is nobody's business.

    >>> without_home({"output_dir": str(Path.home() / "runs" / "ct"), "seed": 0})
    {'output_dir': '~/runs/ct', 'seed': 0}
    """
    if isinstance(value, Mapping):
        return {name: without_home(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_home(inner) for inner in value]
    if not isinstance(value, (str, os.PathLike)):
        return value
    home = re.escape(str(Path.home()).rstrip("/\\"))
    return re.sub(rf"(?<![^\s=:,'\"]){home}(?=$|[/\\\s])", "~", os.fspath(value)) if home else os.fspath(value)


def name_base(adapter: Path, name: str) -> None:
    """Name the model that an adapter stands on in its configuration, where PEFT writes the full path of a folder.

    Args:
        adapter: the adapter's folder.
        name: of the model, as run.json has it.
    """
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": name}
    replace_file(file, json.dumps(config, indent=2, sort_keys=True))


def fingerprint(dataset: Dataset) -> str:
    """Return a digest of a data set's ids, image ids, problems and solutions, in order; pixels are not read."""
    digest = hashlib.sha256()
    for row in zip(*(dataset[column][:] for column in ("id", "image_id", "problem", "solution"))):
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def model_card(config: Mapping[str, Any], metrics: Mapping[str, float]) -> ModelCard:
    """Return a short model card of the run, with what the Hugging Face Hub reads of it on top.

    Nothing is claimed that the run does not know: no licence, and a base model only where its name is one of the Hub.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data, trained = config["data"], "LoRA adapter" if config["lora"] else "all weights"
    trained += " on a base in 4 bits" if config.get("load_in_4bit") else ""
    stopped = "; stopped by hand after step {step} of {of}".format(**config["stopped"]) if "stopped" in config else ""
    on_the_hub = config["model"].count("/") == 1 and not Path(config["model"]).exists()
    front = ModelCardData(
        base_model=config["model"] if on_the_hub else None,
        library_name="peft" if config["lora"] else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["medr1kit", "trl", config["method"], config["format"], *(["lora"] if config["lora"] else [])],
        datasets=data["source"] or None,
        metrics=["accuracy"],
        license="unknown",
    )
    return ModelCard(f"""---
{front.to_yaml()}
---

# {config["method"].upper()} of {config["model"]}, {config["format"]} format

Trained with medr1kit {config["versions"]["medr1kit"]} ({trained}, seed {config["seed"]}) on {data["rows"]} questions in
{metrics.get("train_runtime", float("nan")):.0f} s{stopped}.

{_data_line(data)}

Load it with `medr1kit.load_model(FOLDER)`. All arguments are in `run.json`, curves in `metrics.csv`.

For research and teaching. Not for clinical use.
""")


def _data_line(data: Mapping[str, Any]) -> str:
    """What was trained on, in one line of a model card.

    >>> _data_line({"rows": 8, "fingerprint": "5f1e", "modality": ["CT"], "task": [], "source": [], "card": None})
    'Data: unknown, 8 rows; modality: CT; task: unknown; fingerprint: 5f1e.'
    """
    known = {
        name: ", ".join(data[name][:6]) + (f" and {len(data[name]) - 6} more" if data[name][6:] else "") or "unknown"
        for name in ("source", "modality", "task")
    }
    line = f"Data: {known['source']}, {data['rows']} rows; modality: {known['modality']}; task: {known['task']}"
    line += f"; fingerprint: {data['fingerprint']}"
    return line + (f"; data card: `data_cards/{data['card']}.md` of medr1kit." if data["card"] else ".")


def add_score(folder: Path, preds: pd.DataFrame, floor: float | None = None) -> None:
    """Write the accuracy of a run's predictions into its card, where the Hub looks for results, and for readers.

    Args:
        folder: the run's.
        preds: predictions of one data set, which the run was not trained on.
        floor: the blind floor of these questions, 0 to 1 (:func:`medr1kit.blind_floor`), or None where it is not known.
    """
    from huggingface_hub import EvalResult, ModelCard

    card, row = ModelCard.load(folder / "README.md"), score(preds, by=None).iloc[0]
    source = ", ".join(preds["source"].dropna().unique()) or "unknown"
    held_out = {"dataset_type": source, "dataset_name": f"{source}, {row['n']} questions held out by image and patient"}
    accuracy = {"metric_type": "accuracy", "metric_value": round(float(row["accuracy"]), 4)}
    said = f"{percent(row['accuracy'], row['low'], row['high'])} of {row['n']} held-out questions are answered right"
    said += f"; a guess scores {percent(row['chance'])}"
    said += f", and the options' texts alone, without any image, {percent(floor)}" if floor is not None else ""
    body = re.sub(r"\n## Held-out questions\n.*?\n(?=\nFor research)", "", card.text, flags=re.DOTALL)
    card.text = body.replace("\nFor research", f"\n## Held-out questions\n\n{said}.\n\nFor research")
    card.data.model_name = folder.name
    card.data.eval_results = [EvalResult(task_type="visual-question-answering", **held_out, **accuracy)]
    card.save(folder / "README.md")
