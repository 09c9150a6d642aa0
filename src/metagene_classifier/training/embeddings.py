"""Pooled hidden states of every window of every read at rest: memory-mapped, whole or known not to be.

Two files of NumPy's own format lie in a folder of the cache: the values, and for each block of reads a checksum that is
written after them. So a block counts as there only when it is whole, whenever the process that made it was killed.
Several processes of one machine fill a folder together: each takes a block that is neither there nor taken.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.batching.framing import Framing
from metagene_classifier.errors import OutputError

__all__ = ["READS_PER_BLOCK", "EmbeddingFiles", "StoredEmbeddings", "Windows", "windows_of"]

READS_PER_BLOCK = 1024
VALUES_FILE = "embeddings.npy"
BLOCKS_FILE = "blocks.npy"
LOCK_FILE = "lock"
# Beside a checksum of 32 bits this one says that there is one.
DONE = 2**32


@dataclass(frozen=True)
class Windows:
    """Where the windows of each read stand among those of all reads.

    Attributes:
        first: of each read; ``(reads + 1,)`` int64, the last one the number of all windows.
        tokens: of each window of a read, special tokens included: they are all of one length; ``(reads,)`` int64.
    """

    first: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Windows of each read, ``(reads,)``."""
        return np.diff(self.first)

    def drawn(self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The window of each read that its key draws, as :func:`step_segments` draws it; ``(reads,)``."""
        first = self.first[reads]
        places: npt.NDArray[np.int64] = first + keys % (self.first[reads + 1] - first)
        return places


def windows_of(lengths: npt.NDArray[np.int64], framing: Framing) -> Windows:
    """Windows of reads of so many tokens, ``(reads,)``, special tokens not counted."""
    different, which = np.unique(lengths, return_inverse=True)
    counts = np.fromiter((framing.windows(length) for length in different.tolist()), np.int64, len(different))
    first = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(counts[which], out=first[1:])
    return Windows(first, np.minimum(lengths, framing.capacity) + len(framing.prefix) + len(framing.suffix))


@dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings of reads, all there.

    Attributes:
        values: of every window, read after read; ``(windows, hidden)`` float32, memory-mapped.
        windows: which are whose.
    """

    values: npt.NDArray[np.float32]
    windows: Windows


class EmbeddingFiles:
    """The files of one folder, made where they are missing; what of them is damaged counts as missing.

    Args:
        folder: exists already.
        windows: of the reads; at least one.
        hidden: values of a window.

    Attributes:
        damaged: what was found damaged, in words; empty when nothing was.
    """

    def __init__(self, folder: Path, windows: Windows, hidden: int) -> None:
        self.folder = folder
        self.windows = windows
        self.hidden = hidden
        self.reads = len(windows.tokens)
        self.blocks = -(-self.reads // READS_PER_BLOCK)
        self.damaged = ""
        with _clear_errors(folder):
            self._lock = open(folder / LOCK_FILE, "a+b")  # noqa: SIM115 - its locks end with it
            with _locked(self._lock, 0, wait=True):
                self._make_what_is_not_there(int(windows.first[-1]))
        self.values: np.memmap[Any, np.dtype[np.float32]] = np.load(folder / VALUES_FILE, mmap_mode="r")
        self._done: np.memmap[Any, np.dtype[np.uint64]] = np.load(folder / BLOCKS_FILE, mmap_mode="r")

    def is_done(self, block: int) -> bool:
        """Whether a block is there."""
        return bool(self._done[block])

    def missing(self) -> list[int]:
        """The blocks that are not there."""
        found: list[int] = np.flatnonzero(np.asarray(self._done) == 0).tolist()
        return found

    def reads_of(self, block: int) -> range:
        """The reads of a block."""
        return range(block * READS_PER_BLOCK, min((block + 1) * READS_PER_BLOCK, self.reads))

    def bytes_missing(self) -> int:
        """What the missing blocks will take on the disk."""
        return sum(self._places(block).size for block in self.missing()) * self.hidden * 4

    def check(self, blocks: Iterable[int]) -> int:
        """Read blocks and take those whose values are not the ones written for missing; returns how many were."""
        broken = 0
        for block in blocks:
            if self.is_done(block) and _checksum(self.values[self._places(block).rows]) != int(self._done[block]):
                self._mark(block, 0)
                broken += 1
        return broken

    @contextmanager
    def taken(self, block: int) -> Iterator[bool]:
        """Whether a block is this process's to make, until the end of the ``with`` block or of the process."""
        with _locked(self._lock, 1 + block, wait=False) as mine:
            yield mine and not self.is_done(block)

    def write(self, block: int, values: npt.NDArray[np.float32]) -> None:
        """Write a block's windows, ``(windows, hidden)``; it is there when this returns, and otherwise missing.

        Raises:
            OutputError: no space is left on the disk; what was written before is kept.
        """
        values = np.ascontiguousarray(values, np.float32)
        places = self._places(block)
        if values.shape != (places.size, self.hidden):
            raise ValueError(f"block {block} has {places.size} windows of {self.hidden}, not {values.shape}")
        # Not through the memory map: there a full disk is a signal that ends the process.
        with _clear_errors(self.folder):
            _overwrite(self.folder / VALUES_FILE, self.values.offset + places.first * self.hidden * 4, values)
            self._mark(block, _checksum(values))

    def stored(self) -> StoredEmbeddings:
        """All the embeddings, once no block is missing."""
        assert not self.missing()
        return StoredEmbeddings(self.values, self.windows)

    def close(self) -> None:
        """Let go of what this process has taken; the values stay readable."""
        self._lock.close()

    def _make_what_is_not_there(self, windows: int) -> None:
        blocks = self.folder / BLOCKS_FILE
        begun = blocks.exists()
        for path, shape, dtype in (
            (self.folder / VALUES_FILE, (windows, self.hidden), np.float32),
            (blocks, (self.blocks,), np.uint64),
        ):
            if not _is_as_expected(path, shape, dtype):
                blocks.unlink(missing_ok=True)  # checksums of values that are gone
                self.damaged = self.damaged or (path.name if begun else "")
                _make(path, shape, dtype)

    def _mark(self, block: int, checksum: int) -> None:
        _overwrite(self.folder / BLOCKS_FILE, self._done.offset + block * 8, np.array([checksum], np.uint64))

    def _places(self, block: int) -> _Places:
        reads = self.reads_of(block)
        return _Places(int(self.windows.first[reads.start]), int(self.windows.first[reads.stop]))


@dataclass(frozen=True)
class _Places:
    first: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.first

    @property
    def rows(self) -> slice:
        return slice(self.first, self.end)


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"no space left on the disk of {folder}: free some and run the same command again, which goes on with "
                "the blocks that are missing; or set MGC_CACHE to a folder on another disk"
            ) from error
        raise OutputError(
            f"cannot write the embeddings in {folder} ({error.strerror or error}): set MGC_CACHE to another folder"
        ) from error


def _checksum(values: npt.NDArray[np.float32]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data) | DONE


def _overwrite(path: Path, place: int, values: npt.NDArray[Any]) -> None:
    with open(path, "r+b") as handle:
        handle.seek(place)
        handle.write(values.data)
        handle.flush()
        os.fsync(handle.fileno())


def _is_as_expected(path: Path, shape: tuple[int, ...], dtype: type) -> bool:
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # a damaged header, or a file that is too short for it
        return False
    return bool(found.shape == shape and found.dtype == dtype)


def _make(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """A file of zeros under its final name; it takes next to no space until it is filled."""
    partial = path.with_name(f"{path.name}.partial")
    np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    os.replace(partial, path)


@contextmanager
def _locked(handle: Any, place: int, *, wait: bool) -> Iterator[bool]:
    """Whether this process, and no other, has the lock of a number; the system takes it back when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    refused = 0
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
    except OSError as error:
        refused = error.errno or errno.EIO
    try:
        # Any other number is of a disk that has no locks: there every process works as if it were alone.
        yield refused not in (errno.EACCES, errno.EAGAIN)
    finally:
        if not refused:
            fcntl.lockf(handle, fcntl.LOCK_UN, 1, place)
