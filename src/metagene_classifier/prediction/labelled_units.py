"""Labelled reads, or labelled pairs of mates, in blocks that a scorer takes; each unit's class comes along."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.labelled import (
    LabellingReport,
    LabelSource,
    check_labelled,
    label_read,
    labelled_reads,
)
from metagene_classifier.reads.labels import Labels
from metagene_classifier.reads.read import Read

__all__ = ["LabelledUnits"]


@dataclass
class LabelledUnits:
    """Reads, or pairs, whose class is known; a unit is what gets one call.

    Attributes:
        files: labelled reads.
        pairs: where mates come in pairs, what gives them, of the same files.
        labels: the classes there are.
        source: where a read's class stands; of a pair in the first mate, or in the second where the first has none.
        strict: refuse reads without a class, instead of skipping them.
        report: counts, filled while the reads come.
    """

    files: Sequence[Path]
    pairs: ReadSource | None
    labels: Labels
    source: LabelSource
    strict: bool
    report: LabellingReport = field(default_factory=LabellingReport)
    _ahead: deque[int] = field(default_factory=deque)

    def blocks(self, most_reads: int) -> Iterator[list[Read]]:
        """Reads in blocks of whole units; the last raises what is wrong with the labels, when all have come out.

        Raises:
            DataError: a file cannot be used, mates are out of step or of two classes; with ``strict``, reads without a
                class.
        """
        size = most_reads if self.pairs is None else self.pairs.whole_pairs(most_reads)
        return in_blocks(self._single() if self.pairs is None else self._paired(self.pairs), size)

    def truth(self, units: int) -> npt.NDArray[np.int64]:
        """Classes of the next units, in the order in which they came out; ``(units,)``."""
        return np.array([self._ahead.popleft() for _ in range(units)], np.int64)

    def reads(self) -> Iterator[tuple[Read, int]]:
        """All reads with their classes, those of a pair one after the other; the files are read anew.

        Raises:
            DataError: see :meth:`blocks`.
        """
        report = LabellingReport()
        if self.pairs is None:
            for item in labelled_reads(self.files, self.labels, self.source, self.strict, report):
                yield item.read, item.class_index
            return
        for one, other, index in self._labelled_pairs(self.pairs, report):
            yield one, index
            yield other, index

    def _single(self) -> Iterator[Read]:
        for item in labelled_reads(self.files, self.labels, self.source, self.strict, self.report):
            self._ahead.append(item.class_index)
            yield item.read

    def _paired(self, pairs: ReadSource) -> Iterator[Read]:
        for one, other, index in self._labelled_pairs(pairs, self.report):
            self._ahead.append(index)
            yield one
            yield other

    def _labelled_pairs(self, pairs: ReadSource, report: LabellingReport) -> Iterator[tuple[Read, Read, int]]:
        report.per_class = [0] * len(self.labels)
        path = Path(pairs.input)
        records = pairs.records()
        for number, (one, other) in enumerate(zip(records, records, strict=True), 1):
            index = self._class_of(one, other, path, number, report)
            if index is not None:
                yield one, other, index
        check_labelled(self.files, self.source, self.strict, report)

    def _class_of(self, one: Read, other: Read, path: Path, number: int, report: LabellingReport) -> int | None:
        first, second = (one, other) if one.sequence.strip("-.* \t") else (other, one)
        index = label_read(first, path, number, self.labels, self.source, report)
        word = self.source.word(second, path)
        mate = None if word is None else self.source.class_index(word, self.labels)
        if index is not None and mate is not None and mate != index:
            named = " and ".join(self.labels.classes[place].label for place in (index, mate))
            raise DataError(
                f"{path}, record {number}: the mates {one.id!r} and {other.id!r} are of two classes: {named}"
            )
        return index
