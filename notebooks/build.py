"""Builds the notebooks: runs them in place, keeps their outputs clean, and says when these are out of date.

    python notebooks/build.py [NAME …]            run, clean and write, all of them or those whose names begin so
    python notebooks/build.py --check [NAME …]    run beside and compare the text outputs with the committed ones
    python notebooks/build.py --lint [NAME …]     look only; takes no time and needs no kernel

A notebook runs in an empty folder, without widgets and progress bars, offline, on one thread, two notebooks at a time.
What is written holds no time, no memory address and no random name, so that a notebook built twice is the same file.
Figures are drawn with twice the pixels they are shown with, for sharp screens, and pictures are written with 256 colours
at most, which is a third of their size and hardly to be seen.

Its metadata keeps a digest of its cells, by which the lint knows outputs that are older than the cells, and the machine.
A check compares text, not looks; seconds and memory may differ, the last digits of long numbers, and what
``mk.doctor()`` prints. Another processor rounds otherwise and soon samples otherwise: there, from the first cell on that
loads a model, only the kinds of output are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

FOLDER = Path(__file__).parent
SECONDS = 600  # a notebook; the longest takes one to two minutes on an idle machine
BYTES = 2_000_000
LINES = 15  # a cell
AT_ONCE = 2
ENVIRONMENT = {"MEDR1KIT_STATIC": "1", "CI": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|opt|var|mnt|private)/\w")
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
_STYLE = re.compile(r"\bT_[0-9a-f]{5}(?=_|\b)")  # pandas' Styler names each table anew
_LONG = re.compile(r"\d+\.\d{7,}(?:e[+-]?\d+)?")  # a number printed to its last digit
_PICTURE = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
_LOOKS = re.compile(r"<style.*?</style>|(?<=data:image/)[\w+.-]+;base64,[A-Za-z0-9+/=]+", re.DOTALL)
_MEASURED = re.compile(  # costs of a step: in a table, and in what a curve is called for those who do not see it
    r"((?<=<td>)(?:time/\w+|step_time|tokens_per_second|peak_memory_gb)</td><td>|alt=\"seconds a step[^:]*: )[^<\"]*"
)
_SECONDS = re.compile(r"\d+(?:\.\d+)?(?=\s*(?:s|ms|seconds|minutes)\b)")


class BuildError(Exception):
    """A notebook that cannot be built, with the cell and what to do."""


def source_hash(notebook: NotebookNode) -> str:
    """Return a digest of a notebook's cells, prose included, outputs not."""
    cells = json.dumps([[cell.cell_type, cell.source] for cell in notebook.cells])
    return hashlib.sha256(cells.encode()).hexdigest()[:16]


def machine() -> str:
    """Return what decides how numbers round: the processor and the version of torch."""
    import torch

    return (
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {importlib.metadata.version('torch')}"
    )


async def execute(notebook: NotebookNode, folder: str | Path, seconds: float = SECONDS) -> None:
    """Run all cells of a notebook, in place.

    Args:
        notebook: its outputs are replaced.
        folder: the working directory.
        seconds: limit for the whole notebook.

    Raises:
        BuildError: if a cell fails, or time is up.
    """
    reached = []
    sockets = tempfile.TemporaryDirectory()  # kernels talk through files: no port to race for, no warning
    config = Config(KernelManager={"transport": "ipc", "ip": f"{sockets.name}/kernel"} if os.name == "posix" else {})
    client = NotebookClient(
        notebook,
        config=config,
        kernel_name="python3",
        extra_arguments=["--InlineBackend.figure_formats={'retina'}"],
        timeout=None,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: reached.append(cell_index),
    )
    task = asyncio.create_task(client.async_execute(env=os.environ | ENVIRONMENT))
    with sockets:
        _, late = await asyncio.wait({task}, timeout=seconds)
        if late:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if late:
        raise BuildError(f"cell {reached[-1] if reached else 0} was still running after {seconds:.0f} s")
    try:
        task.result()
    except CellExecutionError as error:
        raise BuildError(f"cell {reached[-1]} failed: {error.ename}: {error.evalue}") from None
    clean(notebook)


def clean(notebook: NotebookNode) -> None:
    """Take out of an executed notebook what differs from run to run or belongs to this machine, and stamp it."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        names: dict[str, str] = {}  # a Styler's random name -> a counted one
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET_VIEW, None)
            if "image/png" in data:
                data["image/png"] = lighter(data["image/png"])
            for holder, kind, text in _texts(output):
                text = _STYLE.sub(lambda match, names=names: names.setdefault(match[0], f"T_{len(names)}"), text)
                holder[kind] = _PICTURE.sub(lambda match: lighter(match[0]), _ADDRESS.sub("", text))
    notebook.metadata["medr1kit"] = {"source": source_hash(notebook), "machine": machine()}


def lighter(picture: str) -> str:
    """Return a PNG, in base64, with a palette of 256 colours; as it is if it has one, is transparent, or would grow."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P" or image.convert("RGBA").getextrema()[3][0] < 255:
        return picture
    file = io.BytesIO()
    few = image.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return min(base64.b64encode(file.getvalue()).decode(), picture, key=len)


