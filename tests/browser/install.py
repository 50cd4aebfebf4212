"""Install a Chromium for these tests where none starts yet: ``python tests/browser/install.py``, or ``make browser``.

As root, or with sudo, by apt; where that cannot be, Playwright's own download into the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright
from serving import launch


def version() -> str | None:
    """Start the browser that the tests would take, and return its version; None if there is none that starts."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        return browser and browser.version


def tried(command: list[str]) -> bool:
    """Run a command, saying so; return whether it worked."""
    print(f"browser: {' '.join(command)}", flush=True)
    return subprocess.run(command).returncode == 0


def main() -> str | None:
    """Return None once a browser starts, or one sentence that says what to do."""
    if (found := version()) is None and shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo"] if shutil.which("sudo") else None
        if sudo is not None and tried([*sudo, "apt-get", "update"]):
            tried([*sudo, "apt-get", "install", "-y", "chromium"])
            found = version()
    if found is None and tried([sys.executable, "-m", "playwright", "install", "chromium"]):
        found = version()
    if found is None:
        return (
            "no browser: neither `apt-get install chromium` (as root or with sudo) nor `python -m playwright install "
            "chromium` gave one that starts; install Chromium or Chrome by hand, then run `make browser` again"
        )
    print(f"browser: Chromium {found}")
    return None


if __name__ == "__main__":
    sys.exit(main())
