"""A trained model as a plain folder: what anybody's transformers, vLLM or llama.cpp reads, without medr1kit and peft.

An adapter is added to the weights that it stands on; what was trained whole is copied. The folder is read back before
it gets its name, and its ``run.json`` says whose answers it gives, so that here it does not pass for an untrained base.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.given import path_given
from medr1kit.models.load import base_of, load_model, origin_of
from medr1kit.models.weights import load_base
from medr1kit.results.runs import load_run, replace_file
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


def merge_model(run: str | os.PathLike, output: str | os.PathLike, *, dtype: str = "auto") -> Path:
    """Write a trained model as a folder that stock ``AutoModelForImageTextToText`` and ``AutoProcessor`` read.

    Args:
        run: a run's folder, a checkpoint in it, or the folder of an adapter.
        output: a new or empty folder.
        dtype: number format of the written weights: "auto" (that of the base), "float32", "bfloat16" or "float16".

    Returns:
        The folder: weights, config, tokenizer, chat template, settings of image and video processor, and a ``run.json``
        with the labels of the run, by which :func:`medr1kit.load_model` knows them.

    Raises:
        DataError: if there is nothing trained to merge, the folder has something in it, cannot be written, or what was
            written is not what was merged.
    """
    output = path_given(output, "output")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"output={os.fspath(output)!r} has something in it already; name a new folder")
    model, processor = load_model(run, device="cpu", dtype=dtype, load_in_4bit=False)
    origin = origin_of(model)
    if base_of(model) is model and origin.run is None:
        raise DataError(f"{os.fspath(run)!r} is no run, checkpoint or adapter: there is nothing to merge")
    merged = model.merge_and_unload() if base_of(model) is not model else model
    record = {"labels": origin.labels, "model": origin.name, "merged": True}
    if origin.run is not None:  # the format is what its prompts ask for
        config = load_run(origin.run).config
        record |= {key: config[key] for key in ("format", "response_format") if key in config}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise DataError(f"output={os.fspath(output)!r} cannot be written ({error.strerror}); choose another") from error
    try:
        write_plain(merged, processor, folder)
        replace_file(folder / "run.json", json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")
        folder.chmod(0o755)
        os.replace(folder, output)  # onto an empty folder, too
    except OSError as error:
        raise DataError(f"output={os.fspath(output)!r} cannot be written ({error}); choose another place") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return output


def write_plain(merged: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write a model without adapters, and its processor, and read the weights back.

    Raises:
        DataError: if a tensor is not in the folder as it was.
        OSError: if the folder cannot be written.
    """
    merged.save_pretrained(folder)
    processor.save_pretrained(folder)
    written = load_base(folder, str(merged.dtype).removeprefix("torch."), "sdpa").state_dict()
    for name, tensor in merged.state_dict().items():
        if name not in written or not written[name].equal(tensor.cpu()):
            raise DataError(f"{name} is not in the written folder as it was merged; is the disk full?")
