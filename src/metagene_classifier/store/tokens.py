"""A store of tokenized reads on disk: shards that are mapped into memory as they are first touched."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labels import Labels, read_mapping
from metagene_classifier.store.facts import (
    MAPPING_FILE,
    StoreFacts,
    fingerprint_of_shards,
    read_store_facts,
    shard_path,
)
from metagene_classifier.store.shards import Shard, file_digest

__all__ = ["StoreColumns", "TokenStore"]


@dataclass(frozen=True)
class StoreColumns:
    """Consecutive reads of a store, their tokens aside; a column is read when it is asked for."""

    parts: tuple[tuple[Shard, int, int], ...]
    """Shards with the first read taken of each, and the one behind the last."""

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        """Place of each read's class among the labels; ``(reads,)``."""
        return _joined([shard.classes[first:end] for shard, first, end in self.parts], np.int32)

    @property
    def groups(self) -> npt.NDArray[np.uint64]:
        """Equal for mates; ``(reads,)``."""
        return _joined([shard.groups[first:end] for shard, first, end in self.parts], np.uint64)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each read, special tokens not counted; ``(reads,)``."""
        lengths = [np.diff(shard.offsets[first : end + 1]) for shard, first, end in self.parts]
        return _joined(lengths, np.int32).astype(np.int64)


class TokenStore:
    """Tokenized reads with their classes, numbered from 0 over all shards.

    Attributes:
        folder: where it is.
        facts: its ``store.json``.
        labels: the classes.
    """

    def __init__(self, folder: Path, facts: StoreFacts, labels: Labels) -> None:
        self.folder = folder
        self.facts = facts
        self.labels = labels
        # Where each shard's reads begin; the last one is the number of all.
        self._starts = np.zeros(len(facts.shards) + 1, np.int64)
        np.cumsum([shard.reads for shard in facts.shards], out=self._starts[1:])
        self._starts_list: list[int] = self._starts.tolist()
        self._opened: list[Shard | None] = [None] * len(facts.shards)

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Open the store in ``folder``. No shard is read; what each weighs is compared.

        Raises:
            DataError: there is no store, it is unfinished, it was written by a later version, or something of it is
                missing or of another size.
        """
        facts = read_store_facts(folder)
        for shard in facts.shards:
            path = shard_path(folder, shard.name)
            try:
                size = path.stat().st_size
            except OSError as error:
                raise DataError(
                    f"{path} cannot be read ({error.strerror}): run the same mgc prepare again, it makes it anew"
                ) from error
            if size != shard.bytes:
                raise DataError(
                    f"{path} has {size:,} bytes and was written with {shard.bytes:,}: "
                    "run the same mgc prepare again, it makes this shard anew"
                )
        labels = read_mapping(folder / MAPPING_FILE)
        if labels.fingerprint() != facts.classes_sha256:
            raise DataError(
                f"{folder / MAPPING_FILE} was changed since the store was made, and would give reads other classes: "
                "run the same mgc prepare again, it writes the table anew"
            )
        return cls(folder, facts, labels)

    def __len__(self) -> int:
        return self._starts_list[-1]

    def tokens(self, read: int) -> npt.NDArray[Any]:
        """The ids of one read without special tokens; ``(tokens,)``, read-only.

        Raises:
            IndexError: there is no such read.
            DataError: its shard is damaged.
        """
        shard, row = self._place(read)
        return shard.ids[shard.bounds[row] : shard.bounds[row + 1]]

    def tokens_of(self, reads: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
        """The ids of each read, as :meth:`tokens` gives them; many at once take a fraction of the time.

        Raises:
            IndexError: there is no such read.
            DataError: a shard is damaged.
        """
        numbers, rows = self._places(reads)
        opened = self._opened
        found = []
        for number, row in zip(numbers.tolist(), rows.tolist(), strict=True):
            shard = opened[number]
            if shard is None:
                shard = self._shard(number)
            found.append(shard.ids[shard.bounds[row] : shard.bounds[row + 1]])
        return found

    def lengths_of(self, reads: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of each read, special tokens not counted; ``(reads,)``."""
        return self._gathered(reads, lambda shard, rows: shard.offsets[rows + 1] - shard.offsets[rows], np.int64)

    def classes_of(self, reads: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Place of each read's class among the labels; ``(reads,)``."""
        return self._gathered(reads, lambda shard, rows: shard.classes[rows], np.int32)

    def columns(self, first: int, end: int) -> StoreColumns:
        """Reads ``first`` to ``end - 1``, or to the last one there is."""
        end = min(end, len(self))
        parts = []
        number = bisect_right(self._starts_list, first) - 1
        while first < end:
            start, behind = self._starts_list[number], min(end, self._starts_list[number + 1])
            if behind > first:
                parts.append((self._shard(number), first - start, behind - start))
                first = behind
            number += 1
        return StoreColumns(tuple(parts))

    def read_id(self, read: int) -> str | None:
        """The name of a read; ``None`` where the store keeps no names."""
        shard, row = self._place(read)
        return None if shard.read_ids is None else str(shard.read_ids[row].as_py())

    @cached_property
    def reads_per_class(self) -> npt.NDArray[np.int64]:
        """Reads of each class; ``(classes,)``."""
        counts = np.zeros(len(self.labels), np.int64)
        for index, reads in self.facts.reads_per_class.items():
            counts[index] = reads
        return counts

    @property
    def total_tokens(self) -> int:
        """Tokens of all reads, special tokens not counted."""
        return sum(shard.tokens for shard in self.facts.shards)

    @property
    def longest(self) -> int:
        """Tokens of the longest read; 0 in an empty store."""
        return max((shard.longest for shard in self.facts.shards), default=0)

    @property
    def token_bytes(self) -> int:
        """Bytes of all tokens."""
        return self.total_tokens * np.dtype(self.facts.ids_dtype).itemsize

    def damaged(
        self, shards: Iterable[str] | None = None, seen: Callable[[int], object] = lambda read_bytes: None
    ) -> list[str]:
        """Read shards through and compare their SHA-256; no more is held than a piece of a file.

        Args:
            shards: their names; all by default.
            seen: told the bytes of every piece that was read, for progress.

        Returns:
            The names of those that are not as they were written, in the store's order.
        """
        chosen = None if shards is None else set(shards)
        return [
            shard.name
            for shard in self.facts.shards
            if (chosen is None or shard.name in chosen)
            and file_digest(shard_path(self.folder, shard.name), seen) != shard.sha256
        ]

    def fingerprint(self) -> str:
        """The same for the same reads, tokens and classes in the same order; no data is read."""
        shards = fingerprint_of_shards(self.facts.shards)
        return hashlib.sha256(f"{shards} {self.facts.classes_sha256}".encode()).hexdigest()

    def _shard(self, number: int) -> Shard:
        shard = self._opened[number]
        if shard is None:
            facts = self.facts.shards[number]
            path = shard_path(self.folder, facts.name)
            shard = Shard.open(path)
            if (len(shard), len(shard.ids)) != (facts.reads, facts.tokens):
                raise DataError(
                    f"{path} has {len(shard.ids):,} tokens in {len(shard):,} reads and was written with "
                    f"{facts.tokens:,} in {facts.reads:,}: "
                    "run the same mgc prepare again, it makes this shard anew"
                )
            self._opened[number] = shard
        return shard

    def _place(self, read: int) -> tuple[Shard, int]:
        """The shard of a read, and its row there."""
        if not 0 <= read < len(self):
            raise IndexError(f"there is no read {read}: they are numbered 0 to {len(self) - 1}")
        number = bisect_right(self._starts_list, read) - 1
        return self._shard(number), read - self._starts_list[number]

    def _places(self, reads: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The shard of each read, and its row there."""
        if len(reads) and (reads.min() < 0 or reads.max() >= len(self)):
            raise IndexError(f"there is no read {reads.max()} or {reads.min()}: they are numbered 0 to {len(self) - 1}")
        numbers = np.searchsorted(self._starts, reads, side="right") - 1
        return numbers, reads - self._starts[numbers]

    def _gathered(
        self,
        reads: npt.NDArray[np.int64],
        take: Callable[[Shard, npt.NDArray[np.int64]], npt.NDArray[Any]],
        dtype: Any,
    ) -> npt.NDArray[Any]:
        numbers, rows = self._places(reads)
        if len(reads) and (numbers == numbers[0]).all():
            return take(self._shard(int(numbers[0])), rows).astype(dtype, copy=False)
        found = np.zeros(len(reads), dtype)
        by_shard = np.argsort(numbers, kind="stable")
        borders = np.flatnonzero(np.diff(numbers[by_shard])) + 1
        for members in np.split(by_shard, borders) if len(reads) else []:
            found[members] = take(self._shard(int(numbers[members[0]])), rows[members])
        return found


def _joined(parts: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
