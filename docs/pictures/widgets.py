"""Takes screenshots of every widget, light and dark, as Voila shows it: ``python docs/pictures/widgets.py FOLDER``.

What is shown are the scenes of the browser tests, on recorded answers. README's two are the light ``inspect.png`` and
``transfer.png``; without a folder those are written beside this file. Takes a minute, and Chromium (``make browser``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "browser"))

import scenes  # noqa: E402 - it stands with the tests
import serving  # noqa: E402

README = ("inspect", "transfer")
WIDTH = 1000


def ready(page: Page, widget: str) -> None:
    """Bring a widget to what the picture is to show."""
    if widget == "inspect":
        page.locator(".mk-kind select").select_option(label="fixed")
        expect(page.locator('[data-mk="status"] b')).not_to_have_text("400")
    if widget == "transfer":
        page.locator(".mk-map-choice select").select_option(label="grpo: think-before minus base, by modality (tiny)")
        expect(page.locator(".mk-about h4")).to_contain_text("grpo: think-before minus base")
        page.locator(".mk-kind select").select_option(label="fixed")
        expect(page.locator(".mk-answer p").first).to_contain_text("fixed: 1 of")
    if widget == "lab":
        page.locator(".mk-example select").select_option(label="two answer blocks")
        expect(page.locator('[data-mk="text"]')).to_contain_text("</answer><answer>")


def take(page: Page, folder: Path, name: str) -> None:
    """Write a picture of the panel; 256 colours, chosen from what is there, are enough and a third of the size."""
    path = folder / f"{name}.png"
    page.locator(".mk-panel").screenshot(path=path, animations="disabled", caret="hide")
    with Image.open(path) as taken:
        few = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def draw(folder: Path, names: tuple[str, ...], themes: tuple[str, ...] = ("light", "dark")) -> None:
    """Write ``<name>.png`` and ``<name>-dark.png`` of some widgets."""
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        served, home = Path(place, "served"), Path(place, "home")
        served.mkdir()
        home.mkdir()
        scenes.write_run(served / "ct")
        browser = serving.launch(playwright)
        if browser is None:
            sys.exit("no browser; run `make browser`")
        with serving.voila(served, home) as address:
            for name in names:
                serving.write_notebook(served / f"{name}.ipynb", [scenes.WIDGETS[name]])
                for theme in themes:
                    page = browser.new_page(viewport={"width": WIDTH, "height": 1800})
                    page.goto(f"{address}/{name}.ipynb?theme={theme}", wait_until="domcontentloaded", timeout=120_000)
                    expect(page.locator(".mk-panel")).to_be_visible()
                    ready(page, name)
                    take(page, folder, name if theme == "light" else f"{name}-{theme}")
                    page.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        draw(Path(sys.argv[1]), tuple(scenes.WIDGETS))
    else:
        draw(HERE, README, ("light",))
