"""Draws the pictures of the data card with the library's own plots: ``python docs/pictures/make.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import medr1kit as mk
from medr1kit.data.phantoms.twins import TWINS

FOLDER = Path(__file__).parents[2] / "data_cards"


def phantoms() -> Figure:
    """Twelve test phantoms of each modality."""
    data = mk.load_vqa("phantoms", split="test", n=120, size=56)
    figure, ax = plt.subplots(figsize=(9, 5.1), layout="constrained")
    mk.plot_images(data, n=12, ax=ax)
    return figure


def worlds() -> Figure:
    """Above the same patients on either scanner, below the twins of each modality that has some."""
    figure, grid = plt.subplots(2, 8, figsize=(11, 3.3), layout="constrained")
    for row, modality in enumerate(("CT", "MRI", "Dermoscopy", "OCT")):
        pair = [mk.load_vqa("phantoms", split="test", modality=modality, n=4, scanner=name)[3] for name in "AB"]
        for ax, name, phantom in zip(grid[0, 2 * row :], "AB", pair):
            ax.imshow(phantom["image"])
            ax.set_title(f"{modality}, scanner {name}", fontsize=8)
    for row, (modality, twins) in enumerate(TWINS.items()):
        data = mk.load_vqa("phantoms", split="test", modality=modality, n=60, twins=1.0, difficulty=0.0)
        for ax, twin in zip(grid[1, 2 * row :], twins):
            large = (truth["finding"] == twin and truth["size"] == "large" for truth in data["truth"])
            ax.imshow(data[list(large).index(True)]["image"])
            ax.set_title(f"{modality}: {twin}", fontsize=8)
    for ax in grid.flat:
        ax.axis("off")
    return figure


def draw(folder: Path) -> None:
    """Write the pictures, with few colours because they stay in the repository."""
    for path, figure in (("phantoms", phantoms()), ("worlds", worlds())):
        path = folder / f"{path}.png"
        figure.savefig(path, dpi=100, metadata={"Software": None})
        plt.close(figure)
        with Image.open(path) as drawn:
            few = drawn.convert("RGB").quantize(96, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


if __name__ == "__main__":
    plt.switch_backend("agg")
    draw(FOLDER)
