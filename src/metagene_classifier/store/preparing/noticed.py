"""What is counted while reads are prepared; adds up over pieces and shards, and is kept with each shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.cleaning import Changes, CleaningCounts
from metagene_classifier.reads.labelled import EXAMPLES, LabellingReport

__all__ = ["Example", "Noticed"]

UNKNOWN_CLASSES = 1_000
"""Unknown classes counted one by one in a piece or shard; ten times as many over all."""
OTHER = "other classes"
EXACT_BELOW = 10_000
CHANGES = ("lower_case", "u_to_t", "gaps_removed", "ambiguous_to_n")

Example = tuple[str, int, int]
"""A header, its file's place among the inputs, and its record, from 1."""


@dataclass
class Noticed:
    """Counters.

    Attributes:
        records: of the files, labelled or not.
        lines: of their text.
        bases: of the reads that are kept, after cleaning.
        labelled: reads that are kept.
        empty: reads without a base; skipped.
        unparsed: reads whose class could not be found out; skipped.
        first_unparsed: the first of them.
        unknown: reads of each class that is not among the labels; skipped.
        first_unknown: the first of them.
        cleaning: what cleaning changed in reads that are kept.
        lengths: how many of the kept reads have so many tokens; to three digits from 10,000 tokens on.
    """

    records: int = 0
    lines: int = 0
    bases: int = 0
    labelled: int = 0
    empty: int = 0
    unparsed: int = 0
    first_unparsed: list[Example] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    first_unknown: list[Example] = field(default_factory=list)
    cleaning: CleaningCounts = field(default_factory=CleaningCounts)
    lengths: Counter[int] = field(default_factory=Counter)

    def skip(self, word: str | None, header: str, number: int, record: int) -> None:
        """Count a read without a class among the labels.

        Args:
            word: its class as it is written; ``None`` where there is none.
            header: its header.
            number: its file's place among the inputs.
            record: its place in the file, from 1.
        """
        examples = self.first_unparsed if word is None else self.first_unknown
        if word is None:
            self.unparsed += 1
        else:
            self._count_unknown(word, 1, UNKNOWN_CLASSES)
        if len(examples) < EXAMPLES:
            examples.append((header, number, record))

    def add_lengths(self, lengths: npt.NDArray[np.int64]) -> None:
        """Count the tokens of reads; ``(reads,)``."""
        found, counts = np.unique(lengths, return_counts=True)
        for length, reads in zip(found.tolist(), counts.tolist(), strict=True):
            self.lengths[length if length < EXACT_BELOW else _three_digits(length)] += reads

    def add(self, other: Noticed, records_before: int = 0, unknown_classes: int = UNKNOWN_CLASSES) -> None:
        """Add what was counted further on in the files.

        Args:
            other: it.
            records_before: added to the numbers of its records.
            unknown_classes: how many are counted one by one.
        """
        for name in ("records", "lines", "bases", "labelled", "empty", "unparsed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for examples, more in (
            (self.first_unparsed, other.first_unparsed),
            (self.first_unknown, other.first_unknown),
        ):
            for header, number, record in more[: EXAMPLES - len(examples)]:
                examples.append((header, number, record + records_before))
        for word, reads in other.unknown.items():
            self._count_unknown(word, reads, unknown_classes)
        self.cleaning.reads += other.cleaning.reads
        for kind in CHANGES:
            mine, theirs = getattr(self.cleaning, kind), getattr(other.cleaning, kind)
            mine.reads += theirs.reads
            mine.bases += theirs.bases
        self.lengths.update(other.lengths)

    def labelling(self, inputs: Sequence[Path], per_class: Mapping[int, int] | None = None) -> LabellingReport:
        """The same as labelling read by read reports it."""
        counts = per_class or {}
        return LabellingReport(
            reads=self.records,
            labelled=self.labelled,
            empty=self.empty,
            unparsed=self.unparsed,
            first_unparsed=[_shown(example, inputs) for example in self.first_unparsed],
            unknown=Counter(self.unknown),
            first_unknown=[_shown(example, inputs) for example in self.first_unknown],
            per_class=[counts.get(index, 0) for index in range(max(counts, default=-1) + 1)],
        )

    def as_json(self) -> dict[str, Any]:
        """For the facts of a shard or a store."""
        values = asdict(self)
        values["unknown"] = dict(self.unknown)
        values["lengths"] = {str(length): reads for length, reads in sorted(self.lengths.items())}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Noticed:
        """What :meth:`as_json` gave."""
        cleaning = values["cleaning"]
        return cls(
            **{name: values[name] for name in ("records", "lines", "bases", "labelled", "empty", "unparsed")},
            first_unparsed=[tuple(example) for example in values["first_unparsed"]],
            unknown=Counter(values["unknown"]),
            first_unknown=[tuple(example) for example in values["first_unknown"]],
            cleaning=CleaningCounts(cleaning["reads"], *(Changes(**cleaning[kind]) for kind in CHANGES)),
            lengths=Counter({int(length): reads for length, reads in values["lengths"].items()}),
        )

    def _count_unknown(self, word: str, reads: int, most: int) -> None:
        known_or_room = word in self.unknown or len(self.unknown) < most
        self.unknown[word if known_or_room else OTHER] += reads


def _three_digits(length: int) -> int:
    scale: int = 10 ** (len(str(length)) - 3)
    return length // scale * scale


def _shown(example: Example, inputs: Sequence[Path]) -> str:
    header, number, record = example
    return f"{header!r} ({inputs[number] if number < len(inputs) else 'input'}, record {record})"
