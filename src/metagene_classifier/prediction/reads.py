"""A call for every read of a file."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

from metagene_classifier.console import progress, say
from metagene_classifier.errors import MgcError
from metagene_classifier.prediction.calls import calls_of
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.scorer import Scorer, StreamReport
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.labels import Labels
from metagene_classifier.whole_files import partial_path, whole_file

__all__ = ["call_reads", "open_output"]


def open_output(output: Path) -> AbstractContextManager[IO[Any]]:
    """Standard output for ``-``; otherwise a file that gets its name when it is whole, and keeps what it has."""
    return nullcontext(sys.stdout) if str(output) == "-" else whole_file(output, keep_partial=True)


def call_reads(
    scorer: Scorer, labels: Labels, *, source: str, output: Path, probabilities: bool, report: StreamReport
) -> None:
    """Stream reads from ``source``, write a row of CSV for each to ``output``.

    Raises:
        MgcError: the input is damaged or the output cannot be written; the rows so far stay in ``<output>.partial``.
        KeyboardInterrupt: likewise.
    """
    to_file = str(output) != "-"
    reads = place = 0  # whole rows that are on the disk, and where they end
    try:
        with open_output(output) as out, progress(unit="read", label="calling") as bar:
            writer = CallsCsv(out, labels.names if probabilities else None)
            for block in scorer.stream(read_records(source), report):
                writer.write(calls_of(block, labels))
                out.flush()
                reads += len(block.reads)
                place = out.tell() if to_file else 0
                bar.update(len(block.reads))
    except (MgcError, KeyboardInterrupt) as error:
        kept = partial_path(output)
        if not to_file or not kept.exists():
            raise
        if not reads:
            kept.unlink()
            raise
        os.truncate(kept, place)
        where = f"the calls of the first {reads:,} reads are in {kept}"
        if isinstance(error, KeyboardInterrupt):
            say(where)
            raise
        raise type(error)(f"{error} ({where})") from error
