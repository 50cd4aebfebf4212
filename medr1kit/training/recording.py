"""What training writes down: every logged step, and every sampled completion.

Completions are taken down through TRL's public protocol. A reward function is handed all completions of its process
with their questions, tokens and the trainer's state, and may log numbers; so the reward functions are wrapped, and what
the last of them is called with is a step's rollouts. Nothing of the trainer is overridden, and a trainer that is TRL's
own records like one of ours.

One column TRL tells nobody in time: the advantage, which it computes after the rewards. Its own table of completions
(``log_completions``) holds the last batch before a log, so none of those between two logs, and sends it to wandb. Here
:func:`advantages` computes it from the rewards by the rule that the run's arguments name; a test holds it against TRL's
table, number by number.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl.trainer.utils import RepeatSampler

from medr1kit.formats import ResponseFormat
from medr1kit.models.load import base_of
from medr1kit.progress import progress
from medr1kit.results.runs import RunWriter, load_run
from medr1kit.results.watch import RewardWatch
from medr1kit.rewards import text_of
from medr1kit.training.provenance import name_base
from medr1kit.training.reward_functions import pay_given, reward_name
from medr1kit.training.saving import check_written, own_part, write_record
from medr1kit.vqa import DataError, parse_solution

DEAD = 128
"""Completions in a row that earn nothing, after some that did, before a word is said."""


class Recorder(TrainerCallback, ExportableState):
    """Writes each logged step to the run and shows one progress bar; a checkpoint holds what it needs to go on.

    Args:
        title: what stands before the bar.

    Attributes:
        writer: the run; None in all processes but the main one.
        config: what run.json holds.
        sizes: of the tensors that a checkpoint has to hold.
        seconds: that the training took before it was resumed.
        stepped: whether the weights have been changed.
    """

    def __init__(self, title: str):
        self.title = title
        self.writer: RunWriter | None = None
        self.config: Mapping[str, Any] = {}
        self.sizes: Counter = Counter()
        self.seconds, self.stepped = 0.0, False
        self.bar: Any = None
        self._begun = time.monotonic()

    @property
    def seconds_so_far(self) -> float:
        """What the training took, without what a kill lost."""
        return self.seconds + time.monotonic() - self._begun

    def state(self) -> dict[str, Any]:
        """Return what the trainer keeps in a checkpoint's trainer_state.json, and hands back when it is resumed."""
        return {"args": {}, "attributes": {"seconds": self.seconds_so_far}}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._before = _some_of(model)
        self._begun, self.stepped = time.monotonic(), state.global_step > 0
        if self.stepped:
            self.go_on(state.stateful_callbacks[type(self).__name__]["attributes"])
        hidden = not state.is_world_process_zero
        self.bar = progress(None, self.title, total=state.max_steps, unit="step", delay=0, hidden=hidden)
        self.bar.update(state.global_step)

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.seconds = kept["seconds"]

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.writer is None or logs is None or "train_runtime" in logs:
            return
        self.writer.metrics_row({"step": state.global_step, **logs})
        shown = {name: logs[name] for name in ("reward", "loss") if isinstance(logs.get(name), int | float)}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.stepped = True

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.bar.update(state.global_step - self.bar.n)
        # What a log sums up must not span a checkpoint, and an evaluation stands in the row of its step.
        control.should_log |= control.should_save | control.should_evaluate
        finite = torch.nn.utils.get_total_norm(_trained(model), math.inf).isfinite().item()
        if not all(gather_object([finite])):  # before anything of it is saved
            raise DataError(
                f"step {state.global_step}: the trained weights are no longer finite numbers, so the training was "
                "stopped and they are not saved; load the model anew, and lower learning_rate (or beta), or see what "
                "the rewards pay"
            )

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if all(gather_object([all(map(torch.equal, self._before, _some_of(model)))])):
            warnings.warn(
                f"step 1 to {state.global_step} changed no weight: the model is what it was; was the learning rate 0 "
                "(learning_rate, warmup_steps), lora's alpha 0, or every reward of a group the same?",
                stacklevel=2,
            )

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_log |= control.should_save | control.should_evaluate

    def on_save(self, args, state, control, **kwargs):
        if self.writer is None:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        check_written(checkpoint, self.sizes, finite=False)  # the numbers were looked at when the step ended
        if (checkpoint / "adapter_config.json").is_file():
            name_base(checkpoint, self.config["model"])
        write_record(checkpoint, self.config, state.global_step)

    def close(self) -> None:
        """End the table of rollouts and the bar, which would push the next one down a line."""
        for what in (self.writer, self.bar):
            if what is not None:
                what.close()


def _trained(model: torch.nn.Module) -> list[torch.Tensor]:
    """What this process holds of each tensor that is trained, where it holds any of it."""
    parts = (own_part(weight) for weight in model.parameters() if weight.requires_grad)
    return [part for part in parts if part.numel()]


