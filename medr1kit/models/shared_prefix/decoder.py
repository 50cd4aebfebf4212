"""One token a row a call: the language model's inner loop without its wrappers.

Sampling calls the language model once a token. For a small model most of that time goes into wrappers: masks built
anew, caches grown by copying, LoRA's two extra products in every linear map. :class:`Decoder` runs the same layers, as
:mod:`medr1kit.models.shared_prefix.layers` has them, on keys and values of fixed size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from medr1kit.models.shared_prefix.layers import Layers
from medr1kit.models.shared_prefix.prompts import Prefix


@dataclass
class State:
    """Keys and values of the beginnings being continued, a *branch* each: the first ``count`` of the buffers."""

    keys: list[torch.Tensor]  # for each layer (room, key heads, places, head size)
    values: list[torch.Tensor]
    visible: torch.Tensor  # (room, 1, 1, places) which places hold a token to look at
    position: torch.Tensor  # (room,) rotary position of the next token
    count: int  # branches in use
    length: int  # places in use

    def widen(self, more: int) -> None:
        """Add empty places for ``more`` tokens; nobody looks at a place before its token is there."""
        self.keys, self.values = ([F.pad(t, (0, 0, 0, more)) for t in tensors] for tensors in (self.keys, self.values))
        self.visible = F.pad(self.visible, (0, more), value=True)

    def split(self, parents: list[int]) -> None:
        """Add a copy of each of these branches."""
        old, new = torch.tensor(parents, device=self.position.device), slice(self.count, self.count + len(parents))
        for tensor in (*self.keys, *self.values):
            tensor[new, :, : self.length] = tensor[old, :, : self.length]
        self.visible[new], self.position[new] = self.visible[old], self.position[old]
        self.count += len(parents)

    def keep(self, branches: list[int], room: int) -> None:
        """Go on with some branches only, numbered anew in this order, and room for their splits."""
        chosen = torch.tensor(branches + branches[:1] * (room - len(branches)), device=self.position.device)
        self.keys, self.values = ([tensor[chosen] for tensor in tensors] for tensors in (self.keys, self.values))
        self.visible, self.position = self.visible[chosen], self.position[chosen]
        self.count = len(branches)


class Decoder:
    """The language model and its head, one token at a time.

    Args:
        language_model: the text model of a Qwen-VL, with or without LoRA on its linear maps.
        head: the output embedding.
        layers: those of the language model as its weights are now, where they are at hand.
    """

    # Tokens drawn between two looks at them: looking makes a GPU wait, and only at a look rows branch and leave.
    ahead = 1
    # Places for new tokens to begin with: most answers are short, and empty places would be copied with branches.
    spare = 16

    def __init__(self, language_model: nn.Module, head: nn.Module, layers: Layers | None = None):
        self.model, self.head = language_model, head
        self.layers = Layers(language_model) if layers is None else layers

    def start(self, prefix: Prefix, prompt_of_branch: torch.Tensor, new_tokens: int, room: int = 0) -> State:
        """Return a state whose branches each continue one of the prompts.

        Args:
            prefix: the prompts, read.
            prompt_of_branch: (branches,) the prompt of each.
            new_tokens: tokens that will be appended at most.
            room: branches there can ever be, splits included; at least those of now.
        """
        count, used = len(prompt_of_branch), prefix.attention_mask.shape[1]
        room, places = max(room, count), used + min(new_tokens, self.spare)

        def widened(tensor: torch.Tensor) -> torch.Tensor:
            _, heads, _, size = tensor.shape
            wide = tensor.new_zeros(room, heads, places, size)
            wide[:count, :, :used] = tensor[prompt_of_branch]
            return wide

        visible = torch.ones(room, 1, 1, places, dtype=torch.bool, device=prompt_of_branch.device)
        visible[:count, 0, 0, :used] = prefix.attention_mask[prompt_of_branch].bool()
        keys, values = ([widened(t) for t in tensors] for tensors in (prefix.keys, prefix.values))
        position = prefix.next_position.new_zeros(room)
        position[:count] = prefix.next_position[prompt_of_branch]
        table = torch.arange(int(position.max()) + new_tokens + 1, device=position.device)
        # A text token has the same position on all three axes, so one table serves every section of the heads.
        self.turns = self.layers.turn(keys[0], table.view(1, 1, -1).expand(3, 1, -1))
        return State(keys, values, visible, position, count, used)

    def step(self, state: State, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token a branch, (branches,), and return the logits of the next, (branches, vocabulary)."""
        if state.length == state.visible.shape[-1]:
            state.widen(max(self.spare, state.length // 4))
        end = state.length + 1
        logits = self._through(state, tokens, slice(state.length, end), end)
        state.length = end
        state.position = state.position + 1
        return logits

    def _through(self, state: State, tokens: torch.Tensor, place: slice | torch.Tensor, end: int) -> torch.Tensor:
        """Logits after a token of each branch, which is written at a place and looks at the places before ``end``."""
        n, layers = len(tokens), self.layers
        hidden = self.model.embed_tokens(tokens)  # (branches, hidden)
        turn = tuple(angles[state.position[:n]] for angles in self.turns)
        hidden_places = ~state.visible[:n, ..., :end]
        mask = torch.zeros_like(hidden_places, dtype=hidden.dtype).masked_fill_(hidden_places, -torch.inf)
        for i, layer in enumerate(layers.layers):
            queries, keys, values = layer.project(hidden, turn)
            state.keys[i][:n, :, place] = keys[:, :, None]
            state.values[i][:n, :, place] = values[:, :, None]
            # The query heads that share a key head stand as its queries, so that no key is copied.
            read = F.scaled_dot_product_attention(
                queries.view(n, layers.key_heads, -1, layers.head_size),
                state.keys[i][:n, :, :end],
                state.values[i][:n, :, :end],
                attn_mask=mask,
                scale=layers.scaling,
            )  # (branches, key heads, queries a key head, head size)
            hidden = layer.finish(hidden, read.reshape(n, -1))
        return self.logits(layers.norm(hidden))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits after final hidden states, (rows, vocabulary), in float32 as transformers samples."""
        return self.head(hidden).float()
