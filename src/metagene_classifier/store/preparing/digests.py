"""SHA-256 of input files; those of large files are remembered, so that 100 GB are not read at every start."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from metagene_classifier.cache import caching_is_off, find_entry, growing_entry
from metagene_classifier.console import progress
from metagene_classifier.errors import DataError, OutputError
from metagene_classifier.store.facts import InputFacts

__all__ = ["input_facts"]

KIND = "digests"
REMEMBERED_BYTES = 64 * 2**20  # smaller files are read again sooner than looked up
HASHED_BYTES = 2**22


def input_facts(path: Path) -> InputFacts:
    """Size, time of change and SHA-256 of a file.

    Raises:
        DataError: it cannot be read, or is changed meanwhile.
    """
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise DataError(
                f"{path} is no plain file, and would have to be read twice: give a pipe as - (standard input)"
            )
        sha256 = _remembered(path, before)
        if sha256 is None:
            sha256 = _digest(path, before.st_size)
            after = path.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise DataError(f"{path} is being written to: run again when it is whole")
            _remember(path, before, sha256)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return InputFacts(path=str(path.absolute()), bytes=before.st_size, mtime_ns=before.st_mtime_ns, sha256=sha256)


def _digest(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle, progress(total=size, unit="B", label=f"checking {path.name}") as bar:
        bar.unit_scale = True
        while piece := handle.read(HASHED_BYTES):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()


def _key(path: Path, status: os.stat_result) -> str:
    facts = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
    return hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:32]


def _remembered(path: Path, status: os.stat_result) -> str | None:
    if status.st_size < REMEMBERED_BYTES or caching_is_off():
        return None
    entry = find_entry(KIND, _key(path, status))
    found = entry.facts.get("sha256") if entry is not None else None
    return found if isinstance(found, str) and len(found) == 64 else None


def _remember(path: Path, status: os.stat_result, sha256: str) -> None:
    if status.st_size < REMEMBERED_BYTES or caching_is_off():
        return
    try:
        growing_entry(KIND, _key(path, status), f"SHA-256 of {path}", {"sha256": sha256})
    except OutputError:
        return  # it is only asked again
