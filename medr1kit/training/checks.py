"""What was asked of a training, looked at before the model is touched and before the first minute is spent.

Everything here refuses in one sentence what would otherwise end in a traceback of TRL's, in a run of no step, or in a
record that is not true.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.formats import ResponseFormat
from medr1kit.given import QUESTIONS, kind, number, path_given, questions_given, whole_number
from medr1kit.models.load import base_of, origin_of
from medr1kit.results.folders import check_folder
from medr1kit.results.runs import load_run
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = (*QUESTIONS, "solution", "modality", "task", "source")
_WHOLE = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_iterations")
_WHOLE = (*_WHOLE, "max_completion_length")
_RANGES = {"learning_rate": (0, 1), "beta": (0, 1000), "temperature": (0.01, 100), "num_train_epochs": (1e-6, 1e6)}
_RANGES |= {"top_p": (0.01, 1), "adam_beta1": (0, 0.999999), "adam_beta2": (0, 0.999999)}


def run_folder(model: Any, output_dir: str | Path, replace: bool) -> Path:
    """Return the run's folder, ``~`` expanded.

    Refused is one in which no run can be written (or, unless ``replace``, is one already), and the folder of the run
    that the model's weights come from, at first or second hand: the record of their first steps would be lost.
    """
    folder, run, seen = path_given(output_dir, "output_dir"), origin_of(model).run, set()
    while run and run not in seen:
        seen.add(run)
        if Path(run).expanduser().resolve() == folder.resolve():
            raise DataError(
                f"this model was trained in {run}, and a run there would replace the record of those steps: load the "
                "model anew to train from the start (overwrite=True) or on from a checkpoint of that run "
                "(resume=True), or choose another output_dir to go on"
            )
        try:
            run = load_run(run).config.get("continued_from")
        except DataError:  # it is gone, and with it whatever it went on from
            break
    alone = int(os.environ.get("RANK", 0)) == 0  # of several processes the first writes, perhaps already
    return check_folder(folder, replace) if alone else folder


def prompts_of(dataset: Dataset, format: ResponseFormat, name: str = "dataset") -> list[list[dict[str, str]]]:
    """Return what a user would ask about each row; refuse what is no data set of questions with images."""
    questions_given(dataset, name, columns=COLUMNS, images=True)
    return [[{"role": "user", "content": format.prompt(problem)}] for problem in dataset["problem"][:]]


def gold_of(dataset: Dataset, format: ResponseFormat) -> list[list[dict[str, str]]]:
    """Return the gold completion of each row; one that the format's own parser would not pay for is refused."""
    gold = zip(dataset["id"][:], dataset["answer"][:], _rationales(dataset, format), dataset["options"][:])
    completions = []
    for row, (name, letter, rationale, options) in enumerate(gold):
        try:
            text = format.write(letter, rationale)
        except DataError as error:
            raise DataError(f"row {row} ({name}): {error}") from error
        read = format.parse(text, options)
        if not read.well_formed or read.answer != letter:
            raise DataError(
                f"row {row} ({name}): the completion to train on, {text[:120]!r}, is malformed in the {format.name} "
                f"format ({read.reason}); mend its rationale, or leave the row out"
            )
        completions.append([{"role": "assistant", "content": text}])
    return completions


def with_column(rows: Dataset, name: str, messages: list[list[dict[str, str]]]) -> Dataset:
    """Return the rows with a column of messages, under a fingerprint of what it says.

    The one that datasets makes by itself pickles every message: of 71,000 prompts in seconds.
    """
    digest = hashlib.sha256(repr((rows._fingerprint, name)).encode())
    for one in messages:
        digest.update(repr(one).encode())
    return rows.add_column(name, messages, new_fingerprint=digest.hexdigest()[:16])


def _rationales(dataset: Dataset, format: ResponseFormat) -> list[str]:
    """The gold rationales; where the format has thinking every row needs one."""
    there = "rationale" in dataset.column_names
    rationales = [text or "" for text in dataset["rationale"][:]] if there else [""] * len(dataset)
    without = next((i for i, text in enumerate(rationales) if not text.strip()), None)
    if "think" in format.blocks and not format.think_optional and without is not None:
        raise DataError(
            f"SFT in the {format.name} format needs gold rationales (column 'rationale'), and row {without} "
            f"({dataset['id'][without]}) has none; fill the column, leave the row out, or use the no-think format"
        )
    return rationales


def check_settings(settings: Mapping[str, Any], arguments: type) -> None:
    """Refuse arguments that TRL does not have, and numbers that are none or out of every reasonable range.

    Args:
        settings: by name.
        arguments: :class:`trl.SFTConfig` or :class:`trl.GRPOConfig`.
    """
    known = {field.name: field.default for field in fields(arguments)}
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"its arguments are the fields of trl.{arguments.__name__}"
            raise DataError(f"a training has no argument {name!r}; {meant}")
        numeric = isinstance(known[name], (int, float)) and not isinstance(known[name], bool)
        if numeric and isinstance(value, str):
            raise DataError(f"{name}={value!r} is a text; give a number")
        if isinstance(value, float) and math.isnan(value):
            raise DataError(f"{name}=nan is no number")
        if numeric and value is None:
            raise DataError(f"{name} is None; give a number, or leave it out")
        if numeric and known[name] >= 0 and isinstance(value, (int, float)) and value < 0:
            raise DataError(f"{name}={value} is below 0; give a number of at least 0")
        if name == "generation_kwargs" and not isinstance(value, (dict, type(None))):
            raise DataError(f"generation_kwargs is {kind(value)}; give a dict")
        if value is not None and name in _WHOLE:
            whole_number(value, name)
        if value is not None and name in _RANGES:
            number(value, name, *_RANGES[name])
    if settings.get("max_steps", -1) != -1:  # by which TRL says "as many as the epochs have"
        whole_number(settings["max_steps"], "max_steps")


