"""Whether confidence is the share of calls that are right: reliability diagrams, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Reliability", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram (Guo et al. 2017, arXiv 1706.04599).

    Attributes:
        edges: of the bins, from 0 to 1; ``(bins + 1,)``.
        reads: in each bin; ``(bins,)`` int64.
        confidence: mean of each bin, 0 where it is empty; ``(bins,)``.
        accuracy: share of each bin's calls that are right, 0 where it is empty; ``(bins,)``.
        ece: expected calibration error: the mean of the bins' differences, weighted by their reads.
    """

    edges: npt.NDArray[np.float64]
    reads: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    ece: float


def reliability(confidence: npt.NDArray[Any], correct: npt.NDArray[Any], bins: int = 15) -> Reliability:
    """Sort calls into bins of equal width by their confidence.

    Args:
        confidence: of each call, 0 to 1; ``(reads,)``.
        correct: whether each is right; ``(reads,)``.
        bins: how many; 15 as in the paper. A confidence on an edge belongs to the bin below it.

    Raises:
        ValueError: the arrays do not fit, or a confidence is no probability.
    """
    values = np.asarray(confidence, np.float64)
    right = np.asarray(correct, np.float64)
    if values.shape != right.shape or values.ndim != 1:
        raise ValueError(f"confidence {values.shape} and correct {right.shape} do not fit")
    if len(values) and not (values.min() >= 0 and values.max() <= 1 + 1e-6):
        raise ValueError(f"confidences from {values.min()} to {values.max()} are no probabilities")
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, bins - 1)
    reads = np.bincount(places, minlength=bins).astype(np.int64)
    counts = np.maximum(reads, 1)
    mean_confidence = np.bincount(places, values, minlength=bins) / counts
    accuracy = np.bincount(places, right, minlength=bins) / counts
    ece = float((reads * np.abs(mean_confidence - accuracy)).sum() / max(len(values), 1))
    return Reliability(edges, reads, mean_confidence, accuracy, ece)
