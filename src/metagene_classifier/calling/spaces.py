"""The few directions of embeddings that say most, and the classes' means among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.model.centroids import Centroids

__all__ = ["Axes", "centroids_of"]

DIMENSIONS = 256
# Share of the classes' common covariance that is taken from a sphere, so that few reads do not make it singular.
SHRINKAGE = 0.3


@dataclass(frozen=True)
class Axes:
    """Principal axes of embeddings.

    Attributes:
        middle: mean; ``(hidden,)`` float32.
        directions: of the largest variances; ``(hidden, dimensions)`` float32.
        scale: the root of the mean variance along them.
    """

    middle: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    scale: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float32], seed: int, *, to_length_1: bool = False) -> Axes:
        """Axes of embeddings, ``(reads, hidden)``, at most 256; of their directions alone with ``to_length_1``."""
        from sklearn.utils.extmath import randomized_svd

        if to_length_1:
            values = _to_length_1(values)
        middle = values.mean(axis=0)
        centred = values - middle
        if min(centred.shape) <= DIMENSIONS:
            _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
        else:
            _, sizes, rows = randomized_svd(centred, DIMENSIONS, n_iter=4, random_state=seed)
        kept = sizes > 1e-5 * max(float(sizes[0]), 1e-30)
        scale = float(np.sqrt((sizes[kept] ** 2).mean() / len(values))) if kept.any() else 1.0
        return cls(middle, np.ascontiguousarray(rows[kept].T, np.float32), scale)

    def place(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings along the axes, of a mean variance of 1; ``(reads, hidden)`` to ``(reads, dimensions)``."""
        placed: npt.NDArray[np.float32] = ((values - self.middle) @ self.directions / self.scale).astype(np.float32)
        return placed


def centroids_of(axes: Axes, values: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Centroids:
    """The means of classes, in a space where they all spread alike.

    Args:
        axes: of embeddings brought to length 1.
        values: embeddings; ``(reads, hidden)``.
        classes: of each; ``(reads,)``.
    """
    placed = _to_length_1(values) @ axes.directions
    present, owners, counts = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.zeros((len(present), placed.shape[1]))
    np.add.at(means, owners, placed)
    means /= counts[:, None]
    spare = len(placed) - len(present)
    # Where most classes have a single read there is no spread within them to tell; that of all reads has to do.
    within = placed - means[owners] if spare >= 2 * placed.shape[1] else placed - placed.mean(axis=0)
    covariance = within.T.astype(np.float64) @ within / max(spare if spare >= 2 * placed.shape[1] else len(placed), 1)
    size = len(covariance)
    sphere = max(float(np.trace(covariance)) / size, 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * sphere * np.eye(size)
    variances, turned = np.linalg.eigh(covariance)
    whitening = turned / np.sqrt(variances)
    return Centroids((axes.directions @ whitening).astype(np.float32), (means @ whitening).astype(np.float32))


def _to_length_1(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    unit: npt.NDArray[np.float32] = (values / lengths).astype(np.float32)
    return unit
