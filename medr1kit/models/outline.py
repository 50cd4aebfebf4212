"""A model without its weights: how large it is, from its configuration alone, before anything of it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medr1kit.models.found import TINY, architecture, find
from medr1kit.models.weights import one_sentence

BUILT_IN = 10_000_000
"""A model of fewer weights is like the built-in one: it trains on a CPU."""


def outline(name: Any):
    """Return the model that ``load_model(name)`` would load on PyTorch's meta device: shapes, and no numbers.

    Args:
        name: as for :func:`medr1kit.load_model`; of an adapter or a run with one, the base below.

    Raises:
        DataError: if there is no such model, or its architecture is not supported.

    >>> outline("tiny").num_parameters()
    1895424
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    base, _, _ = find(name, None)
    path = TINY if str(base) == "tiny" else base
    architecture(path)
    with one_sentence(f"the configuration of {base}"), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(path))


def is_built_in(name: Any) -> bool:
    """Whether a model is the built-in one, or as small."""
    return Path(str(name)) == Path("tiny") or outline(name).num_parameters() < BUILT_IN
