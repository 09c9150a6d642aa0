"""Reads with their classes, streamed; what could not be labelled is counted on the way and told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import read_records, sequence_stem
from metagene_classifier.reads.headers import HeaderPattern, mate_key
from metagene_classifier.reads.labels import Labels
from metagene_classifier.reads.read import Read

__all__ = ["LabelSource", "LabelledRead", "LabellingReport", "check_labelled", "label_read", "labelled_reads"]

EXAMPLES = 5
"""Headers shown of each kind of fault."""
UNKNOWN_CLASSES = 10_000
"""Unknown classes counted one by one: a pattern that takes the read's name for its class must not fill the memory."""


@dataclass(frozen=True, slots=True)
class LabelledRead:
    """A read and the place of its class among the labels."""

    read: Read
    class_index: int


@dataclass(frozen=True)
class LabelSource:
    """Where a read's class stands: in its header (``pattern``), in a table of read ids (``table``), or, when neither
    is given, in the name of its file. Tables and file names may give a class by its id or its label.
    """

    pattern: HeaderPattern | None = None
    table: Mapping[str, str] | None = None

    @property
    def fault(self) -> str:
        """What is said of reads for which :meth:`word` finds nothing."""
        return "header does not match the pattern" if self.pattern is not None else "not in the table of labels"

    def word(self, read: Read, path: Path) -> str | None:
        """The class as it is written; ``None`` where there is none."""
        if self.pattern is not None:
            return self.pattern.class_id(read.header)
        if self.table is not None:
            for key in (read.id, read.header, mate_key(read.header)):
                if key in self.table:
                    return self.table[key]
            return None
        return sequence_stem(path.name)

    def class_index(self, word: str, labels: Labels) -> int | None:
        """The place among ``labels`` of a class as :meth:`word` gives it; ``None`` when it is not one of them."""
        if self.pattern is not None:
            return labels.find(word)
        found = labels.find_either(word)
        # Escherichia_coli.fa is the file of the label "Escherichia coli".
        return labels.find_either(word.replace("_", " ")) if found is None and self.table is None else found


@dataclass
class LabellingReport:
    """What became of the reads; filled while :func:`labelled_reads` runs."""

    reads: int = 0
    """Seen, labelled or not."""
    labelled: int = 0
    empty: int = 0
    """Without a base; skipped."""
    unparsed: int = 0
    """Whose class could not be found out; skipped."""
    first_unparsed: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    """Reads of each class that is not among the labels; skipped."""
    first_unknown: list[str] = field(default_factory=list)
    per_class: list[int] = field(default_factory=list)
    """Labelled reads, in the order of the labels."""

    def classes_seen(self) -> set[int]:
        """The places of the classes that have a read."""
        return {index for index, reads in enumerate(self.per_class) if reads}

    def faults(self, source: LabelSource) -> list[str]:
        """A line for each kind of read that got no class, with the first of them; empty when all is well."""
        lines = []
        if self.unparsed:
            lines.append(f"{self.unparsed:,} reads: {source.fault}, first: {'; '.join(self.first_unparsed)}")
        if self.unknown:
            classes = ", ".join(f"{word} ({reads:,})" for word, reads in self.unknown.most_common(10))
            more = f" and {len(self.unknown) - 10} more" if len(self.unknown) > 10 else ""
            lines.append(
                f"{self.unknown.total():,} reads of {len(self.unknown)} classes that are not in the mapping: "
                f"{classes}{more}, first: {'; '.join(self.first_unknown)}"
            )
        return lines


def label_read(
    read: Read, path: Path, number: int, labels: Labels, source: LabelSource, report: LabellingReport
) -> int | None:
    """The place of the class of a file's ``number``-th read, counted in ``report``; ``None`` when it has none."""
    report.reads += 1
    if not read.sequence.strip("-.* \t"):
        report.empty += 1
        return None
    word = source.word(read, path)
    index = source.class_index(word, labels) if word is not None else None
    if index is not None:
        report.labelled += 1
        report.per_class[index] += 1
        return index
    if word is None:
        report.unparsed += 1
    else:
        known_or_room = word in report.unknown or len(report.unknown) < UNKNOWN_CLASSES
        report.unknown[word if known_or_room else "other classes"] += 1
    examples = report.first_unparsed if word is None else report.first_unknown
    if len(examples) < EXAMPLES:
        examples.append(f"{read.header!r} ({path}, record {number})")
    return None


def labelled_reads(
    inputs: Sequence[Path], labels: Labels, source: LabelSource, strict: bool, report: LabellingReport
) -> Iterator[LabelledRead]:
    """The reads of the files, in order, each with its class; in constant memory.

    Args:
        inputs: FASTA or FASTQ files.
        labels: the classes there are.
        source: where a read's class stands.
        strict: whether reads without a class among ``labels`` are an error, raised after the last read so that all
            are counted; otherwise they are skipped.
        report: counted into while the reads come; a new one for each call.

    Raises:
        DataError: a file cannot be read; no read is left; or, with ``strict``, reads without a class.
    """
    report.per_class = [0] * len(labels)
    for path in inputs:
        for number, read in enumerate(read_records(path), 1):
            index = label_read(read, path, number, labels, source, report)
            if index is not None:
                yield LabelledRead(read, index)
    check_labelled(inputs, source, strict, report)


def check_labelled(inputs: Sequence[Path], source: LabelSource, strict: bool, report: LabellingReport) -> None:
    """Refuse reads without a class, where they are not to be skipped, and files of which no read is left.

    Raises:
        DataError: no read is left; or, with ``strict``, reads without a class.
    """
    faults = report.faults(source)
    if strict and faults:
        raise DataError(
            f"{' | '.join(faults)} (dataset.strict_classes: false, or evaluate --skip-unknown, skips such reads)"
        )
    if not report.labelled:
        files = f"{inputs[0]}{f' and {len(inputs) - 1} more files' if len(inputs) > 1 else ''}"
        raise DataError(
            f"{files}: no labelled read is left of {report.reads:,} ({report.empty:,} empty)"
            + "".join(f" | {fault}" for fault in faults)
        )
