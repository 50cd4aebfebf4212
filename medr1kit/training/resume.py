"""A training that was killed goes on from its newest complete checkpoint.

A checkpoint is a folder that fills up over a while, and a kill may fall into that while. So the newest one is taken
that holds all of: weights and optimizer that can be opened, the generators of random numbers of each process, and
``trainer_state.json``, which is written last. What the libraries would not bring back is kept in there, too
(:meth:`medr1kit.training.recording.Recorder.state`), and the tables are cut at the checkpoint's step, so that the run
ends as if nothing had happened: on a CPU with the same adapter and tables, bit by bit, timings apart.

==================================  ==============================================================
in the folder                       what becomes of it
==================================  ==============================================================
no run                              the training starts, and says so
a run without complete checkpoint   it starts anew, and says so
a run of other settings, data, …    refused; the sentence names what differs
checkpoints without optimizer       refused (``save_only_model``)
a complete checkpoint               the training goes on from there, and says so
a run that has ended                it is returned as it is, with a word; the model given is not touched
==================================  ==============================================================
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medr1kit.given import path_given, truth
from medr1kit.models.load import base_of
from medr1kit.models.weights import load_base
from medr1kit.results.folders import checkpoints_in, read_config
from medr1kit.results.runs import Run, load_run, plain_or_text
from medr1kit.vqa import DataError

# Arguments that say where things go and who is told, not what is computed.
_FREE = {"output_dir", "run_name", "report_to", "logging_dir", "save_total_limit", "disable_tqdm", "local_rank"}
_FREE |= {"resume_from_checkpoint", "ddp_timeout", "log_level", "push_to_hub", "trackio_space_id", "project"}
_RECORDED = ("response_format", "rewards", "dynamic_sampling", "processes")  # by newer versions


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: its folder.
        state: what trainer_state.json holds.
    """

    path: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.state["global_step"]

    @property
    def last(self) -> bool:
        """Whether the training had taken its last step."""
        return self.step >= self.state["max_steps"]


def resume_asked(resume: Any, overwrite: bool, overrides: dict[str, Any], output_dir: Any) -> bool:
    """Return whether to resume: by our word, or by transformers', which is taken out of ``overrides``.

    Raises:
        DataError: if an earlier run is to be replaced as well, or a checkpoint is named that is not of this run.
    """
    named = overrides.pop("resume_from_checkpoint", None)
    word, folder = str(named).lower(), path_given(output_dir, "output_dir").resolve()
    if word not in ("none", "true", "false", "") and Path(named).expanduser().parent.resolve() != folder:
        raise DataError(
            f"resume_from_checkpoint={str(named)!r} is not in {folder}: a run goes on in its own folder, from its "
            "newest complete checkpoint; give its output_dir and resume=True (--resume)"
        )
    asked = truth(resume, "resume") or word not in ("none", "false", "")
    if asked and overwrite:
        raise DataError("resume and overwrite: going on with the run that is there, or replacing it? Leave one out")
    return asked


def find_earlier(folder: Path, config: Mapping[str, Any]) -> Checkpoint | Run | None:
    """Return what a training in this folder goes on from: a checkpoint, or the run if it has ended; None: from nothing.

    Args:
        folder: the run's.
        config: of the training that is about to be, as it would go to run.json.

    Raises:
        DataError: if the run there is another one, or has no optimizer to go on with.
    """
    if not (folder / "run.json").is_file():
        _say(f"there is no run in {folder} to resume, so a new one starts")
        return None
    run = load_run(folder)
    config = json.loads(json.dumps(config, default=plain_or_text))
    if changed := list(_differences(run.config, config)):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise DataError(
            f"{folder} holds a run of other settings, which cannot be resumed with these: {'; '.join(changed[:3])}"
            f"{more}; give the same settings, another output_dir, or overwrite=True (--overwrite) in place of resume"
        )
    if "summary" in run.config:
        by_hand = " by hand, and its weights are kept" if "stopped" in run.config else ""
        steps = run.config["summary"].get("steps")
        _say(f"the run in {folder} has ended{by_hand}, after {steps} steps: nothing is left to do")
        return run
    if (found := _newest(folder, config)) is None:
        saves = config["arguments"].get("save_strategy", "no") != "no"
        _say(
            f"the run in {folder} was stopped before its first checkpoint was complete, so it starts anew"
            + ("" if saves else "; give save_steps (--save_steps), or this one leaves none either")
        )
        return None
    other = [name for name, v in run.config.get("versions", {}).items() if v != config["versions"].get(name)]
    doubt = f"; {', '.join(other)} changed, so the rest may differ from an unbroken run's" if other else ""
    _say(f"the run in {folder} goes on from step {found.step} of {found.state['max_steps']}{doubt}")
    return found


