"""One writer at a time in a folder, over processes; a writer that dies lets go of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from metagene_classifier.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["only_writer"]

LOCK_FILE = ".lock"
POLL_S = 0.5


@contextlib.contextmanager
def only_writer(folder: Path, *, wait: bool, tell: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold the folder's lock; file systems without locks are trusted to have one writer.

    Args:
        folder: exists.
        wait: for another writer to end, instead of refusing.
        tell: called with a line when there is one to wait for.

    Raises:
        OutputError: another process writes there, or the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        handle = open(path, "ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror}") from error
    with handle:
        told = False
        while fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not wait:
                    raise OutputError(f"another mgc prepare is writing in {folder}: wait for it to end") from error
                if not told:
                    tell(f"waiting for another run that prepares the same reads in {folder}")
                    told = True
                time.sleep(POLL_S)
            except OSError:
                break
        yield
