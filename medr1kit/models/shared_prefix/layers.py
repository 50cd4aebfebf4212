"""A language model's layers as four products each, its adapter folded in: for whole texts and for single tokens.

For a small model most of the time goes into wrappers and small steps: LoRA's two extra products in every linear map,
masks made anew, norms in six kernels. :class:`Layers` runs the same layers with the adapter folded into the weights
(W + BA, a copy; the model stays as it is), with the norm's gain folded in, too, and with the maps of one input joined.
The gradient goes to the adapter by thin products, as if it had stood apart.

In half precision the folding would round: there single tokens go through the model's own weights, the adapters of all
maps of one input beside them in two products, and whole texts are read by transformers. Other adapters than plain LoRA
are no product; their maps are called as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from medr1kit.models.shared_prefix.products import Joined, Norm, joined, kind_of, norm_by, norm_of

Turn = tuple[torch.Tensor, torch.Tensor]  # cosine and signed sine of each token's angles, (tokens, 1, head size)


def joined_layers(language_model: nn.Module) -> Layers | None:
    """Return layers that read whole texts as transformers does, or None where they would not.

    They do in full precision, where every map is a product with its adapter, and nothing else inside gets a gradient.
    """
    norm, inside = language_model.norm.weight, language_model.layers.named_parameters()
    trained = (name for name, weight in inside if weight.requires_grad)
    if torch.is_grad_enabled() and (norm.requires_grad or not all("lora_" in name for name in trained)):
        return None
    maps = (one for layer in language_model.layers for one in _linear_maps(layer))
    # Before it had this method its angles came for each axis of an image apart.
    known = hasattr(language_model.rotary_emb, "recomposition_frequencies")
    full = norm.dtype == torch.float32 and not torch.is_autocast_enabled(norm.device.type)
    return Layers(language_model) if known and full and all(kind_of([one]) is Joined for one in maps) else None


class Layers:
    """The decoder layers of a language model, with its weights and adapters of now.

    Args:
        language_model: the text model of a Qwen-VL, with or without LoRA on its linear maps.
    """

    @torch.no_grad()
    def __init__(self, language_model: nn.Module):
        self.model, first = language_model, language_model.layers[0].self_attn
        self.head_size, self.scaling = first.head_dim, first.scaling
        self.heads = first.q_proj.out_features // self.head_size
        self.key_heads = first.k_proj.out_features // self.head_size
        self.layers = [_Layer(layer, self.heads, self.key_heads, self.head_size) for layer in language_model.layers]
        self.norm = norm_of(language_model.norm)

    @torch.no_grad()
    def renew(self) -> None:
        """Take over weights that an optimizer has changed, where they stand: a recorded step goes on reading there."""
        for layer in self.layers:
            layer.renew()

    def turn(self, like: torch.Tensor, positions: torch.Tensor) -> Turn:
        """Return how queries and keys at rotary positions, (3, rows, tokens), are turned."""
        cos, sin = (angles.flatten(0, -2)[:, None] for angles in self.model.rotary_emb(like, positions))
        return cos, torch.cat([-sin[..., : self.head_size // 2], sin[..., self.head_size // 2 :]], dim=-1)

    def read(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        looks: torch.Tensor,
        past: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]] | None = None,
        *,
        added: Sequence[Callable[[torch.Tensor], torch.Tensor]] = (),
        last_only: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Read texts, each token through all layers.

        Args:
            hidden: embedded tokens (rows, tokens, hidden).
            positions: rotary positions (3, rows, tokens).
            looks: (rows, tokens, keys) bool, True where a token looks; every token looks at one at least.
            past: keys and values that come before, for each layer (rows, key heads, keys before, head size).
            added: what is done to the hidden states, (all tokens, hidden), behind the first layers.
            last_only: let the last layer give the state of the last token only.

        Returns:
            Final hidden states (rows, tokens or 1, hidden), and for each layer keys and values, past ones included.
        """
        (rows, tokens, _), together = hidden.shape, self.heads // self.key_heads
        turn, hidden = self.turn(hidden, positions), hidden.flatten(0, 1)
        mask = torch.zeros(looks.shape, dtype=hidden.dtype, device=hidden.device).masked_fill_(~looks, -torch.inf)
        mask = mask[:, None].repeat(1, 1, together, 1)
        all_keys, all_values = [], []
        for i, layer in enumerate(self.layers):
            queries, *new = layer.project(hidden, turn)
            keys, values = (part.unflatten(0, (rows, -1)).transpose(1, 2) for part in new)
            if past is not None:
                keys, values = (torch.cat([old[i], now], dim=2) for old, now in zip(past, (keys, values)))
            all_keys.append(keys)
            all_values.append(values)
            queries = queries.view(rows, tokens, self.key_heads, together, -1)
            if last_only and i == len(self.layers) - 1:
                queries, mask, tokens = queries[:, -1:], mask[:, :, tokens - 1 :: tokens], 1
                hidden = hidden.view(rows, -1, hidden.shape[-1])[:, -1]
            # The query heads that share a key head stand as its queries, so that no key is copied.
            read = F.scaled_dot_product_attention(
                queries.permute(0, 2, 3, 1, 4).flatten(2, 3),
                keys,
                values,
                attn_mask=mask,
                scale=self.scaling,
            )  # (rows, key heads, queries a key head, head size)
            read = read.unflatten(2, (together, tokens)).permute(0, 3, 1, 2, 4).reshape(rows * tokens, -1)
            hidden = layer.finish(hidden, read)
            if i < len(added):
                hidden = added[i](hidden)
        return self.norm(hidden).view(rows, tokens, -1), all_keys, all_values


