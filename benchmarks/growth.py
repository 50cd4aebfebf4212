"""How the cost of a GRPO step grows, stock TRL against the shared prefix: writes `benchmarks/speed/growth.csv`.

    python -m benchmarks.growth [--repeats 1]     # about ten minutes

One thing is changed at a time; the rest is four prompts of 16 image tokens, groups of 8, 64 new tokens in every row, a
LoRA adapter on the built-in model, no reference model, no gradient checkpointing. Completions of one length are the
hard case: no row ends early, and nothing is saved by buckets.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.cases.even import fixed_length
from benchmarks.cases.grpo import Case, measure
from benchmarks.cases.memory import random_model
from medr1kit.models.load import load_model

OUTPUT = Path(__file__).parent / "speed" / "growth.csv"
BASE = Case("base", "", settings=fixed_length(64), distinct_rewards=True, steps=3)
SIZES = {"1.9 M": (1, 4), "5.6 M": (2, 6), "14 M": (3, 8)}  # width as a multiple of the built-in model's, layers


def larger(width: int, layers: int):
    """A Qwen2-VL with random weights: the built-in model's language model made wider and deeper, the same tower."""

    def change(config) -> None:
        text = config.text_config
        for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
            setattr(text, name, width * getattr(text, name))
        text.num_hidden_layers, text.layer_types = layers, text.layer_types[:1] * layers
        config.vision_config.hidden_size = text.hidden_size  # what the tower's merger writes

    model, processor = random_model(change)
    return model.eval(), processor


def cases() -> list[tuple[str, str, Case]]:
    """What is changed, its value, and the case."""
    found = [("completions a prompt (G)", str(group), replace(BASE, group=group)) for group in (4, 8, 16)]
    found += [("rows (prompts x 8)", str(8 * prompts), replace(BASE, prompts=prompts)) for prompts in (2, 4, 8)]
    found += [("new tokens", str(n), replace(BASE, settings=fixed_length(n))) for n in (16, 64, 128, 256)]
    for side in (112, 224, 392):
        model = partial(load_model, "tiny", device="cpu", max_pixels=side**2)
        found.append(("image tokens", str((side // 28) ** 2), replace(BASE, size=side, model=model)))
    found += [("parameters", name, replace(BASE, model=partial(larger, *size))) for name, size in SIZES.items()]
    found += [("trained weights", "LoRA", BASE), ("trained weights", "all", replace(BASE, lora=False))]
    checkpointed = replace(BASE, settings={**BASE.settings, "gradient_checkpointing": True})
    found += [("gradient checkpointing", "no", BASE), ("gradient checkpointing", "both sides", checkpointed)]
    return found


def main() -> None:
    """Read the command line, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    os.environ["CI"] = "1"  # no progress bars
    rows, done = [], {}
    for axis, value, case in cases():
        key = repr(case)
        if key not in done:  # the base belongs to several rows
            done[key] = measure(replace(case, name=f"{axis} {value}"), repeats)
        found = {name: done[key][name] for name in ("stock_s", "fast_s", "ratio", "repeats", "exact")}
        rows.append({"changed": axis, "value": value, **found})
        pd.DataFrame(rows).to_csv(OUTPUT, index=False)


if __name__ == "__main__":
    main()
