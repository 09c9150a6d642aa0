"""The other strand of a read."""

from __future__ import annotations

from metagene_classifier.reads.base_codes import LETTERS

__all__ = ["COMPLEMENT_OF_CODES", "reverse_complement"]

_BASES = "ACGTURYKMSWBDHVN"
_OPPOSITE = "TGCAAYRMKSWVHDBN"
_COMPLEMENT = str.maketrans(_BASES + _BASES.lower(), _OPPOSITE + _OPPOSITE.lower())


def reverse_complement(sequence: str) -> str:
    """The bases of the other strand in its own direction, from 5' to 3'.

    Args:
        sequence: bases, with IUPAC's codes for several of them (Nucleic Acids Research 13, 3021, 1985), in either
            case, which is kept. U is read as T, so A stands opposite to it. What is no base (a gap) stays what it is.
    """
    return sequence.translate(_COMPLEMENT)[::-1]


COMPLEMENT_OF_CODES = tuple(LETTERS.index(reverse_complement(letter)) for letter in LETTERS)
"""The code of the opposite base, by the code of each: see :data:`~metagene_classifier.reads.base_codes.LETTERS`."""
