"""Outputs appear under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from metagene_classifier.errors import OutputError

__all__ = ["check_output_file", "disk_full_is_clear", "partial_path", "whole_file"]


def partial_path(path: Path) -> Path:
    """The temporary name beside ``path`` that holds an output while it is being written."""
    return path.with_name(path.name + ".partial")


def check_output_file(path: Path) -> None:
    """Refuse, before any work is done, a path that cannot become a file.

    Raises:
        OutputError: the path is a folder, or its folder cannot be made.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error.strerror}") from error


@contextlib.contextmanager
def disk_full_is_clear(path: Path) -> Iterator[None]:
    """Turn a full disk, met while ``path`` is written, into one clear line.

    Raises:
        OutputError: no space is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"no space left on the disk of {path}: free some and run again") from error
        raise


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "w", *, keep_partial: bool = False, **open_options: Any) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` when the block ends without an error.

    Args:
        path: the final name.
        mode: ``"w"`` or ``"wb"``.
        keep_partial: on an error leave what was written under :func:`partial_path` instead of removing it.
        open_options: passed to :func:`open`.

    Raises:
        OutputError: the path is a folder, no space is left, or writing is not allowed.
    """
    check_output_file(path)
    partial = partial_path(path)
    if "b" not in mode:
        open_options.setdefault("encoding", "utf-8")
        open_options.setdefault("newline", "\n")
    with disk_full_is_clear(path):
        try:
            handle = open(partial, mode, **open_options)  # noqa: SIM115 - closed below
        except PermissionError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        try:
            with handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(partial, path)
        except BaseException:
            if not keep_partial:
                partial.unlink(missing_ok=True)
            raise
