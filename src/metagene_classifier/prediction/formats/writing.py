"""What every format of calls shares: what it is told, what it offers, and text that holds one row a line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call
from metagene_classifier.reads.labels import Labels
from metagene_classifier.whole_files import whole_file

__all__ = ["FormatContext", "ReadWriter", "one_line", "text_calls"]


@dataclass(frozen=True)
class FormatContext:
    """What a format of calls may say beside the calls themselves.

    Attributes:
        sample: name of the sample.
        labels: the classes, in the order of a call's probabilities.
        tree: of the classes.
        paired: whether calls are of pairs.
        probabilities: whether those of all classes are wanted, where the format has room for them.
        program: name and version of this program.
    """

    sample: str
    labels: Labels
    tree: ClassTree
    paired: bool
    probabilities: bool
    program: str


class ReadWriter(Protocol):
    """Takes calls as they come, in input order."""

    def write(self, calls: Sequence[Call]) -> None:
        """Append calls; what was written is in the file when this returns, as far as the format lets it."""


class _TextCalls:
    def __init__(self, out: IO[str], rows: Callable[[Sequence[Call]], str]) -> None:
        self._out = out
        self._rows = rows

    def write(self, calls: Sequence[Call]) -> None:
        self._out.write(self._rows(calls))
        self._out.flush()


@contextlib.contextmanager
def text_calls(path: Path, head: str, rows: Callable[[Sequence[Call]], str]) -> Iterator[ReadWriter]:
    """A file of text, or standard output for ``-``.

    Args:
        path: it appears when it is whole; broken off, the rows so far stay in its ``.partial``.
        head: what stands before the first call.
        rows: the text of calls.

    Raises:
        OutputError: the file cannot be written.
    """
    opened: contextlib.AbstractContextManager[IO[Any]]
    opened = contextlib.nullcontext(sys.stdout) if str(path) == "-" else whole_file(path, keep_partial=True)
    with opened as out:
        out.write(head)
        yield _TextCalls(out, rows)


def one_line(text: str) -> str:
    """The text with a space for every tab, line end and other character that could part cells or lines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\u00a0" else " " for char in text)
