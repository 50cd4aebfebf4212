"""Reward functions as they are given: can TRL call them, and can a run write down what they pay?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch

from medr1kit.formats import ResponseFormat
from medr1kit.given import kind
from medr1kit.results.tables import ROLLOUTS
from medr1kit.rewards import accuracy_reward, format_reward
from medr1kit.vqa import DataError


def rewards_given(rewards: Any, format: ResponseFormat, columns: Iterable[str]) -> list[Callable]:
    """Return reward functions that TRL can call and a run can write down; the default ones for None.

    Args:
        rewards: what was given.
        format: the response format, for the default.
        columns: of the data set: they are handed to every reward.

    Raises:
        DataError: if it is no list of functions, one is a name, a model (TRL runs it by itself and tells nobody what it
            paid) or takes other arguments, two have one name, or one is called as another column of the rollouts.
    """
    if rewards is None:
        return [accuracy_reward(format), format_reward(format)]
    if not isinstance(rewards, (list, tuple)) or not rewards:
        what = "an empty list" if isinstance(rewards, (list, tuple)) else kind(rewards)
        raise DataError(f"rewards is {what}; pass a list of functions, {_EXAMPLE}")
    handed = ["prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"]
    handed = dict.fromkeys([*handed, *(name for name in columns if name not in ("prompt", "completion"))])
    names: list[str] = []
    for reward in rewards:
        _check_function(reward, handed)
        name = reward_name(reward)
        if name in names:
            raise DataError(f"two rewards are called {name!r}; give each its own __name__, the tables go by it")
        if name in ROLLOUTS or name == "used":
            raise DataError(f"a reward is called {name!r}, as another column of the rollouts; give it another __name__")
        names.append(name)
    return list(rewards)


_EXAMPLE = "rewards=[mk.accuracy_reward(format), mk.format_reward(format)]"


def _check_function(reward: Any, handed: Mapping[str, Any]) -> None:
    """Refuse what TRL could not call with the columns by name."""
    if isinstance(reward, torch.nn.Module):
        raise DataError(f"reward {reward_name(reward)!r} is a model; pass a function that asks it")
    if not callable(reward):  # TRL would look for a model of that name, on the Hub as well
        raise DataError(f"rewards holds {kind(reward)}, which is no function; pass functions, {_EXAMPLE}")
    try:
        signature = inspect.signature(reward)
    except (TypeError, ValueError):  # some that are written in C have none
        return
    try:
        signature.bind(**handed)
    except TypeError as error:
        raise DataError(
            f"reward {reward_name(reward)!r} takes {signature}, and is called with completions, completion_ids, "
            f"solution and other columns by name: add **columns; what makes a reward is called first, {_EXAMPLE}"
        ) from error


def reward_name(reward: Any) -> str:
    """Return what TRL calls a reward function in its logs."""
    while isinstance(reward, partial):
        reward = reward.func
    return getattr(reward, "__name__", type(reward).__name__)