def _some_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Some numbers of each."""
    return [weight[:: max(1, weight.numel() // 16)].clone() for weight in _trained(model)]


class RolloutRecorder(Recorder):
    """Also writes every sampled completion to the run, and watches for gamed rewards.

    Args:
        format: the response format that was asked for.
        rewards: TRL reward functions.

    Attributes:
        rewards: the same functions, to be handed to the trainer: they pay what they paid, under the same names.
        names: these names.
        held: where completions wait instead of being written, until it is known which are trained on; or None.
        spares: questions that were drawn in place of others.
        shown: called with the completions of each step when they are written; or None.
    """

    def __init__(self, format: ResponseFormat, rewards: Sequence[Callable]):
        super().__init__("GRPO")
        self.format, self.watch = format, RewardWatch(format)
        self.names = [reward_name(reward) for reward in rewards]
        self.rewards = [self._noting(place, reward) for place, reward in enumerate(rewards)]
        self.held: list[dict] | None = None
        self.shown: Callable[[list[dict]], None] | None = None
        self._paid: dict[int, list[float | None]] = {}  # of the completions at hand, by the reward's place
        self._model: Any = None
        self._told: set[str] = set()  # what is said once
        self._unpaid: int | None = None  # completions since one was paid; None before the first that was
        self.spares, self._batches, self._due = 0, 0, False

    def state(self):
        kept = super().state()
        kept["attributes"] |= {"spares": self.spares, "watch": self.watch.state()}
        return kept

    def go_on(self, kept):
        super().go_on(kept)
        self.spares = kept["spares"]
        if self.writer is not None:
            self.watch.go_on(kept["watch"], load_run(self.writer.path).rollouts)

    def on_train_begin(self, args, state, control, model=None, processing_class=None, train_dataloader=None, **kwargs):
        super().on_train_begin(args, state, control, model, **kwargs)
        self._model, self._args = model, args
        # TRL's order of the questions comes from one generator for all epochs, which a resumed run begins anew.
        batches = train_dataloader.batch_sampler
        order = getattr(batches, "batch_sampler", batches).sampler  # of several processes each has a share of it
        if isinstance(order, RepeatSampler) and order.shuffle and not hasattr(order, "set_epoch"):
            for _ in range(int(state.epoch)):
                torch.randperm(order.num_samples, generator=order.generator)
        ends = base_of(model).generation_config.eos_token_id
        self._ends = {processing_class.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def on_substep_end(self, args, state, control, **kwargs):
        self._batches += 1

    def on_step_end(self, args, state, control, **kwargs):
        """A checkpoint waits until the completions at hand have been used: they are not kept in it."""
        self._batches += 1
        self._due |= control.should_save
        used = self._batches % (args.steps_per_generation * args.num_iterations) == 0
        control.should_save = self._due and (used or control.should_training_stop)
        self._due &= not control.should_save
        super().on_step_end(args, state, control, **kwargs)

    def _noting(self, place: int, reward: Callable) -> Callable:
        """A reward function that also notes what it paid; the last one to do so completes the rollouts."""

        def note(pay: Iterable[float | None], given: Mapping[str, Any]) -> list[float | None]:
            self._paid[place] = pay = self._checked(self.names[place], pay, given)
            if len(self._paid) == len(self.rewards):
                self._take(given)
            return pay

        if inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(type(reward).__call__):

            async def paid(**given):
                return note(await reward(**given), given)
        else:

            def paid(**given):
                return note(reward(**given), given)

        update_wrapper(paid, reward).__name__ = self.names[place]  # TRL names columns after it
        return paid

    def _checked(self, name: str, pay: Any, given: Mapping[str, Any]) -> list[float | None]:
        pay = pay_given(name, pay, given)
        if any(value is not None and math.isnan(value) for value in pay):
            step = given["trainer_state"].global_step + 1
            self._tell(f"step {step}: reward {name!r} paid nan, which counts as None, not applying", name)
        return pay

    def _tell(self, sentence: str, about: str) -> None:
        if about not in self._told:
            self._told.add(about)
            warnings.warn(sentence, stacklevel=2)

    def _take(self, given: Mapping[str, Any]) -> None:
        """Make rows of what all rewards have paid for by now; those of an evaluation are no rollouts."""
        paid, self._paid = [self._paid[place] for place in range(len(self.names))], {}
        if self._model is None or not self._model.training:
            return
        paid = torch.tensor([list(map(_number, pay)) for pay in paid]).T.tolist()  # as float32, like TRL
        rows = gather_object([self._row(given, i, pay) for i, pay in enumerate(paid)])
        if self.held is None:
            self.write(rows, given["log_metric"])
        else:
            self.held += rows

    def _row(self, given: Mapping[str, Any], i: int, paid: Sequence[float]) -> dict[str, Any]:
        """One completion as a row of the run's rollouts."""
        source = {name: column[i] for name, column in given.items() if isinstance(column, list)}
        number = self._args.process_index * len(given["completions"]) + i  # among those of all processes
        text, tokens = text_of(source["completions"]), source["completion_ids"]
        step, rollout = given["trainer_state"].global_step + 1, number % self._args.num_generations
        row = {"step": step, "id": source.get("id"), "rollout": rollout}
        row |= {name: source.get(name) for name in ("question", "options")}
        row |= {"answer": parse_solution(source["solution"])}
        row |= {name: source.get(name) for name in ("modality", "task")}
        row |= {"text": text, "predicted": self.format.parse(text, row["options"]).answer}
        row |= {name: None if math.isnan(pay) else pay for name, pay in zip(self.names, paid)}
        ended = bool(tokens) and tokens[-1] in self._ends
        return row | {"advantage": None, "n_tokens": len(tokens), "truncated": not ended, "used": True}

    def write(self, rows: list[dict], log_metric: Callable, unused: Iterable[Mapping] = ()) -> None:
        """Write a batch of completions to the run, and log what the watch sees.

        Args:
            rows: of all processes, group after group; they are trained on.
            log_metric: TRL's.
            unused: rows that were sampled, too, and are not trained on.
        """
        if self.writer is None:
            return
        paid = torch.tensor([[_number(row[name]) for name in self.names] for row in rows])
        step = rows[0]["step"]
        if paid.isnan().all():
            self._tell(f"step {step}: no reward applies to any completion, so the step teaches nothing", "none")
        if (paid.nan_to_num(0.0) != 0).any():
            self._unpaid = 0
        elif self._unpaid is not None:
            self._unpaid += len(rows)
            if self._unpaid >= DEAD:
                ways = "load the model anew and lower learning_rate, or read the completions"
                said = f"step {step}: the last {self._unpaid} completions earned nothing, and some before did; {ways}"
                self._tell(said, "dead")
        for row, advantage in zip(rows, advantages(paid, self._args)):
            row["advantage"] = advantage
        rows = [*rows, *({**row, "advantage": 0.0, "used": False} for row in unused)]
        self.writer.rollout_rows(rows)
        if self.shown is not None:
            self.shown(rows)
        columns, news = self.watch.step(rows)
        for name, number in columns.items():
            log_metric(name, number)
        for sentence in news:
            warnings.warn(sentence, stacklevel=2)


