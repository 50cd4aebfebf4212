"""The command line, one function a command: ``medr1kit doctor | demo | convert | audit | grpo | sft | predict | …``."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from medr1kit.commands.answers import predict, report
from medr1kit.commands.merge import merge
from medr1kit.commands.questions import audit, convert
from medr1kit.commands.training import grpo, sft
from medr1kit.study import study
from medr1kit.vqa import DataError


def doctor(argv: list[str]) -> None:
    """Print versions, device, number format and attention, each with its reason."""
    from medr1kit.models.machine import doctor

    argparse.ArgumentParser(prog="medr1kit doctor", description=doctor.__doc__).parse_args(argv)
    doctor()


def demo(argv: list[str]) -> None:
    """Train the built-in model with SFT and GRPO on a scanner it has never seen, and write a report."""
    from medr1kit.commands.demo import run_demo

    parser = argparse.ArgumentParser(prog="medr1kit demo", description=demo.__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"), help="folder for runs and report")
    parser.add_argument("--modality", default="OCT", help="modality to train on")
    parser.add_argument("--format", default="think-before", help="think-before, think-after or no-think")
    parser.add_argument("--max_steps", type=int, default=250, help="steps of GRPO; SFT sees the same questions")
    parser.add_argument("--n", type=int, default=960, help="test questions, over all eight modalities")
    parser.add_argument("--seed", type=int, default=0)
    run_demo(**vars(parser.parse_args(argv)))


COMMANDS = {run.__name__: run for run in (doctor, demo, convert, audit, grpo, sft, predict, merge, study, report)}


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input ends with one sentence and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        print("usage: medr1kit COMMAND [--flags]; COMMAND --help lists the flags\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<9} {command.__doc__.splitlines()[0]}")
        print("\nbenchmarks, in a checkout: python -m benchmarks grpo | predict | load | audit")
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    warnings.filterwarnings("ignore", category=FutureWarning)  # upstream's own, about its next version
    try:
        COMMANDS[argv[0]](argv[1:])
    except DataError as error:
        print(f"medr1kit {argv[0]}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        sys.stdout = None
    return 0


if __name__ == "__main__":
    sys.exit(main())
