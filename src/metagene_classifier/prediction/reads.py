"""Calls of a stream of reads into every file that is wanted of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from metagene_classifier.console import progress, say
from metagene_classifier.errors import MgcError
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.registry import READ_FORMATS, open_reads
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.whole_files import partial_path

__all__ = ["BlockWriter", "CallFile", "call_reads", "call_writer", "format_file"]


class BlockWriter(Protocol):
    """Takes blocks with their calls, in input order."""

    def write(self, block: ScoredBlock, calls: Sequence[Call]) -> None:
        """Append them; what can be in the file is there when this returns."""


class Tally(Protocol):
    """Counts calls."""

    def add(self, calls: Sequence[Call]) -> None:
        """Count them in."""


@dataclass(frozen=True)
class CallFile:
    """An output of calls.

    Attributes:
        paths: of its files; none for standard output. While they are written they bear :func:`partial_path`.
        opened: gives what writes them; broken off it leaves the partial files.
        cut: whether partial files may be cut back to the last whole block: text that is not compressed.
    """

    paths: tuple[Path, ...]
    opened: Callable[[], AbstractContextManager[BlockWriter]]
    cut: bool = True


def format_file(name: str, path: Path, context: FormatContext) -> CallFile:
    """The output of a format of reads; ``-`` is standard output."""

    @contextlib.contextmanager
    def opened() -> Iterator[BlockWriter]:
        with open_reads(name, path, context) as writer:
            yield call_writer(writer)

    return CallFile(() if str(path) == "-" else (path,), opened, READ_FORMATS[name].text)


def call_writer(writer: ReadWriter) -> BlockWriter:
    """What takes calls, as what takes blocks with their calls."""
    return _OfCalls(writer)


class _OfCalls:
    def __init__(self, writer: ReadWriter) -> None:
        self._writer = writer

    def write(self, block: ScoredBlock, calls: Sequence[Call]) -> None:
        self._writer.write(calls)


def call_reads(
    blocks: Iterable[ScoredBlock],
    caller: Caller,
    files: Sequence[CallFile],
    *,
    tally: Tally | None = None,
    first: str = "the first",
    standard_output: IO[str] | None = None,
) -> int:
    """Call scored blocks, and write the calls.

    Args:
        blocks: in the order of the rows; scored as they are asked for.
        caller: calls them.
        files: where the calls go.
        tally: counts them too.
        first: which reads those before a break are, for the message.
        standard_output: what standard output is, when it is not that of the moment.

    Returns:
        How many reads, or pairs, were called.

    Raises:
        MgcError: the input is damaged or an output cannot be written; what was written so far, to the last whole block,
            stays in the ``.partial`` files.
        KeyboardInterrupt: likewise.
    """
    partials = [partial_path(path) for one in files for path in one.paths]
    done, sizes = 0, dict.fromkeys((partial_path(path) for one in files if one.cut for path in one.paths), 0)
    try:
        with ExitStack() as opened, progress(unit="read", label="calling") as bar:
            with contextlib.redirect_stdout(standard_output) if standard_output else contextlib.nullcontext():
                writers = [opened.enter_context(one.opened()) for one in files]
            for block in blocks:
                calls = caller.calls(block)
                for writer in writers:
                    writer.write(block, calls)
                if tally is not None:
                    tally.add(calls)
                done += len(calls)
                for path in sizes:
                    sizes[path] = path.stat().st_size
                bar.update(len(block.reads))
    except (MgcError, KeyboardInterrupt) as error:
        kept = [path for path in partials if path.exists()]
        if not kept:
            raise
        if not done:
            for path in kept:
                path.unlink()
            raise
        for path in kept:
            if path in sizes:
                os.truncate(path, sizes[path])
        what = "pairs" if caller.options.paired else "reads"
        where = f"the calls of {first} {done:,} {what} are in {' and '.join(map(str, kept))}"
        if isinstance(error, KeyboardInterrupt):
            say(where)
            raise
        raise type(error)(f"{error} ({where})") from error
    return done
