"""Answers from a shared prefix: greedy ones have the tokens of ``generate``, without its repeated work.

Prompts about one image begin alike: the chat's head, then the image. That beginning is read once and every question
continues it, as completions continue a prompt in training::

    <|im_start|>user <image> ┬ Which organ is it? … <|im_start|>assistant
                             └ What is seen? …      <|im_start|>assistant
           once an image                  once a question

Every image goes through the vision tower once, also if another model with the same tower has read it before. Rows leave
the batch as soon as they are done: at an end token, at the limit, or, where only the answer is wanted, when a text is
*closed*.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from medr1kit.models.load import base_of, image_token_ids
from medr1kit.models.processor import SUPPORTED
from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.graphs import StaticDecoder, graphs_asked
from medr1kit.models.shared_prefix.layers import joined_layers
from medr1kit.models.shared_prefix.prompts import Prefix, cut_up, follow, numbered, place, prefill, tokens_of
from medr1kit.models.shared_prefix.sampling import by_share, most_probable, sample
from medr1kit.models.shared_prefix.vision import Pixels, kept_features, names_of


class Reader:
    """Reads prompts about images, what they have in common once.

    Args:
        model: a Qwen-VL, with or without LoRA, in evaluation mode; its weights must not change in the meantime.
        processor: the model's.

    Attributes:
        vision: image features; it counts the images that went through the vision tower, also for earlier readers.
        beginnings: beginnings read so far.
        head: the output embedding.
        barred: ids of tokens that no answer holds.
    """

    def __init__(self, model: Any, processor: Any):
        base = base_of(model)
        self.core, self.head, self.processor, self.barred = base.model, base.lm_head, processor, image_token_ids(base)
        with torch.no_grad():  # nothing is trained here
            self.layers = joined_layers(base.model.language_model)
        self.vision = kept_features(base.model, processor)
        self.beginnings = 0

    @torch.inference_mode()
    def read(self, prompts: Sequence[str], pictures: Sequence[Any]) -> tuple[Prefix, list[int]]:
        """Return the distinct prompts, read, and which of them is each row's.

        Args:
            prompts: texts with one image placeholder each; long and short ones together cost padding.
            pictures: a PIL image for each; the same image may stand several times.
        """
        names = names_of(pictures)
        distinct, of_row = numbered(zip(prompts, names))
        images = self._look(dict(zip(names, pictures)))
        return self._read([text for text, _ in distinct], [images[name] for _, name in distinct]), of_row

    def _look(self, pictures: dict[str, Any]) -> dict[str, Pixels]:
        """The images by digest; of known ones nothing but the size is needed, so they are not even decoded."""
        known = {n: Pixels(n, torch.empty(0), self.vision.grid(n)) for n in pictures if self.vision.knows(n)}
        return known | cut_up(self.processor, {n: p for n, p in pictures.items() if n not in known})

    def _read(self, texts: list[str], images: list[Pixels]) -> Prefix:
        """Read what prompts about one image have in common once, and then what each of them goes on with."""
        shows, pad = self.core.config.image_token_id, self.processor.tokenizer.pad_token_id
        lists = tokens_of(self.processor, texts, images)
        ends = [len(ids) - ids[::-1].index(shows) for ids in lists]
        rests = [ids[end:] for ids, end in zip(lists, ends)]
        beginnings, of_row = numbered((tuple(ids[:end]), image.digest) for ids, end, image in zip(lists, ends, images))
        self.beginnings += len(beginnings)
        shown = {image.digest: image for image in images}
        starts, pictured = [list(tokens) for tokens, _ in beginnings], [shown[name] for _, name in beginnings]
        heads = place(self.core, starts, pictured, of_row, pad)
        prefix = prefill(self.core, heads, self.vision, self.layers)
        width = max(map(len, rests))
        ids = torch.tensor([rest + [pad] * (width - len(rest)) for rest in rests])  # (rows, tokens)
        inside = torch.arange(width) < torch.tensor([[len(rest)] for rest in rests])
        _, prefix = follow(self.core, prefix, heads.of_row, ids.to(self.core.device), inside.to(self.core.device))
        return prefix


class Answerer(Reader):
    """Answers prompts about images, greedily or by lot, batch by batch.

    Args:
        model, processor: as for :class:`Reader`.
        limit: completion tokens at most, 1 or more.
        ends: ids of tokens that end a completion.
        closed: a function of the text so far; a completion also ends when it returns True. It is asked after tokens
            that hold a ">". None: completions end by themselves.
        temperature: tokens are drawn at it, with torch's own random numbers; None: the most probable are taken.

    Attributes:
        row_steps: tokens decoded one by one, over all rows.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        limit: int,
        ends: set[int],
        closed: Callable[[str], bool] | None = None,
        temperature: float | None = None,
    ):
        super().__init__(model, processor)
        decoder = StaticDecoder if graphs_asked(self.core.device) else Decoder
        self.decoder = decoder(self.core.language_model, self.head, self.layers)
        self.limit, self.ends, self.closed, self.temperature = limit, ends, closed, temperature
        self.row_steps = 0
        decode = processor.tokenizer.decode
        self._may_close = cache(lambda token: ">" in decode([token], skip_special_tokens=True))

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], pictures: Sequence[Any]) -> list[tuple[str, int]]:
        """Return text and number of tokens of each answer, the end token included; arguments as in :meth:`read`."""
        prefix, of_row = self.read(prompts, pictures)
        rollouts = sample(
            self.decoder,
            prefix,
            torch.tensor(of_row, device=self.core.device),
            max_new_tokens=self.limit,
            end_tokens=self.ends,
            processors=self._settle,
            draw=most_probable if self.temperature is None else by_share,
            closed=self._is_closed if self.closed else None,
        )
        self.row_steps += rollouts.branch_steps
        return [(self._text(tokens), len(tokens)) for tokens in rollouts.tokens]

    def _settle(self, _: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        logits[:, self.barred] = -torch.inf
        return logits / self.temperature if self.temperature else logits

    def _is_closed(self, tokens: list[int]) -> bool:
        return self._may_close(tokens[-1]) and self.closed(self._text(tokens))

    def _text(self, tokens: list[int]) -> str:
        return self.processor.tokenizer.decode(tokens, skip_special_tokens=True)


def why_not_read(model: Any, adapter: Any = None) -> str | None:
    """Return why a model's prompts cannot be read once for many rows, or None where they can.

    Args:
        model: the model, with or without LoRA.
        adapter: configuration of one more adapter, or None.
    """
    base = base_of(model)
    if base.config.model_type not in SUPPORTED:
        return f"{base.config.model_type} is not one of {', '.join(SUPPORTED)}"
    if "mm_encoder_outputs" not in inspect.signature(base.model.forward).parameters:
        # It would be taken for any keyword and left aside: the answers would be those of a model that sees nothing.
        return "this transformers takes no image features that were computed before; 5.18 and later do"
    if getattr(base.model.language_model, "has_sliding_layers", False):
        return "the language model has sliding-window attention"
    rope = getattr(base.config.get_text_config(), "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        return "its rotary positions depend on the length of the sequence"
    for config in adapters_of(model, adapter):
        if config.peft_type != "LORA":
            return f"the adapter is {config.peft_type.value}, not LoRA"
    return None


def adapters_of(model: Any, adapter: Any) -> list[Any]:
    """Return the configurations of a model's adapters and, if it is not None, of one more."""
    return [*getattr(model, "peft_config", {}).values(), *([] if adapter is None else [adapter])]
