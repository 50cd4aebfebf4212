"""A real Chromium for the tests in this folder: no network, no dialogs, no errors on the page.

``page`` is what a test of a page needs; ``show`` serves cells through Voila and opens them. Without a browser the tests
skip; in CI they fail. ``make browser`` installs one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scenes
import serving
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that Playwright downloaded."""
    with sync_playwright() as playwright:
        browser = serving.launch(playwright)
        if browser is None:
            said = f"no browser: none of {', '.join(serving.NAMES)} starts; run `make browser`"
            if os.environ.get("CI", "tests") == "tests":  # "tests" is what tests/conftest.py sets
                pytest.skip(said)
            pytest.fail(said, pytrace=False)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium) -> Iterator[Page]:
    """A new page; what it asks for outside this machine, its errors and its dialogs fail the test at its end."""
    page = chromium.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(30_000)
    trouble = serving.watch(page)
    yield page
    page.close()
    assert trouble == []


@pytest.fixture(scope="session")
def served(tmp_path_factory, chromium) -> Iterator[tuple[Path, str]]:
    """A folder whose notebooks Voila serves, with a run in it, and its address."""
    folder = tmp_path_factory.mktemp("served")
    scenes.write_run(folder / "ct", steps=6)
    with serving.voila(folder, tmp_path_factory.mktemp("voila")) as address:
        yield folder, address


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chromium) -> Iterator[tuple[Path, str, str]]:
    """A folder, and the address and token of the JupyterLab that serves it."""
    folder = tmp_path_factory.mktemp("notebooks")
    with serving.lab(folder, tmp_path_factory.mktemp("lab")) as (address, token):
        yield folder, address, token


@pytest.fixture
def show(page, served) -> Iterator[Callable[..., Page]]:
    """Return ``show(*cells)``: it runs cells in a notebook of their own and opens it; the first panel is there."""
    folder, address = served

    def opened(*cells: str) -> Page:
        path = serving.write_notebook(folder / f"{len(list(folder.glob('*.ipynb')))}.ipynb", cells)
        page.goto(f"{address}/{path.name}", wait_until="domcontentloaded", timeout=60_000)
        expect(page.locator(".mk-panel").first).to_be_visible()
        return page

    yield opened
    page.goto("about:blank")  # a page that is left ends its kernel, one that is closed does not
