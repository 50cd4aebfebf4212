"""The order of what is measured, the clock it keeps, and the table.

What tells most comes first, what may break the device last: a CUDA graph whose recording fails can leave it unusable.
Each row is made alone: a model of its own, its memory given back, and whatever stops it is what the row says.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.gpu import sampling, scores
from benchmarks.gpu.device import Missing
from benchmarks.gpu.shape import FULL, SMALL, Shape
from benchmarks.gpu.steps import step
from medr1kit.models.machine import free_memory

PACKAGES = {"transformers": "transformers", "peft": "peft", "trl": "trl", "flash_attn": "flash-attn", "vllm": "vllm"}
SECONDS = {"step_s": "step", "sampling_s": "sampling", "loss_s": "loss", "backward_s": "backward", "rest_s": "rest"}
OURS, THEIRS = "shared prefix", "transformers"


class Table:
    """Rows that are printed as they come.

    Args:
        seconds: after which nothing more is begun.
        keep: called with all rows so far after each.
    """

    def __init__(self, seconds: float, keep: Callable[[list[dict]], None]):
        self.rows: list[dict[str, Any]] = []
        self._start, self._seconds, self._keep = time.perf_counter(), seconds, keep
        self._longest: dict[str, float] = {}

    def add(self, part: str, variant: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure a row, if there is time for one like the longest of its part so far."""
        begun = time.perf_counter()
        left = self._seconds - (begun - self._start)
        print(f"{begun - self._start:6.1f} s  {part}: {variant}", end="", flush=True)
        row = {"part": part, "variant": variant}
        if left < 1.5 * self._longest.get(part, 0.0) or left <= 0:
            row |= {"status": "left out", "found": f"{max(0, left):.0f} s were left, which may be too few"}
        else:
            row |= _outcome(measure)
            self._longest[part] = max(self._longest.get(part, 0.0), time.perf_counter() - begun)
        print(f": {_told(row)}", flush=True)
        self.rows.append(row)
        self._keep(self.rows)
        return row


