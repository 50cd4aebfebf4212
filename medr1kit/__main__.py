"""The command line: ``medr1kit doctor | demo | convert | audit | grpo | sft | predict``, one function a command."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.vqa import DataError


def doctor(argv: list[str]) -> None:
    """Print versions, device, number format and attention, each with its reason."""
    from medr1kit.models import doctor

    argparse.ArgumentParser(prog="medr1kit doctor", description=doctor.__doc__).parse_args(argv)
    doctor()


def demo(argv: list[str]) -> None:
    """Train the built-in model with SFT and GRPO on drawn images and write a report."""
    from medr1kit.demo import run_demo

    parser = argparse.ArgumentParser(prog="medr1kit demo", description=demo.__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"), help="folder for runs and report")
    parser.add_argument("--modality", default="OCT", help="modality to train on")
    parser.add_argument("--format", default="think-before", help="think-before, think-after or no-think")
    parser.add_argument("--max_steps", type=int, default=60, help="steps of either training")
    parser.add_argument("--n", type=int, default=640, help="test questions, over all eight modalities")
    parser.add_argument("--seed", type=int, default=0)
    run_demo(**vars(parser.parse_args(argv)))


def convert(argv: list[str]) -> None:
    """Cut OmniMedVQA's own files into training and test files that share no image, or as Med-R1 did."""
    from medr1kit.omnimedvqa import convert_omnimedvqa

    parser = argparse.ArgumentParser(prog="medr1kit convert", description=convert.__doc__)
    parser.add_argument("folder", help="OmniMedVQA's folder, the one that contains QA_information")
    parser.add_argument("out", help="folder to write to: new or empty")
    parser.add_argument("--test_size", type=float, default=0.2, help="share of the questions to test on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--published", help="folder with Med-R1's JSON files: repeat their membership instead")
    parser.add_argument("--check", default="error", help="bad rows: 'error' refuses, 'drop' leaves out and lists")
    flags = parser.parse_args(argv)
    manifest = convert_omnimedvqa(**vars(flags))
    for entry in manifest["files"]:
        print(f"{entry['rows']:>7,} rows  {entry['images']:>7,} images  {entry['path']}")
    for family, leaks in manifest["leaks"].items():
        left_out = f"{manifest['unplaced'][family]:,} rows in no file"
        if flags.published:
            left_out += f", {manifest['split']['not_found'][family]:,} published rows not found"
        print(f"by {family}: {sum(leaks.values()):,} test rows with an image of their training file, {left_out}")


def audit(argv: list[str]) -> None:
    """Say what a score on a test file would mean: blind floors, leaks, balance, defects."""
    from medr1kit.audit import audit

    parser = argparse.ArgumentParser(prog="medr1kit audit", description=audit.__doc__.splitlines()[0])
    sources = "'phantoms', a Med-R1 .json or .json.gz, a folder, or a hub name"
    parser.add_argument("--train", help=f"questions to train on: {sources}")
    parser.add_argument("--test", help="questions to test on: the same")
    parser.add_argument("--modality", help="only this modality (or: label all rows with it)")
    parser.add_argument("--task", help="only this task (or: label all rows with it)")
    parser.add_argument("--train_meta", help="JSON with modality and task of the training rows, row by row")
    parser.add_argument("--test_meta", help="the same for the test rows")
    parser.add_argument("--cluster", help="column whose equal values belong together, for the intervals (patient, say)")
    parser.add_argument("--image_folder", help="folder that the image paths start from: compare the images as well")
    parser.add_argument("--json", type=Path, help="file to write all numbers to")
    parser.add_argument("--html", type=Path, help="file to write the report to")
    parser.add_argument("--check-card", help="instead: compare this data card's numbers with the files in --data")
    parser.add_argument("--data", help="folder that the card's file names start from")
    flags = parser.parse_args(argv)
    given = [name for name in ("train", "test", "check_card", "data") if getattr(flags, name) is not None]
    if given == ["check_card", "data"]:
        return _check_card(flags.check_card, flags.data)
    if given != ["train", "test"]:
        parser.error("give --train and --test, or --check-card and --data")
    for path in (flags.json, flags.html):
        if path is not None and not path.resolve().parent.is_dir():
            raise DataError(f"{str(path)!r} cannot be written: there is no such folder; make it first")
    train = _load_side(flags.train, "train", flags, flags.train_meta)
    test = _load_side(flags.test, "test", flags, flags.test_meta)
    report = audit(train, test, images=flags.image_folder, cluster=flags.cluster)
    print(report)
    for path, write in ((flags.json, report.to_json), (flags.html, report.to_html)):
        if path is not None:
            write(path)
            print(f"written to {path}")