def _texts(output: NotebookNode) -> list[tuple[dict, str, str]]:
    """The text parts of an output: where each stands, its key, and what it says."""
    if output.output_type == "stream":
        return [(output, "text", output.text)]
    data = output.get("data", {})
    return [
        (data, kind, text) for kind, text in sorted(data.items()) if kind.startswith("text/") and isinstance(text, str)
    ]


def faults(notebook: NotebookNode, size: int) -> list[str]:
    """Return what is wrong with a committed notebook, a sentence each, without running it.

    Args:
        notebook: as read from its file.
        size: the file's, in bytes.
    """
    found = [] if size < BYTES else [f"its {size / 1e6:.1f} MB are more than {BYTES / 1e6:.0f} MB; draw fewer figures"]
    if notebook.metadata.get("medr1kit", {}).get("source") != source_hash(notebook):
        found.append("its cells were edited after its outputs were made; build it anew")
    if "widgets" in notebook.metadata:
        found.append("it holds widget state")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not run once each from top to bottom")
    for i, cell in enumerate(notebook.cells):
        found += [f"cell {i} {fault}" for fault in _cell_faults(cell)]
    return found


def _cell_faults(cell: NotebookNode) -> list[str]:
    found, outputs = [], cell.get("outputs", [])
    if cell.cell_type == "code" and len(cell.source.splitlines()) > LINES:
        found.append(f"has more than {LINES} lines")
    if any(output.output_type == "error" for output in outputs):
        found.append("ended in an error")
    if any(WIDGET_VIEW in output.get("data", {}) for output in outputs):
        found.append("holds a widget view")
    texts = [cell.source, *(text for output in outputs for _, _, text in _texts(output))]
    if match := next(filter(None, map(_PATH.search, texts)), None):
        found.append(f"names a path of some machine ({match.string[match.start() :][:40]!r})")
    return found


def differences(committed: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Return where a fresh run says something else than the committed outputs, a sentence a cell."""
    made_here = committed.metadata.get("medr1kit", {}).get("machine") == fresh.metadata["medr1kit"]["machine"]
    found, rounded = [], False
    for i, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True)):
        rounded |= not made_here and "load_model(" in new.source
        loose = rounded or "mk.doctor(" in new.source
        was, now = ([_compared(output, loose) for output in cell.get("outputs", [])] for cell in (old, new))
        if was != now:
            found.append(f"cell {i} says something else: {_first_difference(was, now)}")
    return found


def _compared(output: NotebookNode, loose: bool) -> list[str]:
    """What of an output must stay: its kinds, and its text but for looks, costs and the last digits of long numbers."""
    kinds = [output.output_type, *sorted(output.get("data", {}))]
    if loose:
        return kinds
    texts = [_MEASURED.sub(r"\1…", _LOOKS.sub("…", text)) for _, _, text in _texts(output)]
    texts = [_LONG.sub(lambda match: f"{float(match[0]):.6g}", text) for text in texts]
    return kinds + [_SECONDS.sub("…", text) for text in texts]


def _first_difference(was: list[list[str]], now: list[list[str]]) -> str:
    old, new = ([line for parts in outputs for part in parts for line in part.splitlines()] for outputs in (was, now))
    for before, after in zip(old, new):
        if before != after:
            return f"{before.strip()[:160]!r} became {after.strip()[:160]!r}"
    return f"{len(old)} lines became {len(new)}"


async def _one(path: Path, check: bool) -> list[str]:
    """Build or check one notebook; return what is wrong."""
    committed = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(committed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            await execute(notebook, folder)
        except BuildError as error:
            return [str(error)]
    if check:
        return faults(committed, path.stat().st_size) + differences(committed, notebook)
    text = nbformat.writes(notebook) + "\n"
    found = faults(notebook, len(text.encode()))
    if not found:
        path.write_text(text, encoding="utf-8")
    return found


async def _all(paths: list[Path], check: bool) -> bool:
    """Build or check notebooks, two at a time; print a line each and a last one, and return whether all are well."""
    places, begun, failed = asyncio.Semaphore(AT_ONCE), time.monotonic(), []

    async def one(path: Path) -> None:
        async with places:
            start = time.monotonic()
            found = await _one(path, check)
            failed.extend([path.stem] * bool(found))
            print(f"{'FAIL' if found else 'ok  '}  {path.stem:<28} {time.monotonic() - start:6.1f} s", flush=True)
            for sentence in found:
                print(f"      {path.name}: {sentence}", flush=True)

    await asyncio.gather(*map(one, paths))
    verdict = f"{len(failed)} failed ({', '.join(sorted(failed))})" if failed else "all well"
    print(f"notebooks: {len(paths)} {'checked' if check else 'built'}, {verdict}, {time.monotonic() - begun:.0f} s")
    return not failed


def _lint(paths: list[Path]) -> bool:
    found = [(path, f) for path in paths for f in faults(nbformat.read(path, as_version=4), path.stat().st_size)]
    for path, sentence in found:
        print(f"{path.name}: {sentence}")
    return not found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="how a notebook's name begins, as 03; default: all")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare a fresh run with the committed outputs")
    what.add_argument("--lint", action="store_true", help="do not run anything")
    args = parser.parse_args(arguments)
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if path.name.startswith(tuple(args.names or [""]))]
    if not paths:
        parser.error(f"no notebook's name begins with {' or '.join(args.names)}")
    well = _lint(paths) if args.lint else asyncio.run(_all(paths, args.check))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
