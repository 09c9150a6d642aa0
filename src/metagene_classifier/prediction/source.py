"""Where the reads of a prediction come from: files, two files of mates, or a file in which mates alternate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.files import read_records, sequence_stem
from metagene_classifier.reads.pairs import interleaved_records, paired_records
from metagene_classifier.reads.read import Read

__all__ = ["ReadSource", "sample_name"]

_MATE_OF_FILE = re.compile(r"(?<=.)[._-]R?1(_001)?$")


@dataclass(frozen=True)
class ReadSource:
    """The reads of a sample; a value that workers of a cluster can be given.

    Attributes:
        input: FASTA or FASTQ; ``-`` is standard input.
        input2: the mates of ``input``.
        interleaved: mates follow each other in ``input``.
        more: further files, each with its mates or without as the first, read one after another: lanes of one sample.
    """

    input: str
    input2: str | None = None
    interleaved: bool = False
    more: tuple[tuple[str, str | None], ...] = ()

    @property
    def paired(self) -> bool:
        """Whether reads come in pairs, mates beside each other."""
        return self.interleaved or self.input2 is not None

    @property
    def files(self) -> tuple[str, ...]:
        """Everything that is read."""
        return tuple(name for pair in ((self.input, self.input2), *self.more) for name in pair if name is not None)

    @property
    def name(self) -> str:
        """For messages and reports."""
        return ", ".join("standard input" if name == "-" else Path(name).name for name in self.files)

    def absolute(self) -> ReadSource:
        """The same files, wherever the process that opens them runs."""

        def path(name: str | None) -> str | None:
            return name if name is None or name == "-" else str(Path(name).absolute())

        more = tuple((str(path(one)), path(other)) for one, other in self.more)
        return replace(self, input=str(path(self.input)), input2=path(self.input2), more=more)

    def records(self) -> Iterator[Read]:
        """All reads in order; of a pair both mates, one after the other.

        Raises:
            DataError: a file is damaged or missing, or mates are out of step; the whole pairs before have come out.
        """
        return chain.from_iterable(self._of(*pair) for pair in ((self.input, self.input2), *self.more))

    def blocks(self, block_reads: int) -> Iterator[list[Read]]:
        """The reads in blocks, in which no pair is parted; see :meth:`records`."""
        return in_blocks(self.records(), self.whole_pairs(block_reads))

    def whole_pairs(self, block_reads: int) -> int:
        """The largest block of whole pairs of at most so many reads, and at least one."""
        return max(2, block_reads - block_reads % 2) if self.paired else block_reads

    def check_there(self) -> None:
        """Refuse files that do not exist, before anything is loaded for them; nothing is opened.

        Raises:
            DataError: one is missing, or mates are to come from one file.
        """
        for name in self.files:
            try:
                there = name == "-" or Path(name).exists()
            except OSError as error:  # a name that no file can have
                raise DataError(f"{name[:60]}…: cannot be read: {error.strerror}") from error
            if not there:
                raise DataError(f"{name}: no such file")
        for one, other in ((self.input, self.input2), *self.more):
            if "-" not in (one, other) and other is not None and Path(one).samefile(other):
                raise DataError(f"{one} and {other} are one file: give that of the second mates, or use --interleaved")

    def _of(self, one: str, other: str | None) -> Iterator[Read]:
        if other is not None:
            return paired_records(one, other)
        return interleaved_records(one) if self.interleaved else read_records(one)


def sample_name(source: ReadSource) -> str:
    """A sample's name by its first file: without the endings, and of mates without ``_R1``."""
    if source.input == "-":
        return "stdin"
    stem = sequence_stem(Path(source.input).name)
    return _MATE_OF_FILE.sub("", stem) if source.input2 is not None else stem
