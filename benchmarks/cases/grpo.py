"""The GRPO step: stock TRL against the shared prefix, whole steps, in turn, in one process.

Both sides start from the same weights with the same seed and a learning rate of 0. The policy then stays what it is,
both sides sample the same completions, and each pair of steps does the same work. No image is seen twice in a run, so
the memory of image features helps within a step only; in a long training it helps more.

The clock is read where the trainer calls the rewards, once a step. From one call to the next everything happens once:
loss, backward, optimizer, logging, reading the next questions, preprocessing, sampling. The sampling of a run's first
step, which pays for first calls, lies before the first reading.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks.cases.even import distinct_reward, fixed_length
from benchmarks.cases.memory import measure_memory
from benchmarks.cases.timing import Seconds, compared, say
from medr1kit.data.load import load_vqa
from medr1kit.formats import format_named
from medr1kit.models.load import load_model
from medr1kit.rewards import accuracy_reward, format_reward
from medr1kit.training.train import train_grpo

if TYPE_CHECKING:
    import pandas as pd

REPEATS = 3
LOSS_TOLERANCE = 1e-5  # relative; the two sides add up the same terms in another order
NEARLY_ZERO = 1e-6  # below this a loss or gradient norm is rounding


_TINY = partial(load_model, "tiny", device="cpu")


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: its name in the report.
        about: in words, what is run.
        format: the response format.
        settings: arguments of :class:`trl.GRPOConfig` for both sides, over the tiny preset.
        stock: arguments for the stock side alone.
        prompts: questions a step.
        group: completions a question.
        steps: optimizer steps a run, 2 or more; one less is timed.
        size: width and height of the images in pixels; 28 x 28 pixels are one image token.
        distinct_rewards: reward every completion differently instead of for its answer, see
            :mod:`benchmarks.cases.even`.
        lora: as in :func:`medr1kit.train_grpo`; the tower is frozen where nothing is said of it.
        model: returns a new model with the same weights each time, and its processor.
    """

    name: str
    about: str
    format: str = "think-before"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stock: Mapping[str, Any] = field(default_factory=dict)
    prompts: int = 4
    group: int = 8
    steps: int = 4
    size: int = 112
    distinct_rewards: bool = False
    lora: Mapping[str, Any] | bool = field(default_factory=lambda: {"tower": False})
    model: Callable[[], tuple] = _TINY


@dataclass(frozen=True)
class Side:
    """What one run of one trainer left behind.

    Attributes:
        metrics, rollouts: the run's tables.
        seconds: of each timed step.
    """

    metrics: pd.DataFrame
    rollouts: pd.DataFrame
    seconds: list[Seconds]


_THINK = {"max_completion_length": 128}
_LONG = {
    "settings": fixed_length(150),
    "size": 392,
    "steps": 3,
    "distinct_rewards": True,
    "model": partial(load_model, "tiny", device="cpu", max_pixels=392 * 392),
}
CASES = (
    Case("think", "think-before, up to 128 new tokens, beta 0", settings=_THINK),
    Case("answer_only", "no-think, beta 0", format="no-think"),
    Case(
        "long_image",
        "196 image tokens, 150 new tokens in every row, beta 0; stock with TRL's default gradient checkpointing",
        stock={"gradient_checkpointing": True},
        **_LONG,
    ),
    Case("long_image_no_checkpointing", "the same, stock without gradient checkpointing", **_LONG),
    Case("think_after", "think-after, up to 128 new tokens, beta 0", format="think-after", settings=_THINK),
    Case("even_64", "64 new tokens in every row, beta 0", settings=fixed_length(64), distinct_rewards=True),
    Case("even_256", "256 new tokens in every row, beta 0", settings=fixed_length(256), distinct_rewards=True),
    Case("think_kl", "think-before with a reference model, beta 0.04", settings={**_THINK, "beta": 0.04}),
    Case("answer_only_kl", "no-think with a reference model, beta 0.04", format="no-think", settings={"beta": 0.04}),
    Case("think_tower", "think-before, the vision tower adapted, too, beta 0", settings=_THINK, lora={"tower": True}),
    Case(
        "answer_only_tower_kl",
        "no-think, the vision tower adapted, too, with a reference model, beta 0.04",
        format="no-think",
        settings={"beta": 0.04},
        lora={"tower": True},
    ),
)


