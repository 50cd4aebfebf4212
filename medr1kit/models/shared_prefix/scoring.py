"""Log-probabilities of completions from a shared prefix, with gradients.

The loss needs the log-probability of every completion token. Stock TRL reads prompt and completion of every row; here
the completions of a group continue one prompt, whose keys and values are copied to its rows. Autograd then adds up what
the rows send back, and the prompt is also differentiated once. That is exact: the same sums in another order.

Three more savings, exact, too: equal completions of a prompt are scored once; rows are put into a few buckets of
similar length; and the head sees only the states that predict a completion token, a slice of rows at a time.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from medr1kit.models.shared_prefix.prompts import Prefix, follow

# A bucket costs about as much as this many padded tokens, whatever is in it.
BUCKET_TOKENS = 96
# Logits computed at a time, as numbers: 32 MiB in float32.
LOGITS = 2**23


def score(
    core: nn.Module,
    head: nn.Module,
    prefix: Prefix,
    prompt_of_row: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probability and entropy of every completion token.

    Args:
        core: the model without its head.
        head: the output embedding.
        prefix: the prompts, read with the same weights.
        prompt_of_row: (rows,) the prompt of each row.
        completion_ids: (rows, tokens), right-padded.
        completion_mask: (rows, tokens), 1 where there is a token.
        temperature: the logits are divided by it.
        entropy_gradient: whether the entropies carry a gradient; without an entropy bonus none is needed.

    Returns:
        Two tensors (rows, tokens) in float32, 0 where the mask is 0.
    """
    (prompts, ids, lengths), inverse = distinct_rows(prompt_of_row, completion_ids, completion_mask)
    states, rows, places = [prefix.last_hidden[prompts[lengths > 0]]], [(lengths > 0).nonzero().squeeze(1)], []
    places.append(torch.zeros_like(rows[0]))  # the first token is predicted from the prompt alone
    for bucket in _buckets((lengths - 1).clamp(min=0).tolist()):
        which = torch.tensor(bucket, device=ids.device)
        fed = ids[which, : int(lengths[which].max()) - 1]  # (bucket rows, tokens) all but the last token
        inside = torch.arange(fed.shape[1], device=ids.device) < (lengths[which] - 1)[:, None]
        hidden, _ = follow(core, prefix, prompts[which], fed, inside)  # (bucket rows, tokens, hidden)
        row, place = inside.nonzero(as_tuple=True)
        states.append(hidden[row, place])
        rows.append(which[row])
        places.append(place + 1)
    rows, places = torch.cat(rows), torch.cat(places)  # (scored tokens,) each
    found = predict_tokens(head, torch.cat(states), ids[rows, places], temperature, entropy_gradient)
    return tuple(grid[inverse] for grid in on_grid(ids.shape, rows, places, found))


def distinct_rows(prompt_of_row, completion_ids, completion_mask):
    """The distinct pairs of prompt and completion, and for each row the place of its pair, (rows,).

    The pairs are three tensors: prompts (pairs,), ids (pairs, tokens) and lengths (pairs,).
    """
    lengths = completion_mask.sum(1)
    keys = torch.cat([prompt_of_row[:, None], lengths[:, None], completion_ids * completion_mask], dim=1)
    pairs, inverse = torch.unique(keys, dim=0, return_inverse=True)
    return (pairs[:, 0], pairs[:, 2:], pairs[:, 1]), inverse


def on_grid(shape, rows, places, numbers):
    """Numbers of single tokens put into their row and place, (rows, tokens) each, 0 elsewhere."""
    return tuple(torch.zeros(shape, device=rows.device).index_put((rows, places), column) for column in numbers)


def _buckets(lengths: list[int]) -> list[list[int]]:
    """Group rows by length so that padding and the cost of a bucket are least together; rows of length 0 are left out.

    With the rows in order of length, the best cut of the first j rows is the best cut of the first i of them plus one
    bucket of the rest: dynamic programming over i < j.

    >>> _buckets([0, 2, 200, 2, 199])
    [[1, 3], [4, 2]]
    """
    order = sorted((i for i in range(len(lengths)) if lengths[i]), key=lambda i: lengths[i])
    ends = [j for j in range(1, len(order) + 1) if j == len(order) or lengths[order[j - 1]] != lengths[order[j]]]
    best = {0: (0, [0])}  # rows cut off so far -> (cost, cuts)
    for j in ends:
        width = lengths[order[j - 1]]
        best[j] = min((cost + BUCKET_TOKENS + width * (j - i), [*cuts, j]) for i, (cost, cuts) in best.items())
    return [order[start:end] for start, end in pairwise(best[len(order)][1])]


def predict_tokens(head, states, tokens, temperature: float, entropy_gradient: bool) -> tuple[torch.Tensor, ...]:
    """Log-probability and entropy of each token after its state, (scored tokens,) each."""
    slice_rows = max(1, LOGITS // head.out_features)
    if len(states) <= slice_rows:
        return _slice(head, states, tokens, temperature, entropy_gradient)
    parts = [
        checkpoint(_slice, head, *part, temperature, entropy_gradient, use_reentrant=False)
        for part in zip(states.split(slice_rows), tokens.split(slice_rows))
    ]
    return tuple(torch.cat(numbers) for numbers in zip(*parts))


def _slice(head, states, tokens, temperature: float, entropy_gradient: bool) -> tuple[torch.Tensor, ...]:
    logs = (head(states).float() / temperature).log_softmax(-1)  # (scored tokens, vocabulary)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logs.exp() * logs).sum(-1)
    return logs.gather(1, tokens[:, None]).squeeze(1), entropy
