"""Sums over a taxon and everything below it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree

__all__ = ["clade_sums"]

Numbers = TypeVar("Numbers", npt.NDArray[np.int64], npt.NDArray[np.float64])


def clade_sums(own: Numbers, tree: ClassTree) -> Numbers:
    """Sums at each taxon and all below it, from what is at each taxon itself.

    Args:
        own: ``(..., taxa)``.
        tree: of the taxa.

    Returns:
        ``(..., taxa)``; at 0, the root, everything.
    """
    sums = own.copy()
    for depth in range(int(tree.depths.max(initial=0)), 0, -1):
        taxa = np.flatnonzero(tree.depths == depth)
        np.add.at(sums.T, tree.parents[taxa], sums.T[taxa])
    return sums
