"""Dynamic sampling: groups that teach nothing are replaced by groups of other questions before the step is taken.

GRPO compares the completions of a question with one another. Where all of them earn the same, all right or all wrong,
every advantage is 0: the group was sampled and scored for nothing, and the step is smaller by it. DAPO (arXiv
2503.14476, §3.2) goes on drawing new questions until the batch holds none of these groups. TRL 1.16 does not. Here::

    sample the batch ─► which groups earn two different rewards? ─► keep them
           ▲                              │ the others
           └── a new question for each ◄──┘ for some rounds at most; what is dull after the last one stays

New questions, not the same ones again: to ask a question until one completion is right by chance keeps exactly the
lucky (or unlucky) groups of the easiest and hardest questions, and takes the most rounds where there is least to learn.

**What it changes.** It is not the same estimator as GRPO's:

- The gradient is an average over informative groups: GRPO's divided, about, by their share among all groups. At a share
  of 0.5 the expected step is twice as long, before the optimizer; Adam takes most of that out again, the noise remains
  smaller. A learning rate tuned without it need not be right with it.
- The batch leans to questions that the policy sometimes gets right, and more so the larger the share of dull groups.
- Dull groups still count in GRPO where a loss is normalised by tokens, and in its KL and entropy terms. Replaced groups
  do not: with beta > 0 the policy is held to the reference on informative questions alone.
- More completions a step. Compare runs at equal sampled completions, not only at equal steps.

**What is reported.** ``reward``, ``rewards/…`` and ``completions/…`` of a step are those of the batch that was trained
on; chosen as it is, its rewards say little about the policy. These columns do::

    dynamic/replaced              share of the batch's groups that are not the ones first drawn, 0..1
    dynamic/rounds                rounds of resampling that were needed
    dynamic/extra_completions     completions sampled beyond the batch
    dynamic/zero_variance_drawn   share of groups that earn one reward only, among all that were drawn, 0..1
    dynamic/reward_drawn          mean reward of all completions that were drawn

``frac_reward_zero_std`` is the share that stayed. ``num_tokens`` counts all that was sampled. The run's rollouts hold
every completion; ``used`` is False for those of replaced groups, whose advantage is 0. The watch reads them, too.

What it was worth on the built-in model stands in docs/training.md: it does what it should to the batches;
whether it pays is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from medr1kit.models.shared_prefix.prompts import Prefix
from medr1kit.models.shared_prefix.sampling import Rollouts
from medr1kit.training.recording import RolloutRecorder
from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer
from medr1kit.vqa import DataError

RESERVE = 2503_14476
"""Set beside the run's seed, so that questions are drawn in another order than the batches' own."""


@dataclass(frozen=True, eq=False)
class _Group:
    """The completions of one question."""

    rows: list[dict]  # of the data set: the question, once a completion
    read: int  # prompt tokens, all rows together
    drawn: Rollouts
    rewards: torch.Tensor  # (completions, reward functions)
    extra: dict[str, list]  # columns that reward functions logged
    rollouts: list[dict]  # rows for the run


class ResamplingGRPOTrainer(SharedPrefixGRPOTrainer):
    """A GRPO trainer that replaces groups whose completions all earn the same.

    The batch is sampled and rewarded first. Then the step is run on the groups that were chosen, with their completions
    and rewards handed in where it would sample and reward, so that advantages, normalisation, reference and loss are
    its own. If no group is replaced, the step is the one that it would have taken.

    Args:
        rounds: how often new groups are drawn for those that are dull still; 1 or more, 3 is usual.
        recorder: takes down what is drawn; its reward functions are the trainer's.

    Raises:
        DataError: when it is built in one of several processes.
    """

    def __init__(self, *args: Any, rounds: int, recorder: RolloutRecorder, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            raise DataError(
                f"dynamic sampling works in one process, and {self.accelerator.num_processes} were started; "
                "start one, or leave dynamic_sampling out"
            )
        self.rounds, self.recorder = rounds, recorder
        self._reserve = _reserve(len(self.train_dataset), self.args.seed)
        self._batch: list[_Group] | None = None  # chosen, and not handed to the step yet

    def chosen(self, inputs):
        first = self._drawn_groups(inputs)
        batch, drawn, done = list(first), list(first), 0
        while done < self.rounds and (dull := [i for i, group in enumerate(batch) if not self._teaches(group)]):
            questions = [self.train_dataset[next(self._reserve)] for _ in dull]
            fresh = self._drawn_groups([dict(row) for row in questions for _ in range(self.num_generations)])
            for place, group in zip(dull, filter(self._teaches, fresh)):
                batch[place] = group
            drawn += fresh
            done += 1
        self._note(first, batch, drawn, done)
        self._batch = batch
        return [row for group in batch for row in group.rows]

    def sampled(self, model: Any, prefix: Prefix) -> Rollouts:
        if self._batch is None:
            return super().sampled(model, prefix)
        return _joined([group.drawn for group in self._batch])

    def rewarded(self, inputs, prompts, completions, completion_ids_list):
        if self._batch is None:
            return super().rewarded(inputs, prompts, completions, completion_ids_list)
        batch, self._batch = self._batch, None  # the last that is handed over
        return torch.cat([group.rewards for group in batch])

    def _drawn_groups(self, rows: list[dict]) -> list[_Group]:
        """Completions of rows, group after group; of what they say and earn nothing is written yet."""
        self.recorder.held = rollouts = []
        read, drawn, rewards, extra = self.draw(rows)
        self.recorder.held = None
        size = self.num_generations
        return [
            _Group(
                rows[part],
                sum(read[part]),
                _part(drawn, part),
                rewards[part],
                {name: values[part] for name, values in extra.items()},
                rollouts[part],
            )
            for part in (slice(i, i + size) for i in range(0, len(rows), size))
        ]

    def _teaches(self, group: _Group) -> bool:
        """Whether two completions of a group earn different rewards; one without any reward is left out."""
        scored = group.rewards[~group.rewards.isnan().all(1)]  # (scored completions, functions)
        if len(scored) == 0:
            return False
        earned = scored * self.reward_weights.to(scored.device)
        if self.multi_objective_aggregation == "sum_then_normalize":
            earned = earned.nansum(1, keepdim=True)
        low, high = earned.nan_to_num(torch.inf).amin(0), earned.nan_to_num(-torch.inf).amax(0)
        return not torch.isclose(high, low).logical_or(high < low).all()

    def _note(self, first: list[_Group], batch: list[_Group], drawn: list[_Group], rounds: int) -> None:
        """Write and log what was drawn; the step itself sees the batch alone."""
        unused = [group for group in drawn if group not in batch]
        self.state.num_input_tokens_seen += sum(group.read + sum(map(len, group.drawn.tokens)) for group in unused)
        for name in dict.fromkeys(name for group in batch for name in group.extra):
            missing = [None] * self.num_generations
            self.log_extra(name, [value for group in batch for value in group.extra.get(name, missing)])
        used, others = ([row for group in groups for row in group.rollouts] for groups in (batch, unused))
        self.recorder.write(used, self.log_metric, others)
        rewards = torch.cat([group.rewards for group in drawn])
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(1)[~rewards.isnan().all(1)]
        self.log_metric("dynamic/replaced", sum(one is not other for one, other in zip(first, batch)) / len(batch))
        self.log_metric("dynamic/rounds", float(rounds))
        self.log_metric("dynamic/extra_completions", float(sum(len(group.rows) for group in drawn[len(batch) :])))
        self.log_metric("dynamic/zero_variance_drawn", sum(not self._teaches(group) for group in drawn) / len(drawn))
        self.log_metric("dynamic/reward_drawn", total.mean().item())


def _reserve(n: int, seed: int) -> Iterator[int]:
    """Rows of the data set in an order of their own, all of them before one comes again."""
    generator = np.random.default_rng((seed, RESERVE))
    while True:
        yield from generator.permutation(n).tolist()


def _part(drawn: Rollouts, rows: slice) -> Rollouts:
    noted = (None if numbers is None else numbers[rows] for numbers in (drawn.log_probs, drawn.entropies))
    return Rollouts(drawn.tokens[rows], *noted, drawn.steps, drawn.branch_steps)


def _joined(parts: list[Rollouts]) -> Rollouts:
    """What was sampled apart as one batch, its numbers 0 behind each completion's end."""

    def stacked(name: str) -> torch.Tensor | None:
        if getattr(parts[0], name) is None:
            return None
        rows = (row[: len(ids)] for part in parts for row, ids in zip(getattr(part, name), part.tokens))
        return pad_sequence(list(rows), batch_first=True)

    tokens = [ids for part in parts for ids in part.tokens]
    return replace(parts[0], tokens=tokens, log_probs=stacked("log_probs"), entropies=stacked("entropies"))
