"""Outputs appear under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from metagene_classifier.errors import MgcError, OutputError

__all__ = ["check_output_file", "disk_full_is_clear", "let_others_read", "partial_path", "whole_file"]

ALMOST_NOTHING_BYTES = 2**20


def partial_path(path: Path) -> Path:
    """The temporary name beside ``path`` that holds an output while it is being written."""
    return path.with_name(path.name + ".partial")


def check_output_file(path: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse, before any work is done, a path that cannot become a file, or whose writing would cost an input.

    Args:
        path: the output.
        inputs: files that are read; ``-`` and what does not exist are passed over.

    Raises:
        OutputError: the path is a folder, its folder cannot be made, or it or its partial file is one of the inputs.
    """
    for given in map(Path, inputs):
        for written in (path, partial_path(path)):
            if given.is_file() and written.exists() and written.samefile(given):
                raise OutputError(f"writing {path} would overwrite the input {given}: name another file")
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
    except Exception as error:
        if _is_disk_full(error, path):
            raise OutputError(f"no space left on the disk of {path}: free some and run again") from error
        raise


def _is_disk_full(error: Exception, path: Path) -> bool:
    """Compiled writers (safetensors, torch) report a full disk as errors of their own, without a number."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, MgcError):
        return False
    folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
    return shutil.disk_usage(folder).free < ALMOST_NOTHING_BYTES


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


def let_others_read(folder: Path) -> None:
    """Give a folder and its files the modes that new ones have here: safetensors are written for their owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)
