"""A sequence file's text in pieces of whole records. Where they end depends on the text alone, from any piece's start
on; so work that broke off goes on at the same places, whatever the number of workers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.content import Content
from metagene_classifier.reads.files import SequenceText, open_text
from metagene_classifier.reads.parsing import fasta_reads, fastq_reads
from metagene_classifier.reads.read import Read

__all__ = ["PIECE_BYTES", "Piece", "pieces_of", "reads_of_piece"]

PIECE_BYTES = 4 * 2**20
LINES_OF_FASTQ = 4


@dataclass(frozen=True)
class Piece:
    """Whole records of a file.

    Attributes:
        input: the file's place among the inputs.
        text: the records.
        first_byte: of the file's uncompressed text.
        lines_before: lines of the file before this piece, for the first piece; 0 for others, of which it is not known.
        read_bytes: of the file, as it is compressed, that have been read for this piece and those before it.
        is_fastq: FASTQ, or else FASTA.
        failure: why the data breaks off in this piece, the last one then.
    """

    input: int
    text: bytes
    first_byte: int
    lines_before: int
    read_bytes: int
    is_fastq: bool
    failure: Exception | None = None

    @property
    def end_byte(self) -> int:
        """Of the uncompressed text, where the next piece begins."""
        return self.first_byte + len(self.text)


def pieces_of(
    path: Path, number: int = 0, *, first_byte: int | None = None, end_byte: int | None = None
) -> Iterator[Piece]:
    """The file in pieces of about 4 MB, or of one record where that is longer.

    Args:
        path: FASTA or FASTQ, plain or compressed; ``-`` is standard input.
        number: the file's place among the inputs.
        first_byte: where a piece began or ended before; plain files go there at once, compressed ones are
            decompressed up to it. By default the first record.
        end_byte: where a piece ended before; by default the end of the file.

    Raises:
        DataError: the file cannot be opened, is empty, or neither FASTA nor FASTQ; or it has no piece that ends at
            ``end_byte``.
    """
    with open_text(path) as text:
        stream, content = text.stream, text.content
        at = text.bytes_before
        if first_byte is not None and first_byte > at:
            stream, content = _at(text, first_byte)
            at = first_byte
        lines_before = text.lines_before if at == text.bytes_before else 0
        held = b""
        while end_byte is None or at < end_byte:
            held, size = _next_piece(stream, held, text.is_fastq)
            if not size:
                if content.failure is not None:
                    yield Piece(number, b"", at, lines_before, 0, text.is_fastq, content.failure)
                break
            piece, held = held[:size], held[size:]
            failure = None if held else content.failure
            read_bytes = text.raw.tell() if text.raw.seekable() else at + size
            yield Piece(number, piece, at, lines_before, read_bytes, text.is_fastq, failure)
            at += size
            lines_before = 0
        if end_byte is not None and at != end_byte:
            raise DataError(f"{text.name} is not the file that this store was made from: it changed since")


def reads_of_piece(piece: Piece, name: str, *, lines_before: int = 0, records_before: int = 0) -> Iterator[Read]:
    """The reads of a piece.

    Args:
        piece: from :func:`pieces_of`.
        name: of the file, for messages.
        lines_before: lines of the file before the piece.
        records_before: its records.

    Raises:
        DataError: as :func:`~metagene_classifier.reads.files.read_records`.
    """
    content = Content(io.BytesIO(piece.text))
    stream = io.BufferedReader(content)
    if piece.failure is not None:
        content = _Broken(piece.failure)
    parse = fastq_reads if piece.is_fastq else fasta_reads
    return parse(stream, content, name, lines_before, records_before)


class _Broken(Content):
    """Content that broke off; its text is in the piece."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(io.BytesIO())
        self.failure = failure


def _at(text: SequenceText, first_byte: int) -> tuple[io.BufferedReader, Content]:
    if text.is_plain and text.raw.seekable():
        text.raw.seek(first_byte)
        content = Content(text.raw)
        return io.BufferedReader(content, PIECE_BYTES), content
    left = first_byte - text.bytes_before
    while left and (passed := text.stream.read(min(left, PIECE_BYTES))):
        left -= len(passed)
    return text.stream, text.content


def _next_piece(stream: io.BufferedReader, held: bytes, is_fastq: bool) -> tuple[bytes, int]:
    """What was read and not given out yet, and how many bytes of it make up the next piece; 0 at the end."""
    size = PIECE_BYTES
    while True:
        if len(held) < size:
            held += stream.read(size - len(held))
        if len(held) < size:
            return held, len(held)
        if end := _end_of_records(held, size, is_fastq):
            return held, end
        size *= 2


def _end_of_records(text: bytes, size: int, is_fastq: bool) -> int:
    """Where the last record ends that is known to be whole in the first ``size`` bytes; 0 when there is none."""
    if not is_fastq:
        return text.rfind(b"\n>", 0, size) + 1
    right = size
    for _ in range(text.count(b"\n", 0, size) % LINES_OF_FASTQ + 1):
        right = text.rfind(b"\n", 0, right)
    return right + 1
