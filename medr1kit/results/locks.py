"""Does this place lock files? Locks keep two processes from one file; some network file systems have none (flock)."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor

from medr1kit.vqa import DataError

_NONE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def refuse_without_locks(folder: Path) -> None:
    """Refuse a folder on a file system that locks no files; one that cannot be written is left to who writes there.

    Args:
        folder: where files are to be locked; of one that is not there yet, the folder it will be made in is tried.

    Raises:
        DataError: naming the folder and the remedy.
    """
    folder = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    probe = folder / f".lock-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        if error.errno in _NONE:
            raise DataError(
                f"{folder} is on a file system that locks no files ({error.strerror}), so two processes could write "
                "one; choose a place on a local disk, or have it mounted with flock"
            ) from error
    finally:
        with suppress(OSError):
            probe.unlink()
