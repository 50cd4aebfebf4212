"""The trainings, as cells of a study: a name, what is trained on what, and the settings that differ from the preset.

Group      What it trains on                                  What it is for
machine    one modality on scanner B                          recovery under another machine
same       one modality on scanner A                          control: nothing is missing there
permuted   scanner B, each question beside a wrong picture    control: what the format and the letters alone teach
early      as machine, fewer steps                            curves; SFT at GRPO's home accuracy
shortcut   as machine, answers given away in 80 %             do they lean on it?
twins-SHARE  one modality on scanner A, SHARE of the          something new, over the dial
           questions about its twins
twins-permuted  the same beside wrong pictures                its control
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from medr1kit.models.load import TINY
from medr1kit.study.grid import Cell
from medr1kit.study.settings import METHODS
from medr1kit.training.presets import PRESETS

HOME = ("CT", "OCT", "Dermoscopy", "MRI")
TAUGHT = ("CT", "MRI", "Dermoscopy")  # whose twins are trained on; those of ultrasound are only asked about
ASKED = ("think-before", "think-after", "no-think")
SEEDS = (0, 1, 2)
N_TRAIN = 2400
TWIN_SHARE = 0.5  # beside None, as they come (one in thirteen), and 1
EARLY = (16, 32, 64)  # steps of SFT; the preset takes 125


def cells() -> list[Cell]:
    """Return every cell, the base first, in the order of need; three seeds where a claim rests on them."""
    found = [_cell("base", None, "base", name, None) for name in ASKED]
    for seed in SEEDS:
        found += _grid("machine", HOME, ASKED if seed == 0 else ("no-think", "think-before"), seed, scanner="B")
        found += _grid(twins_group(TWIN_SHARE), TAUGHT, ["no-think"], seed, twins=TWIN_SHARE)
        found += _one_seed() if seed == 0 else ()
    return found


def _one_seed() -> Iterator[Cell]:
    """The dial, the controls, and questions at the margin."""
    for share in (None, 1.0):
        yield from _grid(twins_group(share), TAUGHT, ["no-think"], 0, twins=share)
    yield from _grid("same", HOME, ["no-think"], 0)
    yield from _grid("permuted", HOME, ["no-think"], 0, only="grpo", scanner="B")
    yield from _grid("twins-permuted", TAUGHT, ["no-think"], 0, only="grpo", twins=TWIN_SHARE)
    yield from _grid(twins_group(TWIN_SHARE), TAUGHT, ["think-before"], 0, twins=TWIN_SHARE)
    yield from _grid("shortcut", ["OCT"], ["no-think", "think-before"], 0, scanner="B", shortcut=0.8)
    for modality in HOME[:2]:
        for format, label in (("no-think", "sft-answer"), ("think-before", "sft")):
            yield from (_cell(f"early-{n}", modality, label, format, 0, scanner="B") for n in EARLY)


def twins_group(share: float | None) -> str:
    """Return the group's name for a share of twins."""
    return "twins-natural" if share is None else f"twins-{share:g}"


def _grid(group: str, modalities, formats, seed: int, only: str | None = None, **data: Any) -> Iterator[Cell]:
    for modality in modalities:
        for format in formats:
            for label, (_, known) in METHODS.items():
                if format in known and only in (None, label):
                    yield _cell(group, modality, label, format, seed, **data)


def _cell(group: str, modality: str | None, label: str, format: str, seed: int | None, **data: Any) -> Cell:
    name = "_".join(str(word) for word in (group, modality, label, format, seed) if word is not None)
    definition: dict[str, Any] = {"group": group, "label": label, "format": format, "seed": seed, "data": data}
    definition["model"] = model_digest()
    if modality is not None:
        method = METHODS[label][0]
        settings = {"max_steps": int(group.removeprefix("early-"))} if group.startswith("early") else {}
        definition |= {"preset": PRESETS["tiny"][method], "settings": settings, "method": method, "n": N_TRAIN}
    return Cell(name, modality and "modality", modality, label, format, seed, definition)


@cache
def model_digest() -> str:
    """Return a digest of the built-in model's weights: with other weights every cell is another one."""
    return hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()[:16]
