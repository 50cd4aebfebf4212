"""Rollouts from a shared prefix: what rows have in common is computed once, as long as they have it in common.

The rows of a group begin with the same prompt, and often with the same words: in the no-think format all eight say
``<answer>`` before they differ. Rows that have said the same so far are one *branch* and go through the model once; a
branch splits where its rows draw different tokens, and ends with its last row.

The tokens are those that ``generate`` of transformers would draw with the same seed. Its ``multinomial`` divides the
probabilities by exponential noise and takes the largest; the same noise is drawn here for all rows, also for those that
have ended, so that no row's luck depends on what the others do. On most CPUs that noise is the logarithm of uniform
random numbers, taken one by one; where a trial finds it so, it is taken of all numbers together, which is three times
sooner.

A look at the tokens makes a GPU wait for its host. A decoder that wants none at each token
(:attr:`Decoder.ahead <medr1kit.models.shared_prefix.decoder.Decoder.ahead>`) draws several ahead, each row for itself;
what was drawn behind the end of all rows is left away, and the generator is set back to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.prompts import Prefix

if TYPE_CHECKING:
    from transformers import GenerationConfig

# (scores (branches, vocabulary), branch of each active row, number of each, rows in all) -> tokens (active rows,)
Draw = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
Processors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (tokens so far, logits) -> logits, per row


@dataclass(frozen=True)
class Rollouts:
    """Sampled completions and what the policy thought of each token when it drew it."""

    tokens: list[list[int]]  # a list a row, up to and including the end token
    log_probs: torch.Tensor | None  # (rows, tokens) of the tempered, unprocessed distribution; 0 after the end
    entropies: torch.Tensor | None  # (rows, tokens)
    steps: int  # forward passes of one token
    branch_steps: int  # branches summed over these passes; without sharing it would be the tokens of all rows


def settled(model: Any, generation: GenerationConfig, prompt_tokens: int) -> tuple[GenerationConfig, Processors]:
    """Return generation settings and logits processors as ``generate`` of transformers settles them.

    Args:
        model: the model that would generate, without a PEFT wrapper.
        generation: settings that were asked for, ``max_new_tokens`` among them.
        prompt_tokens: length of the padded prompts.
    """
    settings, _ = model._prepare_generation_config(generation)
    model._prepare_special_tokens(settings, True, device=model.device)
    settings.max_length = prompt_tokens + settings.max_new_tokens  # some processors count from the prompt's start
    processors = model._get_logits_processor(
        settings, prompt_tokens, logits_processor=[], device=model.device, model_kwargs={}
    )
    return settings, _in_turn([_barring(one, model.device) for one in processors])


def _in_turn(processors: Sequence[Processors]) -> Processors:
    """Logits processors one after the other; the list of transformers inspects their signatures at each token."""

    def processed(history: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        for processor in processors:
            logits = processor(history, logits)
        return logits

    return processed


def _barring(processor: Processors, device: torch.device) -> Processors:
    """The same processor; the one that bars tokens without looking through the vocabulary for them at each token."""
    from transformers import SuppressTokensLogitsProcessor

    if type(processor) is not SuppressTokensLogitsProcessor:
        return processor
    barred = torch.as_tensor(processor.suppress_tokens, device=device)
    return lambda _, logits: logits.index_fill(1, barred, -torch.inf)


@torch.no_grad()
def sample(
    decoder: Decoder,
    prefix: Prefix,
    prompt_of_row: torch.Tensor,
    *,
    max_new_tokens: int,
    end_tokens: Sequence[int],
    processors: Processors | None = None,
    draw: Draw | None = None,
    temperature: float = 1.0,
    record: bool = False,
    closed: Callable[[list[int]], bool] | None = None,
) -> Rollouts:
    """Continue each row's prompt token by token.

    Args:
        decoder: a decoder with the policy's weights of now.
        prefix: the prompts, read.
        prompt_of_row: (rows,) the prompt of each row.
        max_new_tokens: completion tokens a row at most, 1 or more.
        end_tokens: a row ends with one of these.
        processors: changes logits before a token is drawn (temperature among them); None: drawn as they are.
        draw: chooses a token for each active row; None: :func:`as_generate`.
        temperature: for ``record`` only, as the loss uses it.
        record: keep log-probability and entropy of each token.
        closed: a row also ends when this says so of its tokens; None: rows end by themselves.
    """
    drawing = draw or as_generate, processors or (lambda _, logits: logits), temperature if record else None
    over = partial(_is_over, ends=set(end_tokens), closed=closed)
    way = _sample_ahead if decoder.ahead > 1 else _sample_in_branches
    return way(decoder, prefix, prompt_of_row, max_new_tokens, over, *drawing)


def _is_over(tokens: list[int], ends: set[int], closed: Callable[[list[int]], bool] | None) -> bool:
    return tokens[-1] in ends or (closed is not None and closed(tokens))


def _sample_in_branches(
    decoder: Decoder,
    prefix: Prefix,
    prompt_of_row: torch.Tensor,
    max_new_tokens: int,
    over: Callable[[list[int]], bool],
    draw: Draw,
    processors: Processors,
    temperature: float | None,
) -> Rollouts:
    """Rows that have said the same so far together; a temperature asks for what the policy thought of its tokens."""
    rows, device = len(prompt_of_row), prompt_of_row.device
    branches = _Branches(prompt_of_row.tolist())
    owners = torch.tensor(branches.prompts, device=device)  # (branches,)
    state = decoder.start(prefix, owners, max_new_tokens - 1, room=rows)
    history, logits = prefix.input_ids[owners], decoder.logits(prefix.last_hidden)[owners]  # (branches, …)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    log_probs, entropies, branch_steps = [], [], 0
    for step in range(max_new_tokens):
        active = torch.tensor(list(branches.of_row), device=device)  # (active rows,)
        branch = torch.tensor(list(branches.of_row.values()), device=device)  # (active rows,)
        drawn = draw(processors(history, logits), branch, active, rows)  # (active rows,)
        if temperature is not None:
            for kept, numbers in zip((log_probs, entropies), _belief(logits / temperature, branch, drawn)):
                kept.append(torch.zeros(rows, device=device).index_copy(0, active, numbers))
        said = dict(zip(branches.of_row, drawn.tolist()))
        for row, token in said.items():
            tokens[row].append(token)
            if over(tokens[row]):
                del branches.of_row[row]
        if step + 1 == max_new_tokens or not branches.of_row:
            break
        left, parents, column = branches.grow(said)
        if left is not None:
            state.keep(left, room=branches.room)
            history = history[left]
        if parents:
            state.split(parents)
            history = torch.cat([history, history[parents]])
        new = torch.tensor(column, device=device)  # (branches,)
        history = torch.cat([history, new[:, None]], dim=1)
        logits = decoder.step(state, new)
        branch_steps += state.count
    recorded = (None, None) if temperature is None else (torch.stack(log_probs, 1), torch.stack(entropies, 1))
    return Rollouts(tokens, *recorded, steps=step, branch_steps=branch_steps)


def _sample_ahead(
    decoder: Decoder,
    prefix: Prefix,
    prompt_of_row: torch.Tensor,
    max_new_tokens: int,
    over: Callable[[list[int]], bool],
    draw: Draw,
    processors: Processors,
    temperature: float | None,
) -> Rollouts:
    """Each row for itself; the host looks at the tokens when several have been drawn of each."""
    rows, used = len(prompt_of_row), prefix.input_ids.shape[1]
    everyone = torch.arange(rows, device=prompt_of_row.device)
    state = decoder.start(prefix, prompt_of_row, max_new_tokens - 1)
    said = F.pad(prefix.input_ids[prompt_of_row], (0, max_new_tokens))  # (rows, tokens), filled from the left
    logits = decoder.logits(prefix.last_hidden)[prompt_of_row]  # (rows, vocabulary)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    going, beliefs, lucks = set(range(rows)), [], []  # lucks: the generator's states since the last look
    generator = torch.cuda if everyone.is_cuda else torch
    for step in range(max_new_tokens):
        drawn = draw(processors(said[:, : used + step], logits), everyone, everyone, rows)  # (rows,)
        said[:, used + step] = drawn
        lucks.append(generator.get_rng_state())
        if temperature is not None:
            beliefs.append(torch.stack(_belief(logits / temperature, everyone, drawn)))
        if len(lucks) == decoder.ahead or step + 1 == max_new_tokens:
            for row, new in enumerate(said[:, used + step + 1 - len(lucks) : used + step + 1].tolist()):
                while row in going and new:
                    tokens[row].append(new.pop(0))
                    if over(tokens[row]):
                        going.discard(row)
            if not going or step + 1 == max_new_tokens:
                break
            lucks = []
        logits = decoder.step(state, drawn)
    longest = max(map(len, tokens))
    generator.set_rng_state(lucks[longest - step - 2])  # that after the last token that counts
    recorded = (None, None)
    if temperature is not None:
        lengths = torch.tensor([[len(row)] for row in tokens])
        inside = (torch.arange(longest) < lengths).to(everyone.device)
        recorded = torch.stack(beliefs[:longest], dim=2).mul(inside).unbind()
    return Rollouts(tokens, *recorded, steps=step, branch_steps=rows * step)


class _Branches:
    """Which rows are still the same, as numbers of branches."""

    def __init__(self, prompt_of_row: list[int]):
        self.prompts = list(dict.fromkeys(prompt_of_row))  # of each branch at the start
        number = {prompt: branch for branch, prompt in enumerate(self.prompts)}
        self.of_row = {row: number[prompt] for row, prompt in enumerate(prompt_of_row)}  # rows that go on
        self.count = len(self.prompts)
        self.room = len(prompt_of_row)  # no more branches than rows

    def grow(self, said: dict[int, int]) -> tuple[list[int] | None, list[int], list[int]]:
        """Append each row's token: rows of a branch that say the same stay together.

        Args:
            said: the token of each row.

        Returns:
            The branches to go on with if ended ones are to be dropped, else None; then the branches to be copied, which
            are numbered from the end on; then the token that each branch says.
        """
        pairs = {row: (branch, said[row]) for row, branch in self.of_row.items()}
        distinct = list(dict.fromkeys(pairs.values()))
        live = sorted({branch for branch, _ in distinct})
        # Dropping copies what stays, so a few ended branches are carried along as long as there is room.
        drop = len(live) <= 0.75 * self.count or self.count + len(distinct) - len(live) > self.room
        number = {branch: i for i, branch in enumerate(live)} if drop else {branch: branch for branch in live}
        if drop:
            self.count, self.room = len(live), len(pairs)
        place_of, parents, says = {}, [], {}
        for branch, token in distinct:
            place = number[branch]
            if place in says:  # something else: a copy of the branch says this
                parents.append(place)
                place = self.count
                self.count += 1
            place_of[branch, token], says[place] = place, token
        self.of_row = {row: place_of[pair] for row, pair in pairs.items()}
        return (live if drop else None), parents, [says.get(branch, 0) for branch in range(self.count)]


def as_generate(scores: torch.Tensor, branch: torch.Tensor, active: torch.Tensor, rows: int) -> torch.Tensor:
    """Draw the token that ``torch.multinomial(softmax, 1)`` would draw for each active row of the whole batch."""
    shape = rows, scores.shape[-1]  # also for rows that ended
    if scores.device.type == "cpu" and scores.dtype == torch.float32 and _noise_is_a_logarithm():
        noise = _noise_of(torch.empty(shape, dtype=torch.double).uniform_(), active)
    else:
        noise = scores.new_empty(shape).exponential_(1)[active]
    return (scores.softmax(-1)[branch] / noise).argmax(-1)


def _noise_of(even: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
    """Exponential noise (active rows, vocabulary) from what is even from 0 to 1, (rows, vocabulary) in float64."""
    return even[active].neg_().log1p_().neg_().float()


@cache
def _noise_is_a_logarithm() -> bool:
    """Whether this CPU's ``exponential_`` is the logarithm of as many even numbers; with Intel's library it is not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise, after = torch.empty(8, 4099).exponential_(1), torch.get_rng_state()
        torch.manual_seed(0)
        own = _noise_of(torch.empty(8, 4099, dtype=torch.double).uniform_(), torch.arange(8))
        return torch.equal(torch.get_rng_state(), after) and torch.equal(own, noise)


def by_share(scores: torch.Tensor, branch: torch.Tensor, active: torch.Tensor, rows: int) -> torch.Tensor:
    """Draw from the same distribution with one random number a row instead of one a word: sooner, other tokens."""
    luck = torch.rand(rows, device=scores.device)[active]  # drawn also for rows that ended
    reached = scores.float().softmax(-1).cumsum(-1)[branch]  # (active rows, vocabulary)
    wanted = reached[:, -1:] * luck[:, None].clamp(max=1 - 1e-6)  # below the end, where nothing might be probable
    return torch.searchsorted(reached, wanted, right=True)[:, 0]


def most_probable(scores: torch.Tensor, branch: torch.Tensor, active: torch.Tensor, rows: int) -> torch.Tensor:
    """Take the most probable token."""
    return scores.argmax(-1)[branch]


def _belief(logits: torch.Tensor, branch: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each active row's token and entropy of its distribution, (active rows,) each."""
    logs = logits.log_softmax(-1)  # (branches, vocabulary)
    return logs[branch, drawn], -(logs.exp() * logs).sum(-1)[branch]