def go_on(trainer: Any, earlier: Checkpoint) -> Any:
    """Train from a checkpoint on; returns what ``trainer.train()`` does."""
    from transformers import TrainerState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config
    from transformers.trainer_utils import TrainOutput

    trainer.args.eval_on_start = False  # it has been, at the start
    history = [row for row in earlier.state["log_history"] if "loss" in row]  # the last one at the checkpoint's step
    begins = [0, *(row["step"] for row in history)]
    lost = sum(row["loss"] * (row["step"] - begin) for row, begin in zip(history, begins))
    if not hasattr(trainer.args, "num_generations") and history:  # TRL's SFT counts its tokens on the trainer itself
        trainer._total_train_tokens = history[-1].get("num_tokens", 0)
    fsdp = trainer.is_fsdp_enabled
    if earlier.last:  # nothing is trained any more, so nothing is scattered
        trainer.is_deepspeed_enabled = trainer.is_fsdp_enabled = False
        unset_hf_deepspeed_config()
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if base_of(trainer.model) is trainer.model and not sharded:
        # The trainer would look for today's names of the tensors, find Qwen2-VL's of old, and load nothing.
        weights = load_base(str(earlier.path), str(trainer.model.dtype).removeprefix("torch."), "sdpa")
        trainer.model.load_state_dict(weights.state_dict())
        trainer._load_from_checkpoint = lambda *_, **__: None
    if fsdp:  # what the trainer would load once the model is cut up is not the adapter that was saved
        trainer.model.load_adapter(str(earlier.path), "default", is_trainable=True)
        trainer._load_from_checkpoint = lambda *_, **__: None
    if earlier.last:  # train() would take one step more
        trainer._load_from_checkpoint(str(earlier.path))
        trainer.state = TrainerState.load_from_json(str(earlier.path / "trainer_state.json"))
        return TrainOutput(earlier.step, lost / earlier.step, {"train_loss": lost / earlier.step})
    result = trainer.train(resume_from_checkpoint=str(earlier.path))
    loss = (lost + result.training_loss * (result.global_step - earlier.step)) / result.global_step
    return result._replace(training_loss=loss, metrics=result.metrics | {"train_loss": loss})


def remove_torn(folder: Path, earlier: Checkpoint | None) -> None:
    """Remove checkpoints that a kill left half written or half removed; they would count as some of those to keep."""
    for path in checkpoints_in(folder):
        if earlier is None or (path != earlier.path and _state_in(path) is None):
            shutil.rmtree(path)


def _say(sentence: str) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
        warnings.warn(sentence, stacklevel=7)


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What decides the numbers of a run and differs, in a few words; what one of both does not know is left out."""
    pairs = {name: (was.get(name), now.get(name)) for name in ("method", "model", "format", "seed", "continued_from")}
    pairs |= {name: (was[name], now[name]) for name in _RECORDED if name in was}
    pairs["load_in_4bit"] = [bool(config.get("load_in_4bit")) for config in (was, now)]
    pairs["eval_data"] = (was.get("eval_data"), now.get("eval_data"))
    pairs["shared_prefix"] = [config.get("shared_prefix") is True for config in (was, now)]
    data = was.get("data") or {}
    pairs |= {f"data {name}": (data.get(name), now["data"][name]) for name in ("rows", "fingerprint")}
    for part in ("lora", "arguments"):
        one, other = was.get(part) or {}, now.get(part) or {}
        if bool(one) != bool(other):
            pairs[part] = (bool(one), bool(other))
        pairs |= {name: (one[name], other[name]) for name in one if name in other and name not in _FREE}
    for name, (before, after) in pairs.items():
        if before != after and not name.startswith("hub_"):
            yield f"{name} was {_short(before)} and is {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _newest(folder: Path, config: Mapping[str, Any]) -> Checkpoint | None:
    """The newest complete checkpoint, or None.

    Raises:
        DataError: if it is complete but for what a training needs to go on.
    """
    for path in reversed(checkpoints_in(folder)):
        if (state := _state_in(path)) is None or not _is_of(path, state, config):
            continue
        if not _optimizer_in(path):
            raise DataError(
                f"{path} holds no optimizer (save_only_model?), so the training cannot go on as it was; load the "
                "checkpoint and train it into another folder, or start anew with overwrite=True (--overwrite)"
            )
        if "RolloutRecorder" not in state["stateful_callbacks"] and "Recorder" not in state["stateful_callbacks"]:
            raise DataError(
                f"{path} was written by a version of medr1kit that could not resume; load the checkpoint and train it "
                "into another folder, or start anew with overwrite=True (--overwrite)"
            )
        processes = config["processes"]
        names = [f"rng_state_{i}.pth" for i in range(processes)] if processes > 1 else ["rng_state.pth"]
        if all(zipfile.is_zipfile(path / name) for name in names):
            return Checkpoint(path, state)
    return None


def _state_in(path: Path) -> dict[str, Any] | None:
    """What trainer_state.json holds, or None where it or the weights are not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        weights = sorted(path.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt"):  # its size is checked against its header
                pass
    except (OSError, ValueError, SafetensorError):
        return None
    return state if weights else None


def _is_of(path: Path, state: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is this run's and of the step in its name: it may have been renamed, or put there."""
    labels = config["labels"] | {"step": state["global_step"]}
    here = (path / "run.json").is_file()  # a kill may come before it is written
    return path.name == f"checkpoint-{labels['step']}" and (not here or read_config(path).get("labels") == labels)


def _optimizer_in(path: Path) -> bool:
    """Whether an optimizer was saved: torch's as a file, DeepSpeed's and FSDP's by their own names."""
    if (path / "optimizer.pt").exists():
        return zipfile.is_zipfile(path / "optimizer.pt") and (path / "scheduler.pt").exists()
    return any(path.glob("global_step*")) or (path / "optimizer.bin").exists() or (path / "optimizer_0").exists()
