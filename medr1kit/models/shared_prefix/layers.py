"""A language model's layers as four products each, its adapter folded in: for whole texts and for single tokens.

For a small model most of the time goes into wrappers and small steps: LoRA's two extra products in every linear map,
masks made anew, norms in six kernels. :class:`Layers` runs the same layers with the adapter folded into the weights
(W + BA, a copy; the model stays as it is), with the norm's gain folded in, too, and with the maps of one input joined.
The gradient goes to the adapter by thin products, as if it had stood apart. In half precision the folding would round,
and other adapters than plain LoRA are no product; there the model's own maps are called, and whole texts are read by
transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

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
    return Layers(language_model) if known and full and all(map(_foldable, maps)) else None


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
        self.norm = _norm(language_model.norm)

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
        self.attention, self.act = layer.self_attn, layer.mlp.act_fn
        self.heads, self.turned, self.size = heads, heads + key_heads, head_size
        *inwards, out, gate, up, down = _linear_maps(layer)
        self.inwards, self.out = _joined(*inwards, after=layer.input_layernorm), _joined(out)
        self.gates, self.down = _joined(gate, up, after=layer.post_attention_layernorm), _joined(down)

    def project(self, hidden: torch.Tensor, turn: Turn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries (tokens, heads, size), keys and values (tokens, key heads, size), turned to their position."""
        mixed = self.inwards(hidden).unflatten(1, (-1, self.size))
        turning, values = mixed[:, : self.turned], mixed[:, self.turned :]
        if hasattr(self.attention, "q_norm"):  # Qwen3
            queries, keys = turning[:, : self.heads], turning[:, self.heads :]
            turning = torch.cat([self.attention.q_norm(queries), self.attention.k_norm(keys)], dim=1)
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


def _norm(module: nn.Module, gain: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    """A Qwen RMS norm in few kernels in float32; in half precision, where its steps round, the module itself."""
    if module.weight.dtype != torch.float32:
        return module
    weight, epsilon = module.weight.detach(), module.weight.new_tensor(module.variance_epsilon)

    def norm(hidden: torch.Tensor) -> torch.Tensor:
        power = torch.add(epsilon, torch.linalg.vecdot(hidden, hidden), alpha=1 / hidden.shape[-1])  # (tokens,)
        normed = hidden * power.rsqrt()[..., None]
        return normed * weight if gain else normed

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


def _factors(module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """A, B and the scale of each adapter that acts on a linear map."""
    if type(module) is nn.Linear or module.disable_adapters or module.merged:
        return []
    acting = [name for name in module.active_adapters if name in module.lora_A]
    return [(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]) for name in acting]


def _joined(*modules: nn.Module, after: nn.Module | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Linear maps of the same input, after a norm if there is one, as one call; their outputs one after the other."""
    if all(map(_foldable, modules)):
        return _Joined(modules, after)
    norm = (lambda hidden: hidden) if after is None else _norm(after)

    def apart(hidden: torch.Tensor) -> torch.Tensor:
        normed = norm(hidden)
        return torch.cat([module(normed) for module in modules], dim=-1)

    return apart


class _Joined:
    """Linear maps as one matrix, a norm's gain and adapters in it, and the adapters' factors beside it.

    ``whole`` is (out + all ranks, in + all ranks)::

        W + BA, with the gain    B, scaled
        A, with the gain         nothing

    so that one product with its first columns gives the output and what A makes of the input, and one with its first
    rows what goes back to the input and, through B, to A.
    """

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        weights = [m.weight if type(m) is nn.Linear else m.get_base_layer().weight for m in modules]
        factors = [_factors(module) for module in modules]
        self.factors = [factor for of_one in factors for *pair, _ in of_one for factor in pair]  # A, B, A, B, …
        self.ranks = [len(down) for down in self.factors[::2]]
        self.outputs, self.inputs = sum(map(len, weights)), weights[0].shape[1]
        self.whole = weights[0].new_zeros(self.outputs + sum(self.ranks), self.inputs + sum(self.ranks))
        self.spans: list[tuple[slice, float]] = []  # of each adapter its rows and its scale
        start, rank = 0, 0
        for weight, of_one in zip(weights, factors):
            rows = slice(start, start + len(weight))
            folded = self.whole[rows, : self.inputs].copy_(weight)
            for down, up, scale in of_one:
                folded.addmm_(up, down, alpha=scale)
                self.whole[self.outputs + rank :, : self.inputs][: len(down)] = down
                torch.mul(up, scale, out=self.whole[rows, self.inputs + rank :][:, : len(down)])
                self.spans.append((rows, scale))
                rank += len(down)
            start = rows.stop
        self.norm, self.gain, self.bias = None, None, None
        if after is not None:
            self.norm, self.gain = _norm(after, gain=False), after.weight.detach()
            self.whole[:, : self.inputs].mul_(self.gain)
        if any(module.bias is not None for module in modules):
            biases = [w.new_zeros(len(w)) if m.bias is None else m.bias for m, w in zip(modules, weights)]
            self.bias = F.pad(torch.cat(biases), (0, sum(self.ranks)))

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        entering = hidden if self.norm is None else self.norm(hidden)
        if torch.is_grad_enabled() and any(factor.requires_grad for factor in self.factors):
            return _Product.apply(entering, self, *self.factors)
        return self.product(entering, self.outputs)

    def product(self, entering: torch.Tensor, rows: int) -> torch.Tensor:
        return F.linear(entering, self.whole[:rows, : self.inputs], None if self.bias is None else self.bias[:rows])


class _Product(torch.autograd.Function):
    """A product with joined maps; what it sends back to LoRA's factors are thin products, never a whole matrix."""

    @staticmethod
    def forward(ctx, entering: torch.Tensor, joined: _Joined, *factors: torch.Tensor) -> torch.Tensor:
        both = joined.product(entering, len(joined.whole))
        ctx.joined = joined
        ctx.save_for_backward(entering, both[:, joined.outputs :], *factors)
        return both[:, : joined.outputs]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, sent: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        joined, (entering, low, *_) = ctx.joined, ctx.saved_tensors  # low: what A made of it, (tokens, all ranks)
        back, through = (sent @ joined.whole[: joined.outputs]).split([joined.inputs, sum(joined.ranks)], dim=1)
        to_downs, to_ups = through.t() @ entering, sent.t() @ low  # (all ranks, in) and (out, all ranks)
        if joined.gain is not None:
            to_downs = to_downs * joined.gain
        parts = zip(joined.spans, to_downs.split(joined.ranks), to_ups.split(joined.ranks, dim=1))
        pairs = ((down, up[rows] * scale) for (rows, scale), down, up in parts)
        return back, None, *(gradient for pair in pairs for gradient in pair)
