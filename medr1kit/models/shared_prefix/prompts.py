"""Prompts, each once: what a batch of rollouts has in common, tokenised and read by the model one time.

In GRPO the rows of a batch come in groups that share prompt and image. :class:`Prompts` holds the distinct prompts and
for each row which one is its own; :func:`prefill` reads them and returns a :class:`Prefix`: the keys and values of
every layer, ready to be continued by any number of rows. :func:`follow` continues it by more tokens a row: completions
to be scored, or the questions about one image.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from medr1kit.models.shared_prefix.layers import Layers, joined_layers
from medr1kit.models.shared_prefix.vision import Pixels, VisionFeatures, names_of
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
    layers: Layers | None = None  # with which they were read, where not by transformers

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
    words, pictures = zip(*map(words_and_image, conversations))
    names = names_of(pictures)
    distinct, of_row = numbered(zip(words, names))
    cut = cut_up(processor, dict(zip(names, pictures)))
    images = [cut[name] for _, name in distinct]
    asked = [conversations[of_row.index(prompt)] for prompt in range(len(distinct))]
    texts = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False, **template)
    return place(core, tokens_of(processor, texts, images), images, of_row, processor.tokenizer.pad_token_id)


def numbered(things: Iterable[Hashable]) -> tuple[list, list[int]]:
    """Return the distinct things in the order in which they come, and for each thing its number among them."""
    number: dict[Hashable, int] = {}
    numbers = [number.setdefault(thing, len(number)) for thing in things]
    return list(number), numbers


def cut_up(processor: Any, pictures: dict[str, Any]) -> dict[str, Pixels]:
    """Return PIL images as the processor cuts them up, one frame of them, by their digest."""
    if not pictures:
        return {}
    cut = processor.image_processor(images=list(pictures.values()), temporal_patch_size=1, return_tensors="pt")
    patches = torch.split(cut["pixel_values"], cut["image_grid_thw"].prod(-1).tolist())
    return {name: Pixels(name, *rest) for name, *rest in zip(pictures, patches, cut["image_grid_thw"])}


def tokens_of(processor: Any, texts: Sequence[str], images: Sequence[Pixels]) -> list[list[int]]:
    """Return the token ids of texts in which an image stands for as many tokens as it has."""
    token, merged = processor.image_token, processor.image_processor.merge_size**2
    counts = [int(image.grid.prod()) // merged for image in images]
    whole = [text.replace(token, token * count, 1) for text, count in zip(texts, counts)]
    return processor.tokenizer(whole)["input_ids"]


def place(core: nn.Module, lists: list[list[int]], images: Sequence[Pixels], of_row: list[int], pad: int) -> Prompts:
    """Return prompts, given as token ids, padded on the left, each token at its rotary position."""
    width = max(map(len, lists))
    ids = torch.tensor([[pad] * (width - len(tokens)) + tokens for tokens in lists])  # (prompts, tokens)
    mask = (torch.arange(width) >= width - torch.tensor([[len(tokens)] for tokens in lists])).long()
    kinds = (ids == core.config.image_token_id).int()
    grids = torch.stack([image.grid for image in images])  # (prompts, 3)
    # The same words before an image of the same size have the same positions, which are computed row by row.
    distinct, which = numbered(map(tuple, torch.cat([ids, mask, grids], dim=1).tolist()))
    first = [which.index(i) for i in range(len(distinct))]
    positions, deltas = core.get_rope_index(
        ids[first], kinds[first], image_grid_thw=grids[first], attention_mask=mask[first]
    )
    following = mask.sum(1) + deltas[which].squeeze(1)
    on_device = (t.to(core.device) for t in (ids, mask, positions[:, which], following))
    return Prompts(*on_device, tuple(images), torch.tensor(of_row, device=core.device))


def words_and_image(conversation: list[dict]) -> tuple[tuple, Any]:
    """Return what a conversation says, (kind, text) each and no text where its image stands, and that image.

    Args:
        conversation: messages whose content is a text, or a list of parts.

    Raises:
        DataError: if it does not hold exactly one image.
    """
    words, images = [], []
    for message in conversation:
        words.append(("role", message["role"]))
        content = message["content"]
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            kind = part["type"]
            words.append((kind, None if kind == "image" else part[kind]))
            images += [part["image"]] if kind == "image" else []
    if len(images) != 1:
        raise DataError(f"a prompt with {len(images)} images cannot be shared; train with shared_prefix=False")
    return tuple(words), images[0]


def prefill(core: nn.Module, prompts: Prompts, vision: VisionFeatures, layers: Layers | None = None) -> Prefix:
    """Read the prompts once and keep keys, values and the last hidden state; with a graph where gradients are on.

    Args:
        core: the model without its head.
        prompts: what to read.
        vision: encodes their images.
        layers: those of the language model as its weights are now, where they are at hand.
    """
    layers, pictures = layers or joined_layers(core.language_model), vision(prompts.images)
    if layers is not None:
        last, *memory = _read(core, layers, prompts, pictures["image"])
    else:
        last, memory = _read_by_transformers(core, prompts, pictures)
    return Prefix(*map(tuple, memory), prompts.input_ids, prompts.attention_mask, prompts.next_position, last, layers)


def _read(core: nn.Module, layers: Layers, prompts: Prompts, image: Any) -> tuple:
    """The last hidden states (prompts, hidden), keys and values."""
    ids, inside = prompts.input_ids, prompts.attention_mask.bool()
    shown = (ids == core.config.image_token_id).flatten().nonzero().squeeze(1)  # places among all tokens
    embedded = core.get_input_embeddings()(ids).flatten(0, 1)
    features, *deeper = [torch.cat(list(one)) for one in (image.pooler_output, *image.deepstack_features)]
    hidden = embedded.index_copy(0, shown, features)
    hidden, *memory = layers.read(
        hidden.view(*ids.shape, -1),
        prompts.position_ids,
        _looks_back(inside),
        added=[partial(torch.index_add, dim=0, index=shown, source=one) for one in deeper],
        last_only=len(deeper) < len(layers.layers),  # else the last layer's image tokens are changed, too
    )
    return hidden[:, -1], *memory


def _looks_back(inside: torch.Tensor) -> torch.Tensor:
    """Which tokens, (rows, tokens, tokens), each one looks at: itself and those before it, but no padding."""
    itself = torch.eye(inside.shape[1], dtype=torch.bool, device=inside.device)
    return inside[:, None, :] & torch.ones_like(itself).tril() | itself


def _read_by_transformers(core: nn.Module, prompts: Prompts, pictures: dict[str, Any]) -> tuple:
    """The last hidden states (prompts, hidden), and keys and values."""
    from transformers import DynamicCache

    cache = DynamicCache(config=core.config)
    output = core(
        input_ids=prompts.input_ids,
        attention_mask=prompts.attention_mask,
        position_ids=prompts.position_ids,
        mm_encoder_outputs=pictures,
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[:, -1], _in_cache(cache)  # the padding is on the left


def _in_cache(cache: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]


def follow(core: nn.Module, prefix: Prefix, prompts: torch.Tensor, ids: torch.Tensor, inside: torch.Tensor):
    """Continue prompts by more tokens a row.

    Args:
        core: the model without its head.
        prefix: the prompts, read with the same weights.
        prompts: (rows,) the prompt of each row.
        ids: (rows, tokens), right-padded.
        inside: (rows, tokens) bool, False at the padding.

    Returns:
        Hidden states (rows, tokens, hidden), and the prefix that prompt and tokens are together.
    """
    start, embedded = prefix.next_position[prompts], core.get_input_embeddings()(ids)
    positions = (start[:, None] + torch.arange(ids.shape[1], device=ids.device)).expand(3, -1, -1)
    mask = torch.cat([prefix.attention_mask[prompts], inside.long()], dim=1)
    keys, values = ([layer.index_select(0, prompts) for layer in tensors] for tensors in (prefix.keys, prefix.values))
    if prefix.layers is not None:
        before = prefix.attention_mask[prompts].bool()[:, None].expand(-1, ids.shape[1], -1)
        looks = torch.cat([before, _looks_back(inside)], dim=2)
        hidden, *memory = prefix.layers.read(embedded, positions, looks, (keys, values))
    else:
        hidden, memory = _follow_by_transformers(core, embedded, positions, mask, keys, values)
    lengths = inside.sum(1)
    last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
    read = torch.cat([prefix.input_ids[prompts], ids], dim=1)
    return hidden, Prefix(*map(tuple, memory), read, mask, start + lengths, last, prefix.layers)


def _follow_by_transformers(core: nn.Module, embedded, positions, mask, keys, values) -> tuple:
    from transformers import DynamicCache

    cache = DynamicCache(config=core.config)
    for layer, before in enumerate(zip(keys, values)):
        cache.update(*before, layer)
    hidden = core.language_model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return hidden, _in_cache(cache)
