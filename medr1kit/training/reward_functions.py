"""Reward functions as they are given: can TRL call them, and can a run write down what they pay?"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from typing import Any

import torch

from medr1kit.formats import ResponseFormat
from medr1kit.given import kind
from medr1kit.results.tables import ROLLOUTS
from medr1kit.rewards import (
    accuracy_reward,
    agreement_reward,
    format_reward,
    reference_accuracy_reward,
    reference_format_reward,
    repetition_reward,
    text_of,
)
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
        rewards = [accuracy_reward(format), format_reward(format)]
    if not isinstance(rewards, (list, tuple)) or not rewards:
        what = "an empty list" if isinstance(rewards, (list, tuple)) else kind(rewards)
        raise DataError(f"rewards is {what}; pass a list of functions, {_EXAMPLE}")
    columns = list(columns)
    handed = dict.fromkeys([*_HANDED, *columns])
    if taken := [name for name in columns if name in _TAKEN]:
        raise DataError(f"dataset has a column {taken[0]!r}, as something of TRL's is called; rename it")
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


def rewards_named(names: Iterable[str], format: ResponseFormat, what: str = "rewards") -> list[Callable]:
    """Return medr1kit's reward functions by their short names, as a shell or a file gives them.

    Args:
        names: of accuracy, format, agreement, repetition, reference_accuracy and reference_format.
        format: the response format.
        what: the argument, for the refusal.

    Raises:
        DataError: if there is no reward of a name.
    """
    makers = {
        "accuracy": lambda: accuracy_reward(format),
        "format": lambda: format_reward(format),
        "agreement": lambda: agreement_reward(format),
        "repetition": repetition_reward,
        "reference_accuracy": reference_accuracy_reward,
        "reference_format": lambda: reference_format_reward(format),
    }
    if unknown := [name for name in names if name not in makers]:
        raise DataError(f"{what} {unknown[0]} is unknown; use some of {', '.join(makers)}")
    return [makers[name]() for name in names]


_HANDED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
_TAKEN = {*_HANDED, "prompt", "completion", "images", "environments", "tools"}
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


def pay_given(name: str, pay: Any, given: Mapping[str, Any]) -> list[float | None]:
    """Return what a reward paid, if it is a number that float32 holds, or nothing, for each completion.

    Args:
        name: the reward's.
        pay: what it returned.
        given: what it was called with.

    Raises:
        DataError: saying what it returned instead, or paid for which completion.
    """
    n, step = len(given["completions"]), given["trainer_state"].global_step + 1
    if isinstance(pay, (str, Mapping, Set)) or not isinstance(pay, Iterable):
        made = "; call it first, and pass what it returns" if callable(pay) else ""
        raise DataError(
            f"reward {name!r} returned {kind(pay)}; expected a list with a number for each of the {n} completions, "
            f"None where it does not apply{made}"
        )
    pay = list(pay)
    if len(pay) != n:
        raise DataError(f"reward {name!r} returned {len(pay)} rewards, but {n} were expected, one a completion")
    for place, value in enumerate(pay):
        try:
            number = 0.0 if value is None else float(None if isinstance(value, str) else value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError) as error:
            raise DataError(f"reward {name!r} paid {kind(value)}; expected a number or None") from error
        if abs(number) > _MOST:
            raise DataError(
                f"step {step}: reward {name!r} paid {number} for {text_of(given['completions'][place])[:80]!r}; "
                "nothing can be learned from infinity: pay a finite number, or None where it does not apply"
            )
    return pay


_MOST = 1e30  # a sum of squares of what is larger is infinite in float32


def reward_name(reward: Any) -> str:
    """Return what TRL calls a reward function in its logs."""
    while isinstance(reward, partial):
        reward = reward.func
    return getattr(reward, "__name__", type(reward).__name__)
