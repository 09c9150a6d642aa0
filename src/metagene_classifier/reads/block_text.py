"""A block of FASTA or FASTQ text to cleaned reads at once, in array operations over its lines.

It gives what parsing and cleaning read by read give, or nothing: whatever is not plain is left to them, faults and the
messages about them as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.base_codes import CODES_OF_BYTES
from metagene_classifier.reads.cleaning import Changes, CleaningCounts, clean_sequence

__all__ = ["BlockReads", "parse_block"]

Int64s = npt.NDArray[np.int64]

_CODE = 7  # the bits of a base's code among those of what cleaning does to it
_LOWER_CASE, _U_TO_T, _GAP, _AMBIGUOUS, _NOT_PLAIN = 8, 16, 32, 64, 128


def _marks_of(byte: int) -> int:
    letter = chr(byte)
    if byte >= 127 or letter <= " ":  # white space is a gap to cleaning, but not where it ends a line
        return _NOT_PLAIN
    cleaned = clean_sequence(letter)
    if not cleaned:
        return _GAP
    marks = CODES_OF_BYTES[ord(cleaned)] | (_LOWER_CASE if letter.islower() else 0)
    if cleaned == "N" and letter not in "Nn":
        return marks | _AMBIGUOUS
    return marks | (_U_TO_T if letter in "Uu" else 0)


_MARKS = bytes(map(_marks_of, range(256)))


@dataclass(frozen=True)
class BlockReads:
    """The reads of a block, in order.

    Attributes:
        headers: header lines without ``>`` or ``@``.
        codes: bases of all reads after cleaning, ``(bases,)``: 0 to 4 for A, C, G, T and N.
        lengths: bases of each read after cleaning, ``(reads,)``.
        changed: characters of each read that cleaning changed, ``(4, reads)``: lower case, U to T, gaps removed,
            others to N; ``None`` when it changed nothing.
    """

    headers: list[str]
    codes: npt.NDArray[np.uint8]
    lengths: Int64s
    changed: Int64s | None

    def counts(self, kept: npt.NDArray[np.bool_] | None = None) -> CleaningCounts:
        """What cleaning changed in all reads, or in those ``kept``, ``(reads,)``."""
        reads = len(self.headers) if kept is None else int(np.count_nonzero(kept))
        if self.changed is None:
            return CleaningCounts(reads)
        changed = self.changed if kept is None else self.changed[:, kept]
        return CleaningCounts(reads, *(Changes(int(np.count_nonzero(kind)), int(kind.sum())) for kind in changed))

    def only(self, kept: npt.NDArray[np.bool_]) -> BlockReads:
        """The reads for which ``kept``, ``(reads,)``, holds."""
        if kept.all():
            return self
        return BlockReads(
            [header for header, keep in zip(self.headers, kept.tolist(), strict=True) if keep],
            self.codes[np.repeat(kept, self.lengths)],
            self.lengths[kept],
            None if self.changed is None else self.changed[:, kept],
        )


def parse_block(text: bytes) -> BlockReads | None:
    """The reads of a text of whole records, FASTA or FASTQ by its first character.

    Returns:
        What :func:`~metagene_classifier.reads.files.read_records` and
        :func:`~metagene_classifier.reads.cleaning.clean_sequence` make of it; ``None`` for a text that is not plain:
        not ASCII, with control characters, white space in sequences, lines that end in more than one way, or at fault.
    """
    lines = _Lines.of(text)
    if lines is None:
        return None
    if text.startswith(b">"):
        return _fasta(text, lines)
    return _fastq(text, lines) if text.startswith(b"@") else None


@dataclass(frozen=True)
class _Lines:
    """Where lines begin and end, without their line ends, and their first bytes (of an empty one that of its end)."""

    begin: Int64s
    end: Int64s
    first: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, text: bytes) -> _Lines | None:
        """The lines of a text; ``None`` when it is not plain."""
        if not text.isascii():
            return None
        raw = np.frombuffer(text, np.uint8)
        newlines = np.flatnonzero(raw == ord("\n"))
        returns = text.count(b"\r")
        if np.count_nonzero(raw < ord(" ")) != len(newlines) + returns + text.count(b"\t"):
            return None
        begin = np.concatenate([[0], newlines + 1])
        end = np.append(newlines, len(text))
        if returns:
            if returns != len(newlines) or not (raw[newlines - 1] == ord("\r")).all():
                return None
            end[:-1] -= 1
        if begin[-1] == len(text):
            begin, end = begin[:-1], end[:-1]
        return cls(begin, end, raw.take(begin))


def _fasta(text: bytes, lines: _Lines) -> BlockReads | None:
    is_header = lines.first == ord(">")
    headers = np.flatnonzero(is_header)
    lengths = lines.end - lines.begin
    lengths[is_header] = 0
    names = _headers(text, lines, is_header)
    return _cleaned(
        [name.strip() for name in names],
        _joined(text, lines, ~is_header),
        np.add.reduceat(lengths, headers).astype(np.int64, copy=False),
    )


def _fastq(text: bytes, lines: _Lines) -> BlockReads | None:
    if len(lines.begin) % 4:
        return None
    lengths, first = (lines.end - lines.begin).reshape(-1, 4), lines.first.reshape(-1, 4)
    if (first[:, 0] != ord("@")).any() or (first[:, 2] != ord("+")).any() or (lengths[:, 1] != lengths[:, 3]).any():
        return None
    kind = np.arange(len(lines.begin)) % 4
    headers = _headers(text, lines, kind == 0)
    if (lengths[:, 2] > 1).any():  # the header may stand there again
        again = _headers(text, lines, kind == 2)
        if any(second and second != header for header, second in zip(headers, again, strict=True)):
            return None
    return _cleaned(headers, _joined(text, lines, kind == 1), lengths[:, 1].copy())


def _headers(text: bytes, lines: _Lines, wanted: npt.NDArray[np.bool_]) -> list[str]:
    letters = text.decode("ascii")
    places = starmap(slice, zip((lines.begin[wanted] + 1).tolist(), lines.end[wanted].tolist(), strict=True))
    return list(map(letters.__getitem__, places))


def _joined(text: bytes, lines: _Lines, wanted: npt.NDArray[np.bool_]) -> bytes:
    places = starmap(slice, zip(lines.begin[wanted].tolist(), lines.end[wanted].tolist(), strict=True))
    return b"".join(map(text.__getitem__, places))


def _cleaned(headers: list[str], sequences: bytes, lengths: Int64s) -> BlockReads | None:
    marks = np.frombuffer(sequences.translate(_MARKS), np.uint8)
    most = marks.max(initial=0)
    if most >= _NOT_PLAIN:
        return None
    if most <= _CODE:
        return BlockReads(headers, marks, lengths, None)
    places = np.flatnonzero(marks > _CODE)
    found = marks[places]
    reads = np.searchsorted(np.cumsum(lengths), places, side="right")
    kinds = (_LOWER_CASE, _U_TO_T, _GAP, _AMBIGUOUS)
    changed = np.array([np.bincount(reads[(found & kind) > 0], minlength=len(lengths)) for kind in kinds])
    codes = marks[marks & _GAP == 0] & _CODE
    return BlockReads(headers, codes, lengths - changed[kinds.index(_GAP)], changed)
