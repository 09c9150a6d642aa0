"""A linear head fitted on embeddings: multinomial logistic regression, by L-BFGS over all reads at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FittedHead", "fit_head"]

PENALTY = 1.0
MOST_ITERATIONS, LEAST_ITERATIONS = 60, 3
# Multiplications for all folds together: well under a minute on two cores, also where classes are in the thousands.
WORK = 6e11


@dataclass(frozen=True)
class FittedHead:
    """Weights of a head, ``(dimensions + 1, classes)`` float32, the last row of them what every read gets."""

    weights: npt.NDArray[np.float32]

    def scores(
        self, values: npt.NDArray[np.float32], begin: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Class scores of embeddings, ``(reads, classes)``; added to those of the head that it began at."""
        found: npt.NDArray[np.float32] = values @ self.weights[:-1] + self.weights[-1]
        return found if begin is None else found + begin


def fit_head(
    values: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    count: int,
    *,
    begin: npt.NDArray[np.float32] | None = None,
    share: float = 1.0,
) -> FittedHead:
    """Fit a head.

    Args:
        values: embeddings along few axes, of a variance of about 1; ``(reads, dimensions)``.
        classes: of each, from 0; ``(reads,)``.
        count: classes.
        begin: class scores of a head to begin at, whose changes are then held small; ``(reads, count)``.
        share: of all the work that there is time for.
    """
    from scipy.optimize import minimize

    reads, dimensions = values.shape
    rows = np.arange(reads)
    shape = (dimensions + 1, count)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        head = FittedHead(flat.reshape(shape).astype(np.float32))
        scores = head.scores(values, begin)
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[rows, classes].astype(np.float64)
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1)
        total = float(np.log(sums.astype(np.float64)).sum() - own.sum())
        scores /= sums[:, None]
        scores[rows, classes] -= 1.0
        gradient = np.concatenate([values.T @ scores, scores.sum(axis=0, keepdims=True)]).astype(np.float64)
        held = flat.reshape(shape).copy()
        held[-1] = 0.0  # what every read gets is not held
        return total + 0.5 * PENALTY * float((held**2).sum()), (gradient + PENALTY * held).ravel()

    multiplications = 2.0 * reads * count * (dimensions + 10)
    iterations = int(np.clip(share * WORK / multiplications, LEAST_ITERATIONS, MOST_ITERATIONS))
    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 10}
    )
    return FittedHead(found.x.reshape(shape).astype(np.float32))
