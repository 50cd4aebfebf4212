"""A set to evaluate on during training: its reward, or its loss, beside that of the questions that are trained on.

TRL evaluates. What it leaves open is seen to here and in :mod:`medr1kit.training.recording`:

==============  ======================================================================================================
when            a strategy without a set, or a set without a strategy, is a sentence before anything is loaded
random numbers  GRPO samples completions for an evaluation, from the generator that training draws from. Here each
                evaluation draws from the run's seed, and training goes on as if there had been none: the same steps,
                bit by bit on a CPU, and the same luck at each evaluation
the table       its numbers stand in the row of their step in ``metrics.csv``, as TRL calls them: ``eval_reward``,
                ``eval_rewards/…``, ``eval_loss``; its completions are no rollouts, and the watch does not see them
the best        weights are those of the last step. GRPO's ``eval_loss`` says nothing, and TRL does not hand the reward
                to what would choose; so choosing is refused, and checkpoints are there to be loaded
==============  ======================================================================================================

What is looked at again and again, to stop or to choose by, is no test any more: keep other questions for that.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import wraps
from typing import Any

import numpy as np

from medr1kit.vqa import DataError

_CHOOSING = {"load_best_model_at_end": (True,), "save_strategy": ("best",)}


def evaluates(settings: Mapping[str, Any]) -> bool:
    """Whether these arguments of a training ask for evaluations."""
    return _strategy(settings) != "no" or bool(settings.get("eval_on_start"))


def evaluation_settings(settings: Mapping[str, Any], given: bool) -> dict[str, Any]:
    """Return the arguments with a batch size for evaluations, that of training unless one is named.

    Args:
        settings: of a training, by the names of :class:`trl.GRPOConfig` or :class:`trl.SFTConfig`.
        given: whether there is a set to evaluate on.

    Raises:
        DataError: if there is none and one is needed, nothing says when, or weights are to be chosen by it.
    """
    for name, values in _CHOOSING.items():
        if getattr(settings.get(name), "value", settings.get(name)) in values:
            raise DataError(
                f"{name}={settings[name]!r}: a run ends with the weights of its last step; save_steps=N keeps others, "
                "metrics.csv says how each did (eval_reward, eval_loss), and load_model('RUN/checkpoint-N') loads one"
            )
    if not given:
        if evaluates(settings):
            name = "eval_on_start" if _strategy(settings) == "no" else "eval_strategy"
            raise DataError(
                f"{name}={settings[name]!r} needs a set to evaluate on during training: pass eval_dataset=…, on the "
                "command line --test_size 0.1, or leave it out"
            )
        return dict(settings)
    if _strategy(settings) == "no":
        raise DataError("eval_dataset is given, but nothing says when to evaluate; add eval_steps=50")
    if _strategy(settings) == "steps" and settings.get("eval_steps") is None:
        raise DataError("eval_strategy='steps' would evaluate after every step; say how often: eval_steps=50")
    rows = settings.get("per_device_train_batch_size", 8)
    if "num_generations" in settings:  # whole groups
        group = settings.get("num_generations_eval") or settings["num_generations"]
        rows = -(-rows // group) * group
    return {"per_device_eval_batch_size": rows} | settings


def _strategy(settings: Mapping[str, Any]) -> str:
    value = settings.get("eval_strategy") or "no"
    return str(getattr(value, "value", value))


def evaluate_apart(trainer: Any) -> None:
    """Let a trainer's evaluations draw random numbers of their own, so that training takes the steps it would take.

    Args:
        trainer: whose ``evaluate`` is wrapped.
    """
    import torch
    from transformers import set_seed

    evaluate, device = trainer.evaluate, trainer.args.device

    @wraps(evaluate)
    def apart(*args: Any, **kwargs: Any) -> dict[str, float]:
        others = random.getstate(), np.random.get_state()  # rewards may draw from them
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            set_seed(trainer.args.seed + trainer.args.process_index)
            found = evaluate(*args, **kwargs)
        random.setstate(others[0])
        np.random.set_state(others[1])
        return found

    trainer.evaluate = apart
