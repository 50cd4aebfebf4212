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

What it was worth on version 0.1's built-in model stands in docs/training.md: it does what it should to the batches;
whether it pays is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from medr1kit.models.shared_prefix.sampling import Rollouts
from medr1kit.training.recording import RolloutRecorder
from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer
from medr1kit.vqa import DataError

RESERVE = 2503_14476
"""Set beside the run's seed, so that questions are drawn in another order than the batches' own."""


@dataclass(frozen=True, eq=False)
class _Completion:
    """One completion and all that its step needs to know of it."""

    row: dict  # of the data set
    read: int  # prompt tokens
    tokens: list[int]
    noted: tuple[torch.Tensor, ...]  # log-probabilities and entropies (tokens,), where the loss needs them
    rewards: torch.Tensor  # (reward functions,)
    extra: dict[str, Any]  # columns that reward functions logged
    rollout: dict  # its row of the run


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
        self._reserve: Iterator[int] | None = None
        self._batch: list[_Completion] | None = None  # chosen, and not handed to the step yet

    def chosen(self, inputs):
        if self._reserve is None:  # a resumed run has drawn some already
            self._reserve = islice(_reserve(len(self.train_dataset), self.args.seed), self.recorder.spares, None)
        first = self._groups(inputs)
        batch, drawn, rounds = list(first), list(first), 0
        while rounds < self.rounds and (dull := [i for i, group in enumerate(batch) if not self._teaches(group)]):
            questions = [self.train_dataset[next(self._reserve)] for _ in dull]
            self.recorder.spares += len(dull)
            fresh = self._groups([dict(row) for row in questions for _ in range(self.num_generations)])
            for place, group in zip(dull, filter(self._teaches, fresh)):
                batch[place] = group
            drawn += fresh
            rounds += 1
        self._note(first, batch, drawn, rounds)
        self._batch = [one for group in batch for one in group]
        return [one.row for one in self._batch]

    def sampled(self, model, prefix):
        if self._batch is None:
            return super().sampled(model, prefix)
        tokens = [one.tokens for one in self._batch]
        noted = [  # log-probabilities, then entropies, 0 behind each completion's end
            pad_sequence([row[: len(ids)] for row, ids in zip(rows, tokens)], batch_first=True)
            for rows in zip(*(one.noted for one in self._batch))
        ]
        return Rollouts(tokens, *(noted or (None, None)), steps=0, branch_steps=0)

    def rewarded(self, inputs, prompts, completions, completion_ids_list):
        if self._batch is None:
            return super().rewarded(inputs, prompts, completions, completion_ids_list)
        batch, self._batch = self._batch, None  # rewards are the last that is handed over
        return torch.stack([one.rewards for one in batch])

    def _groups(self, rows: list[dict]) -> list[list[_Completion]]:
        """Completions of rows, group by group; what they say and earn is not written yet."""
        self.recorder.held = rollouts = []
        read, drawn, rewards, columns = self.draw(rows)
        self.recorder.held = None
        noted = [()] * len(rows) if drawn.log_probs is None else zip(drawn.log_probs, drawn.entropies)
        extra = [{name: values[i] for name, values in columns.items()} for i in range(len(rows))]
        found = [_Completion(*one) for one in zip(rows, read, drawn.tokens, noted, rewards, extra, rollouts)]
        return [found[i : i + self.num_generations] for i in range(0, len(found), self.num_generations)]

    def _teaches(self, group: list[_Completion]) -> bool:
        """Whether two completions of a group earn different rewards; one without any reward is left out."""
        rewards = torch.stack([one.rewards for one in group])
        scored = rewards[~rewards.isnan().all(1)]  # (scored completions, functions)
        if len(scored) == 0:
            return False
        earned = scored * self.reward_weights.to(scored.device)
        if self.multi_objective_aggregation == "sum_then_normalize":
            earned = earned.nansum(1, keepdim=True)
        low, high = earned.nan_to_num(torch.inf).amin(0), earned.nan_to_num(-torch.inf).amax(0)
        return not torch.isclose(high, low).logical_or(high < low).all()

    def _note(self, first: list, batch: list, drawn: list, rounds: int) -> None:
        """Write and log what was drawn, groups all; the step itself sees the batch alone."""
        used = [one for group in batch for one in group]
        unused = [one for group in drawn if group not in batch for one in group]
        self.state.num_input_tokens_seen += sum(one.read + len(one.tokens) for one in unused)
        for name in dict.fromkeys(name for one in used for name in one.extra):
            self.log_extra(name, [one.extra.get(name) for one in used])
        self.recorder.write([one.rollout for one in used], self.log_metric, [one.rollout for one in unused])
        rewards = torch.stack([one.rewards for one in used + unused])
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(1)[~rewards.isnan().all(1)]
        self.log_metric("dynamic/replaced", sum(one is not other for one, other in zip(first, batch)) / len(batch))
        self.log_metric("dynamic/rounds", float(rounds))
        self.log_metric("dynamic/extra_completions", float(len(unused)))
        self.log_metric("dynamic/zero_variance_drawn", sum(not self._teaches(group) for group in drawn) / len(drawn))
        self.log_metric("dynamic/reward_drawn", total.mean().item())


def _reserve(n: int, seed: int) -> Iterator[int]:
    """Rows of the data set in an order of their own, all of them before one comes again."""
    generator = np.random.default_rng((seed, RESERVE))
    while True:
        yield from generator.permutation(n).tolist()
