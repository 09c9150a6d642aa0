"""What is known of how a read came about: strand and errors from its header, expected errors from its qualities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Origin", "expected_error_rates", "origin_of"]

# As mgc cut-reads writes it at the end of a header: genome:record:start-end:strand and, if any were made, errors.
_ORIGIN = re.compile(r":(\d+)-(\d+):([+-])(?::(\d+))?(?:/[12])?$")
_PHRED_OFFSET = 33


@dataclass(frozen=True, slots=True)
class Origin:
    """The end of a header that ``mgc cut-reads`` wrote.

    Attributes:
        strand: ``+`` or ``-``.
        errors: bases that are not the genome's; ``None`` where the header does not say.
    """

    strand: str
    errors: int | None


def origin_of(header: str) -> Origin | None:
    """Strand and errors of a read whose header says them; ``None`` for any other."""
    found = _ORIGIN.search(header)
    if found is None:
        return None
    _, _, strand, errors = found.groups()
    return Origin(strand, None if errors is None else int(errors))


def expected_error_rates(qualities: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """Mean probability that a base is wrong, by FASTQ qualities (Phred, offset 33; doi:10.1093/nar/gkp1137).

    Args:
        qualities: of each read; ``None`` where it has none.

    Returns:
        ``(reads,)``; NaN for a read without qualities.
    """
    lengths = np.array([len(one or "") for one in qualities], np.int64)
    rates = np.full(len(lengths), np.nan)
    present = np.flatnonzero(lengths)
    if len(present):
        text = "".join(one for one in qualities if one).encode("latin-1")
        wrong = _WRONG[np.frombuffer(text, np.uint8)]
        starts = np.concatenate([[0], np.cumsum(lengths[present])[:-1]])
        rates[present] = np.add.reduceat(wrong, starts) / lengths[present]
    return rates


_WRONG = np.minimum(10.0 ** (-(np.arange(256) - _PHRED_OFFSET) / 10), 1.0)
