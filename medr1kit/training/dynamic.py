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

**What it was worth here.** Built-in model, preset "tiny" (4 groups of 8 a step, two rewards), 320 CT questions, three
rounds at most; means of 3 seeds, accuracy on 200 validation questions a run, CPU seconds of one thread::

    no-think                      steps  sampled  dull groups  CPU s/step  CPU s  accuracy (seeds)
    GRPO                             40     1280         0.45        0.15    6.0  0.768  0.750 0.775 0.780
    dynamic sampling                 40     2373         0.07        0.25   10.0  0.793  0.795 0.795 0.790
    GRPO, as many completions        74     2379         0.51        0.13    9.5  0.782  0.800 0.770 0.775

    think-before
    GRPO                             40     1280         0.24        0.37   14.8  0.657  0.650 0.655 0.665
    dynamic sampling                 40     1624         0.00        0.53   21.2  0.675  0.650 0.705 0.670
    GRPO, as many completions        51     1621         0.26        0.37   18.9  0.662  0.640 0.680 0.665

"dull groups" is their share in the batches trained on. It does what it should to the batches, but whether it pays is
not shown: 0.02 more at equal steps, 0.01 at equal completions, and a difference of two such rows is known to about
0.05 either way. CPU time at equal completions is 5 to 12 % more: small rounds, and prompts are read once more a step.
DAPO reports a gain on mathematics with a 32B model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medr1kit.rewards import text_of
from medr1kit.vqa import DataError

RESERVE = 2503_14476
"""Set beside the run's seed, so that questions are drawn in another order than the batches' own."""


@dataclass(frozen=True, eq=False)
class _Group:
    """The completions of one question."""

    rows: list[dict]  # of the data set: the question, once a completion
    tokens: list[list[int]]
    logprobs: list | None  # what the sampler reports; vLLM does
    completions: list[list[dict]]
    rewards: Any  # (completions, reward functions) tensor
    extra: dict[str, list]  # columns that reward functions logged
    noted: tuple | None  # log-probabilities and entropies (completions, tokens), where the shared prefix needs them


