"""The loss of one batch, forward and backward: every row apart, prompts shared here, and shared by PrefixGrouper.

Four prompts with an image each, eight completions a prompt, LoRA in the language model, no gradient in the tower. Stock
is transformers' own forward pass over prompt and completion of every row, padded, its head at completion positions
alone. `PrefixGrouper <https://github.com/johncaged/PrefixGrouper>`_ is measured where it is installed (``pip install
prefix_grouper``): its attention, called by transformers' own layers on each prompt with its completions behind it;
images once a prompt and the head of :mod:`medr1kit.models.shared_prefix.scoring`, as here. Each side encodes its
images. Completions are drawn tokens: of one length, or of lengths spread evenly from an eighth of it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
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
TOLERANCE = 5e-5  # float32, sums in another order; of the largest log-probability, and of the gradients' norm
CASES = {"loss_64_even": (64, True), "loss_64_ragged": (64, False), "loss_256_even": (256, True)}
LogProbs = torch.Tensor  # (rows, tokens), 0 behind a completion's end


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
        found.append(measure(name, batch, stock, shared, repeats))
        if importlib.util.find_spec("prefix_grouper") is None:
            say(f"{name}_prefix_grouper: left out, prefix_grouper is not installed")
        else:
            found.append(measure(f"{name}_prefix_grouper", batch, stock, grouped, repeats))
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


def measure(name: str, batch: Batch, one: Callable, other: Callable, repeats: int) -> dict:
    """Run two sides in turn; ``exact`` says that their log-probabilities and gradients agree."""
    threads, turns, differences = torch.get_num_threads(), [], []
    torch.set_num_threads(1)
    try:
        for turn in range(-1, repeats):  # turn -1: first calls are slow and are not counted
            pair = {}
            for way in (one, other) if turn % 2 == 0 else (other, one):
                pair[way] = timed(partial(_forward_and_back, way, batch))
            differences.append(_apart(pair[one][0], pair[other][0]))
            turns.append([[pair[way][1]] for way in (one, other)])
    finally:
        torch.set_num_threads(threads)
    logp, gradient = (max(column) for column in zip(*differences))
    facts = {"logp_difference": float(f"{logp:.2g}"), "gradient_difference": float(f"{gradient:.2g}")}
    exact = max(logp, gradient) < TOLERANCE
    about = f"loss and backward of one batch, {batch.ids.shape[1]} new tokens at most"
    found = compared(name, *zip(*turns[1:]), exact=exact, **facts, rows=len(batch.ids), about=about)
    say(f"{name}: stock {found['stock_s']:.3g} s, fast {found['fast_s']:.3g} s, x{found['ratio']:.2f}")
    return found


def _forward_and_back(way: Callable[[Batch], LogProbs], batch: Batch) -> tuple[LogProbs, torch.Tensor]:
    """Log-probabilities, and the gradients of a loss in which every token has a weight of its own."""
    batch.model.zero_grad()
    found = way(batch)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
    grads = [weight.grad.flatten() for weight in batch.model.parameters() if weight.grad is not None]
    return found.detach(), torch.cat(grads)


def _apart(one: tuple, other: tuple) -> tuple[float, float]:
    """Relative distances of log-probabilities, the largest, and of gradients, as one vector."""
    (logps, grads), (other_logps, other_grads) = one, other
    return ((logps - other_logps).abs().max() / logps.abs().max()).item(), (
        (grads - other_grads).norm() / grads.norm()
    ).item()


def stock(batch: Batch) -> LogProbs:
    """Every row for itself, with its image."""
    prompts, rows = batch.prompts, batch.prompts.of_row
    steps = torch.arange(batch.ids.shape[1])
    positions = (prompts.next_position[rows, None] + steps).expand(3, -1, -1)
    images = [prompts.images[i] for i in rows.tolist()]
    embed = batch.base.model.visual.patch_embed
    patches = doubled(torch.cat([image.patches for image in images]), embed.in_channels, embed.temporal_patch_size)
    hidden = batch.base.model(
        input_ids=torch.cat([prompts.input_ids[rows], batch.ids], dim=1),
        attention_mask=torch.cat([prompts.attention_mask[rows], batch.mask], dim=1),
        position_ids=torch.cat([prompts.position_ids[:, rows], positions], dim=2),
        pixel_values=patches,
        image_grid_thw=torch.stack([image.grid for image in images]),
        use_cache=False,
    ).last_hidden_state[:, -batch.ids.shape[1] - 1 : -1]
    return _log_probs(batch, hidden)


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
