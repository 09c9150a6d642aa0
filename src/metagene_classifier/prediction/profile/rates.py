"""How likely a read of each class is to be called each class: the measured confusions, smoothed.

A model of 3,507 classes has a handful of validation reads for each, so rates are partly borrowed from all classes
together. Whether a read is called right, wrong or not at all, and which class it is called wrongly, are drawn toward
what holds over all classes, by as many reads' weight as makes the counts likeliest (Dirichlet-multinomial distributions
whose concentrations are estimated). Classes that behave alike are drawn together strongly, classes that differ stay as
they were measured, and a class without a validation read gets the rates of all. Reads that are called wrongly go to
classes of the same group, of one genus, as often as they do over all classes.

The rates are kept as a sparse matrix plus one of low rank, so nothing has classes x classes values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.confusion import Confusion

__all__ = ["CallRates", "Concentrations", "call_rates", "fit_concentrations"]

Floats = npt.NDArray[np.float64]

_CORRELATIONS = np.concatenate([np.geomspace(1e-4, 0.01, 20)[:-1], np.linspace(0.01, 0.99, 99)])
_NOTHING = 1e-12
_COLUMN_READS = 0.5  # Jeffreys' prior: no class is impossible to be called wrongly


@dataclass(frozen=True)
class Concentrations:
    """How alike classes are, as reads' weight of what holds for all.

    Attributes:
        outcome: for how often a read is called right, wrong, or not at all.
        destination: for what a read is called that is called wrongly.
    """

    outcome: float
    destination: float


@dataclass(frozen=True)
class CallRates:
    """Probabilities ``P(call k | class j)``: ``sparse + weights @ patterns``.

    Attributes:
        sparse: ``(rows, columns)``; a row a class and, where :attr:`has_unknown`, one of organisms never seen; a column
            a class and, where there is one, the last of unclassified reads.
        weights: sparse ``(rows, patterns)``.
        patterns: sparse ``(patterns, columns)``: what is called wrongly in general, and the classes of each group.
        has_unknown: whether the last row is of organisms never seen.
    """

    sparse: Any
    weights: Any
    patterns: Any
    has_unknown: bool

    @property
    def rows(self) -> int:
        """Classes, and one for organisms never seen."""
        return int(self.sparse.shape[0])

    def columns(self, chosen: npt.NDArray[np.int64]) -> CallRates:
        """The rates of some columns alone; rows no longer add up to 1."""
        return CallRates(
            self.sparse[:, chosen].tocsr(), self.weights, self.patterns[:, chosen].tocsr(), self.has_unknown
        )

    def given_called(self) -> CallRates:
        """Of reads that are called at all: without the column of unclassified reads, rows adding up to 1 again.

        A class whose reads are never called has no rates left.
        """
        from scipy.sparse import diags_array

        called = self.columns(np.arange(self.sparse.shape[1] - 1))
        sums = called.of_values(np.ones(self.sparse.shape[1] - 1))
        scaled = diags_array(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0))
        return CallRates(
            (scaled @ called.sparse).tocsr(), (scaled @ called.weights).tocsr(), called.patterns, self.has_unknown
        )

    def of_values(self, values: Floats) -> Floats:
        """The mean of values of the columns for each row; ``(columns,)`` to ``(rows,)``."""
        found: Floats = self.sparse @ values + self.weights @ (self.patterns @ values)
        return found

    def turned(self) -> CallRates:
        """Rows for columns."""
        return CallRates(self.sparse.T.tocsr(), self.patterns.T.tocsr(), self.weights.T.tocsr(), self.has_unknown)

    def dense(self) -> Floats:
        """All of them; ``(rows, columns)``."""
        found: Floats = (self.sparse + self.weights @ self.patterns).toarray()
        return found


@dataclass(frozen=True)
class _Counts:
    """Confusions taken apart: what became of each class's reads, and where those went that were called wrongly."""

    classes: int
    right: Floats
    wrong: Floats
    unclassified: Floats
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    wrong_cells: Floats
    unknown: Floats | None
    """Reads of organisms never seen by their call, the last of them unclassified; ``(classes + 1,)``."""

    @classmethod
    def of(cls, confusion: Confusion) -> _Counts:
        classes = confusion.classes
        cells = confusion.counts.tocoo()
        rows, columns = (np.asarray(one, np.int64) for one in cells.coords)
        counts = np.asarray(cells.data, np.float64)
        known = rows < classes

        def by_row(chosen: npt.NDArray[np.bool_]) -> Floats:
            return _summed(rows[chosen], counts[chosen], classes)

        wrong = known & (rows != columns) & (columns < classes)
        unknown = None
        if confusion.has_unknown and counts[~known].sum() > 0:
            unknown = _summed(columns[~known], counts[~known], classes + 1)
        return cls(
            classes,
            by_row(known & (rows == columns)),
            by_row(wrong),
            by_row(known & (columns == classes)),
            rows[wrong],
            columns[wrong],
            counts[wrong],
            unknown,
        )

    @property
    def outcomes(self) -> Floats:
        """Right, wrong, unclassified; ``(classes, 3)``."""
        return np.stack([self.right, self.wrong, self.unclassified], axis=1)

    @property
    def outcome_of_all(self) -> Floats:
        """Shares of right, wrong and unclassified over all classes together; without any reads all are right."""
        sums = self.outcomes.sum(axis=0)
        total = sums.sum()
        return sums / total if total else np.array([1.0, 0.0, 0.0])

    @property
    def destination_of_all(self) -> Floats:
        """Shares of the classes among wrong calls; ``(classes,)``."""
        by_column = _summed(self.columns, self.wrong_cells, self.classes) + _COLUMN_READS
        shares: Floats = by_column / by_column.sum()
        return shares

    def within(self, groups: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which wrong cells stay in their group, and which share of wrong calls does where there is another class."""
        inside = groups[self.rows] == groups[self.columns]
        several = np.bincount(groups)[groups] > 1
        reads = float(self.wrong[several].sum())
        share = (float(self.wrong_cells[inside].sum()) + _COLUMN_READS) / (reads + 2 * _COLUMN_READS)
        return inside, np.where(several, share, 0.0)


def fit_concentrations(confusion: Confusion, groups: npt.NDArray[np.int64]) -> Concentrations:
    """The concentrations that the confusions speak for.

    Args:
        confusion: as it was counted.
        groups: number of each class's group, such as its genus, from 0; ``(classes,)``.
    """
    from scipy.special import gammaln

    counts = _Counts.of(confusion)
    reads = counts.outcomes.sum(axis=1)
    outcome = counts.outcome_of_all
    held = outcome > 0
    inside, share = counts.within(groups)
    sisters = np.maximum(np.bincount(groups)[groups] - 1, 1)
    shared = counts.destination_of_all
    rows = counts.rows
    prior = (1 - share[rows]) * shared[counts.columns] / (1 - shared[rows]) + inside * share[rows] / sisters[rows]

    def of_outcome(weight: float) -> float:
        prior = weight * outcome[held]
        cells = gammaln(counts.outcomes[:, held] + prior) - gammaln(prior)
        return float(cells.sum() + (gammaln(weight) - gammaln(reads + weight)).sum())

    def of_destination(weight: float) -> float:
        cells = gammaln(counts.wrong_cells + weight * prior) - gammaln(weight * prior)
        return float(cells.sum() + (gammaln(weight) - gammaln(counts.wrong + weight)).sum())

    return Concentrations(_concentration(of_outcome), _concentration(of_destination))


def call_rates(
    confusion: Confusion,
    groups: npt.NDArray[np.int64],
    concentrations: Concentrations,
    rng: np.random.Generator | None = None,
) -> CallRates:
    """Smoothed rates of calls for each class.

    Args:
        confusion: as it was counted.
        groups: number of each class's group, such as its genus, from 0; ``(classes,)``.
        concentrations: of :func:`fit_concentrations`.
        rng: draws rates that could be the true ones, by what was counted (the posterior distribution of which the rates
            without it are the mean): with few reads of a class they vary widely, with many hardly at all.
    """
    counts = _Counts.of(confusion)
    classes = counts.classes
    own = np.arange(classes)
    shared = counts.destination_of_all
    outcomes = counts.outcomes + concentrations.outcome * counts.outcome_of_all
    right, wrong, unclassified = _shares(outcomes, rng).T
    if classes == 1:  # there is nothing else to be called
        right, wrong = right + wrong, np.zeros(1)
    rows, columns, cells = counts.rows, counts.columns, counts.wrong_cells
    inside, share = counts.within(groups)
    sisters = np.bincount(groups)[groups] - 1
    # No class is a wrong call for itself.
    others = np.maximum(1 - shared, np.finfo(float).tiny)
    parts = _Parts()
    if counts.unknown is not None:
        *called_there, missed = counts.unknown
        outcome = np.array([sum(called_there) + _COLUMN_READS, missed + _COLUMN_READS])
        there, not_there = _shares(outcome[None], rng)[0]
        places = np.flatnonzero(called_there)
        rows, columns = np.append(rows, np.full(len(places), classes)), np.append(columns, places)
        cells = np.append(cells, np.array(called_there, np.float64)[places])
        inside, share = np.append(inside, np.zeros(len(places), np.bool_)), np.append(share, 0.0)
        wrong, others, sisters = np.append(wrong, there), np.append(others, 1.0), np.append(sisters, 0)
        parts.add([classes], [classes], np.array([not_there]))
    # What was never counted of a class is called as wrong calls are in general, or within its group.
    weight = concentrations.destination
    anywhere, nearby = weight * (1 - share) / others, weight * share / np.maximum(sisters, 1)
    unseen = others - _summed(rows, shared[columns], len(others))
    sisters_unseen = sisters - np.bincount(rows[inside], minlength=len(others))
    seen = _drawn(cells + anywhere[rows] * shared[columns] + nearby[rows] * inside, rng)
    rest_anywhere = _drawn(np.where(unseen > _NOTHING, anywhere * unseen, 0.0), rng)
    rest_nearby = _drawn(nearby * sisters_unseen, rng)
    total = _summed(rows, seen, len(others)) + rest_anywhere + rest_nearby
    # A draw of next to nothing, of a class of which nothing was called wrongly.
    rest_anywhere = np.where(total > 0, rest_anywhere, anywhere * unseen)
    rest_nearby = np.where(total > 0, rest_nearby, nearby * sisters_unseen)
    total = np.where(total > 0, total, np.maximum(rest_anywhere + rest_nearby, np.finfo(float).tiny))
    drawn = wrong / total
    scale = np.divide(drawn * rest_anywhere, unseen, out=np.zeros_like(unseen), where=unseen > _NOTHING)
    near = np.divide(drawn * rest_nearby, sisters_unseen, out=np.zeros_like(unseen), where=sisters_unseen > 0)
    parts.add(rows, columns, drawn[rows] * seen - scale[rows] * shared[columns] - near[rows] * inside)
    parts.add(own, own, right - scale[:classes] * shared - near[:classes])
    parts.add(own, np.full(classes, classes), unclassified)
    weights, patterns = _Parts(), _Parts()
    weights.add(np.arange(len(scale)), np.zeros(len(scale), np.int64), scale)
    weights.add(own, 1 + groups, near[:classes])
    patterns.add(np.zeros(classes, np.int64), own, shared)
    patterns.add(1 + groups, own, np.ones(classes))
    ranks = 2 + int(groups.max())
    return CallRates(
        parts.table((len(scale), classes + 1)),
        weights.table((len(scale), ranks)),
        patterns.table((ranks, classes + 1)),
        counts.unknown is not None,
    )


class _Parts:
    """Cells of a sparse table, gathered."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.ArrayLike, npt.ArrayLike, Floats]] = []

    def add(self, rows: npt.ArrayLike, columns: npt.ArrayLike, values: Floats) -> None:
        """More cells."""
        self._parts.append((rows, columns, values))

    def table(self, shape: tuple[int, int]) -> Any:
        """All of them, as a CSR array."""
        from scipy.sparse import coo_array

        rows, columns, values = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        there = values != 0
        return coo_array((values[there], (rows[there], columns[there])), shape=shape).tocsr()


def _drawn(shapes: Floats, rng: np.random.Generator | None) -> Floats:
    """Gamma variables, which become Dirichlet ones when divided by their sum; their means without a generator."""
    return shapes if rng is None else rng.standard_gamma(shapes)


def _shares(shapes: Floats, rng: np.random.Generator | None) -> Floats:
    """Dirichlet variables in rows."""
    values = _drawn(shapes, rng)
    # Variables of next to no weight may all be 0.
    values = np.where(values.sum(axis=1, keepdims=True) > 0, values, shapes)
    shares: Floats = values / values.sum(axis=1, keepdims=True)
    return shares


def _summed(places: npt.NDArray[np.int64], values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(places, values, minlength=size), np.float64)


def _concentration(log_likelihood: Callable[[float], float]) -> float:
    """The concentration by the mean of its correlation within classes, 1 / (1 + concentration), which is even before.

    With few classes the likelihood is flat, and its maximum would often say that all are alike.
    """
    correlations = _CORRELATIONS
    values = np.array([log_likelihood(1 / correlation - 1) for correlation in correlations.tolist()])
    weights = np.exp(values - values.max()) * np.gradient(correlations)
    mean = float(weights @ correlations / weights.sum())
    return 1 / mean - 1
