"""Small objects that stand where TRL expects a processor, a data set or a model, and save it repeated work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class OnceDecoded(torch.utils.data.Dataset):
    """A data set that reads a row once where a batch asks for it G times.

    Args:
        dataset: one with a length, indexed by row number.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        rows = {index: self.dataset[index] for index in dict.fromkeys(indices)}
        return [dict(rows[index]) for index in indices]


class ReadAlready:
    """The processor while TRL prepares the loss: prompts and images were read before sampling, so nothing is done.

    TRL asks for the pixels of every row again and hands them to the scoring, which does not need them here.
    """

    def __init__(self, processor: Any):
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, conversation: Any, **_: Any) -> str:
        return ""

    def __call__(self, images: Sequence[Any], text: Sequence[str], **_: Any) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.zeros(len(text), 1)}  # (rows, 1): a row each, for TRL to shuffle and split


def let_through(model: nn.Module) -> None:
    """Let ``model(shared_prefix=call)`` run a call inside the model's forward pass, below wrappers such as DDP."""
    forward = model.forward

    def passing(*args: Any, shared_prefix: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs) if shared_prefix is None else shared_prefix()

    model.forward = passing


def by_prompt(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return micro-batches cut anew from the same rows, the rows of a prompt together.

    Args:
        batches: of TRL's buffer, with ``prompt_of_row`` among their tensors.
    """
    owners = torch.cat([batch["prompt_of_row"] for batch in batches]).tolist()
    order = torch.tensor(sorted(range(len(owners)), key=lambda i: owners.index(owners[i])))  # in shuffled prompt order
    whole: dict[str, Any] = {}
    for name, value in batches[0].items():
        if isinstance(value, torch.Tensor) and value.ndim:
            whole[name] = torch.cat([batch[name] for batch in batches])[order.to(value.device)].chunk(len(batches))
        elif isinstance(value, list):
            rows = [row for batch in batches for row in batch[name]]
            whole[name] = [[rows[i] for i in part] for part in order.chunk(len(batches))]
        else:
            whole[name] = [value] * len(batches)
    return [{name: parts[i] for name, parts in whole.items()} for i in range(len(batches))]
