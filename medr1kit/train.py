"""Training: GRPO with LoRA, and an honest supervised baseline, both on TRL's trainers.

Both functions take the same arguments, use the same prompts and leave the same kind of folder behind, so that a
comparison differs in the method alone. What they add to TRL is small: the prompt comes from the response format, the
rewards from :mod:`medr1kit.rewards`, every sampled completion is written to disk, and a preset supplies arguments that
work. A preset is a plain dict; print it, and override any of it by keyword.

The model is trained *in place*: afterwards it answers as trained, and a second call goes on from there. To start anew,
load it anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.models import image_token_ids, lora
from medr1kit.rewards import accuracy_reward, format_reward, text_of
from medr1kit.runs import Run, RunWriter, load_run
from medr1kit.vqa import DataError, parse_solution

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

# "lora" holds arguments of models.lora, the rest arguments of SFTConfig or GRPOConfig.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "sft": {
            "lora": {"rank": 16, "alpha": 32, "merger": True},
            "learning_rate": 1e-3,
            "max_steps": 60,
            "per_device_train_batch_size": 16,
            "warmup_steps": 3,
            "gradient_checkpointing": False,
        },
        "grpo": {
            "lora": {"rank": 16, "alpha": 32, "merger": True},
            "learning_rate": 1e-3,
            "max_steps": 60,
            "num_generations": 8,
            "per_device_train_batch_size": 32,
            "max_completion_length": 40,
            "temperature": 1.0,
            "beta": 0.0,
            "warmup_steps": 3,
            "gradient_checkpointing": False,
        },
    },
    # A first setting for one 24 to 80 GB GPU and a 2B or 3B model; not tuned.
    "gpu": {
        "sft": {
            "lora": {"rank": 16, "alpha": 32},
            "learning_rate": 1e-4,
            "num_train_epochs": 1.0,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 4,
            "warmup_steps": 10,
            "gradient_checkpointing": True,
            "save_strategy": "steps",
            "save_steps": 200,
        },
        "grpo": {
            "lora": {"rank": 16, "alpha": 32},
            "learning_rate": 1e-5,
            "num_train_epochs": 1.0,
            "num_generations": 8,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "max_completion_length": 256,
            "temperature": 1.0,
            "beta": 0.04,
            "warmup_steps": 10,
            "gradient_checkpointing": True,
            "save_strategy": "steps",
            "save_steps": 200,
        },
    },
}


def train_sft(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    output_dir: str | Path,
    preset: str | Mapping[str, Any] = "tiny",
    seed: int = 0,
    lora: Mapping[str, Any] | bool = True,
    overwrite: bool = False,
    **overrides: Any,
) -> Run:
    """Train a model on the gold completions of a data set, with the loss on the completion alone.

    Formats with thinking need a gold rationale, column ``rationale``; phantoms have one, Med-R1's files do not.

    Args:
        model: from :func:`medr1kit.load_model`; trained in place.
        processor: the model's.
        dataset: rows of :mod:`medr1kit.vqa` with images.
        format: the response format, or its name.
        output_dir: the run's folder.
        preset: a name in PRESETS, or a mapping like its "sft" entries.
        seed: for adapter initialisation and order of the data.
        lora: True for the preset's adapter, a mapping of :func:`medr1kit.models.lora` arguments, or False to train
            every weight, the vision tower included.
        overwrite: replace an earlier run in ``output_dir``.
        **overrides: any field of :class:`trl.SFTConfig`.

    Raises:
        DataError: if images or rationales are missing, or the folder already holds a run.
    """
    from trl import SFTConfig, SFTTrainer

    format = format_named(format)
    _require_images(dataset)
    if "think" in format.blocks and "rationale" not in dataset.column_names:
        raise DataError(
            f"SFT in the {format.name} format needs gold rationales (column 'rationale'), which this data set lacks; "
            "use the no-think format, or add the column"
        )
    settings, adapter = _settings("sft", preset, overrides, lora)
    rows = dataset.select_columns([name for name in ("image", "problem", "answer", "rationale") if name in dataset.column_names])
    rows = rows.map(_sft_example(format), remove_columns=[name for name in rows.column_names if name != "image"])
    args = SFTConfig(**(_common(model, output_dir, seed) | {"max_length": None} | settings))
    model, adapter = _continue_adapter(model, adapter)
    config = _config("sft", model, processor, dataset, format, args, adapter, seed)
    recorder = _recorder_callback(args)
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=processor, peft_config=adapter, callbacks=[recorder]
    )
    return _run(trainer, recorder, config, output_dir, overwrite)


def train_grpo(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    output_dir: str | Path,
    preset: str | Mapping[str, Any] = "tiny",
    seed: int = 0,
    rewards: Sequence[Callable] | None = None,
    lora: Mapping[str, Any] | bool = True,
    overwrite: bool = False,
    **overrides: Any,
) -> Run:
    """Train a model by GRPO: sample a group of completions a question, and reinforce those that beat the group's mean.

    Args:
        model: from :func:`medr1kit.load_model`; trained in place.
        processor: the model's.
        dataset: rows of :mod:`medr1kit.vqa` with images.
        format: the response format, or its name.
        output_dir: the run's folder.
        preset: a name in PRESETS, or a mapping like its "grpo" entries.
        seed: for adapter initialisation, order of the data and sampling.
        rewards: TRL reward functions; accuracy and format of ``format`` by default, as in Med-R1.
        lora: True for the preset's adapter, a mapping of :func:`medr1kit.models.lora` arguments, or False to train
            every weight, the vision tower included.
        overwrite: replace an earlier run in ``output_dir``.
        **overrides: any field of :class:`trl.GRPOConfig`.

    Raises:
        DataError: if images are missing, the batch cannot be cut into groups, or the folder already holds a run.
    """
    from trl import GRPOConfig

    format = format_named(format)
    _require_images(dataset)
    settings, adapter = _settings("grpo", preset, overrides, lora)
    _check_groups(settings)
    rows = dataset.map(lambda problem: {"prompt": _user_turn(format, problem)}, input_columns="problem")
    # The policy must not write image placeholders: the next forward pass would look for their images.
    generation = {"suppress_tokens": image_token_ids(model), **(settings.pop("generation_kwargs", None) or {})}
    args = GRPOConfig(**(_common(model, output_dir, seed) | settings | {"generation_kwargs": generation}))
    model, adapter = _continue_adapter(model, adapter)
    config = _config("grpo", model, processor, dataset, format, args, adapter, seed)
    recorder = _recorder_callback(args)
    trainer = _recording_trainer()(
        model=model,
        reward_funcs=list(rewards or (accuracy_reward(format), format_reward(format))),
        args=args,
        train_dataset=rows,
        processing_class=processor,
        peft_config=adapter,
        callbacks=[recorder],
    )
    trainer.response_format, trainer.recorder = format, recorder
    return _run(trainer, recorder, config, output_dir, overwrite)


def _user_turn(format: ResponseFormat, problem: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": format.prompt(problem)}]


def _sft_example(format: ResponseFormat) -> Callable[[dict], dict]:
    def example(row: dict) -> dict:
        completion = format.write(row["answer"], row.get("rationale") or "")
        return {
            "prompt": _user_turn(format, row["problem"]),
            "completion": [{"role": "assistant", "content": completion}],
        }

    return example


def _require_images(dataset: Dataset) -> None:
    if "image" not in dataset.column_names:
        raise DataError("training needs images, and this data set has none; load it with images=FOLDER")


def _settings(method: str, preset: str | Mapping, overrides: dict, lora_arguments: Mapping | bool):
    """Merge preset and overrides; return trainer arguments and the LoRA configuration or None."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise DataError(f"unknown preset {preset!r}; use one of {', '.join(PRESETS)}, or pass a dict")
        preset = PRESETS[preset][method]
    settings = {name: value for name, value in preset.items() if name != "lora"} | overrides
    if "max_steps" not in overrides and "num_train_epochs" in overrides:
        settings.pop("max_steps", None)  # epochs were asked for by name: the preset's step count yields
    if lora_arguments is False:
        return settings, None
    chosen = preset.get("lora", {}) if lora_arguments is True else lora_arguments
    return settings, lora(**chosen)


