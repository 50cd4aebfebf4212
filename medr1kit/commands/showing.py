"""The command ``report``: a run or a study as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from medr1kit.commands.loading import has_splits, load_data
from medr1kit.study.folder import STUDY_FILE
from medr1kit.study.grid import read_study


def report(argv: list[str]) -> None:
    """Write a run or a study as one HTML page: tables, maps and the reader, without Python and network."""
    from medr1kit.views.page import QUESTIONS, write_report

    parser = argparse.ArgumentParser(prog="medr1kit report", description=report.__doc__)
    what = "folder of a run or a study, or predictions.parquet"
    parser.add_argument("path", type=Path, metavar="RUN_OR_STUDY", help=what)
    parser.add_argument("--output", type=Path, help="the page (default: report.html in the folder)")
    held = f"questions, and groups of completions, in the page (default: {QUESTIONS})"
    parser.add_argument("--questions", type=int, default=QUESTIONS, help=held)
    parser.add_argument("--seed", type=int, default=0, help="decides which questions")
    parser.add_argument("--dataset_name", help="the questions, for their images; drawn images need none")
    parser.add_argument("--image_folder", help="folder that the image paths start from")
    flags = parser.parse_args(argv)
    named = {name: value for name in ("dataset_name", "image_folder") if (value := getattr(flags, name)) is not None}
    if list(named) == ["image_folder"]:
        parser.error("--image_folder needs --dataset_name, the questions that name the images")
    data = load_data(named, "test" if has_splits(flags.dataset_name) else None) if named else None
    source = _so_far(flags.path) if (flags.path / STUDY_FILE).is_file() else None  # of cells; its tables may be old
    page = write_report(flags.path, flags.output, questions=flags.questions, seed=flags.seed, data=data, source=source)
    print(f"written to {page} ({page.stat().st_size / 1e6:.1f} MB)")


def _so_far(root: Path):
    """What a study has finished, read from its cells."""
    from medr1kit.study.results import provenance, read_predictions
    from medr1kit.views.page import study_source

    study = read_study(root / STUDY_FILE)
    preds = read_predictions(study, root)
    return study_source(preds, provenance(study, root, preds))
