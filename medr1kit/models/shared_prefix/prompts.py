"""Prompts, each once: what a batch of rollouts has in common, tokenised and read by the model one time.

In GRPO the rows of a batch come in groups that share prompt and image. :class:`Prompts` holds the distinct prompts and
for each row which one is its own; :func:`prefill` reads them and returns a :class:`Prefix`: the keys and values of
every layer, ready to be continued by any number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from medr1kit.models.shared_prefix.vision import Pixels, VisionFeatures, digest
from medr1kit.vqa import DataError


@dataclass(frozen=True)
class Prompts:
    """Distinct prompts, left-padded, and the place of each row's prompt among them."""

    input_ids: torch.Tensor  # (prompts, tokens)
    attention_mask: torch.Tensor  # (prompts, tokens)
    position_ids: torch.Tensor  # (3, prompts, tokens) rotary positions: time, row, column
    next_position: torch.Tensor  # (prompts,) rotary position of the first completion token
    images: tuple[Pixels, ...]  # one a prompt
    of_row: torch.Tensor  # (rows,) the prompt of each row

    def __len__(self) -> int:
        return len(self.input_ids)

    def token_lists(self) -> list[list[int]]:
        """Return each row's prompt as a list of token ids without padding."""
        lists = [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask)]
        return [lists[prompt] for prompt in self.of_row.tolist()]

    def select(self, which: torch.Tensor) -> Prompts:
        """Return the prompts ``which`` (indices), without padding that none of them needs."""
        mask = self.attention_mask[which]
        width = int(mask.sum(1).max())
        return Prompts(
            self.input_ids[which, -width:],
            mask[:, -width:],
            self.position_ids[:, which, -width:],
            self.next_position[which],
            tuple(self.images[i] for i in which.tolist()),
            torch.arange(len(which), device=which.device),
        )


@dataclass(frozen=True)
class Prefix:
    """What the model remembers of the prompts."""

    keys: tuple[torch.Tensor, ...]  # for each layer (prompts, key heads, tokens, head size)
    values: tuple[torch.Tensor, ...]  # likewise
    input_ids: torch.Tensor  # (prompts, tokens)
    attention_mask: torch.Tensor  # (prompts, tokens)
    next_position: torch.Tensor  # (prompts,)
    last_hidden: torch.Tensor  # (prompts, hidden) state from which the first completion token is predicted

    def detach(self) -> Prefix:
        """Return the same numbers without their graph."""
        keys, values = (tuple(t.detach() for t in tensors) for tensors in (self.keys, self.values))
        return replace(self, keys=keys, values=values, last_hidden=self.last_hidden.detach())


def read_prompts(processor: Any, core: nn.Module, conversations: Sequence[list[dict]], **template: Any) -> Prompts:
    """Tokenise the distinct conversations among rows and preprocess the distinct images.

    Args:
        processor: the model's.
        core: the model without its head; it computes the rotary positions.
        conversations: a row each: messages whose content is a list of parts, with one image among them.
        **template: keyword arguments of the chat template.

    Raises:
        DataError: if a conversation does not hold exactly one image.
    """
    digests: dict[int, str] = {}  # the rows of a group often hold the very same picture
    place: dict[tuple, int] = {}
    first_rows, of_row = [], []
    for i, conversation in enumerate(conversations):
        key = _key(conversation, digests)
        if key not in place:
            place[key] = len(place)
            first_rows.append(i)
        of_row.append(place[key])
    distinct = [conversations[i] for i in first_rows]
    pictures = [_only_image(conversation) for conversation in distinct]
    texts = processor.apply_chat_template(distinct, add_generation_prompt=True, tokenize=False, **template)
    inputs = processor(text=texts, images=pictures, padding=True, padding_side="left", return_tensors="pt")
    known = {name: inputs[name] for name in ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")}
    positions, deltas = core.get_rope_index(**known)
    grids = inputs["image_grid_thw"]  # (prompts, 3)
    patches = torch.split(inputs["pixel_values"], grids.prod(-1).tolist())
    images = tuple(Pixels(digests[id(picture)], *cut) for picture, *cut in zip(pictures, patches, grids))
    device = core.device
    return Prompts(
        inputs["input_ids"].to(device),
        inputs["attention_mask"].to(device),
        positions.to(device),
        (inputs["attention_mask"].sum(1) + deltas.squeeze(1)).to(device),
        images,
        torch.tensor(of_row, device=device),
    )


def _only_image(conversation: list[dict]) -> Any:
    parts = [part for message in conversation if isinstance(message["content"], list) for part in message["content"]]
    images = [part["image"] for part in parts if part["type"] == "image"]
    if len(images) != 1:
        raise DataError(f"a prompt with {len(images)} images cannot be shared; train with shared_prefix=False")
    return images[0]


def _key(conversation: list[dict], digests: dict[int, str]) -> tuple:
    """What makes two conversations the same: roles, texts and pixels."""
    key = []
    for message in conversation:
        key.append(message["role"])
        for part in message["content"] if isinstance(message["content"], list) else [message["content"]]:
            if isinstance(part, dict) and part["type"] == "image":
                picture = part["image"]
                if id(picture) not in digests:
                    digests[id(picture)] = digest(picture)
                key.append(digests[id(picture)])
            else:
                key.append(part["text"] if isinstance(part, dict) else part)
    return tuple(key)


def prefill(core: nn.Module, prompts: Prompts, vision: VisionFeatures) -> Prefix:
    """Read the prompts once and keep keys, values and the last hidden state; with a graph where gradients are on."""
    from transformers import DynamicCache

    cache = DynamicCache(config=core.config)
    output = core(
        input_ids=prompts.input_ids,
        attention_mask=prompts.attention_mask,
        position_ids=prompts.position_ids,
        mm_encoder_outputs=vision(prompts.images),
        past_key_values=cache,
        use_cache=True,
    )
    keys = tuple(layer.keys for layer in cache.layers)
    values = tuple(layer.values for layer in cache.layers)
    last = output.last_hidden_state[:, -1]  # (prompts, hidden); the padding is on the left
    return Prefix(keys, values, prompts.input_ids, prompts.attention_mask, prompts.next_position, last)
