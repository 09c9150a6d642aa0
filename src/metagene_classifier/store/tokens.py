"""Labelled reads as token ids in three flat arrays: two bytes a token instead of an object a read."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.headers import mate_key
from metagene_classifier.store.scatter import scatter

if TYPE_CHECKING:
    from metagene_classifier.reads.labelled import LabelledRead
    from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["StoreReport", "TokenStore", "build_store", "split_store"]

READS_PER_BLOCK = 4096  # reads tokenized in one call: enough for the tokenizer's threads, little memory


@dataclass(frozen=True)
class TokenStore:
    """Tokenized reads with their classes.

    Attributes:
        ids: token ids of all reads, one after another, without special tokens; ``(tokens,)``.
        offsets: where each read begins in ``ids``; ``(reads + 1,)`` int64.
        classes: index of each read's class; ``(reads,)`` int32.
        groups: equal for the mates of a pair; ``(reads,)`` uint64.
    """

    ids: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    groups: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.classes)

    def tokens(self, read: int) -> npt.NDArray[Any]:
        """The ids of one read, ``(tokens,)``, without special tokens."""
        return self.ids[self.offsets[read] : self.offsets[read + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every read, special tokens not counted; ``(reads,)``."""
        return np.diff(self.offsets)

    def subset(self, reads: npt.NDArray[np.int64]) -> TokenStore:
        """The named reads, in the order given."""
        offsets = _offsets(self.lengths[reads])
        shift = np.repeat(self.offsets[:-1][reads] - offsets[:-1], np.diff(offsets))
        return TokenStore(self.ids[np.arange(offsets[-1]) + shift], offsets, self.classes[reads], self.groups[reads])

    def fingerprint(self) -> str:
        """The same for the same reads, tokens, classes and order; ``sha256`` in hexadecimal."""
        digest = hashlib.sha256()
        for part in (self.ids, self.offsets, self.classes):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


@dataclass
class StoreReport:
    """What was noticed while a store was filled."""

    cleaning: CleaningCounts = field(default_factory=CleaningCounts)
    long_reads: int = 0
    """Reads of more tokens than fit into one piece."""
    empty_reads: int = 0
    """Reads of which cleaning left no base; they are skipped."""


def build_store(
    labelled: Iterable[LabelledRead],
    tokenizer: ReadTokenizer,
    *,
    capacity: int,
    long_reads: Literal["window", "truncate", "error"],
    report: StoreReport,
) -> TokenStore:
    """Clean and tokenize labelled reads.

    Args:
        labelled: the reads, streamed.
        tokenizer: what the encoder reads with.
        capacity: tokens of a read that fit beside the special tokens.
        long_reads: ``window`` keeps all tokens, ``truncate`` the first ``capacity``, ``error`` refuses.
        report: filled on the way.

    Raises:
        DataError: a read is longer than ``capacity`` and ``long_reads`` is ``error``.
    """
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    ids = [np.zeros(0, dtype)]  # one array a block: an array a read would cost more than its tokens
    lengths = array("q")
    classes = array("i")
    groups = array("Q")
    for block in in_blocks(labelled, READS_PER_BLOCK):
        sequences = []
        kept = []
        for item in block:
            sequence = clean_sequence(item.read.sequence)
            report.cleaning.add(item.read.sequence, sequence)
            if sequence:
                sequences.append(sequence)
                kept.append(item)
            else:
                report.empty_reads += 1
        tokens_of_block = tokenizer.encode_batch(sequences)
        for place, (item, tokens) in enumerate(zip(kept, tokens_of_block, strict=True)):
            if len(tokens) > capacity:
                report.long_reads += 1
                if long_reads == "error":
                    raise DataError(
                        f"read {item.read.id} has {len(tokens)} tokens and {capacity} fit (tokenizer.long_reads: "
                        "error): shorten it, or set tokenizer.long_reads to window or truncate"
                    )
                if long_reads == "truncate":
                    tokens_of_block[place] = tokens[:capacity]
            lengths.append(len(tokens_of_block[place]))
            classes.append(item.class_index)
            groups.append(_group_of(item.read.header))
        if kept:
            ids.append(np.concatenate(tokens_of_block).astype(dtype, copy=False))
    return TokenStore(
        np.concatenate(ids),
        _offsets(np.frombuffer(lengths, np.int64) if lengths else np.zeros(0, np.int64)),
        np.array(classes, np.int32),
        np.array(groups, np.uint64),
    )


def split_store(store: TokenStore, fraction: float, seed: int) -> tuple[TokenStore, TokenStore]:
    """Hold out a share of the reads, mates on the same side; returns (kept, held out).

    The side of a read depends on its name and the seed alone, not on the other reads.
    """
    mixed = scatter(store.groups ^ np.uint64(seed))
    held_out = mixed < np.uint64(int(fraction * float(2**64 - 2**11)))
    return store.subset(np.flatnonzero(~held_out)), store.subset(np.flatnonzero(held_out))


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _group_of(header: str) -> int:
    return int.from_bytes(hashlib.blake2b(mate_key(header).encode(), digest_size=8).digest(), "little")
