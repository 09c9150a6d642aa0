"""FASTA and FASTQ text to reads, with the record and line of whatever is wrong.

FASTA as NCBI writes it; FASTQ in four lines a record (Cock et al. 2010, doi:10.1093/nar/gkp1137).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from dnaio import FastqReader
from dnaio.exceptions import FastqFormatError

from metagene_classifier.errors import DataError
from metagene_classifier.reads.content import RUBBISH, AsciiContent, Content
from metagene_classifier.reads.read import Read

__all__ = ["fasta_reads", "fastq_reads"]

_NOT_TEXT = "bytes that are not text: a damaged or binary file"
_NO_SEQUENCE = re.compile(r"[^\t\x20-\x7e]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
# dnaio shows the end of the file that is no whole record, as Python writes a string.
_ONLY_BLANK_LINES_LEFT = re.compile(r"Premature end of file.*: '(\\[nr]| )*'")


def fastq_reads(stream: Any, content: Content, name: str, lines_before: int, records_before: int = 0) -> Iterator[Read]:
    """The reads of a FASTQ stream.

    Args:
        stream: at the ``@`` of the first record.
        content: what ``stream`` reads from; it knows whether the data broke off.
        name: of the file, for messages.
        lines_before: lines of the file that stand before ``stream``'s first.
        records_before: records of the file that stand before it.

    Raises:
        DataError: a record is malformed or incomplete, or the data breaks off.
    """
    text = AsciiContent(stream)
    whole = records_before
    try:
        for read in FastqReader(text, sequence_class=Read):
            if text.has_rubbish and RUBBISH in f"{read.header}{read.sequence}{read.qualities}":
                line = lines_before + 4 * (whole - records_before) + 1
                raise DataError(f"{name}, record {whole + 1} (line {line}): {_NOT_TEXT}")
            yield read
            whole += 1
    except FastqFormatError as error:
        # Where the data breaks off, the record that it cuts is malformed; the break is what the user must hear of.
        if content.failure is None and not _ONLY_BLANK_LINES_LEFT.fullmatch(error.message):
            line = lines_before + (error.line or 0) + 1
            raise DataError(f"{name}, record {whole + 1} (line {line}): {_fastq_fault(error, text)}") from error
    if content.failure is not None:
        raise content.broken_off(name, whole)


def _fastq_fault(error: FastqFormatError, text: AsciiContent) -> str:
    if text.has_rubbish and (RUBBISH in error.message or ascii(RUBBISH)[1:-1] in error.message):
        return _NOT_TEXT
    if error.message.startswith("Premature end"):
        return "the file ends inside this record: it was cut short"
    if error.message.startswith("Length of sequence and qualities"):
        return "the sequence and its qualities differ in length"
    first = error.message.splitlines()[0]
    return f"not FASTQ of four lines a record: {first[0].lower()}{first[1:]}"


def fasta_reads(stream: Any, content: Content, name: str, lines_before: int, records_before: int = 0) -> Iterator[Read]:
    """The reads of a FASTA stream, lines joined; arguments as for :func:`fastq_reads`.

    Raises:
        DataError: a sequence holds bytes that are not text, or the data breaks off.
    """
    whole = records_before
    held: Read | None = None
    for line, read in _fasta_records(stream, lines_before):
        if held is not None:
            yield held
            whole += 1
        if _is_binary(read):
            raise DataError(f"{name}, record {whole + 1} (line {line}): {_NOT_TEXT}")
        held = read
    # Only the next header shows that a FASTA record is whole; so the last one before a break never is.
    if content.failure is not None:
        raise content.broken_off(name, whole)
    if held is not None:
        yield held


def _fasta_records(stream: Any, lines_before: int) -> Iterator[tuple[int, Read]]:
    """Each record with the line of its header.

    dnaio's FASTA reader decodes some thousand characters ahead, so that one bad byte would cost the records before
    it and their number; in Latin-1 every byte is a character.
    """
    header, header_line = "", 0
    lines: list[str] = []
    for number, line in enumerate(io.TextIOWrapper(stream, encoding="latin-1"), lines_before + 1):
        line = line.strip()
        if line.startswith(">"):
            if header_line:
                yield header_line, Read(header, "".join(lines))
            header, header_line, lines = _utf8(line[1:]), number, []
        else:
            lines.append(line)
    yield header_line, Read(header, "".join(lines))


def _is_binary(read: Read) -> bool:
    letters = read.sequence.isascii() and read.sequence.isalpha()
    return (not letters and _NO_SEQUENCE.search(read.sequence) is not None) or _CONTROL.search(read.header) is not None


def _utf8(header: str) -> str:
    header = header.strip()
    return header if header.isascii() else header.encode("latin-1").decode("utf-8", errors="replace")
