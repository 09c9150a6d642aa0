"""Reads out of what a client sent: FASTA or FASTQ, plain or gzip, never more than the limits."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, cast

from metagene_classifier.errors import DataError
from metagene_classifier.reads.content import Content
from metagene_classifier.reads.pairs import are_mates
from metagene_classifier.reads.parsing import fasta_reads, fastq_reads
from metagene_classifier.reads.read import Read
from metagene_classifier.serving.limits import Limits, RefusedError

__all__ = ["Received", "receive"]

READS, MATES = "reads", "mates"
"""What messages call the two files; their own names stay with the client."""
CHUNK_BYTES = 2**16
_OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_ALIGNMENTS = (b"BAM\1", b"CRAM", b"@HD\t", b"@SQ\t")


@dataclass(frozen=True)
class Received:
    """The reads of a request, in order; of pairs both mates beside each other."""

    reads: list[Read]
    paired: bool


def receive(first: IO[bytes], second: IO[bytes] | None, *, interleaved: bool, limits: Limits) -> Received:
    """Parse what was sent.

    Args:
        first: the reads; at its beginning.
        second: their mates, where they have a file of their own.
        interleaved: mates follow each other in ``first``.
        limits: of bytes after decompression, of reads, and of bases.

    Raises:
        RefusedError: a limit is passed, or a compression is not taken.
        DataError: it is no FASTA or FASTQ, or mates are out of step.
    """
    if second is not None and interleaved:
        raise RefusedError(422, "mates come either in a file of their own or interleaved: choose one")
    budget = _Budget(limits.max_bytes)
    with closing(_records(first, READS, budget)) as ones:
        if second is not None:
            with closing(_records(second, MATES, budget)) as others:
                return Received(_bounded(_pairs(ones, others), limits), paired=True)
        reads = _bounded(ones, limits)
    if interleaved:
        _check_interleaved(reads)
    return Received(reads, interleaved)


@dataclass
class _Budget:
    """Bytes of text that may still come out of the files of a request."""

    left: int


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than a budget has: a small compressed file may hold any amount of text."""

    def __init__(self, source: IO[bytes], budget: _Budget, limit: int) -> None:
        self._source = source
        self._budget = budget
        self._limit = limit

    def readable(self) -> bool:
        return True

    def read1(self, size: int = CHUNK_BYTES) -> bytes:
        data = self._source.read(min(size, CHUNK_BYTES))
        self._budget.left -= len(data)
        if self._budget.left < 0:
            raise RefusedError(413, f"more than {self._limit:,} bytes of reads (--max-bytes): send fewer at once")
        return data


def _records(source: IO[bytes], name: str, budget: _Budget) -> Generator[Read, None, None]:
    start = source.read(8)
    source.seek(0)
    for magic, what in _OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise RefusedError(415, f"{name}: {what} is not taken here: send plain text or gzip")
    # The mode is said: an upload's temporary file has one of its own.
    packed = start.startswith(b"\x1f\x8b")
    plain = cast(IO[bytes], gzip.GzipFile(fileobj=source, mode="rb")) if packed else source
    content = Content(_Bounded(plain, budget, budget.left))
    stream = io.BufferedReader(content, CHUNK_BYTES)
    if stream.peek(3).startswith(codecs.BOM_UTF8):
        stream.read(3)
    blank_lines = 0
    while (ahead := stream.peek(1)) and ahead[:1].isspace():
        blank = len(ahead) - len(ahead.lstrip())
        blank_lines += stream.read(blank).count(b"\n")
    first = ahead[:1]
    start = stream.peek(16)
    if start.startswith(_ALIGNMENTS):
        raise DataError(f"{name}: alignments (SAM, BAM or CRAM): turn them into FASTQ first (samtools fastq)")
    if first == b"@":
        yield from fastq_reads(stream, content, name, blank_lines)
    elif first == b">":
        yield from fasta_reads(stream, content, name, blank_lines)
    elif content.failure is not None:
        raise content.broken_off(name, 0)
    elif first:
        shown = start.splitlines()[0][:20].decode("latin-1")
        raise DataError(f"{name}: neither FASTA nor FASTQ: it begins with {shown!a}, not with '>' or '@'")
    else:
        raise DataError(f"{name}: empty: there is no read in it")


def _bounded(reads: Iterator[Read], limits: Limits) -> list[Read]:
    kept: list[Read] = []
    try:
        for read in reads:
            if len(kept) == limits.max_reads:
                raise RefusedError(413, f"more than {limits.max_reads:,} reads (--max-reads): send fewer at once")
            if len(read.sequence) > limits.max_read_bp:
                raise RefusedError(
                    413,
                    f"read {len(kept) + 1} has {len(read.sequence):,} bases and {limits.max_read_bp:,} are taken "
                    "(--max-read-length)",
                )
            kept.append(read)
    except zlib.error as error:
        raise DataError(f"damaged gzip data ({error})") from error
    return kept


def _pairs(ones: Iterator[Read], others: Iterator[Read]) -> Iterator[Read]:
    whole = 0
    while True:
        one, other = next(ones, None), next(others, None)
        if one is None and other is None:
            return
        if one is None or other is None:
            longer, shorter = (READS, MATES) if other is None else (MATES, READS)
            raise DataError(
                f"{shorter} end after {whole:,} records and {longer} have a record {whole + 1:,}: give both files of "
                "one run"
            )
        if not are_mates(one, other):
            raise DataError(
                f"record {whole + 1}: {one.id!r} and {other.id!r} are no mates: both files must hold the pairs in the "
                "same order"
            )
        yield one
        yield other
        whole += 1


def _check_interleaved(reads: list[Read]) -> None:
    if len(reads) % 2:
        raise DataError(f"record {len(reads)} ({reads[-1].id!r}) has no mate: the reads end with it")
    for place in range(0, len(reads), 2):
        if not are_mates(reads[place], reads[place + 1]):
            raise DataError(
                f"record {place + 2}: {reads[place + 1].id!r} is no mate of {reads[place].id!r} before it: mates must "
                "follow each other"
            )
