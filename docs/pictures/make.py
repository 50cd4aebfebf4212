"""Draws the README's two pictures with the library's own plots: ``python docs/pictures/make.py``, half a minute."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import medr1kit as mk

FOLDER = Path(__file__).parent


def phantoms() -> Figure:
    """Twelve test phantoms of each modality."""
    data = mk.load_vqa("phantoms", split="test", n=120, size=56)
    figure, ax = plt.subplots(figsize=(9, 5.1), layout="constrained")
    mk.plot_images(data, n=12, ax=ax)
    return figure


def audits(n: int) -> Figure:
    """Blind floors of n questions as they are made, and with a shortcut: wrong options that are never right."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    for ax, shortcut, name in zip(
        axes, (0.0, 1.0), ("every option is right somewhere", "wrong options are never right")
    ):
        train, test = (
            mk.load_vqa("phantoms", split=split, n=n, size=28, shortcut=shortcut).remove_columns("image")
            for split in ("train", "test")
        )
        mk.plot_audit(mk.audit(train, test), ax=ax)
        ax.set_xlabel(f"right answers (%)\n{name}")
    return figure


def draw(folder: Path, n: int = 1000) -> None:
    """Write the pictures, with few colours because they stay in the repository; the audits are of n questions."""
    for name, figure in (("phantoms", phantoms()), ("audit", audits(n))):
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=100, metadata={"Software": None})
        plt.close(figure)
        with Image.open(path) as drawn:
            few = drawn.convert("RGB").quantize(96, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


if __name__ == "__main__":
    plt.switch_backend("agg")
    draw(FOLDER)
