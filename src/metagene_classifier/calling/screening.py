"""Reads that say too little to be called: too short, or of low complexity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.base_codes import CODES_OF_BYTES

__all__ = ["complexities", "low_complexity", "too_short"]

TRIPLETS = 64
BASES_AT_ONCE = 2**20
_N = 4


def too_short(tokens: npt.NDArray[np.int64], min_tokens: int) -> npt.NDArray[np.bool_]:
    """Reads of fewer tokens than ``min_tokens``, special tokens not counted; ``(reads,)``."""
    short: npt.NDArray[np.bool_] = tokens < min_tokens
    return short


def low_complexity(sequences: Sequence[str], min_complexity: float) -> npt.NDArray[np.bool_]:
    """Reads whose complexity lies below ``min_complexity``; ``(reads,)``. See :func:`complexities`.

    Nothing is below 0, and a read without three known bases in a row has no complexity and is not of a low one.
    """
    if min_complexity <= 0:
        return np.zeros(len(sequences), np.bool_)
    low: npt.NDArray[np.bool_] = complexities(sequences) < min_complexity
    return low


def complexities(sequences: Sequence[str]) -> npt.NDArray[np.float64]:
    """How evenly a read's triplets of bases are spread, from 0 (one triplet again and again) to 1.

    Triplets are what DUST counts (Morgulis et al. 2006, doi:10.1089/cmb.2006.13.1028). Their entropy is taken here,
    over the largest that so many triplets can have (as in PRINSEQ, doi:10.1093/bioinformatics/btr026): it does not
    grow with the read's length, and a read that is half a repeat is judged by its other half as well.

    Args:
        sequences: cleaned reads: A, C, G, T and N in upper case; ``(reads,)``.

    Returns:
        ``(reads,)``; NaN for a read without three known bases in a row. Each value depends on its own read alone.
    """
    found = np.full(len(sequences), np.nan)
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    ends = np.cumsum(lengths)
    first = 0
    while first < len(sequences):
        begun = ends[first] - lengths[first]
        end = max(first + 1, int(np.searchsorted(ends, begun + BASES_AT_ONCE, "right")))
        found[first:end] = _complexities(sequences[first:end], lengths[first:end])
        first = end
    return found


def _complexities(sequences: Sequence[str], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    text = "".join(sequences).encode("ascii", "replace").translate(CODES_OF_BYTES)
    codes = np.frombuffer(text, np.uint8)
    if len(codes) < 3:
        return np.full(len(sequences), np.nan)
    known = codes < _N
    whole = known[:-2] & known[1:-1] & known[2:]
    # A triplet's last two bases must be of the same read.
    for behind in (1, 2):
        borders = np.cumsum(lengths)[:-1] - behind
        whole[borders[(borders >= 0) & (borders < len(whole))]] = False
    triplets = codes[:-2].astype(np.int64) * 16 + codes[1:-1] * 4 + codes[2:]
    owners = np.repeat(np.arange(len(sequences)) * TRIPLETS, lengths)[:-2]
    counts = np.bincount((owners + triplets)[whole], minlength=len(sequences) * TRIPLETS).reshape(-1, TRIPLETS)
    totals = counts.sum(axis=1)
    logs = np.log(np.arange(max(int(counts.max(initial=0)), 1) + 1, dtype=np.float64).clip(1))
    spread = (counts * logs[counts]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.log(totals) - spread / totals
        largest = np.log(np.minimum(totals, TRIPLETS))
        values: npt.NDArray[np.float64] = np.where(totals > 1, entropy / largest, np.where(totals == 1, 1.0, np.nan))
    return values