def _outcome(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a measurement returns, or what stopped it; what it held is given back either way."""
    import torch

    try:
        with warnings.catch_warnings(record=True) as warned:
            found = {"status": "measured", **measure()}
        if graphs := [str(warning.message) for warning in warned if "CUDA graph" in str(warning.message)]:
            found["found"] = "; ".join([*([found["found"]] if found.get("found") else []), _one_line(graphs[0])])
    except Missing as error:
        found = {"status": "missing", "found": str(error)}
    except torch.OutOfMemoryError:
        found = {"status": "out of memory", "found": "the device has too little memory for this"}
    except Exception as error:  # one that fails is told, and the others go on
        found = {"status": "failed", "found": f"{type(error).__name__}: {_one_line(error)}"}
    free_memory()
    return found


def _one_line(said: object) -> str:
    """The beginning of a message as it may stand in a table."""
    return " ".join(str(said).split())[:200].replace("|", "/")


def measure_all(device: str, keep: Callable[[list[dict]], None], shape: Shape | None = None) -> list[dict[str, Any]]:
    """Measure everything there is on a device.

    Args:
        device: "cuda", or "cpu" for a dry run with a small model, whose numbers mean nothing.
        keep: called with the rows so far after each.
        shape: sizes; None for those of the device.

    Returns:
        A row each: ``part``, ``variant``, ``status``; where it was measured seconds by phase, ``peak_gb``, whether it
        ``agrees``, and ``found`` in words.
    """
    import torch

    shape = shape or (FULL if device == "cuda" else SMALL)
    # In float32 a convolution is otherwise rounded to 10 bits, and two that see other batches round differently.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    table = Table(shape.seconds, keep)
    table.add("here", "CUDA", partial(_cuda, device))
    for module, name in PACKAGES.items():
        table.add("here", name, partial(_package, module, name))
    attentions = ["sdpa", "eager", "flash_attention_2"]
    _numbers(table, shape, device, attentions)
    drawn = _sampling(table, shape, device)
    for checkpointing in (False, True):
        _steps(table, shape, device, checkpointing)
    _steps(table, shape, device, False, attn="flash_attention_2")
    _graphs(table, shape, device, drawn)
    return table.rows


def _cuda(device: str) -> dict[str, Any]:
    import torch

    if device != "cuda":
        raise Missing("no CUDA device, or none asked for: a dry run with a small model; its numbers mean nothing")
    about = torch.cuda.get_device_properties(0)
    bf16 = "" if torch.cuda.is_bf16_supported(including_emulation=False) else "; it has no bfloat16"
    return {"found": f"{about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}{bf16}"}


def _package(module: str, name: str) -> dict[str, Any]:
    if importlib.util.find_spec(module) is None:
        raise Missing("not installed")
    return {"found": importlib.metadata.version(name) + ("; not measured here" if name == "vllm" else "")}


def _attention_here(attn: str, device: str) -> None:
    from transformers.utils import is_flash_attn_2_available

    if attn == "flash_attention_2" and not (device == "cuda" and is_flash_attn_2_available()):
        raise Missing("flash-attn is not installed" if device == "cuda" else "flash-attn needs a GPU")


def _numbers(table: Table, shape: Shape, device: str, attentions: list[str]) -> None:
    """Log-probabilities and gradients; in float32, and for each attention in bfloat16."""
    kept: dict[str, scores.Scored] = {}
    part = "log-probabilities"

    def reference() -> dict[str, Any]:
        kept["float32"] = scores.score(shape, device, shared=False, dtype="float32", at_once=shape.group)
        return {"found": "what the others are held against"}

    def in_float32(checkpointing: bool, exchanged: bool = False) -> dict[str, Any]:
        how = {"dtype": "float32", "checkpointing": checkpointing, "exchanged": exchanged}
        far = scores.apart(scores.score(shape, device, shared=True, **how), _needed(kept))
        return {**far, "agrees": scores.exact(far) != exchanged, "found": scores.words(far)}

    def in_bfloat16(shared: bool, attn: str, checkpointing: bool, theirs: dict) -> dict[str, Any]:
        _attention_here(attn, device)
        found = scores.score(shape, device, shared=shared, attn=attn, checkpointing=checkpointing)
        row = {f"{phase}_s": round(seconds, 4) for phase, seconds in found.seconds.items()} | {"peak_gb": found.peak_gb}
        if not kept:
            return row
        far = scores.apart(found, kept["float32"])
        row |= {**far, "found": scores.words(far)}
        return row | ({"agrees": scores.as_near(far, theirs)} if "logp_mean" in theirs else {})

    table.add(part, f"{THEIRS}, float32", reference)
    for packed in (True, False):
        way = "packed" if packed else "continued"
        table.add(part, f"{OURS}, float32, {way}", partial(in_float32, packed))
    table.add(part, f"{OURS}, float32, pictures exchanged", partial(in_float32, True, exchanged=True))
    for attn in attentions:
        for checkpointing in (False, True) if attn == "sdpa" else (False,):  # only sdpa takes a packed mask
            theirs: dict[str, Any] = {}
            for who in (THEIRS, OURS):
                call = partial(in_bfloat16, who == OURS, attn, checkpointing, theirs)
                theirs = table.add(part, _named(who, attn, checkpointing), call)


def _needed(kept: dict[str, scores.Scored]) -> scores.Scored:
    if not kept:
        raise Missing("there is no float32 result to hold it against")
    return kept["float32"]


def _named(who: str, attn: str, checkpointing: bool) -> str:
    return f"{who}, {attn}{', checkpointing' if checkpointing else ''}"


def _sampling(table: Table, shape: Shape, device: str) -> dict[str, sampling.Drawn]:
    """Sampling by ``generate`` and by the shared prefix, launched token by token."""
    drawn: dict[str, sampling.Drawn] = {}
    table.add("sampling", f"{THEIRS}, generate", partial(_drawn, drawn, shape, device, None, ()))
    table.add("sampling", f"{OURS}, eager", partial(_drawn, drawn, shape, device, "eager", (None,)))
    return drawn


def _drawn(drawn: dict, shape: Shape, device: str, decoder: str | None, others: tuple) -> dict[str, Any]:
    found = drawn[decoder] = sampling.draw(shape, device, decoder)
    row = {"sampling_s": round(found.seconds, 4), "peak_gb": found.peak_gb}
    said = [f"{shape.rows * shape.new_tokens / found.seconds:,.0f} tokens a second"]
    for other in others:
        if other in drawn:
            same = sampling.beside(found, drawn[other])
            row |= same
            said.append(f"{same['same_rows']} of {shape.rows} rows as {other or 'generate'} has them")
            said += [f"log-probabilities {same['logp_max']:.2g} apart at most"] if "logp_max" in same else []
    if decoder == "graph":
        said.append("recorded" if found.recorded else "not recorded: it ran token by token")
        row["recorded"] = found.recorded
    return row | {"found": "; ".join(said)}


def _steps(table: Table, shape: Shape, device: str, checkpointing: bool, attn: str = "sdpa") -> None:
    """Whole steps of both trainers."""

    def whole(shared: bool) -> dict[str, Any]:
        _attention_here(attn, device)
        return step(shape, device, shared=shared, attn=attn, checkpointing=checkpointing)

    theirs = table.add("step", _named("stock TRL", attn, checkpointing), partial(whole, False))
    ours = table.add("step", _named(OURS, attn, checkpointing), partial(whole, True))
    if "step_s" in theirs and "step_s" in ours:
        ours["ratio"] = round(theirs["step_s"] / ours["step_s"], 2)
        ours["found"] = f"x{ours['ratio']:.2f} over stock"


def _graphs(table: Table, shape: Shape, device: str, drawn: dict[str, sampling.Drawn]) -> None:
    """Decoding as a CUDA graph, alone and in a step."""

    def whole() -> dict[str, Any]:
        if device != "cuda":
            raise Missing("a CUDA graph needs a CUDA device")
        return step(shape, device, shared=True, graphs=True)

    table.add("sampling", f"{OURS}, CUDA graph", partial(_drawn, drawn, shape, device, "graph", (None, "eager")))
    table.add("step", f"{OURS}, sdpa, CUDA graph", whole)


def _told(row: dict[str, Any]) -> str:
    """A row in one line."""
    said = [f"{name} {row[key]:.3g} s" for key, name in SECONDS.items() if row.get(key) is not None]
    said += [f"peak {row['peak_gb']:.1f} GB"] if row.get("peak_gb") else []
    said += [] if row["status"] == "measured" else [row["status"]]
    said += [{True: "agrees", False: "DOES NOT AGREE"}[row["agrees"]]] if row.get("agrees") is not None else []
    return "; ".join([*said, *([row["found"]] if row.get("found") else [])])


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """All rows as one table."""
    heads = ["part", "variant", *(f"{name} s" for name in SECONDS.values()), "peak GB", "agrees", "found"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        seconds = ["–" if row.get(key) is None else f"{row[key]:.3g}" for key in SECONDS]
        peak = f"{row['peak_gb']:.1f}" if row.get("peak_gb") else "–"
        agrees = {True: "yes", False: "NO", None: "–"}[row.get("agrees")]
        status = "" if row["status"] == "measured" else f"{row['status']}: "
        lines.append([row["part"], row["variant"], *seconds, peak, agrees, status + row.get("found", "")])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
