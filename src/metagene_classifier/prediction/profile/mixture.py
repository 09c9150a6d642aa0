"""Which shares of the classes make a sample's calls likeliest, by expectation maximisation.

The calls of a sample are a mixture: of ``N`` reads about ``N * sum_j share_j P(call k | class j)`` are called ``k``.
The shares of the largest likelihood are found by the EM algorithm (Dempster, Laird and Rubin 1977; for shares of
classes that are not those of the training, Saerens, Latinne and Decaestecker 2002), whose steps are lengthened by
SQUAREM (Varadhan and Roland 2008). The likelihood has one maximum, and how far it can still be is known at every step,
so it is known when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.prediction.profile.rates import CallRates

__all__ = ["Mixture", "fit_mixture"]

Floats = npt.NDArray[np.float64]

LOG_LIKELIHOOD_LEFT = 0.001
"""The fit ends when the log-likelihood of the sample is known to be no farther than this from its maximum: a
thousandth, where intervals and tests go by ones and twos."""
_PRECISION = 1e-10  # of one read; large samples cannot be held to more in float64
POSSIBLE = 1e-12  # below it a rate is what rounding left of 0
MOST_STEPS = 5000
READS_AT_LEAST = 1e-3
"""A class whose share is of less than a thousandth of a read has none."""


@dataclass(frozen=True)
class Mixture:
    """The shares of a sample's classes.

    Attributes:
        shares: ``(rows,)``, adding up to 1; zeros where no read says anything.
        reads: that were fitted; calls that are possible for no class are passed over.
        expected: how often each of the observed calls would be made, as shares; ``(columns,)``.
        converged: whether the end was reached.
    """

    shares: Floats
    reads: int
    expected: Floats
    converged: bool


def fit_mixture(rates: CallRates, observed: npt.NDArray[np.int64], start: Floats | None = None) -> Mixture:
    """Fit the shares of classes to a sample's calls.

    Args:
        rates: of calls for each class.
        observed: reads of each call; ``(columns,)``.
        start: shares to begin with; where it has zeros the search begins just above them. ``(rows,)``.
    """
    there = np.flatnonzero(observed)
    part = rates.columns(there)
    possible = part.turned().of_values(np.ones(rates.rows)) > POSSIBLE
    if not possible.all():
        there = there[possible]
        part = rates.columns(there)
    reads = int(observed[there].sum())
    expected = np.zeros(len(observed))
    if not reads:
        return Mixture(np.zeros(rates.rows), 0, expected, True)
    steps = _Steps(part, observed[there] / reads)
    even = np.full(rates.rows, 1 / rates.rows)
    shares = even if start is None or not start.sum() else 0.99 * start / start.sum() + 0.01 * even
    enough = max(LOG_LIKELIHOOD_LEFT / reads, _PRECISION)
    converged = False
    while steps.taken < MOST_STEPS:
        first, growth = steps.step(shares)
        # The likelihood is concave in the shares: no other shares have a log-likelihood larger by more than this.
        if growth.max() - 1 <= enough:
            converged = True
            break
        second, _ = steps.step(first)
        shares = steps.better(_lengthened(shares, first, second), second)
    shares = np.where(shares * reads < READS_AT_LEAST, 0.0, shares)
    shares /= shares.sum()
    expected[there] = steps.expected(shares)
    return Mixture(shares, reads, expected, converged)


class _Steps:
    """EM steps for one sample."""

    def __init__(self, rates: CallRates, observed: Floats) -> None:
        self._rates = rates
        self._turned = rates.turned()
        self._observed = observed
        self.taken = 0

    def expected(self, shares: Floats) -> Floats:
        """How often each call is made; ``(columns,)``."""
        return np.maximum(self._turned.of_values(shares), np.finfo(float).tiny)

    def step(self, shares: Floats) -> tuple[Floats, Floats]:
        """The next shares, and what each was multiplied by."""
        self.taken += 1
        ratio = self._observed / self.expected(shares)
        growth = self._rates.of_values(ratio)
        following = shares * growth
        return following / following.sum(), growth

    def better(self, bold: Floats, safe: Floats) -> Floats:
        """The bold shares, where they are no less likely than the safe ones."""
        bold = np.maximum(bold, safe * 1e-3)  # what falls to zero never rises again
        bold /= bold.sum()
        gain = self._observed @ np.log(self.expected(bold) / self.expected(safe))
        return bold if gain >= 0 else safe


def _lengthened(shares: Floats, first: Floats, second: Floats) -> Floats:
    """As far along the way of two steps as their bend allows (SQUAREM's third step length)."""
    way = first - shares
    bend = second - first - way
    size = float(np.linalg.norm(bend))
    length = max(1.0, float(np.linalg.norm(way)) / size) if size > 0 else 1.0
    return shares + 2 * length * way + length**2 * bend
