"""One interface for every tokenizer: cleaned reads in, token ids out, special tokens kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import TokenizerError
from metagene_classifier.reads.base_codes import CODES_OF_BYTES, LETTERS
from metagene_classifier.tokenization.table_lane import TableLane
from metagene_classifier.tokenization.token_bases import TokenBases, reads_to_try, texts_of_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Engine", "ReadTokenizer", "fingerprint_of", "probe_specials"]

_BYTES_OF_CODES = LETTERS.encode("ascii").ljust(256, b"?")
_ANCHOR = "ACGTACGTTGCA"  # whose first token others are looked at behind
BASES_PER_CALL = 2_000_000  # what the library holds beside the ids is about 100 bytes a token


class Engine(Protocol):
    """What a kind of tokenizer brings: the work itself, and the files that hold it."""

    @property
    def library(self) -> Tokenizer | None:
        """Its tokenizer of the ``tokenizers`` library; ``None`` where it has none."""

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
        engine: its library.
        lane: encodes many reads without the library, where that gives the same ids.
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
    lane: TableLane = field(repr=False, compare=False)

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

    @property
    def ids_dtype(self) -> np.dtype[Any]:
        """Of token ids: uint16 where the vocabulary allows it, else uint32."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def encode_batch(self, sequences: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Token ids of cleaned reads, each ``(tokens,)``, without special tokens; an empty read has none.

        The arrays are views of one array, of ``ids_dtype``.
        """
        ids, lengths = self.encode_flat(sequences)
        ends = np.cumsum(lengths).tolist()
        return [ids[begin:end] for begin, end in pairwise([0, *ends])]

    def encode_flat(self, sequences: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Token ids of cleaned reads, all in one array.

        Returns:
            The ids ``(tokens,)``, of ``ids_dtype`` and without special tokens, and how many each read has.
        """
        bases = np.fromiter(map(len, sequences), np.int64, len(sequences))
        table = self.lane.table_for(int(bases.sum()))
        if table is not None:
            codes = _codes_of("".join(sequences))
            if codes is not None:
                ids, lengths = table.encode(codes, bases)
                return ids.astype(self.ids_dtype, copy=False), lengths
        return self._encode_by_library(sequences)

    def encode_codes(
        self, codes: npt.NDArray[np.uint8], bases: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """As :meth:`encode_flat`, of reads as codes: 0 to 4 for A, C, G, T and N.

        Args:
            codes: ``(bases,)``; reads follow each other.
            bases: of each read, ``(reads,)``.

        Raises:
            ValueError: another code, or more or fewer codes than bases.
        """
        if codes.max(initial=0) >= len(LETTERS) or bases.sum() != len(codes):
            raise ValueError(
                f"{len(codes)} codes from 0 to {len(LETTERS) - 1} are not the {bases.sum()} bases of reads"
            )
        table = self.lane.table_for(len(codes))
        if table is not None:
            ids, lengths = table.encode(codes, bases)
            return ids.astype(self.ids_dtype, copy=False), lengths
        letters = codes.tobytes().translate(_BYTES_OF_CODES).decode("ascii")
        ends = np.cumsum(bases).tolist()
        return self._encode_by_library([letters[begin:end] for begin, end in pairwise([0, *ends])])

    def _encode_by_library(self, sequences: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        ids: list[npt.NDArray[Any]] = [np.zeros(0, self.ids_dtype)]
        lengths: list[int] = []
        for part in _parts(sequences):
            encoded = self.engine.encode(part)
            lengths.extend(map(len, encoded))
            ids.append(np.fromiter(chain.from_iterable(encoded), self.ids_dtype, sum(lengths[-len(part) :])))
        return np.concatenate(ids), np.array(lengths, np.int64)

    def text(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The texts of the tokens, joined: for a read's own ids, the cleaned read."""
        return self.engine.text([int(token) for token in ids])

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The bases of a read's tokens, special tokens not among them: A, C, G, T and N.

        Raises:
            TokenizerError: a token that is no bases.
        """
        tokens = np.asarray(ids, np.int64)
        codes, _ = self.decode_codes(tokens, np.array([len(tokens)]))
        return codes.tobytes().translate(_BYTES_OF_CODES).decode("ascii")

    def decode_codes(
        self, ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The way back from :meth:`encode_codes`, where :meth:`loses` has nothing to say.

        Args:
            ids: ``(tokens,)``, without special tokens; reads follow each other.
            lengths: tokens of each read, ``(reads,)``.

        Returns:
            Codes, 0 to 4 for A, C, G, T and N, ``(bases,)``, and how many each read has, ``(reads,)``.

        Raises:
            TokenizerError: a token that is no bases.
        """
        codes, of_token = self._bases.decode(ids)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(of_token)])[np.cumsum(lengths)]
        return codes, np.diff(ends, prepend=0)

    def loses(self) -> str | None:
        """A piece of DNA that does not come back when its ids are decoded; ``None`` where all that are tried do."""
        reads = reads_to_try(self._texts)
        for read, ids in zip(reads, self.encode_batch(reads), strict=True):
            try:
                if self.decode(ids) != read:
                    return read
            except TokenizerError:
                return read
        return None

    @cached_property
    def _texts(self) -> list[str | None]:
        anchor = self.engine.encode([_ANCHOR])[0][:1]
        texts = texts_of_tokens(self.engine.text, self.content_size, anchor)
        if self.unk_id is not None and self.engine.encode(["N"])[0] == [self.unk_id]:
            texts[self.unk_id] = "N"  # of the letters of a cleaned read there is no other that it can stand for
        return texts

    @cached_property
    def _bases(self) -> TokenBases:
        return TokenBases(self.name, self._texts)


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


def _codes_of(letters: str) -> npt.NDArray[np.uint8] | None:
    """The codes of A, C, G, T and N; ``None`` when another character is among them."""
    if not letters.isascii():
        return None
    codes = np.frombuffer(letters.encode("ascii").translate(CODES_OF_BYTES), np.uint8)
    return codes if codes.max(initial=0) < len(LETTERS) else None


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