class _Layer:
    """A decoder layer whose projections are two products instead of five."""

    def __init__(self, layer: nn.Module, heads: int, key_heads: int, head_size: int):
        self.act, attention = layer.mlp.act_fn, layer.self_attn
        self.heads, self.turned, self.size = heads, heads + key_heads, head_size
        *inwards, out, gate, up, down = _linear_maps(layer)
        self.inwards, self.out = joined(*inwards, after=layer.input_layernorm), joined(out)
        self.gates, self.down = joined(gate, up, after=layer.post_attention_layernorm), joined(down)
        self.norm: Norm | None = None
        if hasattr(attention, "q_norm"):  # Qwen3
            self.norm_of, self.gain = attention, attention.q_norm.weight.new_empty(self.turned, head_size)
            self.norm = norm_by(self.gain, attention.q_norm.variance_epsilon)
        self.renew()

    def renew(self) -> None:
        for maps in (self.inwards, self.out, self.gates, self.down):
            maps.renew()
        if self.norm is not None:
            self.gain[: self.heads] = self.norm_of.q_norm.weight
            self.gain[self.heads :] = self.norm_of.k_norm.weight

    def project(self, hidden: torch.Tensor, turn: Turn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries (tokens, heads, size), keys and values (tokens, key heads, size), turned to their position."""
        mixed = self.inwards(hidden).unflatten(1, (-1, self.size))
        turning, values = mixed[:, : self.turned], mixed[:, self.turned :]
        if self.norm is not None:
            turning = self.norm(turning)
        cos, sin = turn
        turned = torch.addcmul(turning * cos, turning.roll(self.size // 2, -1), sin)
        return turned[:, : self.heads], turned[:, self.heads :], values

    def finish(self, hidden: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Hidden states after attention's output map and the feed-forward part, with both residuals."""
        hidden = hidden + self.out(read)
        gate, up = self.gates(hidden).chunk(2, dim=-1)
        return hidden + self.down(self.act(gate) * up)


def _linear_maps(layer: nn.Module) -> tuple[nn.Module, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    of_attention = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
    return *of_attention, mlp.gate_proj, mlp.up_proj, mlp.down_proj
