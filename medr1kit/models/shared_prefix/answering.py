"""Greedy answers from a shared prefix: the same tokens as ``generate``, without its repeated work.

Every image goes through the vision tower once and is read by the language model once a batch; what the answer begins
with is read along with the prompt (:mod:`medr1kit.models.shared_prefix.reading`); rows leave the batch as soon as they
are done. A row is done at its end token, at the limit, or, where only the answer is wanted, when a text is *closed*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from medr1kit.models.load import base_of, image_token_ids
from medr1kit.models.shared_prefix.decoder import Decoder, State
from medr1kit.models.shared_prefix.prompts import Prefix
from medr1kit.models.shared_prefix.reading import QuestionReader

# The cache grows by doubling: most answers are short, and an empty cache for long ones would be copied with them.
_FIRST_ROOM = 16
# Rows that are done are taken out once they are a quarter of the batch, because taking out copies the others.
_WORTHWHILE = 0.75


class Answerer:
    """Answers prompts about images greedily, batch by batch.

    Args:
        model: a Qwen-VL, with or without LoRA, in evaluation mode; its weights must not change in the meantime.
        processor: the model's.
        limit: completion tokens at most, 1 or more.
        ends: ids of tokens that end a completion.
        opening: text that an answer probably begins with, such as "<answer>"; it changes nothing but the time.
        closed: a function of the text so far; a completion also ends when it returns True. It is asked after tokens
            that hold a ">". None: completions end by themselves.

    Attributes:
        reader: its counters say what was read.
        row_steps: tokens decoded one by one, over all rows.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        limit: int,
        ends: Sequence[int],
        opening: str = "",
        closed: Callable[[str], bool] | None = None,
    ):
        base = base_of(model)
        self.barred = image_token_ids(base)
        self.decoder = Decoder(base.model.language_model, base.lm_head)
        self.reader = QuestionReader(base.model, self.decoder, processor, self.barred)
        self.tokenizer, self.limit, self.ends, self.closed = processor.tokenizer, limit, frozenset(ends), closed
        draft = self.tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
        self.draft = draft[: limit - 1]  # the last token of an answer is never a draft's: it must be decoded
        self.row_steps = 0

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], pictures: Sequence[Any]) -> list[tuple[str, int]]:
        """Return text and number of tokens of each answer, the end token included.

        Args:
            prompts: texts with one image placeholder each; long and short ones together cost padding.
            pictures: a PIL image for each; the same image may stand several times.
        """
        distinct: dict[tuple[str, int], int] = {}
        of_row = [distinct.setdefault(pair, len(distinct)) for pair in zip(prompts, map(id, pictures))]
        by_id = {id(picture): picture for picture in pictures}
        texts, ids = zip(*distinct)
        prefix, accepted = self.reader(texts, [by_id[i] for i in ids], self.draft)
        said = [self.draft[:count] for count in accepted.tolist()]
        self._decode(prefix, said)
        answers = [(self._text(tokens), len(tokens)) for tokens in said]
        return [answers[i] for i in of_row]

    def _decode(self, prefix: Prefix, said: list[list[int]]) -> None:
        """Append to each row's tokens until it is done."""
        active = list(range(len(said)))  # the rows in the batch
        running = set(active)
        logits, state, room = self.decoder.logits(prefix.last_hidden), None, _FIRST_ROOM
        while True:
            logits[:, self.barred] = -torch.inf
            drawn = logits.argmax(-1)  # (active rows,)
            for row, token in zip(active, drawn.tolist()):
                if row in running:
                    said[row].append(token)
                    if self._done(said[row]):
                        running.discard(row)
            if not running:
                return
            if state is None:
                state = self.decoder.start(prefix, torch.arange(len(said), device=drawn.device), room)
            full = state.length == state.visible.shape[-1]
            if full or len(running) <= _WORTHWHILE * len(active):
                kept = [i for i, row in enumerate(active) if row in running]
                active, drawn = [active[i] for i in kept], drawn[kept]
                room = 2 * room if full else room
                state = self._restarted(prefix, state, kept, room)
            logits = self.decoder.step(state, drawn)
            self.row_steps += len(active)

    def _restarted(self, prefix: Prefix, state: State, kept: list[int], room: int) -> State:
        """A state of some of the rows, with room for more tokens."""
        so_far = replace(
            prefix,
            keys=tuple(keys[:, :, : state.length] for keys in state.keys),
            values=tuple(values[:, :, : state.length] for values in state.values),
            attention_mask=state.visible[:, 0, 0, : state.length],
            next_position=state.position,
        )
        return self.decoder.start(so_far, torch.tensor(kept, device=state.position.device), room)

    def _done(self, tokens: list[int]) -> bool:
        if tokens[-1] in self.ends or len(tokens) >= self.limit:
            return True
        return self.closed is not None and ">" in self._text(tokens[-1:]) and self.closed(self._text(tokens))

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)
