"""A call for each window of long reads, where a chimera shows; a table beside the calls of whole reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.whole_files import whole_file

__all__ = ["COLUMNS", "WindowTable", "open_windows"]

COLUMNS = ("read_id", "mate", "window", "start_bp", "end_bp", "call", "taxid", "rank", "confidence")


class WindowTable:
    """Writes a row for each window.

    Args:
        out: where to.
        caller: of the reads.
    """

    def __init__(self, out: IO[str], caller: Caller) -> None:
        self._out = out
        self._caller = caller
        out.write("\t".join(COLUMNS) + "\n")

    def write(self, block: ScoredBlock, calls: Sequence[Call]) -> None:
        """The windows of a block's reads, in order."""
        for one in self._caller.window_calls(block):
            name, call = one_line(one.read_id), one_line(one.call)
            self._out.write(
                f"{name}\t{one.mate}\t{one.window}\t{one.start_bp}\t{one.end_bp}\t{call}\t{one.taxid or ''}\t"
                f"{one.rank}\t{one.confidence:.6f}\n"
            )
        self._out.flush()


@contextlib.contextmanager
def open_windows(path: Path, caller: Caller) -> Iterator[WindowTable]:
    """A table of windows that appears when it is whole; broken off, the rows so far stay in its ``.partial``.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path, keep_partial=True) as out:
        yield WindowTable(out, caller)
