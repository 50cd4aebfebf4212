"""Clicks that arrive while a cell runs.

A kernel works off one message after the other, so a click waits until the running cell has ended. A cell that wants to
be paused has to look for clicks itself. :func:`clicks_heard` lets it: the clicks on one panel are handled at once, and
everything else, the next cells and other panels, waits for the end of this one, in its order.

That goes without threads and settings, in JupyterLab, Voila and editors, and with every ipykernel from 6 on. Its
subshells (ipykernel 7) were meant for this, but not every front end uses them, and since 7.4 the messages of a widget
that the running cell has made go to that cell's own queue again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from ipykernel.kernelbase import Kernel

    from medr1kit.views.widgets.base import Panel


def kernel_of(asked: str) -> Kernel:
    """Return the kernel whose cell is running.

    Args:
        asked: the argument that needs one, such as ``live=True``.

    Raises:
        DataError: if this is no notebook, or not the thread that runs its cells.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if not (hasattr(kernel, "shell_handlers") and hasattr(kernel, "session")):
        raise DataError(f"{asked} needs the cell of a notebook, and this is none; leave it out")
    if threading.current_thread() is not threading.main_thread():
        raise DataError(f"{asked} needs the thread that runs the notebook's cells, and this is another; leave it out")
    return kernel


@contextmanager
def clicks_heard(kernel: Kernel, panel: Panel) -> Iterator[Callable[[], Any]]:
    """While this lasts, calling what it yields handles the clicks on a panel that have arrived by then.

    Args:
        kernel: whose cell is running.
        panel: whose buttons are heard. Lists and fields are not: a front end sends their second change only when the
            kernel has answered the first by being idle.
    """
    from tornado.ioloop import IOLoop

    threaded = getattr(kernel, "shell_channel_thread", None)  # from ipykernel 7 on it takes what arrives
    stream = kernel.shell_stream
    if threaded is not None:
        stream = threaded.manager.get_shell_channel_to_subshell_pair(None).to_stream
    usual, waiting = stream._recv_callback, []
    heard = {control.model_id for control in panel.controls.values()}

    def take(frames: list) -> None:
        sender, rest = kernel.session.feed_identities(frames, copy=False)
        message = kernel.session.deserialize(rest, content=False, copy=False)  # a look; read twice it would be refused
        content = kernel.session.unpack(message["content"])
        if message["header"]["msg_type"] == "comm_msg" and content["comm_id"] in heard:
            kernel.shell_handlers["comm_msg"](stream, sender, message | {"content": content})
        else:
            waiting.append(frames)

    stream.on_recv(take, copy=False)
    try:
        yield stream.flush
    finally:
        stream.on_recv(usual, copy=False)
        for frames in waiting:
            IOLoop.current().add_callback(usual, frames)
