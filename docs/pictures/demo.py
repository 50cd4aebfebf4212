"""Takes README's picture, the first view of a demo's report: ``python docs/pictures/demo.py runs/demo/report.html``.

Writes ``demo.png`` and ``demo-dark.png`` beside this file. Takes Chromium (``make browser``).
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "browser"))

import serving  # noqa: E402 - it stands with the tests

WIDTH = 1200


def draw(report: Path, folder: Path = HERE) -> None:
    """Write the pictures, with few colours because they stay in the repository."""
    with sync_playwright() as playwright:
        browser = serving.launch(playwright)
        if browser is None:
            sys.exit("no browser; run `make browser`")
        for theme, name in (("light", "demo"), ("dark", "demo-dark")):
            shown = {"viewport": {"width": WIDTH, "height": 1400}, "device_scale_factor": 1.5, "color_scheme": theme}
            page = browser.new_page(**shown)
            page.goto(report.resolve().as_uri(), timeout=120_000)
            below = page.locator("#story").bounding_box()
            path = folder / f"{name}.png"
            page.screenshot(
                path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": below["y"] + below["height"] + 8}
            )
            with Image.open(path) as taken:
                few = taken.convert("RGB").quantize(96, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
