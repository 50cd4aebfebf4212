"""Even completions: all of one length, and each with a reward of its own.

Cost grows with length, so cases that compare costs at a length force it. A forced completion does not end and has no
answer; rewarded for its answer every group would be all wrong, its advantages 0, its rows skipped, and nothing would be
compared. So such cases reward each completion differently, by its text alone.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from medr1kit.rewards import text_of


def fixed_length(tokens: int) -> dict[str, Any]:
    """Return arguments of :class:`trl.GRPOConfig` under which every completion has this many tokens."""
    return {"max_completion_length": tokens, "generation_kwargs": {"min_new_tokens": tokens}}


def distinct_reward(completions: list, **_: Any) -> list[float]:
    """Return a number from 0 to 1 for each completion; equal texts have equal numbers.

    >>> [round(reward, 2) for reward in distinct_reward(["cyst", "stone", "cyst"])]
    [0.48, 0.91, 0.48]
    """
    digests = (blake2b(text_of(completion).encode(), digest_size=4).digest() for completion in completions)
    return [int.from_bytes(digest, "big") / 2**32 for digest in digests]
