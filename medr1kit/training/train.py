"""Training: GRPO with LoRA, and an honest supervised baseline, both on TRL's trainers.

Both functions take the same arguments, use the same prompts and leave the same kind of folder behind, so that a
comparison differs in the method alone. What they add to TRL is small: the prompt comes from the response format, the
rewards from :mod:`medr1kit.rewards`, every sampled completion is written to disk, and a preset supplies arguments that
work: :mod:`medr1kit.training.presets`.

The model is trained *in place*: afterwards it answers as trained, and a second call goes on from there. To start anew,
load it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import kind, truth, whole_number
from medr1kit.models.adapters import lora
from medr1kit.models.load import (
    base_of,
    image_token_ids,
    origin_of,
    pair_given,
    record_training,
    without_known_warnings,
)
from medr1kit.models.weights import is_four_bit
from medr1kit.progress import no_bars_of_datasets
from medr1kit.results.runs import Run, RunWriter, load_run
from medr1kit.training import checks
from medr1kit.training.evaluation import evaluate_apart, evaluation_settings
from medr1kit.training.needs import check_model, refuse_lacking
from medr1kit.training.presets import preset_given, with_overrides
from medr1kit.training.provenance import model_card, run_config
from medr1kit.training.resume import Checkpoint, find_earlier, go_on, remove_torn, resume_asked
from medr1kit.training.saving import refuse_ungathered, save_weights, sizes_of, whole_afterwards
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from medr1kit.training.recording import Recorder


@without_known_warnings()
@whole_afterwards()
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
    eval_dataset: Dataset | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **overrides: Any,
) -> Run:
    """Train a model on the gold completions of a data set, with the loss on the completion alone.

    Formats with thinking need a gold rationale, column ``rationale``; phantoms have one, Med-R1's files do not. In
    adaptive a row without one teaches to answer at once; of two answers both are the gold letter.

    Args:
        model: from :func:`medr1kit.load_model`; trained in place.
        processor: the model's.
        dataset: rows of :mod:`medr1kit.vqa` with images.
        format: the response format, or its name.
        output_dir: the run's folder.
        preset: a name in PRESETS, or a mapping like its "sft" entries.
        seed: for adapter initialisation and order of the data.
        lora: True for the preset's adapter, a mapping of :func:`medr1kit.lora` arguments that change it, or
            False to train every weight, the vision tower included.
        eval_dataset: questions to be asked during training, every ``eval_steps=`` steps, and not trained on; what they
            show stands in the run's metrics, in columns that begin with ``eval_``.
        overwrite: replace an earlier run in ``output_dir``.
        resume: go on with a run in ``output_dir`` that was stopped or killed, from its newest complete checkpoint
            (:mod:`medr1kit.training.resume`); the other arguments as they were.
        **overrides: any field of :class:`trl.SFTConfig`.

    Raises:
        DataError: if images or rationales are missing, the folder holds a run, or one that cannot be resumed.
    """
    from trl import SFTConfig, SFTTrainer

    from medr1kit.training.recording import Recorder

    format = format_named(format)
    pair_given(model, processor)
    rows = _sft_rows(dataset, format)
    held_out = None if eval_dataset is None else _sft_rows(eval_dataset, format, "eval_dataset")
    resume = resume_asked(resume, overwrite, overrides, output_dir)
    settings, adapter = _settings("sft", preset, overrides, lora)
    checks.check_settings(settings, SFTConfig)
    refuse_lacking(settings, model.device.type)
    settings = evaluation_settings(settings, eval_dataset is not None)
    folder = checks.run_folder(model, output_dir, overwrite or resume)
    args = checks.arguments_of(SFTConfig, _common(model, folder, seed) | {"max_length": None} | settings)
    check_model(args, model, adapter)
    checks.enough_questions(len(rows), args)
    model, adapter = _continue_adapter(model, adapter, chosen=isinstance(lora, Mapping))
    config = run_config("sft", model, dataset, format, args, adapter, eval_dataset)
    made = {"model": model, "args": args, "processing_class": processor, "peft_config": adapter}
    made |= {"train_dataset": rows, "eval_dataset": held_out}
    return _run(SFTTrainer, made, Recorder("SFT"), config, overwrite, resume)


@without_known_warnings()
@whole_afterwards()
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
    eval_dataset: Dataset | None = None,
    shared_prefix: bool = True,
    dynamic_sampling: int = 0,
    live: bool = False,
    overwrite: bool = False,
    resume: bool = False,
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
        lora: True for the preset's adapter, a mapping of :func:`medr1kit.lora` arguments that change it, or
            False to train every weight, the vision tower included.
        eval_dataset: questions to be asked during training, every ``eval_steps=`` steps, and not trained on; what they
            show stands in the run's metrics, in columns that begin with ``eval_``.
        shared_prefix: read each prompt and image once a group (:mod:`medr1kit.models.shared_prefix`), which gives the
            same gradients several times sooner; False runs TRL's own step. Where sharing would not be exact TRL's own
            step is run, too, and a warning says why.
        dynamic_sampling: rounds, at most, in which groups whose completions all earn the same are replaced by groups of
            other questions; 0 for none, as in GRPO, 3 is usual. It changes the estimator, and needs a step that shares
            prompts: :mod:`medr1kit.training.dynamic`.
        live: in a notebook, show the groups of the current step in the cell that trains, with buttons to pause, to take
            one step, and to stop and keep what was learned: :mod:`medr1kit.training.live`.
        overwrite: replace an earlier run in ``output_dir``.
        resume: go on with a run in ``output_dir`` that was stopped or killed, from its newest complete checkpoint
            (:mod:`medr1kit.training.resume`); the other arguments as they were.
        **overrides: any field of :class:`trl.GRPOConfig`.

    Raises:
        DataError: if images are missing, the batch cannot be cut into groups, the folder holds a run, or one that
            cannot be resumed, or there is no cell to be live in.
    """
    from trl import GRPOConfig, GRPOTrainer

    from medr1kit.training.live import Live
    from medr1kit.training.recording import RolloutRecorder
    from medr1kit.training.reward_functions import rewards_given
    from medr1kit.training.trainers import trainer_class

    format = format_named(format)
    pair_given(model, processor)
    prompts = checks.prompts_of(dataset, format)
    watched = Live(dataset) if truth(live, "live") else None
    asked = None if eval_dataset is None else checks.prompts_of(eval_dataset, format, "eval_dataset")
    for given in (dataset, eval_dataset or dataset):
        rewards = rewards_given(rewards, format, given.column_names)
    resume = resume_asked(resume, overwrite, overrides, output_dir)
    settings, adapter = _settings("grpo", preset, overrides, lora)
    checks.check_settings(settings, GRPOConfig)
    refuse_lacking(settings, model.device.type)
    settings = evaluation_settings(settings, eval_dataset is not None)
    checks.check_groups(settings)
    checks.check_weights(settings, len(rewards))
    whole_number(dynamic_sampling, "dynamic_sampling", 0)
    truth(shared_prefix, "shared_prefix")
    folder = checks.run_folder(model, output_dir, overwrite or resume)
    with no_bars_of_datasets():
        rows = checks.with_column(dataset, "prompt", prompts)
        held_out = asked and checks.with_column(eval_dataset, "prompt", asked)
    # The policy must not write image placeholders: the next forward pass would look for their images.
    barred = image_token_ids(model)  # in the words of vLLM or of transformers
    bar = {"logit_bias": dict.fromkeys(barred, -100.0)} if settings.get("use_vllm") else {"suppress_tokens": barred}
    generation = {**bar, **(settings.pop("generation_kwargs", None) or {})}
    args = checks.arguments_of(GRPOConfig, _common(model, folder, seed) | settings | {"generation_kwargs": generation})
    check_model(args, model, adapter)
    checks.enough_questions(len(rows), args)
    model, adapter = _continue_adapter(model, adapter, chosen=isinstance(lora, Mapping))
    recorder = RolloutRecorder(format, rewards)
    kind, not_shared = trainer_class(model, args, rows, adapter) if shared_prefix else (GRPOTrainer, "not asked for")
    if dynamic_sampling:
        if reason := not_shared or (args.use_vllm and "vLLM samples"):
            raise DataError(f"dynamic_sampling needs shared prompts, and its step to sample: {reason}; leave it out")
        from medr1kit.training.dynamic import ResamplingGRPOTrainer

        kind = partial(ResamplingGRPOTrainer, rounds=dynamic_sampling, recorder=recorder)
    config = run_config("grpo", model, dataset, format, args, adapter, eval_dataset)
    config |= {"rewards": recorder.names, "dynamic_sampling": dynamic_sampling, "shared_prefix": not_shared or True}
    made = {"model": model, "args": args, "processing_class": processor, "peft_config": adapter}
    made |= {"train_dataset": rows, "eval_dataset": held_out}
    return _run(kind, made | {"reward_funcs": recorder.rewards}, recorder, config, overwrite, resume, watched)


