"""A training that is watched and steered in the cell that runs it.

It stays in the thread of the cell, and is the same training: between its parts it looks whether a button was clicked
(:mod:`medr1kit.views.widgets.clicks`). A pause waits where a step has ended. Stopping lets the step end, and what was
learned is saved as after the last step; interrupting the kernel does the same, and interrupting it again breaks off.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from medr1kit.training.checks import processes
from medr1kit.views.widgets.clicks import clicks_heard, kernel_of
from medr1kit.views.widgets.live import LivePanel
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

    from medr1kit.training.recording import RolloutRecorder

_SHARE = 30
"""Drawing takes at most one in so many parts of the time; steps of a blink are not all shown."""
_BLINK = 0.05


class Live(TrainerCallback):
    """Shows a training in its cell and does what the buttons say; a callback that comes after the recorder.

    Args:
        dataset: the questions that are trained on.

    Raises:
        DataError: if there is no cell to show it in, or several processes train.
    """

    def __init__(self, dataset: Dataset):
        if processes() > 1:
            raise DataError(f"live=True shows one process, and {processes()} train together; leave it out")
        self._kernel, self._next = kernel_of("live=True"), 0.0
        self.panel = LivePanel(dataset)

    @contextmanager
    def watching(self, recorder: RolloutRecorder) -> Iterator[None]:
        """Show the panel, hear its buttons, and take an interruption for a click on "stop and keep".

        Args:
            recorder: of the training; it hands on what it writes.
        """
        self._recorder, recorder.shown = recorder, self._paid
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            with self.panel.shown(), clicks_heard(self._kernel, self.panel) as self._hear:
                yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, *_: Any) -> None:
        self.panel.stopped = True  # shown when it is safe to
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _paid(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._hear()
        self.panel.paid(rows, self._recorder.names)
        begun = time.monotonic()
        if begun >= self._next:
            self.panel.fill()
            self._next = time.monotonic() + _SHARE * (time.monotonic() - begun)

    def on_train_begin(self, args, state, control, **kwargs):
        self.panel.change(step=state.global_step, of=state.max_steps)

    def on_substep_end(self, args, state, control, **kwargs):
        self._hear()

    on_pre_optimizer_step = on_substep_end

    def on_step_end(self, args, state, control, **kwargs):
        self._hear()
        self.panel.end_step(state.global_step)
        if self.panel.waits:
            begun = time.monotonic()
            self.panel.change(waiting=True)
            while self.panel.waits:
                time.sleep(_BLINK)
                self._hear()
            self.panel.change(waiting=False)
            self._recorder.seconds -= time.monotonic() - begun  # a pause is no training
        if self.panel.stopped:
            control.should_training_stop = True
            self._recorder.bar.total = state.global_step  # else it ends in red, as after a failure
