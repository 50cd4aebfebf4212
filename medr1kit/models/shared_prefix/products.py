"""Linear maps of one input as one call, their adapters in them or beside them, and the norm before them.

:func:`joined` picks how: in float32 as one matrix (:class:`Joined`), W + BA with the norm's gain in it; in half
precision, where that would round, as they are, with all adapters in two products beside them (:class:`Beside`); and
other adapters than plain LoRA as they are (:class:`Apart`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

Norm = Callable[[torch.Tensor], torch.Tensor]


def norm_of(module: nn.Module, gain: bool = True) -> Norm:
    """Return what a Qwen RMS norm does, with its gain or without."""
    return norm_by(module.weight.detach(), module.variance_epsilon, gain)


def norm_by(weight: torch.Tensor, epsilon: float, gain: bool = True) -> Norm:
    """Return a Qwen RMS norm in few kernels; in half precision it rounds where Qwen's rounds, and has no gradient."""
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


def joined(*modules: nn.Module, after: nn.Module | None = None) -> Apart:
    """Return linear maps of one input, after a norm if there is one, as one call; outputs stand one after the other."""
    return kind_of(modules)(modules, after)


def kind_of(modules: Sequence[nn.Module]) -> type[Apart]:
    """Return how linear maps of one input are called: as one matrix, with adapters beside them, or as they are."""
    if not all(map(_is_product, modules)):
        return Apart
    (dtype, *others) = {_base(module).weight.dtype for module in modules}
    kinds = {torch.float32: Joined, torch.bfloat16: Beside, torch.float16: Beside}
    return Apart if others else kinds.get(dtype, Apart)


class Apart:
    """Linear maps called as they are."""

    def __init__(self, modules: Sequence[nn.Module], after: nn.Module | None):
        self.modules, self.norm = modules, None if after is None else norm_of(after)

    def renew(self) -> None:
        """Take over weights that have changed, at the same place in memory."""

    def entering(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.norm is None else self.norm(hidden)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.outcome(self.entering(hidden))

    def outcome(self, entering: torch.Tensor) -> torch.Tensor:
        found = [module(entering) for module in self.modules]
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)


class WithFactors(Apart):
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


class Beside(WithFactors):
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


class Joined(WithFactors):
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
            self.norm, self.gain = norm_of(after, gain=False), after.weight.detach()
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
    def forward(ctx, entering: torch.Tensor, joined: Joined, *factors: torch.Tensor) -> torch.Tensor:
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
