"""Command-line flags: TRL's and the reference's own names, and what became of the old ones.

The flags of ``medr1kit grpo`` and ``sft`` are the fields of TRL's configuration plus those below. The reference's
README was written for an older TRL: some of its flags are gone, or take a value now. :func:`modernise` rewrites them
and says so, so that its command line runs with only the script swapped.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, field
from typing import Any

from medr1kit.formats import FORMATS
from medr1kit.vqa import DataError

SOURCES = "'phantoms', a file of questions (.csv, .xlsx, .json, .jsonl, .parquet), a folder, or a hub name"
COLUMNS = "your column names: question=Frage answer=Key options=A,B,C image=File patient_id=Patient"
YES_NO = "questions without options that are answered with yes or no get these two"
SHEET = "sheet of an Excel file, where several have rows"
ENCODING = "of a CSV or TSV file that is neither UTF-8, UTF-16 nor cp1252: gb18030, mac_roman"
LANGUAGE = "of SLAKE's questions: en or zh"
FRAME = "which picture of images that hold several (DICOM, TIFF), from 0"
UNDERSTOOD = ("columns", "yes_no", "sheet", "encoding", "language", "frame")  # how a source is to be understood


@dataclass
class DataFlags:
    """Where the questions come from, and which of them to take."""

    dataset_name: str = field(metadata={"help": SOURCES})
    dataset_train_split: str | None = field(default=None, metadata={"help": "split to train on (default: train)"})
    dataset_test_split: str | None = field(default=None, metadata={"help": "split to predict (default: test)"})
    image_folder: str | None = field(default=None, metadata={"help": "folder that the image paths start from"})
    columns: list[str] | None = field(default=None, metadata={"help": COLUMNS})
    yes_no: bool = field(default=False, metadata={"help": YES_NO})
    sheet: str | None = field(default=None, metadata={"help": SHEET})
    encoding: str | None = field(default=None, metadata={"help": ENCODING})
    language: str | None = field(default=None, metadata={"help": LANGUAGE})
    frame: int | None = field(default=None, metadata={"help": FRAME})
    meta: str | None = field(default=None, metadata={"help": "JSON with modality and task, row by row"})
    modality: str | None = field(default=None, metadata={"help": "only this modality (or: label all rows with it)"})
    task: str | None = field(default=None, metadata={"help": "only this task (or: label all rows with it)"})
    num_rows: int | None = field(default=None, metadata={"help": "number of questions to take (torchrun takes --n)"})
    check: str = field(default="error", metadata={"help": "bad rows: 'error' refuses, 'drop' leaves out and lists"})
    test_size: float = field(default=0.0, metadata={"help": "share held out by image and patient, 0 to 1"})
    format: str = field(default="no-think", metadata={"help": ", ".join(FORMATS)})
    preset: str | None = field(default=None, metadata={"help": "tiny, gpu, gpu-24gb, gpu-80gb or med-r1"})
    reward_funcs: list[str] | None = field(default=None, metadata={"help": "accuracy, format, reference_accuracy, ..."})
    max_pixels: int | None = field(default=None, metadata={"help": "cap on width times height of an image"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier run in output_dir"})
    resume: bool = field(default=False, metadata={"help": "go on with the run in output_dir, from its last checkpoint"})


@dataclass
class LoraFlags:
    """What :func:`medr1kit.lora` takes beside rank, alpha and dropout, which have flags of TRL's."""

    lora_merger: bool = field(default=False, metadata={"help": "also adapt the vision merger (default: by preset)"})
    lora_tower: bool = field(default=False, metadata={"help": "also adapt the tower's blocks (default: by preset)"})


@dataclass
class GRPOFlags:
    """What :func:`medr1kit.training.train.train_grpo` adds to TRL."""

    reference: bool = field(default=False, metadata={"help": "preset med-r1, and batch sizes count prompts as there"})
    dynamic_sampling: int = field(default=0, metadata={"help": "rounds of replacing groups that earn one reward only"})


@dataclass
class PredictFlags:
    """How to predict."""

    output: str = field(metadata={"help": "predictions file to write (.parquet)"})
    adapter: str | None = field(default=None, metadata={"help": "folder of a LoRA adapter to put on the model"})
    checkpoints: list[str] | None = field(default=None, metadata={"help": "of the run: all, or the steps 100 200"})
    labels: list[str] | None = field(default=None, metadata={"help": "who answers: method=grpo seed=1 model=NAME"})
    batch_size: int = field(default=64, metadata={"help": "questions a batch"})
    max_new_tokens: int | None = field(default=None, metadata={"help": "limit on completion tokens"})
    images: str = field(default="right", metadata={"help": "right, absent, blank, patches, shuffled-all, …"})
    seed: int = field(default=0, metadata={"help": "for num_rows, test_size and shuffled images: that of the training"})
    stop_at_answer: bool = field(default=False, metadata={"help": "no text after the answer, where it comes first"})
    samples: int = field(default=0, metadata={"help": "answers a question, drawn (default: one, greedy)"})
    temperature: float = field(default=1.0, metadata={"help": "of drawing"})
    engine: str | None = field(default=None, metadata={"help": "vllm: have vLLM answer, on a GPU (default: here)"})


