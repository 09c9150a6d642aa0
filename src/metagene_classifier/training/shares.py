"""Which rank takes what: shares of about the same number of tokens, the same on every rank that works them out."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

__all__ = ["fair_shares"]


def fair_shares(tokens: npt.NDArray[np.int64], ranks: int) -> list[npt.NDArray[np.int64]]:
    """Deal pieces of work out, the largest first, each to the rank that has least so far (Graham 1969).

    Args:
        tokens: of each piece; ``(pieces,)``.
        ranks: how many share them.

    Returns:
        The pieces of each rank by their places in ``tokens``, in order; every piece is in exactly one share, and one
        rank has them all as they are. No share is larger than the mean by more than the largest piece.
    """
    if ranks == 1:
        return [np.arange(len(tokens))]
    loads = [(0, rank) for rank in range(ranks)]
    owners = np.empty(len(tokens), np.int64)
    largest_first = np.argsort(-tokens, kind="stable")
    for piece, size in zip(largest_first.tolist(), tokens[largest_first].tolist(), strict=True):
        load, rank = loads[0]
        owners[piece] = rank
        heapq.heapreplace(loads, (load + size, rank))
    return [np.flatnonzero(owners == rank) for rank in range(ranks)]
