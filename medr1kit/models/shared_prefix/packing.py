"""The shared prefix under gradient checkpointing: a prompt and its completions packed into one sequence.

Checkpointed layers keep no cache, so a completion cannot continue stored keys. Instead a prompt is followed in one
sequence by all its completions, and a mask lets each completion see the prompt and itself::

                 prompt   completion 1   completion 2
    prompt         ◣            ·              ·
    completion 1   ■            ◣              ·
    completion 2   ■            ·              ◣

The rotary positions of each completion begin where the prompt ends. The sums are those of separate rows again.
"""

from __future__ import annotations

import torch
from torch import nn

from medr1kit.models.shared_prefix.prompts import Prompts
from medr1kit.models.shared_prefix.scoring import distinct_rows, on_grid, predict_tokens
from medr1kit.models.shared_prefix.vision import VisionFeatures


def score_packed(
    core: nn.Module,
    head: nn.Module,
    vision: VisionFeatures,
    prompts: Prompts,
    prompt_of_row: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probability and entropy of every completion token; arguments and results as in :func:`score`.

    The attention must take a mask of queries by keys: PyTorch's ``sdpa`` does, flash attention does not.
    """
    (owners, ids, lengths), inverse = distinct_rows(prompt_of_row, completion_ids, completion_mask)
    layout = _Layout(prompts, owners, lengths)
    packed = layout.ids(prompts, ids)  # (prompts, places)
    hidden = core(
        input_ids=packed,
        attention_mask=layout.mask(prompts),
        position_ids=layout.positions(prompts),
        mm_encoder_outputs=vision(prompts.images),
        use_cache=False,
    ).last_hidden_state  # (prompts, places, hidden)
    rows, places = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).nonzero(as_tuple=True)
    before = layout.start[rows] + places - 1  # where the state stands that predicts the token
    before = torch.where(places == 0, prompts.input_ids.shape[1] - 1, before)
    found = predict_tokens(head, hidden[owners[rows], before], ids[rows, places], temperature, entropy_gradient)
    return tuple(grid[inverse] for grid in on_grid(ids.shape, rows, places, found))


class _Layout:
    """Which place of which packed sequence holds which token of which completion."""

    def __init__(self, prompts: Prompts, owners: torch.Tensor, lengths: torch.Tensor):
        head = prompts.input_ids.shape[1]
        self.width = [head] * len(prompts)
        starts = []
        for owner, length in zip(owners.tolist(), lengths.tolist()):
            starts.append(self.width[owner])
            self.width[owner] += max(length - 1, 0)  # the last token predicts nothing that is scored
        self.start = torch.tensor(starts, device=owners.device)  # (pairs,) place of each completion's first token
        fed = (lengths - 1).clamp(min=0)
        self.pair = torch.repeat_interleave(torch.arange(len(owners), device=owners.device), fed)  # (fed tokens,)
        self.step = torch.arange(len(self.pair), device=owners.device) - (fed.cumsum(0) - fed)[self.pair]
        self.row, self.place = owners[self.pair], self.start[self.pair] + self.step  # (fed tokens,) each
        self.shape = (len(prompts), max(self.width))

    def ids(self, prompts: Prompts, completions: torch.Tensor) -> torch.Tensor:
        packed = prompts.input_ids.new_zeros(self.shape)
        packed[:, : prompts.input_ids.shape[1]] = prompts.input_ids
        packed[self.row, self.place] = completions[self.pair, self.step]
        return packed

    def positions(self, prompts: Prompts) -> torch.Tensor:
        positions = prompts.position_ids.new_zeros(3, *self.shape)
        positions[..., : prompts.input_ids.shape[1]] = prompts.position_ids
        positions[:, self.row, self.place] = prompts.next_position[self.row] + self.step
        return positions

    def mask(self, prompts: Prompts) -> torch.Tensor:
        """(prompts, 1, queries, keys), True where a query looks; unused places look at themselves only."""
        (n, width), device = self.shape, self.row.device
        segment = torch.full((n, width), -2, device=device)  # -2 unused, -1 prompt, else the completion
        segment[:, : prompts.input_ids.shape[1]] = torch.where(prompts.attention_mask.bool(), -1, -2)
        segment[self.row, self.place] = self.pair
        queries, keys = segment[:, :, None], segment[:, None, :]
        earlier = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        seen = earlier & (keys != -2) & ((keys == -1) | (keys == queries))
        return (seen | torch.eye(width, dtype=torch.bool, device=device))[:, None]
