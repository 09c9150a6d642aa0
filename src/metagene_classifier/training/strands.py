"""The other strand of a step's reads: decoded, turned, encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import ConfigError
from metagene_classifier.reads.strand import COMPLEMENT_OF_CODES
from metagene_classifier.store.scatter import GOLDEN, scatter
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["BothStrands", "are_turned", "both_strands_of", "check_strands", "other_strands"]

_COMPLEMENT = np.array(COMPLEMENT_OF_CODES, np.uint8)
SHOWN_BP = 40


@dataclass(frozen=True)
class BothStrands:
    """How a run learns from both strands of its reads.

    Attributes:
        how: ``augment``: one strand of each read, drawn; ``consistency``: both of them.
        tokenizer: of the reads.
    """

    how: Literal["augment", "consistency"]
    tokenizer: ReadTokenizer

    @property
    def per_read(self) -> int:
        """Strands of a read that are in a step, in one micro-batch."""
        return 2 if self.how == "consistency" else 1

    def of(self, pieces: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Tokens of the other strand of each piece of a read; see :func:`other_strands`."""
        return other_strands(self.tokenizer, pieces)


def both_strands_of(how: Literal["none", "augment", "consistency"], tokenizer: ReadTokenizer) -> BothStrands | None:
    """What ``training.reverse_complement`` asks for; ``None`` where reads are taken as they are."""
    return None if how == "none" else BothStrands(how, tokenizer)


def are_turned(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether a read with such a key is taken from its other strand; ``(reads,)``.

    The draw has nothing to do with that of a long read's window, which follows from the same key.
    """
    turned: npt.NDArray[np.bool_] = (scatter(keys.astype(np.uint64) ^ GOLDEN) >> np.uint64(63)).astype(np.bool_)
    return turned


def other_strands(tokenizer: ReadTokenizer, pieces: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Tokens of the reverse complement of reads, or of windows of long ones.

    A piece's reverse complement seldom has as many tokens as the piece, and may have more than fit into a segment.

    Args:
        tokenizer: that made the tokens.
        pieces: token ids of each, without special tokens.

    Returns:
        Token ids of each, without special tokens.

    Raises:
        TokenizerError: a token that is no bases.
    """
    if not pieces:
        return []
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    codes, bases = tokenizer.decode_codes(np.concatenate(pieces), lengths)
    # Everything read backwards is every piece read backwards, the last one first.
    ids, counts = tokenizer.encode_codes(_COMPLEMENT[codes[::-1]], bases[::-1])
    ends = np.cumsum(counts).tolist()
    return [ids[begin:end] for begin, end in pairwise([0, *ends])][::-1]


def check_strands(how: Literal["none", "augment", "consistency"], tokenizer: ReadTokenizer) -> None:
    """Refuse a tokenizer whose ids do not say all of a read, where its other strand is asked for.

    Raises:
        ConfigError: it is such a one.
    """
    if how == "none":
        return
    lost = tokenizer.loses()
    if lost is not None:
        shown = lost if len(lost) <= SHOWN_BP else f"{lost[:SHOWN_BP]}..."
        raise ConfigError(
            f"training.reverse_complement: {how}: the tokens of {tokenizer.name} cannot be turned back into bases "
            f"({shown} does not come back), so there is no other strand to learn from: set it to none"
        )
