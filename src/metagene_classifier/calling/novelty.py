"""How strange a read is to a model: larger is stranger."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["energies", "strangeness"]


def strangeness(probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """One less the largest probability of each read; ``(reads, classes)`` to ``(reads,)``."""
    values: npt.NDArray[np.float64] = 1.0 - probabilities.max(axis=1).astype(np.float64)
    return values


def energies(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """The energy of class scores (Liu et al. 2020, arXiv 2010.03759); ``(reads, classes)`` to ``(reads,)``.

    It is the negative logarithm of the sum of the scores' exponentials. Unlike a probability it knows by how much all
    scores are low.
    """
    highest = scores.max(axis=1).astype(np.float64)
    sums = np.exp(scores.astype(np.float64) - highest[:, None]).sum(axis=1)
    values: npt.NDArray[np.float64] = -(highest + np.log(sums))
    return values
