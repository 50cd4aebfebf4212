"""Commands about questions: ``convert`` and ``audit``."""

from __future__ import annotations

import argparse
from pathlib import Path

from medr1kit.commands.flags import SOURCES, UNDERSTOOD
from medr1kit.commands.loading import add_table_flags, has_splits, hold_out, load_data
from medr1kit.vqa import DataError


def convert(argv: list[str]) -> None:
    """Cut OmniMedVQA's own files into training and test files that share no image, or as Med-R1 did."""
    from medr1kit.audits.convert import convert_omnimedvqa

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
    parser = argparse.ArgumentParser(prog="medr1kit audit", description=audit.__doc__.splitlines()[0])
    parser.add_argument("--train", help=f"questions to train on: {SOURCES}")
    parser.add_argument("--test", help="questions to test on: the same")
    parser.add_argument("--dataset_name", help="instead: one source, split as --test_size of a training splits it")
    parser.add_argument("--test_size", type=float, help="share held out by image and patient, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="for this split: that of the training")
    add_table_flags(parser)
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
    pairs = (["train", "test"], ["dataset_name", "test_size"], ["check_card", "data"])
    given = [name for pair in pairs for name in pair if getattr(flags, name) is not None]
    if given not in pairs:
        parser.error("give --train and --test, or --dataset_name and --test_size, or --check-card and --data")
    if flags.check_card is not None:
        _check_card(flags.check_card, flags.data)
    else:
        _audit_files(flags)


def _audit_files(flags: argparse.Namespace) -> None:
    from medr1kit.audits import audit
    from medr1kit.audits.report import output_of

    outputs = {kind: output_of(kind, path) for kind in ("json", "html") if (path := getattr(flags, kind)) is not None}
    if flags.dataset_name is not None:
        split = "train" if has_splits(flags.dataset_name) else None
        whole = _load_side(flags.dataset_name, split, flags, flags.train_meta)
        train, test = hold_out(whole, {"test_size": flags.test_size, "seed": flags.seed})
    else:
        train, test = (
            _load_side(source, side if has_splits(source) else None, flags, meta)
            for source, side, meta in ((flags.train, "train", flags.train_meta), (flags.test, "test", flags.test_meta))
        )
    report = audit(train, test, images=flags.image_folder, cluster=flags.cluster)
    print(report)
    for kind, path in outputs.items():
        getattr(report, f"to_{kind}")(path)
        print(f"written to {path}")


def _check_card(card: str, data: str) -> None:
    from medr1kit.audits.cards import check_card

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


def _load_side(source: str, split: str | None, flags: argparse.Namespace, meta: str | None):
    """One side of an audit, with its bad rows left out and listed: an audit is for files that may be bad."""
    given = {"dataset_name": source, "meta": meta, "check": "drop", "seed": flags.seed}
    given |= {name: getattr(flags, name) for name in ("modality", "task", *UNDERSTOOD)}
    return load_data({name: value for name, value in given.items() if value is not None}, split)
