"""Decoding on a GPU: one token as one launch.

A language model of 28 layers with LoRA calls some 2,400 operators a token in bfloat16 (counted on a CPU: 84 a layer).
Each is a kernel to be launched, and launching them takes longer than running them. A CUDA graph records them once and
launches them together. It can only repeat itself: the same tensors at the same places in memory, of the same shapes. So
every step computes all branches there is room for, looks at all places with a mask that hides those not written yet,
and is told by a tensor, not by a number, where to write.

On a CPU nothing is recorded and the same step runs as it is, which is how it is tested. **It has not been run on a GPU
yet**, so it is used there only where the environment variable ``MEDR1KIT_CUDA_GRAPHS`` is 1; if recording fails, one
warning says so and the step runs unrecorded.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass

import torch

from medr1kit.models.shared_prefix.decoder import Decoder, State
from medr1kit.models.shared_prefix.prompts import Prefix


@dataclass
class StaticState(State):
    """A state whose tensors stay where they are."""

    def keep(self, branches: list[int], room: int) -> None:
        """Go on with some branches only, moved to the front; the room stays as it was."""
        new, old = slice(0, len(branches)), torch.tensor(branches, device=self.position.device)
        for tensor in (*self.keys, *self.values, self.visible, self.position):
            tensor[new] = tensor[old]
        self.count = len(branches)


class StaticDecoder(Decoder):
    """A :class:`Decoder` whose step has fixed shapes and, on a GPU, is recorded in a CUDA graph."""

    spare = sys.maxsize  # all places at once

    def start(self, prefix: Prefix, prompt_of_branch: torch.Tensor, new_tokens: int, room: int = 0) -> StaticState:
        """Return a state as :meth:`Decoder.start` does, with its tensors at fixed places."""
        state = StaticState(**vars(super().start(prefix, prompt_of_branch, new_tokens, room)))
        state.visible[..., state.length :] = False  # a step shows the place that it fills
        device, rows = state.position.device, len(state.position)
        self._tokens = torch.zeros(rows, dtype=torch.long, device=device)  # (room,)
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recordable = device.type == "cuda" and new_tokens > 8  # recording costs a few steps
        return state

    def step(self, state: StaticState, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token a branch, (branches,), and return the logits of the next, (branches, vocabulary)."""
        self._tokens[: state.count] = tokens
        self._place.fill_(state.length)
        if self._recordable and self._graph is None:
            self._record(state)
        if self._graph is not None:
            self._graph.replay()
            logits = self._logits.clone()
        else:
            logits = self._forward(state)
        state.length += 1
        state.position += 1
        return logits[: state.count]

    def _forward(self, state: StaticState) -> torch.Tensor:
        """The step for all the room there is: branches not in use compute what nobody reads."""
        state.visible.index_fill_(3, self._place, True)
        return self._through(state, self._tokens, self._place, state.visible.shape[-1])

    def _record(self, state: StaticState) -> None:
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._forward(state)  # libraries allocate their work space outside the graph
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._logits = self._forward(state)  # writes the same numbers to the same place again
            self._graph = graph
        except RuntimeError as error:
            self._recordable = False
            warnings.warn(f"decoding is not recorded in a CUDA graph, it runs step by step: {error}", stacklevel=2)


def decoder_on(device: torch.device) -> type[Decoder]:
    """Return which decoder samples on a device."""
    asked = os.environ.get("MEDR1KIT_CUDA_GRAPHS") == "1"
    return StaticDecoder if asked and device.type == "cuda" else Decoder