def arguments_of(method: type, settings: Mapping[str, Any]) -> Any:
    """Return TRL's arguments; what it refuses in its own words is refused in one sentence."""
    try:
        args = method(**settings)
    except (TypeError, ValueError, ImportError) as error:
        raise DataError(f"{method.__name__} refuses these arguments: {_first_line(error)}") from error
    if args.deepspeed_plugin and args.use_cpu:  # on GPUs accelerate does it; a reference model is loaded in parts
        import deepspeed

        deepspeed.init_distributed("gloo")
    return args


@contextmanager
def one_sentence(what: str, more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what TRL refuses in its own words into one sentence; a reward's own errors are its author's to see."""
    try:
        yield
    except DataError:
        raise
    except (TypeError, ValueError, ImportError, *more) as error:
        in_a_reward = any(frame.name == REWARD for frame in traceback.extract_tb(error.__traceback__))
        if in_a_reward or "OutOfMemory" in type(error).__name__:
            raise
        raise DataError(f"{what} ({type(error).__name__}: {_first_line(error)})") from error


REWARD = "paid"
"""The function in whose frames a reward is called."""


def _first_line(error: Exception) -> str:
    line, *more = (str(error).strip() or "no reason given").splitlines()
    if line.endswith(":"):  # a list follows, as of what DeepSpeed's settings contradict
        line = " ".join([line, *more])
    return line if len(line) < 200 else f"{line[:200]}…"


def processes() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def check_groups(settings: Mapping[str, Any]) -> None:
    """Refuse a batch that cannot be cut into groups, with the three ways out."""
    group = settings.get("num_generations", 8)
    device = settings.get("per_device_train_batch_size", 8)
    accumulation = settings.get("gradient_accumulation_steps", 1)
    batch = device * accumulation * processes()
    if whole_number(group, "num_generations", 0) < 2:
        raise DataError(f"num_generations={group}: a group needs at least two completions to compare; 8 is usual")
    if settings.get("generation_batch_size") is None and settings.get("steps_per_generation") is None and batch % group:
        raise DataError(
            f"a step has {batch} completions ({device} a device x {accumulation} accumulation x {processes()} "
            f"processes), which is no multiple of the group size num_generations={group}: raise "
            "per_device_train_batch_size or gradient_accumulation_steps to a multiple, start more processes, or lower "
            "num_generations"
        )


def check_weights(settings: Mapping[str, Any], rewards: int) -> None:
    """Refuse weights of rewards that are not a number each, or all zero."""
    given = settings.get("reward_weights")
    listed = list(given) if isinstance(given, (list, tuple)) else None
    if given is not None and (listed is None or len(listed) != rewards or not any(listed)):
        raise DataError(f"reward_weights={given!r:.60}: give a list of {rewards} numbers, one a reward, not all 0")
    for weight in listed or ():
        number(weight, "reward_weights", -_LARGE, _LARGE)


_LARGE = 1e6


def enough_questions(n: int, args: Any) -> None:
    """Refuse fewer questions than one step takes: TRL would train for no step, and call that a run.

    Args:
        n: questions.
        args: a :class:`trl.GRPOConfig`, which samples a whole batch of groups, or a :class:`trl.SFTConfig`.
    """
    if hasattr(args, "num_generations"):
        need = args.generation_batch_size // args.num_generations
        why = f"{args.generation_batch_size} completions in groups of {args.num_generations}"
    else:
        need = args.per_device_train_batch_size * processes() if args.dataloader_drop_last else 1
        why = "dataloader_drop_last leaves a smaller batch out"
    if n < need:
        raise DataError(
            f"{n} question{'s' * (n != 1)} given, and a step needs {need} ({why}), so nothing would be trained: pass "
            "more questions, or lower per_device_train_batch_size"
        )


def check_tower_learns(trainer: Any) -> None:
    """Refuse the one setting in which an adapted vision tower would get no gradient, without a word."""
    args, base = trainer.args, base_of(trainer.model)
    reentrant = args.gradient_checkpointing and (args.gradient_checkpointing_kwargs or {}).get("use_reentrant")
    if not reentrant or base.config.model_type != "qwen3_vl" or base is trainer.model:
        return
    if any(weight.requires_grad for weight in base.model.visual.blocks.parameters()):
        raise DataError(
            "gradient checkpointing with use_reentrant=True (ZeRO-3 asks for it) gives the vision tower of Qwen3-VL no "
            "gradient; leave gradient_checkpointing_kwargs out, or train with lora={'tower': False}"
        )