def _common(model: PreTrainedModel, output_dir: str | Path, seed: int) -> dict[str, Any]:
    """Arguments for both trainers that follow from model and machine, and quieter defaults than TRL's."""
    on_cpu = model.device.type == "cpu"
    return {
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "output_dir": str(output_dir),
        "seed": seed,
        "use_cpu": on_cpu,
        "bf16": str(model.dtype) == "torch.bfloat16",
        "dataloader_pin_memory": not on_cpu,
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,  # the recorder shows one bar
    }


def _check_groups(settings: Mapping[str, Any]) -> None:
    """Refuse a batch that cannot be cut into groups, with the three ways out."""
    group = settings.get("num_generations", 8)
    device = settings.get("per_device_train_batch_size", 8)
    accumulation = settings.get("gradient_accumulation_steps", 1)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    batch = device * accumulation * processes
    if settings.get("generation_batch_size") is None and settings.get("steps_per_generation") is None and batch % group:
        raise DataError(
            f"a step has {batch} completions ({device} a device x {accumulation} accumulation x {processes} process(es)), "
            f"which is no multiple of the group size num_generations={group}: raise per_device_train_batch_size or "
            f"gradient_accumulation_steps to a multiple, start more processes, or lower num_generations"
        )


def _continue_adapter(model: PreTrainedModel, adapter: Any):
    """Go on with an adapter that is already on the model: TRL takes a PeftModel, or a plain model and a config."""
    from peft import PeftModel

    wrapped = model.__dict__.get("_medr1kit_trained")
    if wrapped is not None or isinstance(model, PeftModel):
        if adapter is None:
            raise DataError("this model carries a LoRA adapter; load the base model anew to train every weight")
        model = wrapped or model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".default." in name and "lora_" in name)
        return model, None
    return model, adapter


