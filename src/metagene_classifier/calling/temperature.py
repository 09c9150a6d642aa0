"""Temperatures: what class scores are divided by, so that probabilities become shares of calls that are right.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) leaves the order of a read's classes as it is.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.model.calibration import TemperatureFacts

__all__ = ["LEAST_PAIRS", "fit_temperature", "fit_temperatures", "mates_of", "read_losses", "summed", "temperatures_of"]

LEAST_PAIRS = 100
"""Pairs from which their temperature is measured."""
LEAST_READS_OF_LENGTH = 500
LENGTH_CLASSES = 4
FOLDS = 5
LOWEST, HIGHEST = 0.05, 20.0
# What is believed beforehand, as strongly as one read is: within a factor of three of 1. Without it a few reads that
# are all called right would be taken for certainty.
PRIOR = math.log(3.0)
# Scores that a temperature is fitted on at most: thousands of reads tell one number well enough.
FITTED_VALUES = 2**24
VALUES_AT_ONCE = 2**20


def temperatures_of(facts: TemperatureFacts, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The temperature of each read by its tokens; ``(reads,)``."""
    if not facts.by_length:
        return np.full(len(tokens), facts.single)
    starts = np.array([start for start, _ in facts.by_length[1:]], np.int64)
    values = np.array([value for _, value in facts.by_length])
    found: npt.NDArray[np.float64] = values[np.searchsorted(starts, tokens, "right")]
    return found


def summed(first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """The log-probabilities of two mates added up: what a pair's temperature divides; ``(pairs, classes)`` each."""
    return _log_probabilities(first) + _log_probabilities(second)


def _log_probabilities(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    values: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return values


def read_losses(
    scores: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.int64], temperatures: npt.NDArray[np.float64] | float
) -> npt.NDArray[np.float64]:
    """Negative log-likelihood of each read's class, natural logarithm; ``(reads,)``.

    Args:
        scores: ``(reads, classes)``.
        truth: class of each read; ``(reads,)``.
        temperatures: one for all, or of each; ``(reads,)``.
    """
    losses = np.empty(len(scores))
    each = np.broadcast_to(np.asarray(temperatures, np.float32), (len(scores),))
    rows = max(1, VALUES_AT_ONCE // scores.shape[1])
    for start in range(0, len(scores), rows):
        part = slice(start, start + rows)
        scaled = scores[part].astype(np.float32) / each[part, None]
        highest = scaled.max(axis=1)
        own = scaled[np.arange(len(scaled)), truth[part]]
        scaled -= highest[:, None]
        losses[part] = np.log(np.exp(scaled, out=scaled).sum(axis=1, dtype=np.float64)) + (highest - own)
    return losses


def fit_temperature(scores: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.int64]) -> float:
    """The temperature of the least negative log-likelihood, between 0.05 and 20.

    Args:
        scores: ``(reads, classes)``.
        truth: class of each read; ``(reads,)``.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return float(read_losses(scores, truth, math.exp(logarithm)).sum()) + 0.5 * (logarithm / PRIOR) ** 2

    found = minimize_scalar(
        loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-3}
    )
    return math.exp(float(found.x))


def fit_temperatures(
    scores: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
    groups: npt.NDArray[np.uint64],
    *,
    strand: Literal["single", "average"] = "single",
) -> TemperatureFacts:
    """Fit the temperatures of reads and of pairs.

    Reads of different lengths get different ones where that lowers the loss of reads that it was not fitted on by more
    than one standard error.

    Args:
        scores: class scores of validation reads; ``(reads, classes)``.
        truth: class of each; ``(reads,)``.
        tokens: of each; ``(reads,)``.
        groups: equal for mates; ``(reads,)``.
        strand: how the reads were scored.
    """
    chosen = _evenly(len(scores), scores.shape[1])
    few = (scores[chosen], truth[chosen])
    single = fit_temperature(*few)
    first, second = mates_of(groups, truth)
    measured = len(first) >= LEAST_PAIRS
    pairs = 2.0 * single
    if measured:
        some = _evenly(len(first), scores.shape[1])
        first, second = first[some], second[some]
        pairs = fit_temperature(summed(scores[first], scores[second]), truth[first])
    return TemperatureFacts(
        single=single,
        by_length=_by_length(*few, tokens[chosen], groups[chosen]),
        pairs=pairs,
        pairs_measured=measured,
        reads=len(scores),
        strand=strand,
    )


def mates_of(
    groups: npt.NDArray[np.uint64], truth: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The two reads of each pair, by their places; ``(pairs,)`` both.

    A pair is a group of exactly two reads, of one class.
    """
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    starts = starts[counts == 2]
    first, second = order[starts], order[starts + 1]
    same = truth[first] == truth[second]
    return first[same], second[same]


def _by_length(
    scores: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
    groups: npt.NDArray[np.uint64],
) -> tuple[tuple[int, float], ...]:
    starts = _length_classes(tokens)
    if len(starts) < 2:
        return ()
    of_read = np.searchsorted(starts[1:], tokens, "right")
    folds = (groups % np.uint64(FOLDS)).astype(np.int64)
    gained = np.zeros(len(scores))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(inside) or not len(outside):
            return ()
        one = fit_temperature(scores[inside], truth[inside])
        several = _of_classes(scores[inside], truth[inside], of_read[inside], len(starts), one)
        gained[outside] = read_losses(scores[outside], truth[outside], one) - read_losses(
            scores[outside], truth[outside], several[of_read[outside]]
        )
    if gained.mean() <= gained.std() / math.sqrt(len(gained)):
        return ()
    values = _of_classes(scores, truth, of_read, len(starts), 1.0)
    return tuple(
        (0 if place == 0 else start, value)
        for place, (start, value) in enumerate(zip(starts, values.tolist(), strict=True))
    )


def _length_classes(tokens: npt.NDArray[np.int64]) -> list[int]:
    """Least tokens of each class of lengths: quartiles, as far as there are reads enough in each."""
    if not len(tokens):
        return []
    cuts = np.quantile(tokens, np.arange(1, LENGTH_CLASSES) / LENGTH_CLASSES, method="higher").tolist()
    starts = [int(tokens.min())]
    for cut in sorted(set(cuts)):
        if np.count_nonzero((tokens >= starts[-1]) & (tokens < cut)) >= LEAST_READS_OF_LENGTH:
            starts.append(int(cut))
    if len(starts) > 1 and np.count_nonzero(tokens >= starts[-1]) < LEAST_READS_OF_LENGTH:
        starts.pop()
    return starts


def _of_classes(
    scores: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.int64],
    of_read: npt.NDArray[np.int64],
    classes: int,
    otherwise: float,
) -> npt.NDArray[np.float64]:
    values = np.full(classes, otherwise)
    for one in range(classes):
        members = np.flatnonzero(of_read == one)
        if len(members):
            values[one] = fit_temperature(scores[members], truth[members])
    return values


def _evenly(reads: int, classes: int) -> npt.NDArray[np.int64]:
    """Places of as many reads as are fitted on, spread over all."""
    most = max(1, FITTED_VALUES // classes)
    return np.arange(reads) if reads <= most else np.linspace(0, reads - 1, most).astype(np.int64)
