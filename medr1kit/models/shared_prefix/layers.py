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

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

Norm = Callable[[torch.Tensor], torch.Tensor]
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
    return Layers(language_model) if known and full and all(_kind([one]) is _Joined for one in maps) else None


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
        self.inwards, self.out = _joined(*inwards, after=layer.input_layernorm), _joined(out)
        self.gates, self.down = _joined(gate, up, after=layer.post_attention_layernorm), _joined(down)
        self.norm: Norm | None = None
        if hasattr(attention, "q_norm"):  # Qwen3
            self.norm_of, self.gain = attention, attention.q_norm.weight.new_empty(self.turned, head_size)
            self.norm = _norm_by(self.gain, attention.q_norm.variance_epsilon)
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


def _norm(module: nn.Module, gain: bool = True) -> Norm:
    return _norm_by(module.weight.detach(), module.variance_epsilon, gain)


def _norm_by(weight: torch.Tensor, epsilon: float, gain: bool = True) -> Norm:
    """A Qwen RMS norm in few kernels; in half precision it rounds where Qwen's rounds, and has no gradient."""
    small = weight.new_tensor(epsilon, dtype=torch.promote_types(weight.dtype, torch.float32))
    share = 1 / weight.shape[-1]

    def norm(hidden: torch.Tensor) -> torch.Tensor:
        power = torch.add(small, torch.linalg.vecdot(hidden, hidden), alpha=share)  # (tokens,)
        normed = hidden * power.rsqrt()[..., None]
        return normed * weight if gain else normed

    def half(hidden: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=small.dtype)
        power = torch.addcmul(small, length, length, value=share)  # (tokens, 1)
        return torch.mul(hidden, power.rsqrt(), out=torch.empty_like(hidden)) * weight

    return half if weight.dtype in (torch.float16, torch.bfloat16) else norm


def _base(module: nn.Module) -> nn.Module:
    return module.get_base_layer() if hasattr(module, "lora_A") else module


def _is_product(module: nn.Module) -> bool:
    """Whether a linear map is a product: plain, or with plain LoRA, whose dropout is off here."""
    if type(_base(module)) is not nn.Linear:
        return False
    if not hasattr(module, "lora_A"):
        return True
    more_than_a_product = getattr(module, "lora_variant", {}), getattr(module, "use_dora", {}), module.lora_bias
    return not any(settings.get(name) for settings in more_than_a_product for name in module.active_adapters)


def _factors(module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """A, B and the scale of each adapter that acts on a linear map."""
    if type(module) is nn.Linear or module.disable_adapters or module.merged:
        return []
    acting = [name for name in module.active_adapters if name in module.lora_A]
    return [(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]) for name in acting]


def _joined(*modules: nn.Module, after: nn.Module | None = None) -> _Apart:
    """Linear maps of the same input, after a norm if there is one, as one call; their outputs one after the other."""
    return _kind(modules)(modules, after)


def _kind(modules: Sequence[nn.Module]) -> type[_Apart]:
    """How linear maps of the same input are called: as one matrix, with their adapters beside them, or as they are."""
    if not all(map(_is_product, modules)):
        return _Apart
    (dtype, *others) = {_base(module).weight.dtype for module in modules}
    kinds = {torch.float32: _Joined, torch.bfloat16: _Beside, torch.float16: _Beside}
    return _Apart if others else kinds.get(dtype, _Apart)


class _Apart:
    """Linear maps called as they are."""

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        self.modules, self.norm = modules, None if after is None else _norm(after)

    def renew(self) -> None:
        """Take over weights that have changed, at the same place in memory."""

    def entering(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.norm is None else self.norm(hidden)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.outcome(self.entering(hidden))

    def outcome(self, entering: torch.Tensor) -> torch.Tensor:
        found = [module(entering) for module in self.modules]
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)


class _WithFactors(_Apart):
    """Linear maps without their adapters, and the adapters' factors for themselves.

    Attributes:
        factors: A, B, A, B, … of all adapters that act.
        ranks: of each adapter.
        spans: of each adapter its rows in the joined output, and its scale.
    """

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        super().__init__([_base(module) for module in modules], after)
        ends = torch.tensor([0, *(len(base.weight) for base in self.modules)]).cumsum(0).tolist()
        rows = [slice(*pair) for pair in pairwise(ends)]
        acting = [(span, *factor) for span, module in zip(rows, modules) for factor in _factors(module)]
        self.factors = [factor for _, down, up, _ in acting for factor in (down, up)]
        self.ranks, self.spans = [len(down) for _, down, *_ in acting], [(span, scale) for span, *_, scale in acting]
        self.rows, self.outputs, self.inputs = rows, ends[-1], self.modules[0].in_features

    def adapters(self) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor, float]]:
        """Of each adapter its rows in the joined output, its places among all ranks, A, B and the scale."""
        rank = 0
        for (span, scale), down, up in zip(self.spans, self.factors[::2], self.factors[1::2]):
            yield span, slice(rank, rank := rank + len(down)), down, up, scale


class _Beside(_WithFactors):
    """Linear maps as they are and all their adapters in two products beside them: in half precision.

    Their weights are not copied, which a large model would leave no room for. A and B are rounded to the weights'
    precision, as autocast rounds them when the loss is computed.
    """

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        super().__init__(modules, after)
        weight, ranks = self.modules[0].weight, sum(self.ranks)
        self.downs, self.ups = weight.new_zeros(ranks, self.inputs), weight.new_zeros(ranks, self.outputs)

    def renew(self) -> None:
        for rows, places, down, up, scale in self.adapters():
            self.downs[places] = down
            self.ups[places, rows] = up.t() * scale

    def outcome(self, entering: torch.Tensor) -> torch.Tensor:
        found = super().outcome(entering)
        return torch.addmm(found, F.linear(entering, self.downs), self.ups) if self.ranks else found


class _Joined(_WithFactors):
    """Linear maps as one matrix, a norm's gain and adapters in it, and the adapters' factors beside it.

    ``whole`` is (out + all ranks, in + all ranks)::

        W + BA, with the gain    B, scaled
        A, with the gain         nothing

    so that one product with its first columns gives the output and what A makes of the input, and one with its first
    rows what goes back to the input and, through B, to A.
    """

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        super().__init__(modules, after)
        ranks = sum(self.ranks)
        self.whole = self.modules[0].weight.new_zeros(self.outputs + ranks, self.inputs + ranks)
        self.gain = self.bias = None
        if after is not None:
            self.norm, self.gain = _norm(after, gain=False), after.weight.detach()
        if any(base.bias is not None for base in self.modules):
            self.bias = self.whole.new_zeros(len(self.whole))

    def renew(self) -> None:
        for rows, base in zip(self.rows, self.modules):
            self.whole[rows, : self.inputs] = base.weight
            if base.bias is not None:
                self.bias[rows] = base.bias
        for rows, places, down, up, scale in self.adapters():
            self.whole[rows, : self.inputs].addmm_(up, down, alpha=scale)
            self.whole[self.outputs :, : self.inputs][places] = down
            torch.mul(up, scale, out=self.whole[rows, self.inputs :][:, places])
        if self.gain is not None:
            self.whole[:, : self.inputs].mul_(self.gain)

    def outcome(self, entering: torch.Tensor) -> torch.Tensor:
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
