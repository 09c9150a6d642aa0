"""Reads sorted by whether they were called, as ``--classified-out`` and ``--unclassified-out`` of Kraken 2.

Sequences, qualities and headers are those of the input; the header of a called read ends in `` kraken:taxid|N``, as
there. FASTQ stays FASTQ and FASTA stays FASTA, its sequence on one line.
"""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.call import Call
from metagene_classifier.reads.read import Read
from metagene_classifier.whole_files import whole_file

__all__ = ["SplitReads", "split_paths"]

MATE_SIGN = "#"
OTHER_COMPRESSIONS = (".bz2", ".xz", ".zst")
GZIP_LEVEL = 4
"""Half of the time of gzip's own 6, for a few per cent more bytes."""


def split_paths(path: Path, paired: bool) -> tuple[Path, ...]:
    """The files that a name stands for: with ``#`` in it, of pairs, one with ``_1`` and one with ``_2`` in its place.

    Raises:
        ConfigError: the ending asks for a compression that is not written.
    """
    if path.suffix in OTHER_COMPRESSIONS:
        raise ConfigError(f"{path}: reads are written plain or as .gz: end the name so")
    if not (paired and MATE_SIGN in path.name):
        return (path,)
    return tuple(path.with_name(path.name.replace(MATE_SIGN, f"_{mate}")) for mate in (1, 2))


class SplitReads:
    """A context manager that takes calls and writes their reads; the files are there when they are whole.

    Args:
        classified: where reads go that are called; ``None`` for nowhere. ``.gz`` at the end compresses. ``#`` in the
            name of pairs gives each mate its file; without it mates stand one after the other.
        unclassified: where the others go.
        paired: whether calls are of pairs.

    Raises:
        ConfigError: see :func:`split_paths`; or both name the same file.
    """

    def __init__(self, classified: Path | None, unclassified: Path | None, paired: bool) -> None:
        self._paths = [None if path is None else split_paths(path, paired) for path in (classified, unclassified)]
        named = [path for paths in self._paths for path in paths or ()]
        if len(set(named)) < len(named):
            raise ConfigError(f"{named[0]}: classified and unclassified reads need files of their own")
        self._open = contextlib.ExitStack()
        self._files: list[list[IO[str]]] = []

    def __enter__(self) -> SplitReads:
        with contextlib.ExitStack() as opening:
            self._files = [[opening.enter_context(_reads_file(path)) for path in paths or ()] for paths in self._paths]
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def write(self, calls: Sequence[Call]) -> None:
        """Append the reads of calls."""
        for files, called in zip(self._files, (True, False), strict=True):
            if not files:
                continue
            texts: list[list[str]] = [[] for _ in files]
            for call in calls:
                if bool(call.taxon) is called:
                    mark = "" if call.taxid is None else f" kraken:taxid|{call.taxid}"
                    for mate, read in enumerate(call.reads):
                        texts[mate % len(files)].append(_record(read, mark))
            for file, text in zip(files, texts, strict=True):
                file.write("".join(text))


def _record(read: Read, mark: str) -> str:
    if read.qualities is None:
        return f">{read.header}{mark}\n{read.sequence}\n"
    return f"@{read.header}{mark}\n{read.sequence}\n+\n{read.qualities}\n"


@contextlib.contextmanager
def _reads_file(path: Path) -> Iterator[IO[str]]:
    if path.suffix != ".gz":
        with whole_file(path, keep_partial=True) as out:
            yield out
        return
    with (
        whole_file(path, "wb", keep_partial=True) as raw,
        # Without a time and a name in its header the file is the same whenever it is written.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=GZIP_LEVEL, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as out,
    ):
        yield out
