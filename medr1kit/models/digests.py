"""Digests of weights: who answers, and which features still hold. They are taken where the weights lie.

A large model's weights do not come to the host for it: a GPU adds them up, and it is waited for once a model. They are
asked of the weights themselves, each time. PyTorch counts the changes of a tensor, but not those of its fused
optimizers or through ``.data``: a count would go on naming weights that are no more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from medr1kit.models.adapters import acting_adapters
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def weights_digest(model: PreTrainedModel) -> str:
    """Return a digest of the sum of every weight, and of the adapters that act: two models, or one changed, differ.

    Raises:
        DataError: if a weight is NaN or infinite.
    """
    import torch

    digest = hashlib.sha256("".join(map(str, acting_adapters(model))).encode())
    parts = [(name, part) for name, weight in model.named_parameters() for part in (weight, *_scales(weight))]
    sums = [part.detach().float().sum() for _, part in parts]  # each by itself: codes in 4 bits would hide their scales
    for (name, _), total in zip(parts, torch.stack([one.to(sums[0].device) for one in sums]).tolist()):
        if not math.isfinite(total):
            raise DataError(
                f"the weights hold NaN or infinite values ({name}), and so would say nothing; load them anew"
            )
        digest.update(f"{name} {total:.6e}".encode())
    return digest.hexdigest()[:16]


def _scales(weight: torch.Tensor) -> list[torch.Tensor]:
    """What the codes of a weight in 4 bits are multiplied with; nothing of other weights."""
    if (state := getattr(weight, "quant_state", None)) is None:
        return []
    return [state.absmax] + ([state.state2.absmax, state.offset] if state.nested else [])


def exact_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return a digest of every bit of named tensors: of the sums of their rows and columns, as whole numbers.

    Numbers are taken for the whole numbers that their bits are, four bytes each, and added without rounding; a change
    would have to leave all sums of its rows and its columns as they are, modulo 2 to the 32nd, to go unseen.

    >>> import torch
    >>> one = torch.zeros(2, 3)
    >>> before = exact_digest([("weight", one)])
    >>> one[1, 2] += 1e-30
    >>> exact_digest([("weight", one)]) == before
    False
    """
    import torch

    digest, sums = hashlib.sha1(), []
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        rows = tensor.detach().reshape(len(tensor) if tensor.dim() > 1 else 1, -1).contiguous().view(torch.uint8)
        whole = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 4)).view(torch.int32)  # (rows, numbers)
        sums += [whole.sum(dim, dtype=torch.int32) for dim in (0, 1)]
    if sums:
        digest.update(torch.cat([one.to(sums[0].device) for one in sums]).cpu().numpy())
    return digest.hexdigest()
