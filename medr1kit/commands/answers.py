"""Commands about answers: ``predict`` and ``report``, and how scores are printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medr1kit.commands.flags import UNDERSTOOD
from medr1kit.commands.loading import (
    add_table_flags,
    format_for,
    has_splits,
    hold_out,
    labels_of,
    load_data,
    load_model_of,
    loading_of,
    refuse_unused,
)
from medr1kit.vqa import DataError


def predict(argv: list[str]) -> None:
    """Answer a data set's questions, write the predictions and print accuracy by modality and task."""
    from trl import ModelConfig

    from medr1kit.commands.flags import DataFlags, PredictFlags, fit_to_machine, parse_flags
    from medr1kit.models.checkpoints import checkpoints_of, predict_checkpoints
    from medr1kit.models.load import origin_of
    from medr1kit.models.machine import choose_device
    from medr1kit.models.predict import predict, predictions_file
    from medr1kit.models.so_far import rank_of_world
    from medr1kit.models.vllm_engine import engine_given

    flags = parse_flags(argv, "medr1kit predict", DataFlags, PredictFlags, ModelConfig)
    flags = fit_to_machine(flags, choose_device().value)
    training = ("reward_funcs", "preset", "overwrite", "resume", "use_peft", "lora_r", "lora_alpha", "lora_dropout")
    refuse_unused(flags, training)
    predictions_file(flags["output"], "--output")  # nothing is loaded in vain
    engine_given(flags.get("engine"), flags.get("stop_at_answer", False), share=True, samples=flags.get("samples", 0))
    chosen = {name: flags[name] for name in PredictFlags.__dataclass_fields__ if name in flags}
    chosen |= {"labels": labels_of(flags.get("labels", ())), "share": True}
    adapter, steps = chosen.pop("adapter", None), chosen.pop("checkpoints", None)
    name = flags.get("model_name_or_path", "tiny")
    if steps:
        if adapter:
            raise DataError("--checkpoints are those of a run, --model_name_or_path RUN; leave --adapter out")
        steps = _steps_of(steps)
        checkpoints_of(name, steps)  # they are there
    held_out = flags.get("test_size", 0.0) > 0
    split = flags.get("dataset_train_split" if held_out else "dataset_test_split")
    if split is None and not held_out and has_splits(flags["dataset_name"]):
        split = "test"
    dataset = load_data(flags, split)
    if held_out:
        _, dataset = hold_out(dataset, flags)
    if flags.get("checkpoints"):
        run = name if (Path(name) / "run.json").is_file() else None
        chosen |= {"steps": steps, "loading": loading_of(flags), "format": format_for(run, flags)}
        preds = predict_checkpoints(name, dataset, **chosen)
    else:
        model, processor = load_model_of(flags)
        preds = predict(model, processor, dataset, format=format_for(origin_of(model).run, flags), **chosen)
    if rank_of_world()[0] == 0:
        print_scores(preds)


def _steps_of(words: list[str]) -> list[int] | None:
    """The steps that --checkpoints names, None for all."""
    if words == ["all"]:
        return None
    if strange := [word for word in words if not word.isdecimal()]:
        raise DataError(f"--checkpoints {strange[0]!r} is no step; write all, or steps such as 100 200")
    return [int(word) for word in words]


def print_scores(preds) -> None:
    """Print accuracy by modality and task; of several checkpoints of each, and first of all questions."""
    from medr1kit.results.tables import score

    known = [name for name in ("modality", "task") if preds[name].notna().any()]
    steps = ["step"] if preds["step"].nunique() > 1 else []
    kinds = [[name, *steps] for name in known]
    for by in kinds if known and not steps else [steps, *kinds]:
        print("\n" + score(preds, by=by).round(3).to_string(index=False, na_rep="–"))


def report(argv: list[str]) -> None:
    """Write a run, a study or answers as one HTML page: tables, maps and the reader, without Python and network."""
    from medr1kit.given import path_given
    from medr1kit.results.errors import errors
    from medr1kit.study.folder import STUDY_FILE
    from medr1kit.views.page import read_source, write_report
    from medr1kit.views.page.worksheet import export_worksheet

    flags, named = _report_flags(argv)
    path = path_given(flags.path, "path")
    data = load_data(named, "test" if has_splits(flags.dataset_name) else None) if named else None
    # Of a study its cells are read: its tables may be old.
    source = _so_far(path) if (path / STUDY_FILE).is_file() else read_source(path, data, flags.check)
    if data is not None and "image" not in data.column_names:
        data = None  # it has said what it knows of the questions; that images are not given is told
    page = write_report(path, flags.output, questions=flags.questions, seed=flags.seed, data=data, source=source)
    print(f"written to {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if flags.worksheet is not None:
        if source.preds is None:
            raise DataError(f"{str(path)!r} holds no answers; --worksheet is for a run that was tested")
        print(f"written to {export_worksheet(errors(source.preds), flags.worksheet, data)}")


def _report_flags(argv: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The flags of a report, and those of them that name its questions."""
    from medr1kit.views.page import QUESTIONS

    parser = argparse.ArgumentParser(prog="medr1kit report", description=report.__doc__)
    what = "folder of a run or a study, predictions.parquet, or results of VLMEvalKit, lmms-eval, MedEvalKit or Med-R1"
    parser.add_argument("path", metavar="RUN_OR_STUDY", help=what)
    parser.add_argument("--output", type=Path, help="the page (default: report.html in the folder)")
    held = f"questions, and groups of completions, in the page (default: {QUESTIONS})"
    parser.add_argument("--questions", type=int, default=QUESTIONS, help=held)
    parser.add_argument("--seed", type=int, default=0, help="decides which questions")
    said = "the questions: for their images (drawn ones need none), and for what results of others do not say of them"
    parser.add_argument("--dataset_name", help=said)
    parser.add_argument("--image_folder", help="folder that the image paths start from")
    add_table_flags(parser)
    bad = "bad rows of questions and of results of others: 'error' refuses, 'drop' leaves out and lists"
    parser.add_argument("--check", default="error", help=bad)
    parser.add_argument("--worksheet", type=Path, help="also write the errors as a sheet to annotate (.html or .csv)")
    flags = parser.parse_args(argv)
    ours = ("dataset_name", "image_folder", *UNDERSTOOD)
    named = {name: value for name in ours if (value := getattr(flags, name)) is not None}
    if named and "dataset_name" not in named:
        parser.error(f"--{next(iter(named))} needs --dataset_name, the questions that name the images")
    return flags, named | {"check": flags.check} if named else {}


def _so_far(root: Path):
    """What a study has finished, read from its cells."""
    from medr1kit.study.folder import STUDY_FILE
    from medr1kit.study.grid import read_study
    from medr1kit.study.parts import first_set
    from medr1kit.study.results import provenance, read_predictions
    from medr1kit.views.page import study_source

    study = read_study(root / STUDY_FILE)
    preds = read_predictions(study, root)
    if "" not in study.parts:  # a model answers a question once on a page
        preds = first_set(study, preds)
    return study_source(preds, provenance(study, root, preds))