def _check_card(card: str, data: str) -> None:
    from medr1kit.cards import check_card

    table = check_card(card, data)
    width = table["file"].str.len().max()
    for line in table.itertuples():
        found = f"; found {line.found:,.12g}" if line.verdict == "differs" else ""
        print(f"{line.verdict:<9}  {line.file:<{width}}  {line.measure}: {line.card}{found}")
    count = table["verdict"].value_counts()
    print(", ".join(f"{count.get(verdict, 0)} {verdict}" for verdict in ("agrees", "differs", "not there")))
    if count.get("differs", 0):
        wrong = f"{count['differs']} of {len(table)} numbers of {card}"
        raise DataError(f"{wrong} differ from the files in {data}; correct the card, or get the files it describes")


def _load_side(source: str, side: str, flags: argparse.Namespace, meta: str | None):
    """One side of an audit, with its bad rows left out and listed: an audit is for files that may be bad."""
    from medr1kit.data import load_vqa

    split = side if _has_splits(source) else None
    return load_vqa(source, split=split, modality=flags.modality, task=flags.task, meta=meta, check="drop")


def grpo(argv: list[str]) -> None:
    """Train by GRPO; flags are those of TRL's GRPOConfig and ModelConfig and of medr1kit's data."""
    from trl import GRPOConfig

    from medr1kit.train import train_grpo

    _train(argv, "grpo", GRPOConfig, train_grpo)


def sft(argv: list[str]) -> None:
    """Train on gold completions; flags are those of TRL's SFTConfig and ModelConfig and of medr1kit's data."""
    from trl import SFTConfig

    from medr1kit.train import train_sft

    _train(argv, "sft", SFTConfig, train_sft)


def predict(argv: list[str]) -> None:
    """Answer a data set's questions, write the predictions and print accuracy by modality and task."""
    from trl import ModelConfig

    from medr1kit.flags import DataFlags, PredictFlags, parse_flags
    from medr1kit.predict import predict

    flags = parse_flags(argv, "medr1kit predict", DataFlags, PredictFlags, ModelConfig)
    _refuse_unused(flags, ("reward_funcs", "preset", "overwrite", "use_peft", "lora_r", "lora_alpha", "lora_dropout"))
    model, processor = _load_model(flags)
    format = _format_for(model, flags)
    held_out = flags.get("test_size", 0.0) > 0
    split = flags.get("dataset_train_split" if held_out else "dataset_test_split")
    if split is None and not held_out and _has_splits(flags["dataset_name"]):
        split = "test"
    dataset = _load_data(flags, split)
    if held_out:
        _, dataset = _hold_out(dataset, flags)
    chosen = {
        name: flags[name] for name in ("batch_size", "max_new_tokens", "images", "seed", "output") if name in flags
    }
    preds = predict(model, processor, dataset, format=format, **chosen)
    _print_scores(preds)


def _has_splits(name: str) -> bool:
    """Phantoms, a saved DatasetDict and hub data sets have splits; files and other folders have none."""
    return not Path(name).exists() or (Path(name) / "dataset_dict.json").is_file()


def _train(argv: list[str], command: str, config: type, train: Any) -> None:
    from trl import ModelConfig

    from medr1kit.flags import DataFlags, fit_to_machine, parse_flags
    from medr1kit.models import choose_device

    flags = fit_to_machine(
        parse_flags(argv, f"medr1kit {command}", DataFlags, ModelConfig, config), choose_device().value
    )
    _refuse_unused(flags, ("reward_funcs",) if command == "sft" else ())
    if "output_dir" not in flags:
        raise DataError("--output_dir is missing: the folder for the run")
    ours = {name for kind in (DataFlags, ModelConfig) for name in kind.__dataclass_fields__}
    arguments = {name: value for name, value in flags.items() if name not in ours}
    arguments["format"] = format_named(flags.get("format", "no-think"))
    arguments["overwrite"] = flags.get("overwrite", False)
    arguments["lora"] = _lora_flags(flags)
    if command == "grpo" and "reward_funcs" in flags:
        arguments["rewards"] = _rewards(flags["reward_funcs"], arguments["format"])
    dataset, test = _load_data(flags, flags.get("dataset_train_split")), None
    if flags.get("test_size", 0.0) > 0:
        dataset, test = _hold_out(dataset, flags)
    model, processor = _load_model(flags)
    arguments["preset"] = flags.get("preset") or ("tiny" if model.num_parameters() < 10_000_000 else "gpu")
    run = train(model, processor, dataset, **arguments)
    if int(os.environ.get("RANK", 0)) != 0:
        return
    print(f"run written to {run.path}")
    if test is not None:
        _report_held_out(model, processor, dataset, test, flags, run)


def _load_model(flags: dict[str, Any]):
    from medr1kit.models import load_model

    names = {"dtype": "dtype", "attn_implementation": "attn", "max_pixels": "max_pixels"}
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    if flags.get("use_cpu"):
        chosen["device"] = "cpu"
    return load_model(flags.get("model_name_or_path", "tiny"), **chosen)


