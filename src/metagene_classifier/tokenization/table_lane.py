"""A tokenizer's table: made when there are enough reads to pay for it, used only where it gives the library's ids."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_classifier.reads.base_codes import CODES_OF_BYTES, LETTERS
from metagene_classifier.tokenization.bpe_rules import NotPlainError, read_rules

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from metagene_classifier.tokenization.bpe_encoding import BpeTable

__all__ = ["TableLane"]

# The library takes about as long for these as making the table does: 0.2 s with the vocabulary of METAGENE-1 (1,024).
BASES_PER_TOKEN = 1_500
# Of the reads that table and library are tried on, each twice: bases at random, and a few of them repeated. Every token
# is tried as well, between others.
_TRIED_LENGTHS_BP = (*range(1, 40), *([150] * 500), 600, 1_200, 2_500, 5_000, 10_000)


class TableLane:
    """Whether reads are encoded with a table, and the table; safe to use from several threads, and can be pickled.

    Args:
        library: of the tokenizer; ``None`` for one that the ``tokenizers`` library does not have.

    Attributes:
        refused: why the library encodes all reads; ``None`` while nothing speaks against a table.
    """

    def __init__(self, library: Tokenizer | None) -> None:
        self.refused = None if library is not None else "a tokenizer in Python"
        self._library = library
        self._worth_it = BASES_PER_TOKEN * library.get_vocab_size() if library is not None else 0
        self._bases = 0
        self._table: BpeTable | None = None
        self._making = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_making"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _making=threading.Lock())

    def table_for(self, bases: int) -> BpeTable | None:
        """The table to encode so many bases with; ``None`` where the library is to do it."""
        if self._table is not None or self.refused is not None:
            return self._table
        with self._making:
            self._bases += bases
            if self._table is None and self.refused is None and self._bases >= self._worth_it:
                try:
                    self._table = self._make()
                except NotPlainError as reason:
                    self.refused = str(reason)
        return self._table

    def _make(self) -> BpeTable:
        from metagene_classifier.tokenization.bpe_automaton import build_automaton
        from metagene_classifier.tokenization.bpe_encoding import BpeTable

        assert self._library is not None
        rules = read_rules(self._library)
        table = BpeTable(build_automaton(rules))
        reads = _reads_to_try(rules.texts)
        by_library = [one.ids for one in self._library.encode_batch_fast(reads, add_special_tokens=False)]
        codes = np.frombuffer("".join(reads).encode("ascii").translate(CODES_OF_BYTES), np.uint8)
        ids, counts = table.encode(codes, np.array([len(read) for read in reads]))
        if counts.tolist() != [len(one) for one in by_library] or not np.array_equal(ids, np.concatenate(by_library)):
            raise NotPlainError("its table and the library give different ids")
        return table


def _reads_to_try(texts: tuple[str, ...]) -> list[str]:
    bases = random.Random(20261124)
    reads = [bases.choice(texts) + text + bases.choice(texts) for text in texts]
    for length in _TRIED_LENGTHS_BP:
        reads.append("".join(bases.choices(LETTERS, (40, 40, 40, 40, 1), k=length)))
        repeated = "".join(bases.choices("ACGT", k=bases.randint(1, 12)))
        reads.append((repeated * length)[:length])
    return reads
