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
import torch.nn.functional as F
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

    def _packed(self, prompts: torch.Tensor, fed: torch.Tensor, unused: int = 0) -> torch.Tensor:
        """Numbers of the prompts' tokens (..., prompts, tokens) and of those fed after them, in their places."""
        packed = F.pad(prompts, (0, max(self.width) - prompts.shape[-1]), value=unused)
        packed[..., self.row, self.place] = fed
        return packed

    def ids(self, prompts: Prompts, completions: torch.Tensor) -> torch.Tensor:
        return self._packed(prompts.input_ids, completions[self.pair, self.step])

    def positions(self, prompts: Prompts) -> torch.Tensor:
        return self._packed(prompts.position_ids, prompts.next_position[self.row] + self.step)

    def mask(self, prompts: Prompts) -> torch.Tensor:
        """(prompts, 1, queries, keys), True where a query looks; unused places look at themselves only."""
        segment = self._packed(prompts.attention_mask - 2, self.pair, unused=-2)  # -1 prompt, else the completion
        queries, keys = segment[:, :, None], segment[:, None, :]
        itself = torch.eye(segment.shape[1], dtype=torch.bool, device=segment.device)
        earlier = torch.ones_like(itself).tril()
        return (itself | earlier & (keys != -2) & ((keys == -1) | (keys == queries)))[:, None]
