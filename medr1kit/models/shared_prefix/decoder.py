"""One token a row a call: the language model's inner loop without its wrappers.

Sampling calls the language model once a token. For a small model most of that time goes into wrappers: masks built
anew, caches grown by copying, LoRA's two extra products in every linear map. :class:`Decoder` runs the same layers on
keys and values of fixed size, with the adapter folded into the weights (W + BA, a copy; the model stays as it is) and
the projections of a layer joined in one product. In half precision the folding would round, so there the model's own
linear maps are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

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
    """

    # Places for new tokens to begin with: most answers are short, and empty places would be copied with branches.
    spare = 16

    def __init__(self, language_model: nn.Module, head: nn.Module):
        self.model, self.head = language_model, head
        first = language_model.layers[0].self_attn
        self.head_size, self.scaling = first.head_dim, first.scaling
        self.heads = first.q_proj.out_features // self.head_size
        self.key_heads = first.k_proj.out_features // self.head_size
        self.layers = [_Layer(layer) for layer in language_model.layers]
        self.norm = _norm(language_model.norm)

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
        cos, sin = self.model.rotary_emb(keys[0], table.view(1, 1, -1).expand(3, 1, -1))  # (1, positions, head size)
        self.cos, self.sin = cos[0], sin[0]
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
        n = len(tokens)
        hidden = self.model.embed_tokens(tokens)  # (branches, hidden)
        position = state.position[:n]
        angles = (self.cos[position][:, None], self.sin[position][:, None])  # (branches, 1, head size)
        for i, layer in enumerate(self.layers):
            queries, keys, values = layer.project(hidden, self.heads, self.key_heads, self.head_size, angles)
            state.keys[i][:n, :, place] = keys[:, :, None]
            state.values[i][:n, :, place] = values[:, :, None]
            # The query heads that share a key head stand as its queries, so that no key is copied.
            read = F.scaled_dot_product_attention(
                queries.view(n, self.key_heads, -1, self.head_size),
                state.keys[i][:n, :, :end],
                state.values[i][:n, :, :end],
                attn_mask=state.visible[:n, ..., :end],
                scale=self.scaling,
            )  # (branches, key heads, queries a key head, head size)
            hidden = layer.finish(hidden, read.reshape(n, -1))
        return self.logits(self.norm(hidden))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits after final hidden states, (rows, vocabulary), in float32 as transformers samples."""
        return self.head(hidden).float()


class _Layer:
    """A decoder layer whose projections are two products instead of five."""

    def __init__(self, layer: nn.Module):
        self.layer, attention = layer, layer.self_attn
        self.before, self.between = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self.inwards, self.out = (
            _joined(attention.q_proj, attention.k_proj, attention.v_proj),
            _joined(attention.o_proj),
        )
        self.gates, self.down = _joined(layer.mlp.gate_proj, layer.mlp.up_proj), _joined(layer.mlp.down_proj)

    def project(self, hidden, heads: int, key_heads: int, size: int, angles):
        """Queries (rows, heads, size), keys and values (rows, key heads, size), turned to their position."""
        attention = self.layer.self_attn
        mixed = self.inwards(self.before(hidden)).view(len(hidden), -1, size)
        turning, values = mixed[:, : heads + key_heads], mixed[:, heads + key_heads :]
        if hasattr(attention, "q_norm"):  # Qwen3
            turning = torch.cat([attention.q_norm(turning[:, :heads]), attention.k_norm(turning[:, heads:])], dim=1)
        cos, sin = angles
        low, high = turning.chunk(2, dim=-1)
        turned = turning * cos + torch.cat([-high, low], dim=-1) * sin
        return turned[:, :heads], turned[:, heads:], values

    def finish(self, hidden, read):
        """Hidden states after attention's output map and the feed-forward part, with both residuals."""
        hidden = hidden + self.out(read)
        gate, up = self.gates(self.between(hidden)).chunk(2, dim=-1)
        return hidden + self.down(self.layer.mlp.act_fn(gate) * up)


def _norm(module: nn.Module):
    """A Qwen RMS norm in few kernels in float32; in half precision, where its steps round, the module itself."""
    if module.weight.dtype != torch.float32:
        return module
    weight, epsilon = module.weight.detach(), module.variance_epsilon

    def norm(hidden: torch.Tensor) -> torch.Tensor:
        power = torch.linalg.vecdot(hidden, hidden).div_(hidden.shape[-1])  # (branches,)
        return hidden * power.add_(epsilon).rsqrt_()[..., None] * weight

    return norm


def _foldable(module: nn.Module) -> bool:
    """Whether a linear map's effect is one matrix in float32: plain, or with plain LoRA whose dropout is off."""
    base = module.get_base_layer() if hasattr(module, "lora_A") else module
    if type(base) is not nn.Linear or base.weight.dtype != torch.float32:
        return False
    if base is module:
        return True
    more_than_a_product = getattr(module, "lora_variant", {}), getattr(module, "use_dora", {}), module.lora_bias
    return not any(settings.get(name) for settings in more_than_a_product for name in module.active_adapters)


def _weight(module: nn.Module) -> torch.Tensor:
    """The matrix of a linear map with what its adapters add."""
    if type(module) is nn.Linear or module.disable_adapters or module.merged:
        return module.weight
    return sum(
        (module.get_delta_weight(name) for name in module.active_adapters if name in module.lora_A), module.weight
    )


def _joined(*modules: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Linear maps of the same input as one call, their outputs one after the other."""
    if not all(map(_foldable, modules)):
        return lambda hidden: torch.cat([module(hidden) for module in modules], dim=-1)
    weight, bias = torch.cat([_weight(module) for module in modules]).detach(), None
    if any(module.bias is not None for module in modules):
        biases = [weight.new_zeros(m.out_features) if m.bias is None else m.bias for m in modules]
        bias = torch.cat(biases).detach()
    return lambda hidden: F.linear(hidden, weight, bias)
