"""What a name stands for: base, adapter, and the run that trained them.

======================================  ========================  ======================  =============
given                                   base                      adapter                 labels
======================================  ========================  ======================  =============
``"tiny"``, ``"Qwen/…"``                itself                                            base
a folder, another hub id                itself                                            given
a run, or its folder                    its ``model/``, or below  its ``adapter/``        the run's
``runs/x/checkpoint-100``               itself, or below          itself                  and the step
the folder of an adapter                recorded in its config    itself                  given
======================================  ========================  ======================  =============
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from medr1kit.given import path_given
from medr1kit.models.processor import SUPPORTED
from medr1kit.models.weights import one_sentence, refuse_damaged
from medr1kit.results.runs import Run, load_run
from medr1kit.vqa import DataError

_WEIGHTS_OF = ("config.json", "adapter_config.json")  # what tells a folder of weights, all of them or an adapter's
TINY = Path(__file__).parent / "tiny" / "checkpoint"


def find(name: Any, adapter: Any) -> tuple[str | Path, Path | None, Run | None]:
    """Return base, adapter and run of what :func:`medr1kit.load_model` was asked for.

    Returns:
        "tiny", a hub id or a folder; the adapter's folder, or None; the run that trained the weights on top, with the
        step among its labels where they are a checkpoint's, or None.

    Raises:
        DataError: if a run has no weights, or nobody recorded what an adapter stands on.
    """
    weights = _weights_of(name, "name")
    alone = _is_adapter(weights)
    base = _weights_of(_base_below(weights), "name") if alone else weights
    if adapter is None:
        return base, weights if alone else None, _run_of(weights)
    adapter = Path(_weights_of(adapter, "adapter"))
    _warn_of_another_base(adapter, base)
    return base, adapter, _run_of(adapter)


def _warn_of_another_base(adapter: Path, base: str | Path) -> None:
    """Say so if an adapter's own record names another base; sizes alone do not tell. Folders move, so names count."""
    try:
        recorded = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # loading it will tell
    if not isinstance(recorded, str) or not recorded:
        return
    names = ["tiny" if Path(name).parts[-2:] == TINY.parts[-2:] else Path(name).name for name in (recorded, str(base))]
    if names[0] != names[1] and Path(recorded).resolve() != Path(base).resolve():
        warnings.warn(
            f"the adapter at {adapter} was trained on {recorded}, by its adapter_config.json, and is put on {base}; "
            "is that the same model?",
            stacklevel=4,
        )


def architecture(path: str | Path, adapter: Path | None = None) -> str:
    """Return which of SUPPORTED a checkpoint is, a folder or one of the hub; ``adapter`` is what stands on it.

    Raises:
        DataError: if it is none, or is not there.
    """
    from transformers import PretrainedConfig

    folder = Path(path)
    if folder.is_dir():
        refuse_damaged(folder)
    try:
        if not (folder / "config.json").is_file():
            _reach_the_hub(folder, str(path))
        found = PretrainedConfig.get_config_dict(path)[0].get("model_type")
    except Exception as error:  # nothing there, no network, no access
        above = f"; if {adapter} stands on it and it has moved, give both: load_model(BASE, adapter=…)"
        raise DataError(
            f"no model at {str(path)!r}: give 'tiny', a folder with config.json, or a hub id that this machine can "
            f"reach ({' '.join(str(error).split())[:120]})" + (above if adapter else "")
        ) from error
    if found not in SUPPORTED:
        raise DataError(f"{str(path)!r} is a {found or 'nameless'} model; medr1kit supports {', '.join(SUPPORTED)}")
    return found


def _reach_the_hub(folder: Path, name: str) -> None:
    """One quick look for a model that is not on this machine; transformers would go on trying for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if folder.exists():
        raise DataError("there is none in it")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise DataError("there is no such folder, and a hub id has the form owner/name")
    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=10)


def _weights_of(given: Any, argument: str) -> str | Path:
    """A run's trained weights, or the folder that was given; what names no folder ("tiny", a hub id) as it is."""
    given = given.path if isinstance(given, Run) else given
    folder = path_given(given, argument)
    if str(given) == "tiny" or not folder.is_dir():
        return given if isinstance(given, str) else folder
    if not (folder / "run.json").is_file() or any((folder / name).is_file() for name in _WEIGHTS_OF):
        return folder
    for part in ("model", "adapter"):
        if (folder / part).is_dir():
            return folder / part
    steps = [int(path.name[11:]) for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    remedy = "train it again"
    if steps:
        last = folder / f"checkpoint-{max(steps)}"
        remedy = f"go on with resume=True (--resume), or load its last checkpoint, {last}"
    raise DataError(f"the run {folder} has neither adapter/ nor model/; it did not finish: {remedy}")


def _is_adapter(place: str | Path) -> bool:
    return (Path(place) / "adapter_config.json").is_file() and not (Path(place) / "config.json").is_file()


def _base_below(adapter: Path) -> str | Path:
    """What an adapter stands on: by its run, else by its own record."""
    if run := _run_of(adapter):
        return _base_of(run)
    with one_sentence(f"the adapter at {adapter}"):
        base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise DataError(f"{adapter} is a LoRA adapter that names no base; give both: load_model(BASE, adapter=FOLDER)")
    return "tiny" if Path(base) == TINY else base


def _base_of(run: Run) -> str:
    """The base that a run recorded: a hub id, or a folder, found also from elsewhere than where it was trained."""
    name, then = _recorded(run, "model", str), Path(run.config.get("model_path") or "").expanduser()
    if not run.config.get("model_path") or not then.is_dir():
        return name
    here = Path(name).expanduser()
    return name if here.is_dir() and here.resolve() == then.resolve() else str(then)


def _run_of(weights: str | Path) -> Run | None:
    """The run in whose folder these weights are, or None."""
    if (Path(weights) / "run.json").is_file():  # a merged folder and a checkpoint have a record of their own
        own, run = load_run(weights), Path(weights).parent
        is_part = "merged" not in own.config and (run / "run.json").is_file()
        return Run(run if is_part else own.path, own.config | {"labels": _recorded(own, "labels", dict)})
    part = re.fullmatch(r"adapter|model|checkpoint-(\d+)", Path(weights).name)
    if part is None or not (Path(weights).parent / "run.json").is_file():
        return None
    run = load_run(Path(weights).parent)
    step = {} if part[1] is None else {"step": int(part[1])}
    return Run(run.path, run.config | {"labels": _recorded(run, "labels", dict) | step})


def _recorded(run: Run, what: str, kind: type) -> Any:
    if not isinstance(run.config.get(what), kind):
        raise DataError(f"{run.path / 'run.json'} does not hold the run's {what}; restore it or train again")
    return run.config[what]
