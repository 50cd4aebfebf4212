"""Decoding on a GPU: one token as one launch.

A language model of 28 layers with LoRA takes some 1,050 kernels a token in bfloat16 (37 a layer, counted on a CPU), and
launching them takes longer than running them. A CUDA graph records them once and launches them together. It can only
repeat itself: the same tensors at the same places in memory, of the same shapes. So every row is computed at every
step, looks at all places with a mask that hides those not written yet, and is told by a tensor, not by a number, where
to write. One recording serves a whole run: weights that an optimizer has changed are taken over where they stand, and
only a batch of more rows or longer prompts is recorded anew.

On a CPU nothing is recorded and the same step runs as it is, which is how it is tested. **It has not been run on a GPU
yet**, so it is used there only where the environment variable ``MEDR1KIT_CUDA_GRAPHS`` is 1; if recording fails, one
warning says so, and the step runs unrecorded from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from medr1kit.models.machine import choose_decoding
from medr1kit.models.shared_prefix.decoder import Decoder, State
from medr1kit.models.shared_prefix.layers import Layers
from medr1kit.models.shared_prefix.prompts import Prefix

Call = Callable[[], torch.Tensor]
Recorder = Callable[[Call], Call]
# Places are made in multiples of this, so that a prompt that is a little longer finds room.
PLACES = 64


def graphs_asked(device: torch.device) -> bool:
    """Return whether decoding on a device is to be recorded."""
    return choose_decoding(device.type).value == "CUDA graph"


def recorded(call: Call) -> Call:
    """Record a call on a GPU and return what repeats it; both return the same tensor, overwritten each time."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        call()  # libraries allocate their work space outside the graph
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()  # writes the same numbers to the same place again

    def again() -> torch.Tensor:
        graph.replay()
        return found

    return again


class StaticDecoder(Decoder):
    """A :class:`Decoder` to be kept for a run, whose step has fixed shapes and, on a GPU, is recorded.

    Args:
        language_model, head, layers: as for a decoder.
        record: turns a step into one that is recorded; None: :func:`recorded` on a GPU, nothing elsewhere.

    Attributes:
        is_recorded: whether the step of now is.
    """

    ahead = 8

    def __init__(
        self, language_model: nn.Module, head: nn.Module, layers: Layers | None = None, record: Recorder | None = None
    ):
        super().__init__(language_model, head, layers)
        on_gpu = next(head.parameters()).device.type == "cuda"
        self._record = record or (recorded if on_gpu else None)
        self._state: State | None = None
        self._again: Call | None = None

    @property
    def is_recorded(self) -> bool:
        return self._again is not None

    def renew(self) -> None:
        """Take over weights that have changed since the last sampling."""
        self.layers.renew()

    def start(self, prefix: Prefix, prompt_of_branch: torch.Tensor, new_tokens: int, room: int = 0) -> State:
        """Return a state as :meth:`Decoder.start` does, at the places of the last one; that one is no more."""
        count, used = len(prompt_of_branch), prefix.attention_mask.shape[1]
        rows, places = max(room, count), used + new_tokens
        if self._state is None or rows > len(self._state.position) or places > self._state.visible.shape[-1]:
            self._make(prefix, rows, -(-places // PLACES) * PLACES)
        state = self._state
        for own, read in zip((*state.keys, *state.values), (*prefix.keys, *prefix.values)):
            own[:count, :, :used] = read[prompt_of_branch]
        state.visible.fill_(False)  # a step shows the place that it fills
        state.visible[:count, 0, 0, :used] = prefix.attention_mask[prompt_of_branch].bool()
        state.position.zero_()
        state.position[:count] = prefix.next_position[prompt_of_branch]
        state.count, state.length = count, used
        return state

    def _make(self, prefix: Prefix, rows: int, places: int) -> None:
        """Make room for the largest batch so far; what was recorded used the room of before."""
        if self._state is not None:
            rows, places = max(rows, len(self._state.position)), max(places, self._state.visible.shape[-1])
        self._state = self._again = None  # their memory first
        shape = rows, prefix.keys[0].shape[1], places, prefix.keys[0].shape[3]
        keys, values = ([t.new_zeros(shape) for t in tensors] for tensors in (prefix.keys, prefix.values))
        position = prefix.next_position.new_zeros(rows)
        visible = torch.zeros(rows, 1, 1, places, dtype=torch.bool, device=position.device)
        self._state = State(keys, values, visible, position, count=0, length=0)
        self._tokens, self._place = torch.zeros_like(position), position.new_zeros(1)
        table = torch.arange(places, device=position.device)  # an image takes fewer positions than tokens
        self.turns = self.layers.turn(keys[0], table.view(1, 1, -1).expand(3, 1, -1))

    def step(self, state: State, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token a row, (rows,), and return the logits of the next, (rows, vocabulary), until the next."""
        self._tokens[: state.count] = tokens
        self._place.fill_(state.length)
        if self._again is None and self._record is not None:
            self._try_to_record()
        logits = self._forward() if self._again is None else self._again()
        state.length += 1
        state.position += 1
        return logits[: state.count]

    def _forward(self) -> torch.Tensor:
        """The step for all the room there is: rows not in use compute what nobody reads."""
        state = self._state
        state.visible.index_fill_(3, self._place, True)
        return self._through(state, self._tokens, self._place, state.visible.shape[-1])

    def _try_to_record(self) -> None:
        try:
            self._again = self._record(self._forward)
        except RuntimeError as error:
            self._record = None  # a second try would fail, too
            warnings.warn(f"decoding is not recorded in a CUDA graph, it runs step by step: {error}", stacklevel=2)