def resampling(trainer: type, rounds: int) -> type:
    """Return a GRPO trainer that replaces groups whose completions all earn the same.

    The batch is sampled and rewarded first. Then the trainer's own step is run on the groups that were chosen, with
    their completions and rewards handed in where it would sample and reward, so that advantages, normalisation,
    reference and loss are its own. If no group is replaced, the step is the one that it would have taken.

    Args:
        trainer: a class made by :func:`medr1kit.training.recording.recording`.
        rounds: how often new groups are drawn for those that are dull still; 1 or more, 3 is usual.

    Raises:
        DataError: when it is built in one of several processes.
    """
    import torch
    from trl.data_utils import prepare_multimodal_messages

    class ResamplingGRPOTrainer(trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            if self.accelerator.num_processes > 1:
                raise DataError(
                    f"dynamic sampling works in one process, and {self.accelerator.num_processes} were started; "
                    "start one, or leave dynamic_sampling out"
                )
            self._reserve = _reserve(len(self.train_dataset), self.args.seed)
            self._chosen: list[_Group] | None = None  # while the trainer's own step is run on them
            self._discarded: list[_Group] = []

        def _generate_and_score_completions(self, inputs):
            if not self.model.training:
                return super()._generate_and_score_completions(inputs)
            seen, first = self.state.num_input_tokens_seen, self._draw(inputs)
            batch, drawn, done = list(first), list(first), 0
            while done < rounds and (dull := [i for i, group in enumerate(batch) if not self._teaches(group)]):
                questions = [self.train_dataset[next(self._reserve)] for _ in dull]
                fresh = self._draw([dict(row) for row in questions for _ in range(self.num_generations)])
                for place, group in zip(dull, filter(self._teaches, fresh)):
                    batch[place] = group
                drawn += fresh
                done += 1
            self._chosen, self._discarded = batch, [group for group in drawn if group not in batch]
            sampled = self.state.num_input_tokens_seen
            self.state.num_input_tokens_seen = seen
            try:
                output = super()._generate_and_score_completions([row for group in batch for row in group.rows])
            finally:
                self._chosen = None
            self.state.num_input_tokens_seen = sampled
            self._metrics["train"]["num_tokens"] = [sampled]
            self._report(first, batch, drawn, done)
            return output

        def _draw(self, rows: list[dict]) -> list[_Group]:
            """Sample and reward completions of rows; nothing of it is logged yet but what rewards log as a number."""
            prompts = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
            before = {name: list(values) for name, values in self._metrics["train"].items()}
            with torch.no_grad():
                generated = self._generate(prompts)
                tokens, completions, logprobs = generated[1], generated[3], generated[4]
                rewards = self._calculate_rewards(rows, prompts, completions, tokens)
            self._metrics["train"].clear()
            self._metrics["train"].update(before)
            extra = {name: list(values) for name, values in self._pending_extra_logs.items()}
            self._pending_extra_logs.clear()
            size = self.num_generations
            return [
                _Group(
                    rows[part],
                    tokens[part],
                    None if logprobs is None else logprobs[part],
                    completions[part],
                    rewards[part],
                    {name: values[part] for name, values in extra.items()},
                    self._noted(part),
                )
                for part in (slice(i, i + size) for i in range(0, len(rows), size))
            ]

        def _noted(self, part: slice) -> tuple | None:
            if not self._shares() or self._drawn.log_probs is None:
                return None
            return self._drawn.log_probs[part], self._drawn.entropies[part]

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

        def _shares(self) -> bool:
            return not getattr(self, "not_shared", "TRL's own step")

        def _report(self, first, batch, drawn, done) -> None:
            rewards = torch.cat([group.rewards for group in drawn])
            total = (rewards * self.reward_weights.to(rewards.device)).nansum(1)[~rewards.isnan().all(1)]
            columns = {
                "replaced": sum(one is not other for one, other in zip(first, batch)) / len(batch),
                "rounds": float(done),
                "extra_completions": float(sum(len(group.rows) for group in drawn[len(batch) :])),
                "zero_variance_drawn": sum(not self._teaches(group) for group in drawn) / len(drawn),
                "reward_drawn": total.mean().item(),
            }
            for name, number in columns.items():
                self._metrics["train"][f"dynamic/{name}"].append(number)

        # Where the trainer's own step would sample and reward, it is handed what was chosen.

        def _generate_single_turn(self, *args, **kwargs):
            if self._chosen is None:
                return super()._generate_single_turn(*args, **kwargs)
            tokens = [list(ids) for group in self._chosen for ids in group.tokens]
            if self._shares():
                super()._generate_single_turn(*args, **kwargs)  # reads the prompts; _sample below draws nothing
                self.telemetry.counts["tokens"] -= sum(map(len, tokens))
            logprobs = [group.logprobs for group in self._chosen]
            return tokens, None if logprobs[0] is None else [row for rows in logprobs for row in rows]

        def _sample(self, *args, **kwargs):
            """Of the shared prefix: the rollouts of a batch."""
            if self._chosen is None:
                return super()._sample(*args, **kwargs)
            tokens, log_probs, entropies = [ids for group in self._chosen for ids in group.tokens], None, None
            if self._chosen[0].noted is not None:
                notes = zip(*(group.noted for group in self._chosen))
                log_probs, entropies = (_stack([row for part in parts for row in part], tokens) for parts in notes)
            return replace(self._drawn, tokens=tokens, log_probs=log_probs, entropies=entropies)

        def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
            if self._chosen is None:
                return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            for name in dict.fromkeys(name for group in self._chosen for name in group.extra):
                missing = [None] * self.num_generations
                values = [value for group in self._chosen for value in group.extra.get(name, missing)]
                self._pending_extra_logs[name].extend(values)
            return torch.cat([group.rewards for group in self._chosen])

        def _rollouts(self, inputs, output) -> list[dict]:
            rows = super()._rollouts(inputs, output)
            for group in self._discarded:
                for i, source in enumerate(group.rows):
                    rewards = dict(zip(self.reward_func_names, group.rewards[i].tolist()))
                    text = text_of(group.completions[i])
                    rows.append(self._rollout(source, i, text, group.tokens[i], rewards, 0.0, used=False))
            return rows

    return ResamplingGRPOTrainer


def _reserve(n: int, seed: int) -> Iterator[int]:
    """Rows of the data set in an order of their own, all of them before one comes again."""
    generator = np.random.default_rng((seed, RESERVE))
    while True:
        yield from generator.permutation(n).tolist()


def _stack(rows: Sequence[Any], tokens: Sequence[list[int]]) -> Any:
    """A number a token of each row as one tensor (rows, longest completion), 0 behind the end."""
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([row[: len(ids)] for row, ids in zip(rows, tokens)], batch_first=True)
