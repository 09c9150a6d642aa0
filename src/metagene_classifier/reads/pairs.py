"""Mates of a pair: from two files that are in step, or from one file in which they alternate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.read import Read

__all__ = ["are_mates", "interleaved_records", "pair_id", "paired_records"]

# SRA's "SRR1.7.1" and "SRR1.7.2"; without a number before it, ".1" may count reads.
_NUMBERED_MATE = re.compile(r"\.\d+\.[12]$")
_ILLUMINA_COMMENT = re.compile(r"([12]):[YN]:")


def paired_records(first: str | Path, second: str | Path) -> Iterator[Read]:
    """The reads of two files, each followed by its mate of the other file.

    Args:
        first: FASTA or FASTQ; ``-`` is standard input.
        second: with the mates of ``first`` in the same order.

    Raises:
        DataError: as :func:`~metagene_classifier.reads.files.read_records`; two records are no mates, or one file has
            more records than the other. The pairs before the fault have come out by then.
    """
    if str(first) == "-" and str(second) == "-":
        raise DataError("both mates from standard input: give at least one of the two files by its name")
    names = [_named(path) for path in (first, second)]
    whole = 0
    ones, others = read_records(first), read_records(second)
    while True:
        one, other = next(ones, None), next(others, None)
        if one is None or other is None:
            break
        if not are_mates(one, other):
            raise DataError(
                f"{names[0]} and {names[1]}, record {whole + 1}: {one.id!r} and {other.id!r} are no mates: both files "
                "must hold the pairs in the same order"
            )
        yield one
        yield other
        whole += 1
    if one is not None or other is not None:
        longer, shorter = names if other is None else reversed(names)
        raise DataError(
            f"{shorter} ends after {whole:,} records and {longer} has a record {whole + 1:,}: mates of different "
            "counts: give the two files of one run, both whole"
        )


def interleaved_records(path: str | Path) -> Iterator[Read]:
    """The reads of a file in which mates follow each other.

    Raises:
        DataError: as :func:`~metagene_classifier.reads.files.read_records`; two records are no mates, or the last one
            has none. The pairs before the fault have come out by then.
    """
    name = _named(path)
    record = 0
    reads = read_records(path)
    for one in reads:
        other = next(reads, None)
        if other is None:
            raise DataError(f"{name}: record {record + 1} ({one.id!r}) has no mate: the file ends with it")
        if not are_mates(one, other):
            raise DataError(
                f"{name}, record {record + 2}: {other.id!r} is no mate of {one.id!r} before it: mates must follow "
                "each other; leave --interleaved out where reads are single"
            )
        yield one
        yield other
        record += 2


def are_mates(one: Read, other: Read) -> bool:
    """Whether two reads have one name, and do not both say that they are the same mate of it."""
    name, mate = _name_and_mate(one)
    other_name, other_mate = _name_and_mate(other)
    return name == other_name and (mate != other_mate or not mate)


def pair_id(read: Read) -> str:
    """The name that a read shares with its mate: its id without ``/1`` or ``/2``."""
    return _name_and_mate(read)[0]


def _name_and_mate(read: Read) -> tuple[str, str]:
    """The name of the pair, and ``1`` or ``2`` where the header says so."""
    name = read.id
    end = name[-2:]
    if end == "/1" or end == "/2" or ((end == ".1" or end == ".2") and _NUMBERED_MATE.search(name)):
        return name[:-2], end[1]
    comment = _ILLUMINA_COMMENT.match(read.header, len(name) + 1)
    return name, comment[1] if comment else ""


def _named(path: str | Path) -> str:
    return "standard input" if str(path) == "-" else str(path)
