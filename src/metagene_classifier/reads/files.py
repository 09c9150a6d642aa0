"""Sequence files to reads: FASTA and FASTQ, plain or compressed, told by content, streamed in constant memory."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from metagene_classifier.errors import DataError
from metagene_classifier.reads.content import Content, decompressed
from metagene_classifier.reads.parsing import fasta_reads, fastq_reads
from metagene_classifier.reads.read import Read

__all__ = ["SequenceText", "check_named_once", "expand_inputs", "open_text", "read_records", "sequence_stem"]

SEQUENCE_SUFFIXES = (".fa", ".fasta", ".fna", ".fq", ".fastq")
COMPRESSION_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
_BUFFER_BYTES = 128 * 1024
_ALIGNMENTS = (b"BAM\1", b"CRAM", b"@HD\t", b"@SQ\t")


def read_records(path: str | Path) -> Iterator[Read]:
    """The reads of a FASTA or FASTQ file, in order.

    Format and compression (gzip, bzip2, xz, zstd) are told from the content, never from the name. Line ends may be
    LF or CRLF, FASTA may be wrapped, and blank lines before the first record are passed over.

    Args:
        path: the file; ``-`` is standard input.

    Raises:
        DataError: the file is missing, a folder, empty, neither FASTA nor FASTQ, damaged or cut short. The whole
            records before the fault have come out by then, and the message counts them.
    """
    with open_text(path) as text:
        parse = fastq_reads if text.is_fastq else fasta_reads
        yield from parse(text.stream, text.content, text.name, text.lines_before)


@dataclass(frozen=True)
class SequenceText:
    """The decompressed text of a sequence file, opened at its first record.

    Attributes:
        stream: at the ``>`` or ``@`` of the first record.
        content: what ``stream`` reads from; it knows whether the data broke off.
        raw: the file itself.
        name: of the file, for messages.
        is_fastq: FASTQ, or else FASTA.
        is_plain: not compressed.
        lines_before: blank lines before the first record.
        bytes_before: of the text before the first record.
    """

    stream: io.BufferedReader[Any]
    content: Content
    raw: IO[bytes]
    name: str
    is_fastq: bool
    is_plain: bool
    lines_before: int
    bytes_before: int


@contextlib.contextmanager
def open_text(path: str | Path) -> Iterator[SequenceText]:
    """Open a FASTA or FASTQ file, told by its content; ``-`` is standard input.

    Raises:
        DataError: as :func:`read_records`, for what shows at the file's beginning.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with _opened(path) as raw:
        source = decompressed(raw)
        content = Content(source)
        stream = io.BufferedReader(content, _BUFFER_BYTES)
        mark = 0
        if stream.peek(3).startswith(codecs.BOM_UTF8):  # as editors on Windows leave it
            mark = len(stream.read(3))
        blank_lines, blank_bytes = _skip_blank_lines(stream)
        start = stream.peek(16)
        if start.startswith(_ALIGNMENTS):
            raise DataError(f"{name}: holds alignments (SAM, BAM or CRAM): turn it into FASTQ first (samtools fastq)")
        if start.startswith((b"@", b">")):
            is_fastq = start.startswith(b"@")
            before = mark + blank_bytes
            yield SequenceText(stream, content, raw, name, is_fastq, source is raw, blank_lines, before)
        elif start:
            shown = start.splitlines()[0][:20].decode("latin-1")
            raise DataError(f"{name}: neither FASTA nor FASTQ: it begins with {shown!a}, not with '>' or '@'")
        elif content.failure is not None:
            raise content.broken_off(name, 0)
        else:
            raise DataError(f"{name}: empty: there is no read in it")


def expand_inputs(inputs: str | Sequence[str]) -> list[Path]:
    """The files that an option names: a file, several, or folders of sequence files (sorted by name).

    In a folder the sequence files are those named .fa, .fasta, .fna, .fq or .fastq, with or without .gz, .bz2, .xz
    or .zst. ``-`` (standard input) is passed through.

    Raises:
        DataError: files that do not exist (all are named), or a folder without a sequence file.
    """
    given = [inputs] if isinstance(inputs, str) else list(inputs)
    missing = [name for name in given if name != "-" and not Path(name).exists()]
    if missing:
        raise DataError(f"no such file or folder: {', '.join(missing)}")
    found: list[Path] = []
    for path in map(Path, given):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if _is_sequence_name(p.name) and p.is_file())
        if not inside:
            raise DataError(
                f"{path}: no sequence files in this folder ({', '.join(SEQUENCE_SUFFIXES)}, also compressed)"
            )
        found.extend(inside)
    return found


def check_named_once(files: Sequence[Path]) -> None:
    """Refuse files of which each read would count twice.

    Raises:
        DataError: two of them are one.
    """
    named: dict[Path, Path] = {}
    for path in files:
        file = path.resolve()
        if file in named:
            twice = f"{path} is named twice" if named[file] == path else f"{path} and {named[file]} are one file"
            raise DataError(f"{twice}: each of its reads would count twice; name it once")
        named[file] = path


def sequence_stem(name: str) -> str:
    """A file's name without the endings that say format and compression: ``a.b.fna.gz`` is ``a.b``."""
    for suffixes in (COMPRESSION_SUFFIXES, SEQUENCE_SUFFIXES):
        for suffix in suffixes:
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
                break
    return name


def _is_sequence_name(name: str) -> bool:
    lower = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        lower = lower.removesuffix(suffix)
    return lower.endswith(SEQUENCE_SUFFIXES) and not name.startswith(".")


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as raw:
            yield raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder: name a FASTA or FASTQ file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _skip_blank_lines(stream: io.BufferedReader[Any]) -> tuple[int, int]:
    """Move to the first character that is not white space; return the lines and bytes passed over."""
    lines = passed = 0
    while chunk := stream.peek(1):
        blank = len(chunk) - len(chunk.lstrip())
        lines += chunk.count(b"\n", 0, blank)
        passed += blank
        stream.read(blank)
        if blank < len(chunk):
            break
    return lines, passed
