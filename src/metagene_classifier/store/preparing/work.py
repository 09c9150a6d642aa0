"""What a worker does: a piece of text to token ids, classes and counters. It imports neither torch nor pyarrow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.reads.block_text import parse_block
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.headers import mate_key
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.store.preparing.noticed import Noticed
from metagene_classifier.store.preparing.pieces import Piece, reads_of_piece
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["PieceReads", "Work", "read_piece"]


@dataclass(frozen=True)
class Work:
    """What does not change from piece to piece.

    Attributes:
        inputs: the files.
        labels: the classes.
        source: where a read's class stands.
        tokenizer: the encoder's.
        read_ids: whether the reads' names are kept.
    """

    inputs: tuple[Path, ...]
    labels: Labels
    source: LabelSource
    tokenizer: ReadTokenizer
    read_ids: bool


@dataclass(frozen=True)
class PieceReads:
    """The reads of a piece that have a base and a class.

    Attributes:
        ids: tokens of all of them, without special tokens; ``(tokens,)``.
        lengths: tokens of each; ``(reads,)``.
        classes: ``(reads,)``.
        groups: equal for mates; ``(reads,)``.
        read_ids: ``(reads,)``, or ``None``.
        noticed: counted, with records numbered from the piece's first.
    """

    ids: npt.NDArray[Any]
    lengths: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    groups: npt.NDArray[np.uint64]
    read_ids: list[str] | None
    noticed: Noticed


def read_piece(work: Work, piece: Piece) -> PieceReads | None:
    """Parse, label, clean and tokenize a piece; ``None`` when there is a fault in it.

    Whoever knows how many records and lines stand before it finds the fault again with
    :func:`~metagene_classifier.store.preparing.pieces.reads_of_piece`.
    """
    if piece.failure is not None:
        return None
    noticed = Noticed(lines=_lines(piece))
    block = parse_block(piece.text)
    if block is not None:
        classes = _classes(work, piece, block.headers, block.lengths > 0, noticed)
        kept = classes >= 0
        noticed.cleaning = block.counts(kept)
        part = block.only(kept)
        headers = part.headers
        noticed.bases = len(part.codes)
        ids, lengths = work.tokenizer.encode_codes(part.codes, part.lengths)
    else:
        try:
            reads = list(reads_of_piece(piece, ""))
        except DataError:
            return None
        cleaned = [clean_sequence(read.sequence) for read in reads]
        classes = _classes(work, piece, [r.header for r in reads], np.array([bool(c) for c in cleaned]), noticed)
        kept = classes >= 0
        sequences = []
        noticed.cleaning = CleaningCounts()
        headers = []
        for place in np.flatnonzero(kept).tolist():
            noticed.cleaning.add(reads[place].sequence, cleaned[place])
            sequences.append(cleaned[place])
            headers.append(reads[place].header)
        noticed.bases = sum(map(len, sequences))
        ids, lengths = work.tokenizer.encode_flat(sequences)
    noticed.labelled = len(headers)
    noticed.add_lengths(lengths)
    return PieceReads(
        ids,
        lengths,
        classes[kept],
        _groups(headers),
        [Read(header, "").id for header in headers] if work.read_ids else None,
        noticed,
    )


def _lines(piece: Piece) -> int:
    """Line ends, as the parser of the format counts them."""
    lines = piece.text.count(b"\n")
    if not piece.is_fastq and b"\r" in piece.text:
        lines += piece.text.count(b"\r") - piece.text.count(b"\r\n")
    return lines


def _classes(
    work: Work, piece: Piece, headers: Sequence[str], has_bases: npt.NDArray[np.bool_], noticed: Noticed
) -> npt.NDArray[np.int32]:
    """Each read's class, -1 for those that are skipped; ``(reads,)``."""
    path, labels, source = work.inputs[piece.input], work.labels, work.source
    noticed.records = len(headers)
    classes = np.full(len(headers), -1, np.int32)
    known: dict[str, int | None] = {}
    class_id = source.pattern.class_id if source.pattern is not None else None
    one_for_all = source.word(Read("", ""), path) if class_id is None and source.table is None else None
    for place, (header, whole) in enumerate(zip(headers, has_bases.tolist(), strict=True)):
        if not whole:
            noticed.empty += 1
            continue
        word = class_id(header) if class_id is not None else one_for_all or source.word(Read(header, ""), path)
        if word is None:
            noticed.skip(None, header, piece.input, place + 1)
            continue
        index = known[word] if word in known else known.setdefault(word, source.class_index(word, labels))
        if index is None:
            noticed.skip(word, header, piece.input, place + 1)
        else:
            classes[place] = index
    return classes


def _groups(headers: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The same number for both mates of a pair; ``(reads,)``."""
    digests = b"".join([hashlib.blake2b(mate_key(header).encode(), digest_size=8).digest() for header in headers])
    return np.frombuffer(digests, np.dtype("<u8")).astype(np.uint64)