def _load_data(flags: dict[str, Any], split: str | None):
    from medr1kit.data import load_vqa

    names = {
        "image_folder": "images",
        "meta": "meta",
        "modality": "modality",
        "task": "task",
        "num_rows": "n",
        "check": "check",
    }
    chosen = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    return load_vqa(flags["dataset_name"], split=split, seed=flags.get("seed", 0), **chosen)


def _format_for(model, flags: dict[str, Any]) -> ResponseFormat:
    """The format asked for; a run that was trained in another one is worth a word."""
    from medr1kit.runs import load_run

    format, run = format_named(flags.get("format", "no-think")), getattr(model, "medr1kit_run", None)
    trained = load_run(run).config["format"] if run else format.name
    if trained != format.name:
        warnings.warn(
            f"the run was trained in the {trained} format and is asked in {format.name} (--format)", stacklevel=2
        )
    return format


# Flags of TRL's ModelConfig that nothing here reads.
_UNSUPPORTED = (
    "model_revision",
    "trust_remote_code",
    "load_in_4bit",
    "load_in_8bit",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "use_rslora",
    "use_dora",
    "bnb_4bit_quant_type",
    "use_bnb_nested_quant",
    "bnb_4bit_quant_storage",
)


def _refuse_unused(flags: dict[str, Any], more: tuple[str, ...] = ()) -> None:
    for name in (*_UNSUPPORTED, *more):
        if name in flags:
            raise DataError(f"--{name} is not supported by this command; leave it out")


def _hold_out(dataset, flags: dict[str, Any]):
    from medr1kit.audit import image_disjoint_split

    train, test = image_disjoint_split(dataset, test_size=flags["test_size"], seed=flags.get("seed", 0))
    print(f"held out {len(test)} of {len(dataset)} questions; no image or patient is on both sides")
    return train, test


def _lora_flags(flags: dict[str, Any]) -> dict[str, Any] | bool:
    """True for the preset's adapter, its changed arguments, or False for --use_peft false."""
    if flags.get("use_peft") is False:
        return False
    names = {"lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    changed = {ours: flags[theirs] for theirs, ours in names.items() if theirs in flags}
    return changed or True


def _rewards(names: list[str], format: ResponseFormat) -> list:
    from medr1kit import rewards

    makers = {
        "accuracy": lambda: rewards.accuracy_reward(format),
        "format": lambda: rewards.format_reward(format),
        "agreement": lambda: rewards.agreement_reward(format),
        "repetition": rewards.repetition_reward,
        "reference_accuracy": rewards.reference_accuracy_reward,
        "reference_format": lambda: rewards.reference_format_reward(format),
    }
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise DataError(f"--reward_funcs {unknown[0]} is unknown; use some of {', '.join(makers)}")
    return [makers[name]() for name in names]


def _report_held_out(model, processor, train, test, flags: dict[str, Any], run) -> None:
    """Print accuracy on the held-out questions beside what needs no image: blind floor, shuffled and blank images."""
    from medr1kit.audit import blind_floor
    from medr1kit.predict import predict
    from medr1kit.probes import visual_reliance

    format = flags.get("format", "no-think")
    preds = predict(model, processor, test, format=format, output=run.path / "predictions.parquet")
    _print_scores(preds)
    floor = blind_floor(train, test)
    reliance = visual_reliance(model, processor, test, format=format, seed=flags.get("seed", 0), right=preds)
    print("\nheld-out accuracy, and what can be had without the right image")
    lines = [("blind floor (option lookup, no image)", floor.accuracy, floor.low, floor.high)]
    lines += [(f"{row.images} images", row.accuracy, row.low, row.high) for row in reliance.itertuples()]
    for name, accuracy, low, high in lines:
        print(f"{name:<40}{accuracy:7.1%}  [{low:.1%}, {high:.1%}]")
    for row in reliance.itertuples():
        if row.images != "right":
            print(f"lost with {row.images} images, paired: {row.lost:+.1%} [{row.lost_low:+.1%}, {row.lost_high:+.1%}]")
    reliance.to_csv(run.path / "visual_reliance.csv", index=False)


def _print_scores(preds) -> None:
    from medr1kit.tables import score

    for by in ("modality", "task"):
        print("\n" + score(preds, by=by).round(3).to_string(index=False))


COMMANDS = {command.__name__: command for command in (doctor, demo, convert, audit, grpo, sft, predict)}


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        print("usage: medr1kit COMMAND [--flags]; COMMAND --help lists the flags\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<9} {command.__doc__.splitlines()[0]}")
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    warnings.filterwarnings("ignore", category=FutureWarning)  # upstream's own, about its next version
    try:
        COMMANDS[argv[0]](argv[1:])
    except DataError as error:
        print(f"medr1kit {argv[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
