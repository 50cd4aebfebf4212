"""Questions about images, read for answering: every image once, and the first tag of the answer along with the prompt.

Prompts about one image begin alike: the chat's head, then the image. That beginning is read once and every question
continues it::

    <|im_start|>user <image> ┬ Which organ is it? … <|im_start|>assistant  <answer>
                             └ What is seen? …      <|im_start|>assistant  <answer>
           once an image                  once a question                  the draft

The *draft* is what the answer will probably begin with. It is read in the same pass, and the pass itself says whether
it is right: it is accepted as far as each of its tokens is the most probable one where it stands, so that accepting it
and decoding it greedily are the same thing.

Reading skips what nobody asks for: in the last layer only keys and values of a prompt matter, and the states after it.

Image features are kept from one reader to the next as long as tower and preprocessing are the same: a trained model is
mostly asked the questions that its base was asked, and a probe asks them several times.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.prompts import Prefix
from medr1kit.models.shared_prefix.vision import Pixels, VisionFeatures, digest
from medr1kit.models.shown import FILE_DIGEST

# Patches encoded at a time on a CPU: what one layer makes of them stays in the cache, which is a third faster.
CPU_PATCHES = 1024


@dataclass(frozen=True)
class _Read:
    """Keys and values of tokens that have been read, left-padded."""

    keys: list[torch.Tensor]  # for each layer (rows, key heads, tokens, head size)
    values: list[torch.Tensor]
    input_ids: torch.Tensor  # (rows, tokens)
    mask: torch.Tensor  # (rows, tokens) bool
    next_position: torch.Tensor  # (rows,) rotary position of the next token

    def of(self, rows: torch.Tensor) -> _Read:
        """The same for some rows (indices), some of them perhaps several times."""
        keys, values = ([t[rows] for t in tensors] for tensors in (self.keys, self.values))
        return _Read(keys, values, self.input_ids[rows], self.mask[rows], self.next_position[rows])


class QuestionReader:
    """Reads prompts with one image each.

    Args:
        core: the model without its head, in evaluation mode; its weights must not change while the reader is used.
        decoder: a decoder of its language model.
        processor: the model's.
        barred: ids of tokens that an answer must not hold.

    Attributes:
        vision: image features; it counts the images that went through the vision tower, also for earlier readers.
        beginnings: beginnings read so far; accepted: draft tokens accepted so far.
    """

    def __init__(self, core: nn.Module, decoder: Decoder, processor: Any, barred: Sequence[int] = ()):
        self.core, self.decoder, self.processor, self.barred = core, decoder, processor, list(barred)
        self.vision, self._grids = _features(core, processor)
        self.beginnings = self.accepted = 0
        self._positions: dict[tuple, tuple[torch.Tensor, int]] = {}

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], pictures: Sequence[Any], draft: Sequence[int]):
        """Read prompts, and a draft of the answer after each.

        Args:
            prompts: texts with one image placeholder each.
            pictures: a PIL image for each.
            draft: token ids; may be empty.

        Returns:
            A :class:`Prefix` with a row for each prompt, and (rows,) how many draft tokens are accepted. Refused ones
            are hidden from what follows.
        """
        digests = {id(picture): picture.info.get(FILE_DIGEST) or digest(picture) for picture in pictures}
        names = [digests[id(picture)] for picture in pictures]
        seen = self._look(dict(zip(names, pictures)))
        beginnings, of_row, rests = self._split(prompts, names)
        parts = [self._read_beginnings(beginnings, seen).of(torch.tensor(of_row, device=self.core.device))]
        rest, states = self._read_rests(parts[0], rests, list(draft))
        accepted = self._accept(states, torch.tensor(draft, dtype=torch.long, device=states.device))
        self.accepted += int(accepted.sum())
        refused = torch.arange(len(draft), device=states.device) >= accepted[:, None]  # (rows, draft)
        width = rest.mask.shape[1] - len(draft)
        parts.append(rest)
        mask = torch.cat([parts[0].mask, rest.mask[:, :width], ~refused], dim=1)
        prefix = Prefix(
            tuple(torch.cat(pair, dim=2) for pair in zip(*(part.keys for part in parts))),
            tuple(torch.cat(pair, dim=2) for pair in zip(*(part.values for part in parts))),
            torch.cat([part.input_ids for part in parts], dim=1),
            mask.long(),
            rest.next_position - refused.sum(1),
            states[torch.arange(len(states), device=states.device), accepted],
        )
        return prefix, accepted

    def _look(self, pictures: dict[str, Any]) -> dict[str, tuple[torch.Tensor, ...]]:
        """For each image its features, and those of Qwen3-VL's first layers after them: (tokens, hidden) each."""
        known = [name for name in pictures if self.vision.knows(name)]
        groups = [[Pixels(name, torch.empty(0), self._grids[name]) for name in known]] if known else []
        unknown = [name for name in pictures if name not in set(known)]
        if unknown:
            cut = self.processor.image_processor(images=[pictures[name] for name in unknown], return_tensors="pt")
            patches = torch.split(cut["pixel_values"], cut["image_grid_thw"].prod(-1).tolist())
            pixels = [Pixels(name, *rest) for name, *rest in zip(unknown, patches, cut["image_grid_thw"])]
            self._grids |= {image.digest: image.grid for image in pixels}
            groups += self._groups(pixels)
        seen = {}
        for group in groups:
            with _patches_as_products(self.core.visual):
                output = self.vision(group)["image"]
            layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
            seen |= {image.digest: features for image, *features in zip(group, *layers)}
        return seen

    def _groups(self, pixels: list[Pixels]) -> list[list[Pixels]]:
        if self.core.device.type != "cpu":
            return [pixels]
        groups, room = [], 0
        for image in pixels:
            if len(image.patches) > room:
                groups.append([])
                room = CPU_PATCHES
            groups[-1].append(image)
            room -= len(image.patches)
        return groups

    def _split(self, prompts: Sequence[str], names: list[str]):
        """The distinct beginnings (tokens up to the image's last, its digest), each row's one, and each row's rest."""
        token, merged = self.processor.image_token, self.processor.image_processor.merge_size**2
        counts = [int(self._grids[name].prod()) // merged for name in names]
        texts = [prompt.replace(token, token * count, 1) for prompt, count in zip(prompts, counts)]
        place: dict[tuple, int] = {}
        of_row, rests = [], []
        for ids, name in zip(self.processor.tokenizer(texts)["input_ids"], names):
            end = len(ids) - ids[::-1].index(self.core.config.image_token_id)
            of_row.append(place.setdefault((tuple(ids[:end]), name), len(place)))
            rests.append(ids[end:])
        return list(place), of_row, rests

    def _read_beginnings(self, beginnings: list[tuple], seen: dict[str, Any]) -> _Read:
        self.beginnings += len(beginnings)
        ids, mask = self._padded([list(tokens) for tokens, _ in beginnings])
        positions = torch.zeros(3, *ids.shape, dtype=torch.long, device=ids.device)
        following = []
        for row, (tokens, name) in enumerate(beginnings):
            own, after = self._rope(tokens, self._grids[name])
            positions[:, row, -len(tokens) :] = own
            following.append(after)
        hidden, visual = self.core.get_input_embeddings()(ids), ids == self.core.config.image_token_id
        features, *deeper = [torch.cat(layer) for layer in zip(*(seen[name] for _, name in beginnings))]
        hidden[visual] = features.to(hidden.dtype)
        following = torch.tensor(following, device=ids.device)
        keys, values, _ = self._read(hidden, mask, positions, states=0, deepstack=(visual, deeper))
        return _Read(keys, values, ids, mask, following)

    def _rope(self, tokens: tuple[int, ...], grid: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Rotary positions (3, tokens) of a beginning and the position after it: the same for images of one size."""
        key = (tokens, tuple(grid.tolist()))
        if key not in self._positions:
            ids = torch.tensor([tokens])
            kinds = (ids == self.core.config.image_token_id).int()
            known = {"input_ids": ids, "mm_token_type_ids": kinds, "image_grid_thw": grid[None]}
            positions, deltas = self.core.get_rope_index(**known, attention_mask=torch.ones_like(ids))
            self._positions[key] = (positions[:, 0], len(tokens) + int(deltas))
        return self._positions[key]

    def _read_rests(self, past: _Read, rests: list[list[int]], draft: list[int]) -> tuple[_Read, torch.Tensor]:
        """What follows the beginnings, and the states after the prompt and after each draft token."""
        ids, mask = self._padded([rest + draft for rest in rests])
        positions = past.next_position[:, None] + (mask.cumsum(1) - 1).clamp(min=0)  # (rows, tokens)
        hidden = self.core.get_input_embeddings()(ids)
        count = len(draft) + 1
        keys, values, states = self._read(hidden, mask, positions.expand(3, -1, -1), states=count, past=past)
        return _Read(keys, values, ids, mask, positions[:, -1] + 1), states

    def _padded(self, lists: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width, pad = max(map(len, lists)), self.processor.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(tokens)) + tokens for tokens in lists])
        mask = torch.arange(width) >= width - torch.tensor([len(tokens) for tokens in lists])[:, None]
        return ids.to(self.core.device), mask.to(self.core.device)

    def _read(self, hidden, mask, positions, *, states: int, past: _Read | None = None, deepstack=None):
        """Run the layers over (rows, tokens, hidden) and return keys, values and the final states of the last tokens.

        ``positions`` is (3, rows, tokens); ``deepstack`` is (which tokens show the image, features a layer).
        """
        decoder = self.decoder
        rows, tokens, _ = hidden.shape
        split = (rows, tokens, -1, decoder.head_size)
        cos, sin = (t.flatten(0, 1)[:, None] for t in decoder.model.rotary_emb(hidden, positions))
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).tril()
        own = torch.eye(tokens, dtype=torch.bool, device=mask.device)  # or padding would look at nothing
        visible = (causal & mask[:, None, :] | own)[:, None]  # (rows, 1, tokens, tokens)
        if past is not None:
            visible = torch.cat([past.mask[:, None, None].expand(-1, 1, tokens, -1), visible], dim=3)
        keys, values, hidden = [], [], hidden.flatten(0, 1)
        for i, layer in enumerate(decoder.layers):
            turned = layer.project(hidden, decoder.heads, decoder.key_heads, decoder.head_size, (cos, sin))
            queries, key, value = (t.reshape(split).transpose(1, 2) for t in turned)
            keys.append(key)
            values.append(value)
            if i + 1 == len(decoder.layers):  # only the wanted states go on
                hidden = hidden.view(rows, tokens, -1)[:, tokens - states :].flatten(0, 1)
                queries, visible = queries[:, :, tokens - states :], visible[:, :, tokens - states :]
                if not states:
                    return keys, values, None
            if past is not None:
                key, value = torch.cat([past.keys[i], key], dim=2), torch.cat([past.values[i], value], dim=2)
            read = F.scaled_dot_product_attention(
                queries, key, value, attn_mask=visible, scale=decoder.scaling, enable_gqa=True
            )  # (rows, heads, tokens, head size)
            hidden = layer.finish(hidden, read.transpose(1, 2).reshape(len(hidden), -1))
            if deepstack is not None and i < len(deepstack[1]):
                hidden[deepstack[0].flatten()] += deepstack[1][i].to(hidden.dtype)
        return keys, values, decoder.model.norm(hidden).view(rows, states, -1)

    def _accept(self, states: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
        """(rows,) how many tokens of the draft greedy decoding would write."""
        logits = self.decoder.logits(states[:, : len(draft)].flatten(0, 1))
        logits[:, self.barred] = -torch.inf
        greedy = logits.argmax(-1).view(len(states), -1)  # (rows, draft)
        return (greedy == draft).cumprod(1).sum(1)


# The features of the last tower in use, and the size of each image in patches: digest of the tower -> both.
_kept: dict[str, tuple[VisionFeatures, dict[str, torch.Tensor]]] = {}


def forget_images() -> None:
    """Give up the image features that were kept for the next reader (256 MiB at most)."""
    _kept.clear()


def _features(core: nn.Module, processor: Any) -> tuple[VisionFeatures, dict[str, torch.Tensor]]:
    """Features of images seen before by this very tower, or none yet.

    Where the merger has an adapter, what enters the merger is kept: that is the same for all adapters of a base.
    """
    adapted = {name.split(".")[0] for name, module in core.visual.named_modules() if hasattr(module, "lora_A")}
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in core.visual.modules())
    keepable = not hooked and adapted <= {"merger"}
    tower = _tower_digest(core, processor, adapted) if keepable else ""
    found = _kept.get(tower) or (VisionFeatures(core), {})
    found[0].trained = "merger" if adapted == {"merger"} else "nothing"  # nothing changes while answers are read
    if keepable:
        found[0].core = weakref.proxy(core)  # kept features must not keep a model
        forget_images()
        _kept[tower] = found
    return found


def _tower_digest(core: nn.Module, processor: Any, without: set[str]) -> str:
    """A digest of all that decides what a tower makes of an image, but for the parts ``without``."""
    settings = (core.config.vision_config.to_json_string(), processor.image_processor.to_json_string())
    found = hashlib.sha1(f"{settings} {core.device} {core.dtype} {sorted(without)}".encode())
    for name, weight in core.visual.state_dict().items():
        if name.split(".")[0] not in without:
            found.update(name.encode())
            found.update(weight.contiguous().flatten().view(torch.uint8).cpu().numpy())
    return found.hexdigest()


@contextmanager
def _patches_as_products(visual: nn.Module) -> Iterator[None]:
    """Let the patch embedding be one matrix product: its convolution never overlaps, and on a CPU it is slow."""
    embed = visual.patch_embed
    if type(embed.proj) is not nn.Conv3d:
        yield
        return
    weight, bias = embed.proj.weight, embed.proj.bias
    embed.forward = lambda patches: F.linear(patches.to(weight.dtype), weight.flatten(1), bias)
    try:
        yield
    finally:
        del embed.forward
