"""One interface for every tokenizer: cleaned reads in, token ids out, special tokens kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import TokenizerError

__all__ = ["Engine", "ReadTokenizer", "fingerprint_of", "probe_specials"]

BASES_PER_CALL = 2_000_000  # what the library holds beside the ids is about 100 bytes a token


class Engine(Protocol):
    """What a kind of tokenizer brings: the work itself, and the files that hold it."""

    def encode(self, sequences: list[str]) -> list[list[int]]:
        """Ids of each sequence, without special tokens."""

    def text(self, ids: Sequence[int]) -> str:
        """The texts of the tokens, joined."""

    def write(self, folder: Path) -> None:
        """Write the files from which the tokenizer can be loaded again."""


@dataclass(frozen=True)
class ReadTokenizer:
    """A tokenizer of cleaned reads.

    Attributes:
        kind: which sort of files it is made of.
        name: hub name, folder or file that it came from.
        content_size: one more than the largest id of its own vocabulary.
        prefix_ids: special tokens before a read's tokens; empty with ``add_bos: false``.
        suffix_ids: special tokens after them; empty with ``add_eos: false``.
        pad_id: its padding token, if it has one.
        unk_id: its unknown token, if it has one.
        fingerprint: SHA-256 over vocabulary, merges and special tokens; the same however it was loaded, and whether
            BOS and EOS are on or off.
        engine: does the work.
    """

    kind: Literal["huggingface", "minbpe"]
    name: str
    content_size: int
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    pad_id: int | None
    unk_id: int | None
    fingerprint: str
    engine: Engine = field(repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that it can emit, special tokens included."""
        return max(self.content_size, *(token + 1 for token in (*self.prefix_ids, *self.suffix_ids, 0)))

    @property
    def special_count(self) -> int:
        """Tokens that stand around every read or window."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    def with_specials(self, *, add_bos: bool, add_eos: bool) -> ReadTokenizer:
        """The same tokenizer without the special tokens that are not wanted."""
        return replace(
            self,
            prefix_ids=self.prefix_ids if add_bos else (),
            suffix_ids=self.suffix_ids if add_eos else (),
        )

    def encode_batch(self, sequences: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Token ids of cleaned reads, each ``(tokens,)``, without special tokens; an empty read has none.

        The arrays are uint16 where the vocabulary allows it, else int32.
        """
        dtype = np.uint16 if self.vocab_size <= 2**16 else np.int32
        return [np.asarray(ids, dtype) for part in _parts(sequences) for ids in self.engine.encode(part)]

    def text(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The texts of the tokens, joined: for a read's own ids, the cleaned read."""
        return self.engine.text([int(token) for token in ids])


def fingerprint_of(facts: dict[str, Any]) -> str:
    """SHA-256 of a canonical JSON of what makes a tokenizer this one and no other."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def probe_specials(name: str, plain: list[int], full: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens before and after a read, from one read's ids without (``plain``) and with them (``full``).

    Raises:
        TokenizerError: the ids without are not part of the ids with them.
    """
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    raise TokenizerError(f"{name}: its special tokens change how a read is cut, so it cannot be used")


def _parts(sequences: Sequence[str]) -> Iterator[list[str]]:
    """Parts of a batch that the library can hold at once, however long the reads are."""
    part: list[str] = []
    bases = 0
    for sequence in sequences:
        if part and bases + len(sequence) > BASES_PER_CALL:
            yield part
            part, bases = [], 0
        part.append(sequence)
        bases += len(sequence)
    if part:
        yield part
