"""Log-probabilities of the same completions and their gradient: by transformers, by the shared prefix, in float32.

In bfloat16 two right ways to add up the same terms differ, so equality means: as near to the float32 result as
transformers itself is. In float32 they have to agree to rounding. A control says that the comparison would notice: with
the pictures exchanged the numbers move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.device import Phases, forget_peak, peak_gb
from benchmarks.gpu.shape import (
    Shape,
    completions,
    conversations,
    model_for,
    padded,
    pictures,
    refuse_unreadable,
    with_adapter,
)

if TYPE_CHECKING:
    import torch

EXACT = 1e-4  # in float32: of a log-probability, and of the gradient's length
NEAR = 1.5  # in bfloat16: times the distance from float32 that transformers' own result has


@dataclass
class Scored:
    """Log-probabilities (rows, tokens), and the gradient of a weighted mean of them by all adapter weights, (all,)."""

    logps: torch.Tensor
    gradient: torch.Tensor
    seconds: dict[str, float]
    peak_gb: float | None


def score(
    shape: Shape,
    device: str,
    *,
    shared: bool,
    dtype: str = "bfloat16",
    attn: str = "sdpa",
    checkpointing: bool = True,
    at_once: int | None = None,
    exchanged: bool = False,
) -> Scored:
    """Score the shape's completions forwards and backwards.

    Args:
        shape, device: what, and where.
        shared: by the shared prefix, or else by transformers' own forward pass over every row.
        dtype: "bfloat16", timed at the second try, or "float32", untimed.
        attn: attention of the model.
        checkpointing: of gradients.
        at_once: rows a pass of transformers; None: all.
        exchanged: show each question the picture of another.
    """
    import torch

    half = dtype == "bfloat16"
    model, processor = model_for(shape, device, attn=attn)
    model = with_adapter(model).train()
    if not half:
        model.float()
    if checkpointing:
        model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    asked = conversations(shape)
    if exchanged:
        shown = pictures(shape, shape.prompts)[::-1]
        asked = [_showing(turn, shown[i // shape.group]) for i, turn in enumerate(asked)]
    ids, phases = completions(shape, model), Phases(device)
    weights = torch.randn(ids.shape, generator=torch.Generator().manual_seed(3)).to(device) / ids.numel()
    made = partial(_shared, packed=checkpointing) if shared else partial(_own, at_once=at_once or len(ids))
    passes = list(made(model, processor, asked, ids))
    for _ in range(2 if half else 1):
        model.zero_grad()
        phases.seconds.clear()
        forget_peak(device)
        logps = []
        for rows, forwards in passes:
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=half):
                found = phases.spent("loss", forwards)  # (rows of this pass, tokens)
            phases.spent("backward", (found * weights[rows]).sum().backward)
            logps.append(found.detach())
    gradient = torch.cat([w.grad.flatten().float() for w in model.parameters() if w.grad is not None])
    return Scored(torch.cat(logps), gradient, phases.seconds, peak_gb(device))


def _showing(conversation: list[dict], picture: Any) -> list[dict]:
    """The same question about another picture."""
    _, text = conversation[0]["content"]
    return [{"role": "user", "content": [{"type": "image", "image": picture}, text]}]


def _own(model: Any, processor: Any, asked: list, ids: torch.Tensor, at_once: int) -> Iterator[tuple]:
    """Passes of transformers: the rows of each, and what returns their log-probabilities."""
    import torch

    for start in range(0, len(asked), at_once):
        rows = slice(start, start + at_once)
        inputs = padded(processor, asked[rows], ids.device)
        for name, more in (("input_ids", ids[rows]), ("attention_mask", torch.ones_like(ids[rows]))):
            inputs[name] = torch.cat([inputs[name], more], dim=1)
        kinds = inputs.get("mm_token_type_ids")  # which tokens are an image's; no completion has any
        if kinds is not None:
            inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(ids[rows])], dim=1)

        def forwards(inputs=inputs, rows=rows):
            logits = model(**inputs, logits_to_keep=ids.shape[1] + 1, use_cache=False).logits[
                :, :-1
            ]  # (rows, tokens, vocabulary)
            return logits.float().log_softmax(-1).gather(2, ids[rows, :, None]).squeeze(2)

        yield rows, forwards


def _shared(model: Any, processor: Any, asked: list, ids: torch.Tensor, packed: bool) -> Iterator[tuple]:
    """The one pass of the shared prefix: all rows, and what returns their log-probabilities."""
    import torch

    from medr1kit.models.shared_prefix.packing import score_packed
    from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
    from medr1kit.models.shared_prefix.scoring import score as score_continued
    from medr1kit.models.shared_prefix.vision import VisionFeatures

    refuse_unreadable(model)
    core, head = model.get_base_model().model, model.get_base_model().lm_head
    prompts, mask = read_prompts(processor, core, asked), torch.ones_like(ids)

    def forwards():
        vision = VisionFeatures(core)  # anew: nothing is remembered from an earlier pass
        if packed:
            return score_packed(core, head, vision, prompts, prompts.of_row, ids, mask)[0]
        prefix = prefill(core, prompts, vision)
        return score_continued(core, head, prefix, prompts.of_row, ids, mask)[0]

    yield slice(None), forwards


def apart(one: Scored, other: Scored) -> dict[str, float]:
    """How far two results are apart: log-probabilities on average and at most; gradients by the length of the other."""
    far = (one.logps - other.logps).abs()
    gradient = (one.gradient - other.gradient).norm() / other.gradient.norm()
    return {"logp_mean": far.mean().item(), "logp_max": far.max().item(), "gradient": gradient.item()}


def words(far: dict[str, float]) -> str:
    """The same in words."""
    logps = f"log-probabilities {far['logp_mean']:.2g} on average, {far['logp_max']:.2g} at most"
    return f"{logps}, gradient {far['gradient']:.2g}"


def exact(far: dict[str, float]) -> bool:
    """Whether two results in float32 are the same but for rounding."""
    return far["logp_max"] <= EXACT and far["gradient"] <= EXACT


def as_near(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    """Whether one result is about as near to float32 as another."""
    return all(ours[name] <= NEAR * theirs[name] for name in ("logp_mean", "gradient"))