def _sft_rows(dataset: Dataset, format: ResponseFormat, name: str = "dataset") -> Dataset:
    """What TRL's SFT reads of questions: image, prompt and gold completion."""
    prompts, completions = checks.prompts_of(dataset, format, name), checks.gold_of(dataset, format)
    with no_bars_of_datasets():
        rows = checks.with_column(dataset.select_columns(["image"]), "prompt", prompts)
        return checks.with_column(rows, "completion", completions)


def _settings(method: str, preset: str | Mapping, overrides: dict, lora_arguments: Mapping | bool):
    """Merge preset and overrides; return trainer arguments and the LoRA configuration or None."""
    preset = preset_given(preset, method)
    if not isinstance(lora_arguments, (bool, Mapping)):
        raise DataError(f"lora is {kind(lora_arguments)}; give True, False, or a dict such as {{'rank': 16}}")
    settings = with_overrides(preset, overrides)
    if settings.get("push_to_hub"):  # TRL would push checkpoints with all that lies beside them: questions, completions
        raise DataError(
            "push_to_hub=True is of the command line; leave it out, and push the run when it is done: "
            "medr1kit.training.publish.push_run(run, NAME)"
        )
    adapter = preset.get("lora", {})
    if lora_arguments is False or (adapter is False and lora_arguments is True):
        return settings, None
    chosen = {**(adapter or {}), **({} if lora_arguments is True else lora_arguments)}
    try:
        return settings, lora(**chosen)
    except TypeError as error:
        raise DataError(f"lora={dict(chosen)}: {error}; it takes the arguments of medr1kit.lora") from error


