"""Sampling: transformers' ``generate`` against the shared prefix.

The decoding of the latter is launched token by token or, on a GPU, replayed as a CUDA graph.

All draw with the same seed. In float32 they would draw the same tokens; in bfloat16 rounding lets a row go another way
at some token, after which it is another text. So the table says how many rows are equal, and how far apart the
log-probabilities are that two decoders gave to the same tokens before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.device import forget_peak, now, peak_gb
from benchmarks.gpu.shape import Shape, conversations, model_for, padded, refuse_unreadable, with_adapter

if TYPE_CHECKING:
    import torch


@dataclass
class Drawn:
    """Tokens of every row, (rows, tokens); their log-probabilities likewise, or None; and what it took."""

    tokens: torch.Tensor
    log_probs: torch.Tensor | None
    seconds: float
    peak_gb: float | None
    recorded: bool = False


def draw(shape: Shape, device: str, decoder: str | None, attn: str = "sdpa") -> Drawn:
    """Sample completions of the shape's length, twice, and time the second time.

    Args:
        shape, device: what, and where.
        decoder: "eager" or "graph" for the shared prefix, None for ``generate``.
        attn: attention of the model; decoders have their own.
    """
    import torch

    model, processor = model_for(shape, device, attn=attn)
    model = with_adapter(model).eval()
    call = _generate(model, processor, shape) if decoder is None else _share(model, processor, shape, decoder)
    for _ in range(2):
        forget_peak(device)
        torch.manual_seed(3)
        start = now(device)
        with torch.no_grad():
            found = call()
        seconds = now(device) - start
    tokens, log_probs, recorded = found
    return Drawn(tokens, log_probs, seconds, peak_gb(device), recorded)


def settings_of(model: Any, shape: Shape) -> Any:
    """Plain sampling from the whole distribution, every completion of the same length."""
    from transformers import GenerationConfig

    from medr1kit.models.load import base_of, image_token_ids

    kept = base_of(model).generation_config
    return GenerationConfig(
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        max_new_tokens=shape.new_tokens,
        min_new_tokens=shape.new_tokens,
        suppress_tokens=image_token_ids(base_of(model)),
        eos_token_id=kept.eos_token_id,
        pad_token_id=kept.pad_token_id,
    )


def _generate(model: Any, processor: Any, shape: Shape):
    inputs = padded(processor, conversations(shape), model.device)
    settings = settings_of(model, shape)

    def call():
        output = model.generate(**inputs, generation_config=settings)
        return output[:, inputs["input_ids"].shape[1] :], None, False

    return call


def _share(model: Any, processor: Any, shape: Shape, decoder: str):
    import torch

    from medr1kit.models.shared_prefix.decoder import Decoder
    from medr1kit.models.shared_prefix.graphs import StaticDecoder
    from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
    from medr1kit.models.shared_prefix.sampling import sample, settled
    from medr1kit.models.shared_prefix.vision import VisionFeatures

    refuse_unreadable(model)
    base = model.get_base_model()
    prompts = read_prompts(processor, base.model, conversations(shape))
    settings, processors = settled(base, settings_of(model, shape), prompts.input_ids.shape[1])
    ends = {"max_new_tokens": shape.new_tokens, "end_tokens": [settings.eos_token_id], "processors": processors}

    kept = StaticDecoder(base.model.language_model, base.lm_head) if decoder == "graph" else None

    def call():
        if kept is not None:
            kept.renew()
        made = kept or Decoder(base.model.language_model, base.lm_head)
        prefix = prefill(base.model, prompts, VisionFeatures(base.model))
        found = sample(made, prefix, prompts.of_row, record=True, **ends)
        tokens = torch.tensor(found.tokens, device=prompts.of_row.device)
        return tokens, found.log_probs, kept is not None and kept.is_recorded

    return call


def beside(one: Drawn, other: Drawn) -> dict[str, Any]:
    """How many rows two samplings have in common, and how far apart log-probabilities of common beginnings are."""
    same = (one.tokens == other.tokens).long().cumprod(dim=1).bool()  # (rows, tokens) up to the first that differs
    found = {"same_rows": int(same.all(1).sum()), "same_tokens": round(same.float().mean().item(), 4)}
    if one.log_probs is not None and other.log_probs is not None and same.any():
        found["logp_max"] = (one.log_probs - other.log_probs).abs()[same].max().item()
    return found
