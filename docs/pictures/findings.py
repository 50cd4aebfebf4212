"""Draws the figures of docs/findings.md from what the study recorded: ``python docs/pictures/findings.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import medr1kit as mk

FOLDER = Path(__file__).parent / "findings"
# Which of the study's stated comparisons stand in which figure, by the words that their names begin with
GROUPS = {
    "a-gains": ("GRPO gains at", "GRPO gains more", "SFT gains more", "GRPO on wrong", "GRPO where", "GRPO learns"),
    "b-grpo-and-sft": ("GRPO minus SFT", "GRPO gains away", "GRPO on A", "SFT with GRPO's time", "A shortcut"),
    "c-thinking": ("Think-", "GRPO makes", "The thought"),
    "d-looking": ("GRPO looks",),
    "f-protocol": ("Base, own prompt",),
}


def comparisons(names: tuple[str, ...]) -> Figure:
    """The comparisons that begin so, below each other."""
    frame = mk.recorded("clinic/comparisons")
    frame = frame[frame["comparison"].str.startswith(names)].dropna(subset="difference")
    figure, ax = plt.subplots(figsize=(7.2, 1.2 + 0.34 * len(frame)), layout="constrained")
    mk.plot_comparisons(frame, ax=ax)
    return figure


def samples() -> Figure:
    """Right in one of k, and right by the majority of k: untrained, after SFT and after GRPO."""
    frame = mk.recorded("clinic/samples").replace({"method": {"base": "untrained", "sft-answer": "sft"}})
    frame = frame[(frame["asked"] == "B sampled") & (frame["part"].isna() | (frame["part"] == "machine"))]
    figure, both = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True)
    for ax, name in zip(both, ("think-before", "no-think")):
        mk.plot_pass_at_k(frame[frame["format"] == name].drop(columns=["part", "asked", "format"]), ax=ax)
        ax.get_legend().remove()
        ax.set_title(name, y=1.0, pad=4)
        ax.label_outer()
    figure.legend(*both[0].get_legend_handles_labels(), loc="upper center", ncol=4, frameon=False, fontsize=8)
    figure.subplots_adjust(left=0.07, right=0.99, top=0.82, bottom=0.12, wspace=0.06)
    return figure


def draw(folder: Path) -> None:
    """Write the figures, in few colours because they stay in the repository."""
    folder.mkdir(exist_ok=True)
    figures = {name: comparisons(names) for name, names in GROUPS.items()}
    for name, figure in {**figures, "e-samples": samples()}.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=160, metadata={"Software": None})
        plt.close(figure)
        with Image.open(path) as drawn:
            few = drawn.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


if __name__ == "__main__":
    plt.switch_backend("agg")
    draw(FOLDER)
