"""How far a read's embedding lies from those of the training reads, class by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.classifier import ReadClassifier

__all__ = ["CENTROIDS_FILE", "Centroids", "run_with_embedding"]

CENTROIDS_FILE = "centroids.safetensors"
"""In the folder of a model that refuses reads by their distance."""
_NAMES = ("projection", "means")
READS_AT_ONCE = 1024


@dataclass(frozen=True)
class Centroids:
    """The classes' means among embeddings, in a space where all classes spread alike (Lee et al. 2018).

    The distance is the squared one of Mahalanobis with a covariance that all classes share (arXiv 1807.03888), of
    embeddings brought to length 1.

    Attributes:
        projection: into that space; ``(hidden, dimensions)`` float32.
        means: of the classes that have any reads; ``(classes, dimensions)`` float32.
    """

    projection: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]

    def distances(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The distance of each embedding to the nearest class; ``(reads, hidden)`` to ``(reads,)``."""
        return self.distances_on(torch.device("cpu"))(embeddings)

    def distances_on(self, device: torch.device) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
        """:meth:`distances` as a device computes them."""
        projection, means = (torch.from_numpy(np.ascontiguousarray(getattr(self, name))).to(device) for name in _NAMES)

        def distances(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            found = np.empty(len(embeddings))
            for start in range(0, len(embeddings), READS_AT_ONCE):
                part = torch.from_numpy(np.ascontiguousarray(embeddings[start : start + READS_AT_ONCE])).to(device)
                found[start : start + READS_AT_ONCE] = nearest(projection, means, part).cpu().numpy()
            return found

        return distances

    def save(self, folder: Path) -> None:
        """Write them into a model's folder."""
        from safetensors.numpy import save

        from metagene_classifier.whole_files import whole_file

        with whole_file(folder / CENTROIDS_FILE, "wb") as out:
            out.write(save({name: np.ascontiguousarray(getattr(self, name)) for name in _NAMES}))

    @classmethod
    def load(cls, folder: Path) -> Centroids:
        """Read them from a model's folder.

        Raises:
            ModelFolderError: they are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = folder / CENTROIDS_FILE
        try:
            parts = load_file(path)
            return cls(*(parts[name] for name in _NAMES))
        except (OSError, SafetensorError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise ModelFolderError(f"{path} is missing or damaged ({first}): copy the model again") from error


def nearest(projection: torch.Tensor, means: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Squared distance of each embedding to the nearest mean; ``(reads, hidden)`` to ``(reads,)``."""
    placed = torch.nn.functional.normalize(embeddings, dim=1) @ projection
    return (torch.cdist(placed, means, compute_mode="donot_use_mm_for_euclid_dist") ** 2).amin(dim=1)


def run_with_embedding(classifier: ReadClassifier) -> Callable[[TokenBatch], torch.Tensor]:
    """The classifier, in evaluation mode, as a function of a batch that gives the embedding behind the class scores.

    Distances are of whole reads: windows and strands are averaged as embeddings before, as they were when the cut-off
    was chosen.

    Returns:
        A batch to ``(segments, classes + hidden)`` float32.
    """

    def run(batch: TokenBatch) -> torch.Tensor:
        pooled = classifier.embed(batch)
        scores = classifier.classify(pooled, batch.keys)
        return torch.cat([scores, pooled.to(scores)], dim=1)

    return run
