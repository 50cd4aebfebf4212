"""LoRA on a Qwen-VL: which linear maps are adapted, by their paths in three architectures, and which adapters act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medr1kit.given import number, whole_number

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

# The seven linear maps of a Qwen decoder layer; the vision tower has other paths.
LANGUAGE_MODEL = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
# Behind the tower and, in Qwen3-VL, three times inside it: there they feed the first layers of the language model.
MERGER = r".*visual\.(merger|deepstack_merger_list\.\d+)\.(mlp\.[02]|linear_fc[12])"
# Attention and feed-forward maps of the tower's blocks, by the names of the three architectures. The convolution that
# cuts patches is called proj, too; it is no block.
TOWER = r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc[12]|gate_proj|up_proj|down_proj|linear_fc[12]))"


def lora(
    rank: int = 16, alpha: int = 32, merger: bool = False, tower: bool = False, dropout: float = 0.0
) -> LoraConfig:
    """Return a LoRA configuration that adapts the language model and, if asked, merger and blocks of the vision tower.

    While the tower stays frozen its features of an image are the same at every step and are computed once. With
    ``tower`` an image is encoded anew, with its gradient, at every pass over its group; nothing of it is remembered.

    Args:
        rank: rank of the update, 1 or more.
        alpha: the update is scaled by alpha / rank.
        merger: also adapt the two linear maps that turn vision features into language-model inputs; of Qwen3-VL those
            of its deepstack mergers, too, which hand features from inside the tower to the first decoder layers.
        tower: also adapt the linear maps, attention and feed-forward, of the tower's blocks.
        dropout: share of adapter inputs dropped in training, 0 to 1.

    >>> lora(tower=True).target_modules == f"({LANGUAGE_MODEL}|{TOWER})"
    True
    """
    from peft import LoraConfig

    whole_number(rank, "the rank of lora", 1, 4096)
    number(alpha, "the alpha of lora", 1e-3, 1e6)
    number(dropout, "the dropout of lora", 0, 0.99)
    parts = [LANGUAGE_MODEL, *([MERGER] if merger else []), *([TOWER] if tower else [])]
    targets = f"({'|'.join(parts)})" if len(parts) > 1 else LANGUAGE_MODEL
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")


def acting_adapters(module: torch.nn.Module) -> list[tuple]:
    """Return of each layer with adapters its name, whether they are off, which act, which are merged, and the scalings.

    Weights do not tell: those of an adapter stay what they are when it is switched, scaled or turned off.
    """
    layers = [(name, part) for name, part in module.named_modules() if is_adapted(part)]
    kept = ("disable_adapters", "active_adapters", "merged_adapters", "scaling")
    return [(name, *(getattr(part, what, None) for what in kept)) for name, part in layers]


def is_adapted(part: torch.nn.Module) -> bool:
    """Return whether this is a layer of PEFT's; models of transformers have a method of that name."""
    return isinstance(getattr(part, "disable_adapters", None), bool)
