"""Commands that train: ``grpo`` and ``sft``."""

from __future__ import annotations

import os
import warnings
from typing import Any

from medr1kit.commands.answers import print_scores
from medr1kit.commands.flags import DataFlags, GRPOFlags, LoraFlags, fit_to_machine, parse_flags
from medr1kit.commands.loading import hold_out, load_data, load_model_of, refuse_unused
from medr1kit.formats import format_named
from medr1kit.vqa import DataError


def grpo(argv: list[str]) -> None:
    """Train by GRPO; flags are those of TRL's GRPOConfig and ModelConfig and of medr1kit's data."""
    from trl import GRPOConfig

    from medr1kit.training.train import train_grpo

    _train(argv, "grpo", train_grpo, GRPOFlags, GRPOConfig)


def sft(argv: list[str]) -> None:
    """Train on gold completions; flags are those of TRL's SFTConfig and ModelConfig and of medr1kit's data."""
    from trl import SFTConfig

    from medr1kit.training.train import train_sft

    _train(argv, "sft", train_sft, SFTConfig)


def _train(argv: list[str], command: str, train: Any, *arguments_of: type) -> None:
    from trl import ModelConfig

    from medr1kit.commands.reference import as_reference, unlike_reference
    from medr1kit.models.load import load_model, origin_of
    from medr1kit.models.machine import choose_device
    from medr1kit.models.outline import is_built_in
    from medr1kit.models.weights import is_scattered
    from medr1kit.results.folders import check_folder
    from medr1kit.training.evaluation import evaluates
    from medr1kit.training.needs import check_before_loading
    from medr1kit.training.presets import preset_given, with_overrides
    from medr1kit.training.publish import push_run, take_push
    from medr1kit.training.resume import resume_asked
    from medr1kit.training.reward_functions import rewards_named

    flags = parse_flags(argv, f"medr1kit {command}", DataFlags, ModelConfig, LoraFlags, *arguments_of)
    if flags.pop("reference", False):
        flags = as_reference(flags)
    if flags.get("preset") == "med-r1":  # beneath bf16 autocast
        flags.setdefault("dtype", "float32")
    device = "cpu" if flags.get("use_cpu") else choose_device().value
    flags = fit_to_machine(flags, device)
    refuse_unused(flags, ("reward_funcs",) if command == "sft" else ())
    if "output_dir" not in flags:
        raise DataError("--output_dir is missing: the folder for the run")
    ours = {name for kind in (DataFlags, ModelConfig, LoraFlags) for name in kind.__dataclass_fields__}
    arguments = {name: value for name, value in flags.items() if name not in ours}
    overwrite, named = flags.get("overwrite", False), {"resume_from_checkpoint": flags.get("resume_from_checkpoint")}
    resume = resume_asked(flags.get("resume", False), overwrite, named, flags["output_dir"])
    name = flags.get("model_name_or_path", "tiny")
    preset = preset_given(flags.get("preset") or ("tiny" if is_built_in(name) else "gpu"), command)
    theirs = {name: value for name, value in arguments.items() if name not in GRPOFlags.__dataclass_fields__}
    settings, lora = with_overrides(preset, theirs), _lora_flags(flags)
    if "num_generations" in settings and (
        differs := unlike_reference(settings, bool(lora and preset.get("lora", True)))
    ):
        warnings.warn(differs, stacklevel=2)
    held_out, evaluated = flags.get("test_size", 0.0) > 0, evaluates(settings)
    check_before_loading(settings, arguments_of[-1], device, held_out and evaluated)
    push = take_push(arguments)
    arguments |= {"preset": preset, "overwrite": overwrite, "resume": resume, "lora": lora}
    arguments["format"] = format_named(flags.get("format", "no-think"))
    if "reward_funcs" in flags:  # of GRPO; SFT has refused them
        arguments["rewards"] = rewards_named(flags["reward_funcs"], arguments["format"], "--reward_funcs")
    if int(os.environ.get("RANK", 0)) == 0:  # before anything is loaded
        check_folder(flags["output_dir"], overwrite or resume)
    dataset, test = load_data(flags, flags.get("dataset_train_split")), None
    if held_out:
        dataset, test = hold_out(dataset, flags)
        arguments |= {"eval_dataset": test} if evaluated else {}
    if (said := not_for_these(name, dataset)) and int(os.environ.get("RANK", 0)) == 0:
        print(said)
    model, processor = load_model_of(flags)
    run = train(model, processor, dataset, **arguments)
    if int(os.environ.get("RANK", 0)) != 0:
        return
    print(f"run written to {run.path}")
    if test is not None and not (resume and (run.path / "visual_reliance.csv").exists()):
        if origin_of(model).run is None or any(map(is_scattered, model.parameters())):  # it had ended before, or ZeRO-3
            model, processor = load_model(run)
        _report_held_out(model, processor, dataset, test, flags, run)
    if push is not None:
        print(f"pushed to {push_run(run, **push)}")


def not_for_these(model: str, dataset) -> str:
    """Return a sentence where the built-in model is to learn from other images than drawn ones; else nothing."""
    from medr1kit.models.outline import is_built_in

    if set(dataset["source"][:]) == {"phantoms"} or not is_built_in(model):
        return ""
    return "The built-in model knows drawn images only; for real ones give a real model: --model_name_or_path"


def _lora_flags(flags: dict[str, Any]) -> dict[str, Any] | bool:
    """True for the preset's adapter, its changed arguments, or False for --use_peft false."""
    if flags.get("use_peft") is False:
        return False
    names = {"lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    names |= {"lora_merger": "merger", "lora_tower": "tower"}
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    return chosen if chosen or flags.get("use_peft") else True  # an adapter asked for, also where the preset has none


def _report_held_out(model, processor, train, test, flags: dict[str, Any], run) -> None:
    """Print accuracy on the held-out questions beside what needs no image: blind floor, shuffled and blank images."""
    from medr1kit.audits import blind_floor
    from medr1kit.models.predict import predict
    from medr1kit.models.probes import visual_reliance
    from medr1kit.training.provenance import add_score

    format = flags.get("format", "no-think")
    preds = predict(model, processor, test, format=format, output=run.path / "predictions.parquet")
    print_scores(preds)
    floor = blind_floor(train, test)
    add_score(run.path, preds, floor.accuracy)
    looks = {"images": ("blank", "shuffled", "shuffled-all"), "seed": flags.get("seed", 0)}
    reliance = visual_reliance(model, processor, test, format=format, right=preds, **looks)
    print("\nheld-out accuracy, and what can be had without the right image")
    lines = [("blind floor (option lookup, no image)", floor.accuracy, floor.low, floor.high)]
    lines += [(f"{row.images} images", row.accuracy, row.low, row.high) for row in reliance.itertuples()]
    for name, accuracy, low, high in lines:
        print(f"{name:<40}{accuracy:7.1%}  [{low:.1%}, {high:.1%}]")
    for row in reliance.itertuples():
        if row.images != "right":
            print(f"lost with {row.images} images, paired: {row.lost:+.1%} [{row.lost_low:+.1%}, {row.lost_high:+.1%}]")
    reliance.to_csv(run.path / "visual_reliance.csv", index=False)