def advantages(paid: torch.Tensor, args: Any) -> list[float | None]:
    """Return the advantage of each completion, as TRL 1.16 computes it for its loss.

    Args:
        paid: (completions, reward functions), float32, group after group; nan where a function does not apply.
        args: the run's :class:`trl.GRPOConfig`, of which ``num_generations``, ``reward_weights``, ``scale_rewards`` and
            ``multi_objective_aggregation`` count.

    Returns:
        A number a completion, 0 where no function applies. None if the arguments name a rule that is not known here.
    """
    rule = args.scale_rewards if args.multi_objective_aggregation == "sum_then_normalize" else None
    rule = rule or args.multi_objective_aggregation
    if rule not in _MEAN_AND_SPREAD:
        return [None] * len(paid)
    mean_over, spread_over = _MEAN_AND_SPREAD[rule]
    groups = paid.view(-1, args.num_generations, paid.shape[1])
    if rule == "normalize_then_sum":
        groups = (groups - groups.nanmean(1, keepdim=True)) / (_spread(groups, 1) + 1e-4)
    earned = (groups * torch.tensor(args.reward_weights or [1.0] * paid.shape[1])).nansum(2)  # (groups, completions)
    earned[paid.isnan().all(1).view_as(earned)] = math.nan
    found = earned - earned.nanmean(mean_over, keepdim=True)
    if rule != "none":
        found = found / (_spread(earned, spread_over) + 1e-4)
    return found.nan_to_num(nan=0.0).flatten().tolist()


# Over which dimension of (groups, completions) a rule takes the mean and the standard deviation; None: over all.
_MEAN_AND_SPREAD = {"group": (1, 1), "batch": (1, None), "none": (1, 1), "normalize_then_sum": (None, None)}


def _spread(numbers: torch.Tensor, dim: int | None) -> torch.Tensor:
    """Standard deviation with n - 1 along a dimension or, for None, of all numbers, without those that are nan."""
    n = (~numbers.isnan()).sum(dim, keepdim=True)
    mean = numbers.nanmean(dim, keepdim=True)
    variance = ((numbers - mean) ** 2).nanmean(dim, keepdim=True)
    return (variance * torch.where(n > 1, n / (n - 1), math.nan)).sqrt()


def _number(pay: float | None) -> float:
    return math.nan if pay is None else float(pay)
