"""A call for every read of a file, or of a shard of it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from metagene_classifier.console import progress, say
from metagene_classifier.errors import MgcError
from metagene_classifier.prediction.calls import calls_of
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.reads.labels import Labels
from metagene_classifier.whole_files import partial_path, whole_file

__all__ = ["WrittenCalls", "call_reads", "open_output"]


@dataclass
class WrittenCalls:
    """How a CSV of calls is laid out: what :mod:`merging` needs to join it with others.

    Attributes:
        reads: rows.
        header_bytes: of the first row.
        block_bytes: of the rows of each block.
    """

    reads: int = 0
    header_bytes: int = 0
    block_bytes: list[int] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Of the whole text."""
        return str(self.digest.hexdigest())

    @property
    def end(self) -> int:
        """Where the last whole block ends, in bytes."""
        return self.header_bytes + sum(self.block_bytes)


def open_output(output: Path, standard_output: IO[str] | None = None) -> AbstractContextManager[IO[Any]]:
    """Standard output for ``-``; otherwise a file that gets its name when it is whole, and keeps what it has."""
    return nullcontext(standard_output or sys.stdout) if str(output) == "-" else whole_file(output, keep_partial=True)


def call_reads(
    blocks: Iterable[ScoredBlock],
    labels: Labels,
    *,
    output: Path,
    probabilities: bool,
    first: str = "the first",
    standard_output: IO[str] | None = None,
) -> WrittenCalls:
    """Write a row of CSV for each read of scored blocks.

    Args:
        blocks: in the order of the rows; scored as they are asked for.
        labels: the classes.
        output: a file, or ``-`` for standard output.
        probabilities: add a column for each class.
        first: which reads those before a break are, for the message.
        standard_output: where ``-`` writes, when it is not that of the moment.

    Raises:
        MgcError: the input is damaged or the output cannot be written; the rows so far stay in ``<output>.partial``.
        KeyboardInterrupt: likewise.
    """
    to_file = str(output) != "-"
    csv = CallsCsv(labels.names if probabilities else None)
    done = WrittenCalls()
    try:
        with open_output(output, standard_output) as out, progress(unit="read", label="calling") as bar:
            header = csv.header()
            out.write(header)
            done.header_bytes = _count(header, done)
            for block in blocks:
                rows = csv.rows(calls_of(block, labels))
                out.write(rows)
                out.flush()
                rows_bytes = _count(rows, done)
                done.block_bytes.append(rows_bytes)
                done.reads += len(block.reads)
                bar.update(len(block.reads))
    except (MgcError, KeyboardInterrupt) as error:
        kept = partial_path(output)
        if not to_file or not kept.exists():
            raise
        if not done.reads:
            kept.unlink()
            raise
        os.truncate(kept, done.end)
        where = f"the calls of {first} {done.reads:,} reads are in {kept}"
        if isinstance(error, KeyboardInterrupt):
            say(where)
            raise
        raise type(error)(f"{error} ({where})") from error
    return done


def _count(text: str, done: WrittenCalls) -> int:
    encoded = text.encode()
    done.digest.update(encoded)
    return len(encoded)