# Flags of the reference's README that have nothing to do any more, with the reason.
_IGNORED = {
    "max_prompt_length": "prompts are never cut",
    "min_pixels": "the image processor's own minimum holds",
    "logging_dir": "metrics are written to the run folder",
    "gradient_checkpointing_use_reentrant": "TRL chooses",
    "dataset_config": "medr1kit's data sets have no configurations",
    "ignore_bias_buffers": "Qwen-VL has none",
}
_RENAMED = {"torch_dtype": "dtype", "warmup_ratio": "warmup_steps", "overwrite_output_dir": "overwrite"}
# Booleans that the reference's command lines give without a value, while TRL wants one.
_BARE = ("bf16", "fp16", "gradient_checkpointing", "use_cpu", "use_vllm", "use_peft", "resume_from_checkpoint")


def modernise(argv: list[str]) -> list[str]:
    """Rewrite flags of the reference's README to those of today, with a one-line warning each.

    >>> modernise(["--bf16", "--num_generations", "4"])
    ['--bf16', 'true', '--num_generations', '4']
    """
    given: list[list[str]] = []  # a flag and its values each
    for word in argv:
        if word.startswith("--") or not given:
            given.append(word.split("=", 1) if word.startswith("--") else [word])
        else:
            given[-1].append(word)
    rewritten: list[str] = []
    for flag, *values in given:
        name = flag.removeprefix("--")
        if name in _IGNORED:
            warnings.warn(f"--{name} is ignored: {_IGNORED[name]}", stacklevel=2)
            continue
        if name in _RENAMED:
            warnings.warn(f"--{name} is now --{_RENAMED[name]}", stacklevel=2)
            flag = f"--{_RENAMED[name]}"
        rewritten += [flag, *(values or (["true"] if name in _BARE else []))]
    return rewritten


def parse_flags(argv: list[str], command: str, *kinds: type) -> dict[str, Any]:
    """Parse a command line into the flags that were given, with their types, and nothing that was not.

    Defaults are left out on purpose: they come from the preset, and only what the user wrote may override it.

    Args:
        argv: words after the command.
        command: for the help text, for example "medr1kit grpo".
        *kinds: dataclasses whose fields are flags, such as :class:`trl.GRPOConfig`.

    Raises:
        DataError: if a flag is unknown, misses its value, or has one of the wrong type.
    """
    from transformers import HfArgumentParser

    parser = HfArgumentParser(kinds, prog=command, allow_abbrev=False)
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            action.default = argparse.SUPPRESS
    parser.error = _refuse
    return vars(parser.parse_args(modernise(argv)))


def _refuse(message: str) -> None:
    raise DataError(f"{message} (--help lists the flags)")


def fit_to_machine(flags: dict[str, Any], device: str) -> dict[str, Any]:
    """Drop what this machine cannot do, with a one-line warning each, and refuse what a training cannot do without.

    Args:
        flags: from :func:`parse_flags`.
        device: what :func:`medr1kit.models.machine.choose_device` chose.

    Raises:
        DataError: from :func:`medr1kit.training.needs.refuse_lacking`.
    """
    from medr1kit.models.machine import choose_dtype, choose_tower_attention
    from medr1kit.training.needs import missing_reporters, refuse_lacking

    fitted = dict(flags)
    if fitted.get("fp16"):
        fitted["bf16"] = False
    if device == "cpu":
        for name in ("fp16",) if fitted.get("preset") == "med-r1" else ("bf16", "fp16"):
            if fitted.pop(name, None):
                warnings.warn(f"--{name} is ignored: there is no GPU, training is in float32", stacklevel=2)
    reporter = fitted.get("report_to")
    if reporter in ("wandb", "tensorboard") and missing_reporters(reporter):  # the reference's command line has one
        warnings.warn(f"--report_to {reporter} is ignored: not installed; see metrics.csv", stacklevel=2)
        fitted["report_to"] = "none"
    if str(fitted.get("attn_implementation", "")).startswith("flash"):
        chosen = choose_tower_attention(device, fitted.get("dtype") or choose_dtype(device).value)
        if chosen.value != fitted["attn_implementation"]:
            warnings.warn(f"--attn_implementation {chosen.value} instead: {chosen.reason}", stacklevel=2)
            fitted["attn_implementation"] = chosen.value
    refuse_lacking(fitted, device)
    return fitted
