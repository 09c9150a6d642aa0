"""Token ids back to bases, many at once; and whether a tokenizer's ids say all of a read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import TokenizerError
from metagene_classifier.reads.base_codes import CODES_OF_BYTES, LETTERS

__all__ = ["TokenBases", "reads_to_try", "texts_of_tokens"]

# What engines raise for an id that no token has.
_NO_SUCH_TOKEN = (KeyError, IndexError, TypeError, ValueError, OverflowError)


class TokenBases:
    """The bases of every token.

    Args:
        name: of the tokenizer, for messages.
        texts: of each token by its id; ``None``, or one with other letters than A, C, G, T and N, is no bases.
    """

    def __init__(self, name: str, texts: Sequence[str | None]) -> None:
        self._name = name
        bases = [text if text and set(text) <= set(LETTERS) else "" for text in texts]
        self._counts = np.fromiter(map(len, bases), np.int64, len(bases))
        self._starts = np.cumsum(self._counts) - self._counts
        self._codes = np.frombuffer("".join(bases).encode("ascii").translate(CODES_OF_BYTES), np.uint8)

    def decode(self, ids: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The codes (0 to 4 for A, C, G, T and N) of tokens, ``(bases,)``, and how many each has, ``(tokens,)``.

        Raises:
            TokenizerError: a token that is no bases.
        """
        ids = ids.astype(np.int64)
        known = (ids >= 0) & (ids < len(self._counts))
        counts: npt.NDArray[np.int64] = np.where(known, self._counts[np.where(known, ids, 0)], 0)
        if not counts.all():
            wrong = int(ids[np.argmin(counts)])
            raise TokenizerError(f"{self._name}: token {wrong} is no bases, so a read that has it cannot be decoded")
        places = np.repeat(self._starts[ids] - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
        return self._codes[places], counts


def texts_of_tokens(text_of: Callable[[list[int]], str], size: int, anchor: list[int]) -> list[str | None]:
    """The text of each token where it stands within a read, ``None`` for ids that no token has.

    Args:
        text_of: the text of some tokens.
        size: of the vocabulary.
        anchor: tokens of a read, to stand before: at the beginning of a read some tokenizers write a token otherwise.
    """
    before = text_of(anchor)
    texts: list[str | None] = []
    for token in range(size):
        try:
            text = text_of([*anchor, token])
        except _NO_SUCH_TOKEN:
            texts.append(None)
            continue
        texts.append(text.removeprefix(before) if text.startswith(before) else None)
    return texts


def reads_to_try(texts: Sequence[str | None]) -> list[str]:
    """Reads of every length, with N and without, repeats, and every token that is bases between others."""
    bases = random.Random(20261124)
    reads = ["N", "NN", "ANNNA", "NACGT", "ACGTN"]
    reads += [
        bases.choice(LETTERS[:4]) + text + bases.choice(LETTERS[:4])
        for text in texts
        if text and set(text) <= set(LETTERS)
    ]
    for length in (*range(1, 40), *([150] * 100), 600, 2_500):
        reads.append("".join(bases.choices(LETTERS[:4], k=length)))
        reads.append("".join(bases.choices(LETTERS, (40, 40, 40, 40, 1), k=length)))
        repeated = "".join(bases.choices(LETTERS[:4], k=bases.randint(1, 12)))
        reads.append((repeated * length)[:length])
    return reads
