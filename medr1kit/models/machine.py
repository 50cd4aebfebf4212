"""This machine: on which device a model runs, in which number format and with which attention, and why.

Each choice comes with its reason, which :func:`doctor` prints; each can be made by the user instead, in words that are
checked before anything is loaded.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass

from medr1kit.given import choice
from medr1kit.vqa import DataError

ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
DTYPES = ("float32", "bfloat16", "float16", "auto")
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16", "float": "float32"}


@dataclass(frozen=True)
class Choice:
    """A setting picked for this machine, and why."""

    value: str
    reason: str


def choose_device() -> Choice:
    """Return "cuda" (under torchrun this process's GPU) if PyTorch sees one, else "cpu".

    Raises:
        DataError: if torchrun started more processes than there are GPUs.
    """
    import torch

    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK")  # set by torchrun: one process a GPU
        if rank is not None and int(rank) >= torch.cuda.device_count():
            raise DataError(
                f"this is process {int(rank) + 1} on a machine that shows {torch.cuda.device_count()} GPU(s), one for "
                f"each process: torchrun --nproc_per_node={torch.cuda.device_count()}"
            )
        n, name = torch.cuda.device_count(), torch.cuda.get_device_name(int(rank or 0))
        if rank is not None:
            return Choice(f"cuda:{rank}", f"{n} GPU(s), of this process: {name}")
        return Choice("cuda", f"{n} GPU(s), first: {name}" + ("; one process uses one" if n > 1 else ""))
    return Choice("cpu", "PyTorch sees no CUDA device" if torch.version.cuda else "this PyTorch is a CPU build")


def choose_dtype(device: str) -> Choice:
    """Return the number format for weights on a device: float32, bfloat16 or float16."""
    import torch

    if not device.startswith("cuda"):
        return Choice("float32", "half precision on a CPU would not be exact")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("bfloat16", "the GPU computes in bfloat16")
    return Choice("float16", "the GPU has no bfloat16")


LANGUAGE_ATTENTION = Choice("sdpa", "answers that share one reading need a mask, which flash-attn does not take")
"""Attention of the language model: flash attention there would bring back TRL's own step."""


def choose_tower_attention(device: str, dtype: str) -> Choice:
    """Return the attention of the vision tower: "flash_attention_2" where it can run, else "sdpa"."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    if not device.startswith("cuda"):
        return Choice("sdpa", "flash-attn needs a GPU")
    if dtype == "float32":
        return Choice("sdpa", "flash-attn needs half precision")
    if torch.cuda.get_device_capability()[0] < 8:
        return Choice("sdpa", "flash-attn needs compute capability 8 or more")
    if not is_flash_attn_2_available():
        return Choice("sdpa", "flash-attn is not installed; sdpa needs nothing")
    return Choice("flash_attention_2", "flash-attn is installed and the GPU can run it")


def choose_decoding(device: str) -> Choice:
    """Return how tokens are decoded on a device: "CUDA graph" where that is asked for, else "step by step"."""
    if not device.startswith("cuda"):
        return Choice("step by step", "a CUDA graph needs a GPU")
    if os.environ.get("MEDR1KIT_CUDA_GRAPHS") == "1":
        return Choice("CUDA graph", "MEDR1KIT_CUDA_GRAPHS=1 asks for it; it has not been run on a GPU yet")
    return Choice("step by step", "a CUDA graph has not been run on a GPU yet; MEDR1KIT_CUDA_GRAPHS=1 tries one")


def doctor() -> None:
    """Print versions, device, number format, attention and decoding, each with its reason."""
    import torch

    device = choose_device()
    dtype = choose_dtype(device.value)
    tower = choose_tower_attention(device.value, dtype.value)
    print(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("medr1kit", "torch", "transformers", "trl", "peft", "datasets"):
        print(f"{package:<13} {importlib.metadata.version(package)}")
    choices = {"device": device, "dtype": dtype, "attention": LANGUAGE_ATTENTION, "of the tower": tower}
    choices["decoding"] = choose_decoding(device.value)
    for name, chosen in choices.items():
        print(f"{name:<13} {chosen.value} ({chosen.reason})")
    print(f"threads       {torch.get_num_threads()}")
    if vllm := version_of("vllm"):
        print(f"vllm          {vllm} (use_vllm=True: it samples, the loss stays shared; never run with vLLM itself)")
    vision = version_of("torchvision")
    if vision is None:
        print("torchvision   absent (as it should be on a CPU; images go through Pillow)")
        return
    note = "it breaks transformers next to a CPU build of torch: pip uninstall torchvision"
    print(f"torchvision   {vision}" + (f" WARNING: {note}" if device.value == "cpu" else ""))


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where it is not, as this one in a mere checkout."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def free_memory() -> None:
    """Give back what a model took that is not needed any more: trainer and model hold each other, in a circle."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none is taken by the asking."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(i) for i in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def device_given(device: object) -> str:
    """Return where a model goes: what was asked for if this machine has it, or :func:`choose_device` if None.

    Raises:
        DataError: if it is no device, or one that is not here.
    """
    import torch

    if device is None:
        return choose_device().value
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DataError(f"device={device!r} is unknown; use 'cpu', 'cuda', or 'cuda:1' for the second GPU") from error
    if asked.type not in ("cpu", "cuda", "mps"):
        raise DataError(f"device={device!r} can hold no model; use 'cpu' or 'cuda'")
    found = choose_device()
    if asked.type == "cuda" and (not found.value.startswith("cuda") or (asked.index or 0) >= torch.cuda.device_count()):
        raise DataError(
            f"device={str(asked)!r} is not here ({found.reason}); leave device= out to take {found.value!r}"
        )
    return str(asked)


def dtype_given(dtype: object, device: str) -> str:
    """Return a number format's name, also for its short name ("fp16") or torch's own, :func:`choose_dtype` if None.

    Raises:
        DataError: if it is no number format.
    """
    word = choose_dtype(device).value if dtype is None else str(dtype).removeprefix("torch.")
    return choice(_SHORT.get(word, word), "dtype", DTYPES)


def attention_given(attn: object, device: str, dtype: str) -> str | dict[str, str]:
    """Return the attention of both parts of a model, as transformers takes it; the choices above if None.

    Raises:
        DataError: if it is none of ATTENTIONS, or cannot run on this machine.
    """
    chosen = choose_tower_attention(device, dtype)
    if attn is None:
        both = {"": LANGUAGE_ATTENTION.value, "vision_config": chosen.value}
        return both if len(set(both.values())) > 1 else chosen.value
    if choice(attn, "attn", ATTENTIONS) == "flash_attention_2" != chosen.value:
        raise DataError(f"attn='flash_attention_2' cannot run here: {chosen.reason}; leave attn= out")
    return attn