def _common(model: PreTrainedModel, folder: Path, seed: int) -> dict[str, Any]:
    """Arguments for both trainers that follow from model and machine, and quieter defaults than TRL's."""
    seed = whole_number(seed, "seed", 0, 2**32 - 1)
    on_cpu = model.device.type == "cpu"
    common = {"output_dir": str(folder), "seed": seed, "ddp_find_unused_parameters": False}
    common |= {"use_cpu": on_cpu, "dataloader_pin_memory": not on_cpu, "bf16": str(model.dtype) == "torch.bfloat16"}
    # The recorder shows one bar.
    return common | {"report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}


def _continue_adapter(model: PreTrainedModel, adapter: Any, chosen: bool):
    """Go on with an adapter that is already on the model: TRL takes a PeftModel, or a plain model and a config."""
    from peft import PeftModel

    model = origin_of(model).wrapper or model
    if not isinstance(model, PeftModel):
        return model, adapter
    if adapter is None:
        raise DataError("this model carries a LoRA adapter; load the base model anew to train every weight")
    if "ref" in model.peft_config:  # TRL's copy for the KL term of an earlier run; it makes its own
        model.delete_adapter("ref")
    there = model.peft_config["default"]
    same = all(getattr(there, name) == getattr(adapter, name) for name in ("r", "lora_alpha", "target_modules"))
    if chosen and not same:
        raise DataError(
            f"this model carries a LoRA adapter already, of rank {there.r}, alpha {there.lora_alpha} and on its own "
            "parts of the model; leave lora= out to go on with it, or load the base model anew"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".default." in name and "lora_" in name)
    return model, None


def _run(kind, made: Mapping, recorder: Recorder, config: dict, overwrite: bool, resume: bool, live: Any = None) -> Run:
    """Build a trainer and train; write adapter or weights and a model card, and return the run."""
    from transformers import PrinterCallback

    folder = Path(made["args"].output_dir)
    earlier = find_earlier(folder, config) if resume else None
    if isinstance(earlier, Run):
        return earlier
    with checks.one_sentence("this training cannot be set up", (OSError, RuntimeError)):
        trainer = kind(**made, callbacks=[recorder, *filter(None, [live])])
    accelerator = trainer.accelerator
    if accelerator.num_processes != checks.processes():
        raise DataError(
            f"{checks.processes()} processes were started, but the trainer sees {accelerator.num_processes}: each "
            "would train alone; start them with torchrun, and on a CPU leave use_cpu=False out"
        )
    checks.check_tower_learns(trainer)
    refuse_ungathered(trainer)
    if is_four_bit(base_of(trainer.model)):  # TRL has made adapters bfloat16, where steps of 1e-5 are rounded away
        for weight in trainer.model.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data
    if made["eval_dataset"] is not None:
        evaluate_apart(trainer)
    trainer.remove_callback(PrinterCallback)
    if base_of(trainer.model) is not trainer.model:
        base = base_of(trainer.model)
        base.medr1kit.wrapper = trainer.model  # before training: it holds after an interruption
        trainer.model.peft_config["default"].base_model_name_or_path = base.config._name_or_path  # PEFT looks there
    recorder.config, recorder.sizes = config, sizes_of(trainer.model)
    accelerator.wait_for_everyone()  # nobody looks for checkpoints any more
    if accelerator.is_main_process:
        recorder.writer = RunWriter(folder, config, overwrite or resume, step=earlier and earlier.step)
        remove_torn(folder, earlier)
    try:  # the folder is held until all is written
        with live.watching(recorder) if live else nullcontext():
            result = _train(trainer, recorder, config, earlier)
            save_weights(trainer, folder, config["model"], recorder.sizes)
        if accelerator.is_main_process:
            metrics = result.metrics | {"train_runtime": round(recorder.seconds_so_far, 2)}
            recorder.writer.update_config(summary={"steps": trainer.state.global_step, **metrics})
            model_card(config, metrics).save(folder / "README.md")
    finally:
        recorder.close()
    accelerator.wait_for_everyone()
    return load_run(folder)


def _train(trainer: Any, recorder: Recorder, config: dict[str, Any], earlier: Checkpoint | None) -> Any:
    """Train; whatever happens, the model and the run say afterwards what the weights are."""
    folder, labels = trainer.args.output_dir, config["labels"]
    try:
        result = go_on(trainer, earlier) if earlier else trainer.train()
    except BaseException as error:
        stopped = {"steps": trainer.state.global_step, "reason": type(error).__name__}
        if recorder.stepped:  # before the first step the weights are what they were
            labels = labels | {"method": "interrupted", "step": stopped["steps"]}
            record_training(trainer.model, labels, folder)
        with suppress(OSError):  # a full disk, say, which is what stopped it
            if recorder.writer is not None:
                recorder.writer.update_config(labels=labels, stopped=stopped)
        with nullcontext() if recorder.stepped else checks.one_sentence("this training could not begin"):
            raise
    trainer.model.eval()
    if (step := trainer.state.global_step) < trainer.state.max_steps:  # by hand: the run is a good one
        labels, config["stopped"] = labels | {"step": step}, {"step": step, "of": trainer.state.max_steps}
        recorder.writer.update_config(labels=labels, stopped=config["stopped"])
    record_training(trainer.model, labels, folder)
    return result
