"""What a file of labelled reads holds: counted in one pass, in constant memory, nothing kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metagene_classifier.console import progress
from metagene_classifier.errors import DataError
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.labelled import EXAMPLES, LabellingReport, LabelSource
from metagene_classifier.reads.labels import Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.histogram import Histogram
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["FileSurvey", "survey_file"]

READS_PER_CHUNK = 4096
BASES_PER_CHUNK = 4_000_000
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass
class FileSurvey:
    """The figures of one file.

    Attributes:
        path: the file.
        format: ``FASTA`` or ``FASTQ``, and the compression; empty when no read could be read.
        labelling: reads with and without a class.
        cleaning: what cleaning changed in reads with a class.
        lengths_bp: bases of the reads with a class, after cleaning.
        tokens: their tokens, special tokens included; empty without a tokenizer.
        longer: how many have more tokens than the encoder sees at once.
        unknown_tokens: how many of the tokens are the unknown one.
        failure: why reading ended before the file did; ``None`` when it did not.
        whole: whether the file was read to its end.
    """

    path: Path
    format: str = ""
    labelling: LabellingReport = field(default_factory=LabellingReport)
    cleaning: CleaningCounts = field(default_factory=CleaningCounts)
    lengths_bp: Histogram = field(default_factory=Histogram)
    tokens: Histogram = field(default_factory=Histogram)
    longer: int = 0
    unknown_tokens: int = 0
    failure: str | None = None
    whole: bool = True


def survey_file(
    path: Path,
    *,
    labels: Labels | None,
    source: LabelSource | None,
    tokenizer: ReadTokenizer | None,
    max_length: int,
    max_reads: int | None = None,
) -> FileSurvey:
    """Read, label, clean and tokenize a file as training would, and count.

    Args:
        path: FASTA or FASTQ, plain or compressed; ``-`` is standard input.
        labels: the classes there are; ``None`` takes any class.
        source: where a read's class stands; ``None`` does not ask for one.
        tokenizer: ``None`` leaves tokens out.
        max_length: tokens that the encoder sees at once, special tokens included.
        max_reads: look at the first so many reads only.
    """
    survey = FileSurvey(path)
    survey.labelling.per_class = [0] * (len(labels) if labels is not None else 1)
    compression = _compression(path)
    chunk: list[str] = []
    bases = 0
    try:
        with progress(unit="read", label=f"checking {path.name}") as bar:
            for number, read in enumerate(read_records(path), 1):
                if max_reads is not None and number > max_reads:
                    survey.whole = False
                    break
                if number == 1:
                    survey.format = ("FASTA" if read.qualities is None else "FASTQ") + compression
                bar.update()
                cleaned = clean_sequence(read.sequence)
                if not cleaned:
                    survey.labelling.reads += 1
                    survey.labelling.empty += 1
                    continue
                if not _label(survey.labelling, number, read, path, labels, source):
                    continue
                survey.cleaning.add(read.sequence, cleaned)
                chunk.append(cleaned)
                bases += len(cleaned)
                if len(chunk) == READS_PER_CHUNK or bases > BASES_PER_CHUNK:
                    _measure(survey, chunk, tokenizer, max_length)
                    chunk, bases = [], 0
    except DataError as error:
        survey.failure = str(error)
        survey.whole = False
    _measure(survey, chunk, tokenizer, max_length)
    return survey


def _label(
    report: LabellingReport, number: int, read: Read, path: Path, labels: Labels | None, source: LabelSource | None
) -> bool:
    """Count one read as :func:`~metagene_classifier.reads.labelled.labelled_reads` does; true when it has a class."""
    report.reads += 1
    word = source.word(read, path) if source is not None else ""
    if word is None:
        report.unparsed += 1
        _example(report.first_unparsed, number, read, path)
        return False
    index = 0 if source is None or labels is None else source.class_index(word, labels)
    if index is None:
        report.unknown[word] += 1
        _example(report.first_unknown, number, read, path)
        return False
    report.labelled += 1
    report.per_class[index] += 1
    return True


def _example(examples: list[str], number: int, read: Read, path: Path) -> None:
    if len(examples) < EXAMPLES:
        examples.append(f"{read.header!r} ({path}, record {number})")


def _measure(survey: FileSurvey, chunk: list[str], tokenizer: ReadTokenizer | None, max_length: int) -> None:
    survey.lengths_bp.add(map(len, chunk))
    if tokenizer is None:
        return
    encoded = tokenizer.encode_batch(chunk)
    lengths = [len(ids) + tokenizer.special_count for ids in encoded]
    survey.tokens.add(lengths)
    survey.longer += sum(length > max_length for length in lengths)
    if tokenizer.unk_id is not None:
        survey.unknown_tokens += sum(int(np.count_nonzero(ids == tokenizer.unk_id)) for ids in encoded)


def _compression(path: Path) -> str:
    """`` (gzip)`` and the like, from a file's first bytes; empty for plain files and standard input."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(6)
    except OSError:
        return ""
    return next((f", {name}" for magic, name in COMPRESSIONS.items() if start.startswith(magic)), "")
