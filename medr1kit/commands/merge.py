"""The command ``merge``: a run as a plain folder."""

from __future__ import annotations

import argparse


def merge(argv: list[str]) -> None:
    """Write a run's model, its adapter merged, as a plain folder that transformers, vLLM and others read."""
    parser = argparse.ArgumentParser(prog="medr1kit merge", description=merge.__doc__)
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint in it, or the folder of an adapter")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new folder")
    kinds = ("auto", "float32", "bfloat16", "float16")
    parser.add_argument("--dtype", default="auto", choices=kinds, help="of the weights (default: that of the base)")
    flags = parser.parse_args(argv)

    from medr1kit.models.export import merge_model

    folder = merge_model(flags.run, flags.output, dtype=flags.dtype)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(
        f"written to {folder} ({size:,.1f} MB); any transformers reads it: AutoProcessor, AutoModelForImageTextToText"
    )
