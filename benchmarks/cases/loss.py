"""The loss of one batch, forward and backward: every row apart, prompts shared here, and shared by PrefixGrouper.

Four prompts with an image each, eight completions a prompt, LoRA in the language model, no gradient in the tower. Stock
is transformers' own forward pass over prompt and completion of every row, padded, its head at completion positions
alone. `PrefixGrouper <https://github.com/johncaged/PrefixGrouper>`_ is measured where it is installed (``pip install
prefix_grouper``): its attention, called by transformers' own layers on each prompt with its completions behind it;
images once a prompt and the head of :mod:`medr1kit.models.shared_prefix.scoring`, as here. Each side encodes its
images. Completions are drawn tokens: of one length, or of lengths spread evenly from an eighth of it. Each side's
log-probabilities and gradients are held against stock's in float64.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.cases.timing import compared, say, timed
from medr1kit.data.load import load_vqa
from medr1kit.formats import NO_THINK
from medr1kit.models.adapters import lora
from medr1kit.models.load import load_model
from medr1kit.models.shared_prefix.prompts import Prompts, prefill, read_prompts
from medr1kit.models.shared_prefix.scoring import on_grid, predict_tokens, score
from medr1kit.models.shared_prefix.vision import VisionFeatures, doubled

REPEATS = 5
PROMPTS, GROUP = 4, 8
ROUNDING = 5e-6  # how far float32 may be from float64, or half as far again as stock is: the rule of the tests
CASES = {"loss_64_even": (64, True), "loss_64_ragged": (64, False), "loss_256_even": (256, True)}
LogProbs = torch.Tensor  # (rows, tokens), 0 behind a completion's end
Result = tuple[LogProbs, torch.Tensor]  # with the gradients of all weights, one behind the other


@dataclass(frozen=True)
class Batch:
    """Prompts, each once, and completions of rows that stand group by group."""

    model: Any  # with LoRA
    prompts: Prompts
    ids: torch.Tensor  # (rows, tokens), right-padded
    mask: torch.Tensor  # likewise

    @property
    def base(self) -> Any:
        return self.model.get_base_model()


def measure_all(repeats: int) -> list[dict]:
    """Return stock against sharing here, and PrefixGrouper against it where that is installed."""
    found = []
    for name, (tokens, even) in CASES.items():
        batch = batch_of(tokens, even)
        true = in_float64(batch)
        found.append(measure(name, batch, true, shared, repeats))
        if importlib.util.find_spec("prefix_grouper") is None:
            say(f"{name}_prefix_grouper: left out, prefix_grouper is not installed")
        else:
            found.append(measure(f"{name}_prefix_grouper", batch, true, grouped, repeats))
    return found


def batch_of(tokens: int, even: bool) -> Batch:
    """Return the batch of a case: questions about phantoms, and completions of tokens drawn at random."""
    from peft import get_peft_model

    model, processor = load_model("tiny", device="cpu")
    questions = load_vqa("phantoms", split="train", n=PROMPTS, seed=0)
    asked = [_turn(question) for question in questions for _ in range(GROUP)]
    prompts = read_prompts(processor, model.model, asked)
    torch.manual_seed(0)
    lengths = torch.full((len(asked), 1), tokens) if even else torch.randint(tokens // 8, tokens + 1, (len(asked), 1))
    mask = (torch.arange(tokens) < lengths).long()
    ids = torch.randint(10, 250, mask.shape) * mask  # words, no tokens of an image
    return Batch(get_peft_model(model, lora()).train(), prompts, ids, mask)


def _turn(question: dict) -> list[dict]:
    text = {"type": "text", "text": NO_THINK.prompt(question["problem"])}
    return [{"role": "user", "content": [{"type": "image", "image": question["image"]}, text]}]


def measure(name: str, batch: Batch, true: Result, way: Callable, repeats: int) -> dict:
    """Run stock and another way in turn; ``exact`` says that the other is as near to float64 as stock."""
    threads, turns, errors = torch.get_num_threads(), [], {stock: [], way: []}
    torch.set_num_threads(1)
    try:
        for turn in range(-1, repeats):  # turn -1: first calls are slow and are not counted
            pair = {}
            for side in (stock, way) if turn % 2 == 0 else (way, stock):
                found, pair[side] = timed(partial(_forward_and_back, side, batch))
                errors[side].append(_apart(found, true))
            turns.append([[pair[side]] for side in (stock, way)])
    finally:
        torch.set_num_threads(threads)
    theirs, ours = ([max(column) for column in zip(*errors[side])] for side in (stock, way))  # of both, the largest
    exact = all(own <= max(1.5 * limit, ROUNDING) for own, limit in zip(ours, theirs))
    facts = {
        f"{side}{what}_error": float(f"{error:.2g}")
        for side, pair in (("stock_", theirs), ("", ours))
        for what, error in zip(("logp", "gradient"), pair)
    }
    about = f"loss and backward of one batch, {batch.ids.shape[1]} new tokens at most"
    found = compared(name, *zip(*turns[1:]), exact=exact, **facts, rows=len(batch.ids), about=about)
    say(f"{name}: stock {found['stock_s']:.3g} s, fast {found['fast_s']:.3g} s, x{found['ratio']:.2f}")
    return found


def in_float64(batch: Batch) -> Result:
    """Return what stock gives in float64, norms and head included, which round to float32 otherwise."""
    model = deepcopy(batch.model).double()
    for norm in (part for part in model.modules() if hasattr(part, "variance_epsilon")):
        norm.forward = partial(_norm, norm)
    return _forward_and_back(_true, replace(batch, model=model))


def _norm(norm: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    return norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)


def _true(batch: Batch) -> LogProbs:
    logs = batch.base.lm_head(_states(batch)).log_softmax(-1)  # (rows, tokens, vocabulary)
    return logs.gather(2, batch.ids[..., None]).squeeze(2) * batch.mask


def _forward_and_back(way: Callable[[Batch], LogProbs], batch: Batch) -> Result:
    """Log-probabilities, and the gradients of a loss in which every token has a weight of its own."""
    batch.model.zero_grad()
    found = way(batch)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
    grads = [weight.grad.flatten() for weight in batch.model.parameters() if weight.grad is not None]
    return found.detach(), torch.cat(grads)


def _apart(found: Result, true: Result) -> list[float]:
    """Relative distances of log-probabilities and of gradients, each as one vector."""
    return [((one - other).norm() / other.norm()).item() for one, other in zip(found, true)]


def stock(batch: Batch) -> LogProbs:
    """Every row for itself, with its image."""
    return _log_probs(batch, _states(batch))


def _states(batch: Batch) -> torch.Tensor:
    """What transformers predicts each completion token from, (rows, tokens, hidden)."""
    prompts, rows = batch.prompts, batch.prompts.of_row
    steps = torch.arange(batch.ids.shape[1])
    positions = (prompts.next_position[rows, None] + steps).expand(3, -1, -1)
    images = [prompts.images[i] for i in rows.tolist()]
    embed = batch.base.model.visual.patch_embed
    patches = doubled(torch.cat([image.patches for image in images]), embed.in_channels, embed.temporal_patch_size)
    return batch.base.model(
        input_ids=torch.cat([prompts.input_ids[rows], batch.ids], dim=1),
        attention_mask=torch.cat([prompts.attention_mask[rows], batch.mask], dim=1),
        position_ids=torch.cat([prompts.position_ids[:, rows], positions], dim=2),
        pixel_values=patches,
        image_grid_thw=torch.stack([image.grid for image in images]),
        use_cache=False,
    ).last_hidden_state[:, -batch.ids.shape[1] - 1 : -1]


def shared(batch: Batch) -> LogProbs:
    """Each prompt once, as in training; its image is encoded, none is remembered."""
    core = batch.base.model
    prefix = prefill(core, batch.prompts, VisionFeatures(core))
    return score(core, batch.base.lm_head, prefix, batch.prompts.of_row, batch.ids, batch.mask)[0]


def grouped(batch: Batch) -> LogProbs:
    """Each prompt once, by PrefixGrouper's attention on PyTorch's own, for which its masks are drawn out."""
    from prefix_grouper import PrefixGrouper
    from transformers import AttentionInterface

    core, prompts = batch.base.model, batch.prompts
    grouper = PrefixGrouper.from_ungrouped_masks(prompts.attention_mask, batch.mask, GROUP)
    looks = {mask.shape: _looks(mask, mask.shape[1] - before) for mask, before in _masks(grouper)}

    def attend(module, query, key, value, _, scaling, **__):
        def one(query, key, value, mask):
            read = F.scaled_dot_product_attention(
                query, key, value, attn_mask=looks[mask.shape], scale=scaling, enable_gqa=True
            )
            return read.transpose(1, 2)  # (batch, tokens, heads, head size)

        return grouper.forward(one, query, key, value), None

    AttentionInterface.register("prefix_grouper", attend)
    steps = torch.arange(batch.ids.shape[1])
    after = (prompts.next_position[prompts.of_row, None] + steps)[..., None].expand(-1, -1, 3)  # (rows, tokens, axes)
    both = partial(_behind, grouper, prompts, batch)
    config = core.language_model.config
    kept, config._attn_implementation = config._attn_implementation, "prefix_grouper"
    try:
        hidden = core(
            input_ids=both(prompts.input_ids, batch.ids),
            attention_mask=grouper.padding_mask,
            position_ids=both(prompts.position_ids.permute(1, 2, 0), after).permute(2, 0, 1),
            mm_encoder_outputs=VisionFeatures(core)(prompts.images),
            use_cache=False,
        ).last_hidden_state
    finally:
        config._attn_implementation = kept
    *_, states, _ = grouper.split_output(hidden, include_prefix_last=1)  # (rows, 1 + tokens, hidden)
    return _log_probs(batch, states[:, :-1])


def _masks(grouper: Any) -> list[tuple[torch.Tensor, int]]:
    """PrefixGrouper's masks of keys, and how many keys stand before the first query."""
    return [(grouper.prefix_attn_mask, 0), (grouper.suffix_attn_mask, grouper.prefix_attn_mask.shape[1])]


def _looks(mask: torch.Tensor, queries: int) -> torch.Tensor:
    """(batch, 1, queries, keys), True where a query looks; padding looks at itself."""
    causal = torch.ones(queries, mask.shape[1], dtype=torch.bool).tril(mask.shape[1] - queries)
    itself = torch.eye(mask.shape[1], dtype=torch.bool)[-queries:]
    return (causal & mask[:, None] | itself)[:, None]


def _behind(grouper: Any, prompts: Prompts, batch: Batch, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return grouper.concat_input(before, prompts.attention_mask, after, batch.mask)


def _log_probs(batch: Batch, states: torch.Tensor) -> LogProbs:
    """Of each completion token, from the state before it, (rows, tokens, hidden)."""
    rows, places = batch.mask.nonzero(as_tuple=True)
    found = predict_tokens(batch.base.lm_head, states[rows, places], batch.ids[rows, places], 1.0, False)
    return on_grid(batch.ids.shape, rows, places, found)[0]
