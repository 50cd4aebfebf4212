"""What is saved is what was trained: weights are gathered, written beside their place, read back, and then put there.

Under ZeRO-3 and FSDP no process holds the weights; each has a part, and what one of them would write by itself are
empty tensors, without an error. So the trainer's own saving is asked, by all processes together, and success is judged
from the file: every trained tensor is in it, has the size that it was built with, and holds finite numbers.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.models.load import base_of
from medr1kit.results.runs import replace_file
from medr1kit.training.provenance import name_base
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NOT_OURS = ("training_args.bin", "README.md")  # a pickle with this machine's paths; PEFT's card beside the run's own


def sizes_of(model: PreTrainedModel) -> Counter:
    """Return how many tensors of each shape a checkpoint of the model has to hold.

    Args:
        model: before its training begins; FSDP changes the shapes of what it wraps.
    """
    adapted = base_of(model) is not model
    weights = [weight for name, weight in model.named_parameters() if not adapted or ".default." in name]
    return Counter(tuple(getattr(weight, "ds_shape", weight.shape)) for weight in weights)  # ZeRO-3 keeps the true one


def own_part(weight: torch.nn.Parameter) -> torch.Tensor:
    """Return the numbers of a weight that this process holds, flat: all of them, or its share under ZeRO-3 and FSDP."""
    if hasattr(weight, "to_local"):
        return weight.detach().to_local().flatten()
    if not hasattr(weight, "ds_tensor"):
        return weight.detach().flatten()
    import torch.distributed

    share = weight.ds_tensor.flatten()  # the last one may end in numbers of nobody
    begin = torch.distributed.get_rank(weight.ds_process_group) * len(share)
    return share[: max(0, weight.ds_numel - begin)]


@contextmanager
def whole_afterwards() -> Iterator[None]:
    """Let ZeRO-3 scatter what is loaded in a training, and nothing that is loaded after it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    try:
        yield
    finally:
        unset_hf_deepspeed_config()


def refuse_ungathered(trainer: Any) -> None:
    """Refuse settings under which the weights would be trained and never be written as a whole.

    Args:
        trainer: before its training.

    Raises:
        DataError: naming the setting.
    """
    deepspeed, fsdp = (getattr(trainer.accelerator.state, f"{name}_plugin", None) for name in ("deepspeed", "fsdp"))
    gathers = "stage3_gather_16bit_weights_on_model_save"
    whole = base_of(trainer.model) is trainer.model  # of an adapter they are gathered anyway
    zero3 = deepspeed is not None and deepspeed.zero_stage == 3
    if zero3 and whole and not deepspeed.hf_ds_config.get_value(f"zero_optimization.{gathers}"):
        raise DataError(
            f"ZeRO-3 would not gather the trained weights, so none would be saved: set {gathers} to true, as in "
            "configs/zero3.json"
        )
    if fsdp is not None and (fsdp.fsdp_version != 2 or "FULL" not in str(fsdp.state_dict_type)):
        raise DataError(
            "FSDP would not write the trained weights as a whole: set fsdp_version to 2 and fsdp_state_dict_type to "
            "FULL_STATE_DICT, as in configs/fsdp.yaml"
        )


def save_weights(trainer: Any, folder: Path, name: str, sizes: Counter) -> None:
    """Write what was trained to a run's ``adapter/`` or ``model/``; called by all processes.

    Args:
        trainer: after its training.
        folder: the run's.
        name: of the model below an adapter.
        sizes: from :func:`sizes_of`.

    Raises:
        DataError: if what was written is not what was trained; nothing is put in its place then.
        OSError: if it could not be written.
    """
    from safetensors import SafetensorError

    adapted = base_of(trainer.model) is not trainer.model
    place, beside = folder / ("adapter" if adapted else "model"), folder / ".saving"
    main = trainer.accelerator.is_main_process
    if main:
        shutil.rmtree(beside, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    try:
        trainer.save_model(str(beside), _internal_call=True)  # no push; ours comes with the card
    except SafetensorError as error:
        raise OSError(f"the weights could not be written to {folder}: {error}") from error
    if not main:
        return
    for left in beside.iterdir():
        if left.name in _NOT_OURS or (adapted and not left.name.startswith("adapter_")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    check_written(beside, sizes)
    if adapted:
        name_base(beside, name)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(beside, place)


def check_written(folder: Path, sizes: Counter, finite: bool = True) -> None:
    """Read weights back.

    Args:
        folder: with their files.
        sizes: from :func:`sizes_of`.
        finite: read the numbers, too, and not only what the files say of them.

    Raises:
        DataError: naming the first tensor that is empty, of another size, or not finite, or how many are missing.
    """
    from safetensors import safe_open

    left = sizes.copy()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shape = tuple(tensors.get_slice(name).get_shape())
                if not math.prod(shape):
                    raise DataError(
                        f"{file}: {name} was written empty, {shape}: its parts were not gathered, so the trained "
                        "weights are not saved (ZeRO-3: stage3_gather_16bit_weights_on_model_save; FSDP: "
                        "FULL_STATE_DICT)"
                    )
                left[shape] -= 1
                if finite and not tensors.get_tensor(name).isfinite().all():
                    raise DataError(f"{file}: {name} holds NaN or infinite numbers; the training diverged")
    if missing := {shape: n for shape, n in left.items() if n > 0}:
        shape = next(iter(missing))
        raise DataError(
            f"{folder} lacks {sum(missing.values())} of the {sizes.total()} trained tensors (the first is of size "
            f"{shape}), so the trained weights are not saved; is the disk full, or were they not gathered?"
        )


def write_record(checkpoint: Path, config: Mapping[str, Any], step: int) -> None:
    """Write into a checkpoint whose it is: copied, renamed or left behind, it keeps the labels of its own run.

    Args:
        checkpoint: its folder.
        config: of the run.
        step: optimizer steps done.
    """
    record = {"labels": config["labels"] | {"step": step}}
    record |= {name: config[name] for name in ("model", "model_path", "method", "format", "seed", "load_in_4bit")}
    record |= {name: config[name] for name in ("response_format",) if name in config}
    replace_file(checkpoint / "run.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
