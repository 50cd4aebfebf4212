"""What the browser tests need around a widget: a browser, notebooks made on the fly, Voila and JupyterLab.

Each server keeps its settings in a folder of its own, listens on this machine only, and is ended with its kernels.
``docs/pictures/widgets.py`` takes its screenshots by the same means.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
from playwright.sync_api import Browser, Error, Page, Playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
HERE = ("127.0.0.1", "localhost")
PATIENCE = 90  # seconds for a server to answer

# Voila's page asks a network for icons that no widget of ours has; this template leaves that out.
_TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{%- block notebook_css -%}
{{ super() | replace("https://", "data:text/css,") }}
{%- endblock notebook_css -%}
"""


# --- the browser ------------------------------------------------------------------------------------------------------


def launch(playwright: Playwright) -> Browser | None:
    """Start the system's Chromium, or else the one that Playwright downloaded; None if there is none that starts."""
    own = playwright.chromium.executable_path
    for path in (*filter(None, map(shutil.which, NAMES)), own):
        if os.path.exists(path):
            try:
                return playwright.chromium.launch(executable_path=None if path == own else path, args=list(FLAGS))
            except Error as error:  # Ubuntu's chromium-browser, for example, may only say that there is a snap
                print(f"{path} does not start: {error.message.splitlines()[0]}")
    return None


def watch(page: Page) -> list[str]:
    """Return a list that fills with what a page must not do: ask for anything elsewhere, fail, or open a dialog."""
    trouble: list[str] = []

    def asked(request) -> None:
        where = urlsplit(request.url)
        if where.scheme in ("http", "https", "ws", "wss") and where.hostname not in HERE:
            trouble.append(f"asked for {request.url:.200}")

    def opened(dialog) -> None:
        trouble.append(f"dialog: {dialog.message:.200}")
        dialog.dismiss()

    page.on("request", asked)
    page.on("dialog", opened)
    page.on("pageerror", lambda error: trouble.append(f"page error: {error}"))
    return trouble


# --- notebooks --------------------------------------------------------------------------------------------------------


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook of code cells that was not run."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


# --- the servers ------------------------------------------------------------------------------------------------------


@contextmanager
def voila(folder: Path, home: Path) -> Iterator[str]:
    """Serve the notebooks of a folder, each run anew for each visit; yields the address of the folder.

    Args:
        folder: the notebooks.
        home: an empty folder for the server's settings.
    """
    template = home / "data" / "voila" / "templates" / "offline"
    template.mkdir(parents=True)
    (template / "index.html.j2").write_text(_TEMPLATE)
    (template / "conf.json").write_text(json.dumps({"base_template": "lab"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1", "--Voila.port_retries=0"]
    options += ["--template=offline", "--show_tracebacks=True"]
    options += ["--Voila.tornado_settings=disable_check_xsrf=True"]  # else a page cannot end its kernel when it is left
    with _running(["voila", str(folder), *options], home) as process:
        address = f"http://{HERE[0]}:{port}/voila/render"
        _wait(lambda: _answers(f"http://{HERE[0]}:{port}/static/no-such-file"), process, home)
        yield address


@contextmanager
def lab(folder: Path, home: Path) -> Iterator[tuple[str, str]]:
    """Serve a folder with JupyterLab; yields its address and its token. Arguments as in :func:`voila`."""
    settings = home / "config" / "labconfig"
    settings.mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "page_config.json").write_text(json.dumps(news))
    options = ["--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    options += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    with _running(["jupyterlab", *options], home) as process:
        [found] = _wait(lambda: list((home / "runtime").glob("jpserver-*.json")), process, home)
        known = _wait(lambda: _read(found), process, home)
        _wait(lambda: _answers(f"{known['url']}api/status?token={known['token']}"), process, home)
        yield known["url"], known["token"]


def opened(page: Page, lab: tuple[Path, str, str], name: str) -> Page:
    """Open a notebook in JupyterLab; ``lab`` is what the fixture of that name gives."""
    _, address, token = lab
    page.goto(f"{address}doc/tree/{name}?token={token}&reset", wait_until="domcontentloaded", timeout=60_000)
    page.wait_for_function("() => window.jupyterapp", timeout=60_000)
    page.evaluate("() => window.jupyterapp.restored")
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible()
    return page


def run_all(page: Page, wait: bool = True) -> None:
    """Run all cells of the notebook that is open in JupyterLab, and wait until they have run."""
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000
    )
    page.evaluate(
        "wait => { const ran = jupyterapp.commands.execute('notebook:run-all-cells'); if (wait) return ran }", wait
    )


@contextmanager
def _running(command: list[str], home: Path) -> Iterator[subprocess.Popen]:
    """A server as a process group of its own, ended with its kernels; what it says goes to ``home/log``."""
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    places |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    places |= {"IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib"}
    environment = {key: value for key, value in os.environ.items() if key != "MEDR1KIT_STATIC"}
    environment |= {key: str(home / place) for key, place in places.items()}
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(until, process: subprocess.Popen, home: Path):
    """What ``until`` returns once it is true; an error with the server's last words if that takes too long."""
    end = time.monotonic() + PATIENCE
    while not (found := until()):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server does not answer; it said:\n{(home / 'log').read_text()[-3000:]}")
        time.sleep(0.1)
    return found


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=5).close()
    except URLError as error:
        return hasattr(error, "code")  # any answer is one
    except OSError:
        return False
    return True


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except ValueError:  # it is being written
        return None
