"""Reads to shards: collected until there are enough of them, written while the next ones come."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.store.facts import ShardEntry, ShardFacts, SourceFacts, shard_name, write_shard_facts
from metagene_classifier.store.preparing.noticed import Noticed
from metagene_classifier.store.preparing.pieces import Piece
from metagene_classifier.store.preparing.work import PieceReads
from metagene_classifier.store.shards import write_shard

__all__ = ["ENDS_INPUT", "SHARD_BYTES", "ShardFiller", "entry_of"]

SHARD_BYTES = 128 * 2**20
"""Of uncompressed text in a shard, and a piece more at most."""
SHARD_TOKENS = 2**26
"""So that tokenizers of one token a base take no more memory."""
ENDS_INPUT = "ends_input"


@dataclass
class _Filling:
    """A shard in the making."""

    name: str
    source: SourceFacts
    ids: list[npt.NDArray[Any]] = field(default_factory=list)
    lengths: list[npt.NDArray[np.int64]] = field(default_factory=list)
    classes: list[npt.NDArray[np.int32]] = field(default_factory=list)
    groups: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    read_ids: list[str] = field(default_factory=list)
    noticed: Noticed = field(default_factory=Noticed)
    text_bytes: int = 0
    tokens: int = 0

    def add(self, piece: Piece, reads: PieceReads) -> None:
        """Take in the reads of the next piece."""
        self.ids.append(reads.ids)
        self.lengths.append(reads.lengths)
        self.classes.append(reads.classes)
        self.groups.append(reads.groups)
        self.read_ids.extend(reads.read_ids or ())
        self.noticed.add(reads.noticed, self.source.first_record - 1 + self.noticed.records)
        self.text_bytes += len(piece.text)
        self.tokens += len(reads.ids)

    @property
    def is_full(self) -> bool:
        """Whether the next piece goes into the next shard."""
        return self.text_bytes >= SHARD_BYTES or self.tokens >= SHARD_TOKENS


class ShardFiller:
    """Takes pieces in order and writes their shards, one in the background.

    Args:
        folder: of the store.
        first: number of the first shard to write.
        input: place of the next piece's file among the inputs, or that of the file that ended before it.
        record: number of the next piece's first record in its file, from 1.
        line: the same of its first line.
        read_ids: whether the reads' names are kept.
        written: called with every shard that is whole, from the background.
        ends_when_full: a full shard is followed by the next; otherwise there is one alone, ended by :meth:`finish`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first: int,
        input: int,
        record: int,
        line: int,
        read_ids: bool,
        written: Callable[[ShardFacts], None],
        ends_when_full: bool = True,
    ) -> None:
        self._folder = folder
        self._number = first
        self.record, self.line = record, line
        self._input = input
        self._read_ids = read_ids
        self._written = written
        self._ends_when_full = ends_when_full
        self._filling: _Filling | None = None
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def begin(self, piece: Piece) -> None:
        """Make room for the next piece: ends the shard of the file before, and counts records and lines anew."""
        if piece.input != self._input:
            self._write(ends_input=True)
            self.record, self.line = 1, 1
        self._input = piece.input
        self.line += piece.lines_before

    def add(self, piece: Piece, reads: PieceReads) -> None:
        """Take in the piece for which :meth:`begin` was called.

        Raises:
            OutputError: a shard cannot be written.
        """
        if self._filling is None:
            source = SourceFacts(
                input=piece.input,
                first_byte=piece.first_byte,
                text_bytes=0,
                first_record=self.record,
                first_line=self.line,
            )
            self._filling = _Filling(shard_name(self._number), source)
            self._number += 1
        self._filling.add(piece, reads)
        self.record += reads.noticed.records
        self.line += reads.noticed.lines
        if self._ends_when_full and self._filling.is_full:
            self._write()

    def finish(self, *, ends_input: bool = True) -> None:
        """Write what is left.

        Args:
            ends_input: nothing follows in the file.

        Raises:
            OutputError: a shard cannot be written.
        """
        self._write(ends_input=ends_input)
        self._wait()

    def close(self) -> None:
        """Wait for the shard that is being written; what no shard holds is dropped."""
        self._writer.shutdown(wait=True)

    def _write(self, *, ends_input: bool = False) -> None:
        self._wait()
        if self._filling is not None:
            self._writing = self._writer.submit(self._write_shard, self._filling, ends_input)
        self._filling = None

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
        self._writing = None

    def _write_shard(self, filling: _Filling, ends_input: bool) -> None:
        ids, lengths = np.concatenate(filling.ids), np.concatenate(filling.lengths)
        filling.ids.clear()
        classes = np.concatenate(filling.classes)
        size, sha256 = write_shard(
            self._folder,
            filling.name,
            ids=ids,
            lengths=lengths,
            classes=classes,
            groups=np.concatenate(filling.groups),
            read_ids=filling.read_ids if self._read_ids else None,
        )
        present, counts = np.unique(classes, return_counts=True)
        facts = ShardFacts(
            name=filling.name,
            reads=len(lengths),
            tokens=len(ids),
            bytes=size,
            sha256=sha256,
            longest=int(lengths.max(initial=0)),
            source=filling.source.model_copy(update={"text_bytes": filling.text_bytes}),
            reads_per_class=dict(zip(present.tolist(), counts.tolist(), strict=True)),
            noticed={**filling.noticed.as_json(), ENDS_INPUT: ends_input},
        )
        write_shard_facts(self._folder, facts)
        self._written(facts)


def entry_of(facts: ShardFacts) -> ShardEntry:
    """What ``store.json`` knows of a shard."""
    return ShardEntry(**facts.model_dump(include=set(ShardEntry.model_fields)))
