"""The command line, one function a command: ``medr1kit doctor | demo | convert | audit | grpo | sft | predict | …``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

from medr1kit.commands.answers import predict, report
from medr1kit.commands.merge import merge
from medr1kit.commands.questions import audit, convert
from medr1kit.commands.training import grpo, sft
from medr1kit.formats import FORMATS
from medr1kit.study import study
from medr1kit.vqa import DataError


def doctor(argv: list[str]) -> None:
    """Print device, number format and attention with their reasons, and what training a model will need."""
    from medr1kit.training.forecast import doctor

    parser = argparse.ArgumentParser(prog="medr1kit doctor", description=doctor.__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="folder or hub id of a model; only its configuration is read")
    parser.add_argument("--preset", help="tiny, gpu, gpu-24gb, gpu-80gb or med-r1 (default: by model)")
    parser.add_argument("--method", default="grpo", help="grpo or sft")
    parser.add_argument("--size", type=int, default=384, help="side of the images, in pixels")
    parser.add_argument("--load_in_4bit", action="store_true", help="the language model in 4 bits")
    doctor(**vars(parser.parse_args(argv)))


def demo(argv: list[str]) -> None:
    """Train the built-in model with SFT and GRPO on a scanner it has never seen, and write a report."""
    from medr1kit.commands.demo import run_demo

    parser = argparse.ArgumentParser(prog="medr1kit demo", description=demo.__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"), help="folder for runs and report")
    parser.add_argument("--modality", default="OCT", help="modality to train on")
    parser.add_argument("--format", default="think-before", help=", ".join(FORMATS))
    parser.add_argument("--max_steps", type=int, default=250, help="steps of GRPO; SFT sees the same questions")
    parser.add_argument("--n", type=int, default=960, help="test questions, over all eight modalities")
    parser.add_argument("--seed", type=int, default=0)
    run_demo(**vars(parser.parse_args(argv)))


COMMANDS = {run.__name__: run for run in (doctor, demo, convert, audit, grpo, sft, predict, merge, study, report)}


_AGAIN = "the same command starts anew"
_LEFT = {  # what a command that was stopped has left behind, and how to go on
    **dict.fromkeys(
        ("grpo", "sft"),
        "metrics and completions of the steps so far are in output_dir, weights only if training had ended (or as "
        "--save_steps said); the same command with --resume goes on from the last checkpoint, and with --overwrite it "
        "trains anew",
    ),
    "predict": "answers so far are kept beside the output; the same command goes on",
    "study": "what was finished is kept; the same command goes on",
    "convert": "what is in the output folder is not whole: delete it, and give the same command",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 2 for bad input, 1 if a file cannot be written or read, 130 for Ctrl-C, each after one line
        that says why, and what is left.
    """
    argv = [_with_home(word) for word in (sys.argv[1:] if argv is None else argv)]
    if not argv or argv[0] not in COMMANDS:
        print("usage: medr1kit COMMAND [--flags]; COMMAND --help lists the flags\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<9} {command.__doc__.splitlines()[0]}")
        print("\nbenchmarks, in a checkout: python -m benchmarks grpo | predict | load | audit")
        return 0 if argv[:1] in ([], ["--help"], ["-h"]) else 2
    warnings.formatwarning = lambda message, *_, **__: f"note: {message}\n"
    warnings.filterwarnings("ignore", category=FutureWarning)  # upstream's own, about its next version
    if int(os.environ.get("RANK", 0)) > 0:
        warnings.simplefilter("ignore")  # of several processes the first says it for all
    try:
        COMMANDS[argv[0]](argv[1:])
    except DataError as error:
        print(f"medr1kit {argv[0]}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        sys.stdout = None
    except KeyboardInterrupt:
        print(f"\nmedr1kit {argv[0]}: stopped; {_LEFT.get(argv[0], _AGAIN)}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, a folder that is gone or may not be written
        why = ": ".join(str(part) for part in (error.filename, error.strerror) if part) or str(error).split("\n")[0]
        print(f"medr1kit {argv[0]}: {why}; {_LEFT.get(argv[0], _AGAIN)}", file=sys.stderr)
        return 1
    return 0


def _with_home(word: str) -> str:
    """Expand a leading ``~``, also after ``--flag=``, where a shell leaves it alone."""
    flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return flag + equals + os.path.expanduser(value)


if __name__ == "__main__":
    sys.exit(main())