def measure_all(repeats: int) -> list[dict]:
    """Return all cases, the peak memory of a step at a large vocabulary among them."""
    return [*(measure(case, repeats) for case in CASES), measure_memory()]


def measure(case: Case, repeats: int) -> dict:
    """Run a case's two sides in turn and compare their steps.

    Args:
        case: what to run.
        repeats: turns, 1 or more; each has its own questions and seed, the same for both sides.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _turn(replace(case, prompts=1, group=2, steps=2), 0)  # first calls are slow and are not counted
        turns = [_turn(case, seed) for seed in range(repeats)]
    finally:
        torch.set_num_threads(threads)
    stock, fast = ([turn[name].seconds for turn in turns] for name in ("stock", "fast"))
    agreement = [agree(turn["stock"], turn["fast"]) for turn in turns]
    found = compared(
        case.name,
        stock,
        fast,
        exact=all(found["exact"] for found in agreement),
        same_texts=min(found["same_texts"] for found in agreement),
        loss_difference=max(found["loss_difference"] for found in agreement),
        steps=case.steps - 1,
        rows=case.prompts * case.group,
        **{name: round(mean(found[name] for found in agreement), 3) for name in ("new_tokens", "no_advantage")},
        about=case.about,
    )
    say(f"{case.name}: stock {found['stock_s']:.3g} s, fast {found['fast_s']:.3g} s a step, x{found['ratio']:.2f}")
    return found


def _turn(case: Case, seed: int) -> dict[str, Side]:
    """One run of each side; who begins alternates."""
    order = ("stock", "fast") if seed % 2 == 0 else ("fast", "stock")
    return {name: _side(case, name == "fast", seed) for name in order}


def _side(case: Case, fast: bool, seed: int) -> Side:
    """Train a new model with one of the two trainers."""
    questions = load_vqa("phantoms", split="train", n=case.prompts * case.steps, seed=seed, size=case.size)
    format, readings = format_named(case.format), []
    rewards = [distinct_reward] if case.distinct_rewards else [accuracy_reward(format), format_reward(format)]
    model, processor = case.model()
    settings = {"per_device_train_batch_size": case.prompts * case.group, "num_generations": case.group}
    settings |= {"learning_rate": 0.0, "max_steps": case.steps, **case.settings, **({} if fast else case.stock)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = train_grpo(
            model,
            processor,
            questions,
            format=format,
            output_dir=folder,
            overwrite=True,
            seed=seed,
            rewards=[_read_clock(rewards[0], readings), *rewards[1:]],
            lora=case.lora,
            shared_prefix=fast,
            **settings,
        )
        return Side(run.metrics, run.rollouts, [after - before for before, after in pairwise(readings)])


def _read_clock(reward: Callable, readings: list[Seconds]) -> Callable:
    @wraps(reward)
    def reward_and_clock(*args: Any, **kwargs: Any):
        readings.append(Seconds.now())
        return reward(*args, **kwargs)

    return reward_and_clock


def agree(stock: Side, fast: Side) -> dict[str, Any]:
    """Compare two runs: share of equal completions, and the largest relative difference of losses and gradient norms.

    ``exact`` says that all completions, with their advantages, are equal and that no difference exceeds LOSS_TOLERANCE.
    """
    rows, others = (side.rollouts.sort_values(["step", "id", "rollout"]) for side in (stock, fast))
    same = _equal(rows["text"], others["text"])
    rewards = _equal(rows["advantage"], others["advantage"]) == 1
    difference = max(_difference(stock.metrics[name], fast.metrics[name]) for name in ("loss", "grad_norm"))
    return {
        "exact": same == 1 and rewards and difference <= LOSS_TOLERANCE,
        "same_texts": round(same, 4),
        "loss_difference": float(f"{difference:.2g}"),
        "new_tokens": float(fast.rollouts["n_tokens"].mean()),
        "no_advantage": float((fast.rollouts["advantage"] == 0).mean()),
    }


def _equal(one: pd.Series, other: pd.Series) -> float:
    return sum(a == b or a != a != b != b for a, b in zip(one, other)) / max(len(one), len(other))


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Largest relative difference; numbers that are both rounding are equal, and a missing one differs from all."""
    pairs = list(zip(one, other, strict=True))
    if any(math.isnan(a) or math.isnan(b) for a, b in pairs):
        return math.inf
    return max(0 if max(abs(a), abs(b)) < NEARLY_ZERO else abs(a - b) / max(abs(a), abs(b)) for a, b in pairs)