def _recording_trainer() -> type:
    """TRL's GRPO trainer that also writes every sampled completion to the run; made here to keep imports light."""
    from accelerate.utils import gather_object
    from trl import GRPOTrainer

    class RecordingGRPOTrainer(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            rows = gather_object(self._rollouts(inputs, output))
            if self.accelerator.is_main_process:
                self.recorder.writer.rollout_rows(rows)
            return output

        def _rollouts(self, inputs, output) -> list[dict]:
            """This process's completions as rows; TRL's own logs hold those of all processes, in rank order."""
            n, rank, world = len(inputs), self.accelerator.process_index, self.accelerator.num_processes
            mine = slice(len(self._logs["completion"]) - n * (world - rank), len(self._logs["completion"]) - n * (world - rank - 1))
            texts = [text_of(completion) for completion in list(self._logs["completion"])[mine]]
            rewards = {name: list(values)[mine] for name, values in self._logs["rewards"].items()}
            advantages = list(self._logs["advantages"])[mine]
            lengths = output["completion_mask"].sum(1).tolist()  # (n,)
            last = output["completion_ids"].gather(1, (output["completion_mask"].sum(1, keepdim=True) - 1).clamp(min=0))
            ended = [token in self.eos_token_ids for token in last.flatten().tolist()]
            rows = []
            for i, source in enumerate(inputs):
                options = source.get("options")
                row = {"step": self.state.global_step + 1, "id": source.get("id"), "rollout": i % self.num_generations}
                row |= {name: source.get(name) for name in ("question", "options")}
                row |= {"answer": parse_solution(source["solution"])}
                row |= {name: source.get(name) for name in ("modality", "task")}
                row |= {"text": texts[i], "predicted": self.response_format.parse(texts[i], options).answer}
                row |= {name: None if math.isnan(values[i]) else values[i] for name, values in rewards.items()}
                row |= {"advantage": advantages[i], "n_tokens": lengths[i], "truncated": not ended[i]}
                rows.append(row)
            return rows

    return RecordingGRPOTrainer


def _recorder_callback(args: Any):
    """A callback that writes each logged step to the run and shows one progress bar."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        writer: RunWriter | None = None
        bar: Any = None

        def on_train_begin(self, args, state, control, **kwargs):
            hidden = bool(os.environ.get("CI")) or not state.is_world_process_zero
            self.bar = tqdm(total=state.max_steps, desc=self.title, unit="step", disable=hidden)

        def on_log(self, args, state, control, logs=None, **kwargs):
            if self.writer is None or logs is None or "train_runtime" in logs:
                return
            self.writer.metrics_row({"step": state.global_step, **logs})
            shown = {name: logs[name] for name in ("reward", "loss") if isinstance(logs.get(name), int | float)}
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(state.global_step - self.bar.n)

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()

    recorder = Recorder()
    recorder.title = "GRPO" if type(args).__name__.startswith("GRPO") else "SFT"
    return recorder


def _config(method, model, processor, dataset, format, args, adapter, seed) -> dict[str, Any]:
    """Everything needed to repeat the run, as it goes to run.json."""
    names = {column: [name for name in dict.fromkeys(dataset[column]) if name] for column in ("modality", "task")}
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    labels = {f"train_{column}": found[0] if len(found) == 1 else "all" for column, found in names.items()}
    packages = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets")
    return {
        "method": method,
        "model": getattr(base, "medr1kit_name", base.config._name_or_path),
        "format": format.name,
        "seed": seed,
        "labels": {"model": getattr(base, "medr1kit_name", base.config._name_or_path), "method": method, "seed": seed, **labels},
        "continued_from": getattr(base, "medr1kit_run", None),
        "data": {"rows": len(dataset), "fingerprint": fingerprint(dataset), **names},
        "lora": adapter.to_dict() if adapter is not None else None,
        "arguments": args.to_dict(),
        "versions": {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in packages}},
        "command": sys.argv,
    }


def fingerprint(dataset: Dataset) -> str:
    """Return a digest of a data set's ids, problems and solutions: equal for equal questions in equal order."""
    digest = hashlib.sha256()
    for row in dataset.select_columns(["id", "problem", "solution"]):
        digest.update(repr((row["id"], row["problem"], row["solution"])).encode())
    return digest.hexdigest()[:16]


def _run(trainer: Any, recorder: Any, config: dict, output_dir: str | Path, overwrite: bool) -> Run:
    """Train, write adapter or weights and a model card, and return the run."""
    from transformers import PrinterCallback

    world = int(os.environ.get("WORLD_SIZE", 1))
    if trainer.accelerator.num_processes != world:
        raise DataError(
            f"{world} processes were started, but the trainer sees {trainer.accelerator.num_processes}: each would train "
            "alone; on a CPU start them with torchrun and pass use_cpu=True"
        )
    trainer.remove_callback(PrinterCallback)
    main = trainer.accelerator.is_main_process
    if main:
        recorder.writer = RunWriter(output_dir, config, overwrite=overwrite)
    try:
        result = trainer.train()
    finally:
        if main:
            recorder.writer.close()
    trainer.model.eval()
    base = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    if base is not trainer.model:
        base.__dict__["_medr1kit_trained"] = trainer.model  # past nn.Module, which would take it for a child
    base.medr1kit_labels, base.medr1kit_run = config["labels"], str(output_dir)
    if main:
        _save(trainer, base, Path(output_dir))
        recorder.writer.update_config(summary={"steps": trainer.state.global_step, **result.metrics})
        (Path(output_dir) / "README.md").write_text(_card(config, result.metrics), encoding="utf-8")
    trainer.accelerator.wait_for_everyone()
    return load_run(output_dir)


def _save(trainer: Any, base: PreTrainedModel, folder: Path) -> None:
    if base is trainer.model:
        base.save_pretrained(folder / "model")
        trainer.processing_class.save_pretrained(folder / "model")
        return
    trainer.model.save_pretrained(folder / "adapter", selected_adapters=["default"])
    (folder / "adapter" / "README.md").unlink(missing_ok=True)  # the run's own card stands one level up


def _card(config: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """A short model card of the run."""
    data, trained = config["data"], "LoRA adapter" if config["lora"] else "all weights"
    return (
        f"# {config['method'].upper()} of {config['model']}, {config['format']} format\n\n"
        f"Trained with medr1kit {config['versions']['medr1kit']} ({trained}, seed {config['seed']}) on {data['rows']} "
        f"questions (modality: {', '.join(data['modality']) or 'unknown'}; task: {', '.join(data['task']) or 'unknown'}; "
        f"fingerprint {data['fingerprint']}) in {metrics.get('train_runtime', float('nan')):.0f} s.\n\n"
        "Load it with `medr1kit.load_model(FOLDER)`. All arguments are in `run.json`, curves in `metrics.csv`.\n\n"
        "For research and teaching. Not for clinical use.\n"
    )
