"""From class scores to probabilities that mean something, with the temperatures and cut-offs that a model keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.novelty import energies, strangeness
from metagene_classifier.calling.temperature import temperatures_of
from metagene_classifier.errors import ConfigError
from metagene_classifier.model.calibration import CalibrationFacts, CutOff, NoveltyScore
from metagene_classifier.model.description import ModelDescription
from metagene_classifier.model.scoring import probabilities_of

__all__ = ["Calibrator", "calibrator_of"]


class Calibrator:
    """A model's confidence, as it was measured at the end of its training.

    Of a model without calibration the probabilities are the plain softmax, the threshold is 0, which stands for the
    likeliest class, and nothing is refused.

    Args:
        facts: of the model's description; ``None`` for a model that is not calibrated.
    """

    def __init__(self, facts: CalibrationFacts | None) -> None:
        self.facts = facts

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities were measured."""
        return self.facts is not None

    @property
    def threshold(self) -> float:
        """The default cut-off on a call's probability; 0 for the likeliest class, whatever its probability."""
        return self.facts.threshold if self.facts is not None else 0.0

    def threshold_for(self, precision: float) -> float:
        """The least cut-off that gave a precision on the validation reads.

        Raises:
            ConfigError: none gave it, or the model is not calibrated.
        """
        if self.facts is None:
            raise ConfigError(
                "--target-precision needs a calibrated model, and this one is not: give --confidence, or train with "
                "validation reads and calling.calibrate: true"
            )
        for row in self.facts.table:
            if row.precision >= precision:
                return row.threshold
        best: CutOff | None = max(self.facts.table, key=lambda row: row.precision, default=None)
        reached = f"the best is {best.precision:.4f}, with --confidence {best.threshold:g}" if best else "none was"
        raise ConfigError(f"--target-precision {precision:g}: no cut-off reached it on the validation reads: {reached}")

    def probabilities(
        self, scores: npt.NDArray[np.floating[Any]], tokens: npt.NDArray[np.int64], *, mates: int = 1
    ) -> npt.NDArray[np.float32]:
        """Calibrated probabilities; each read's are the same beside whichever others.

        Args:
            scores: class scores of reads, or of pairs the sums of
                :func:`~metagene_classifier.calling.temperature.summed`; ``(reads, classes)``.
            tokens: of each read, special tokens not counted; ``(reads,)``.
            mates: 2 where a row is of two mates.

        Returns:
            ``(reads, classes)``, each row adding up to 1.
        """
        if self.facts is None:
            return probabilities_of(scores)
        if mates > 1:
            return probabilities_of(scores.astype(np.float64) / self.facts.temperature.pairs)
        return probabilities_of(scores.astype(np.float64) / temperatures_of(self.facts.temperature, tokens)[:, None])

    @property
    def refusal_score(self) -> NoveltyScore | None:
        """By which reads are refused besides the threshold; ``None`` where none are."""
        refusal = self.facts.refusal if self.facts is not None else None
        return refusal.score if refusal is not None and refusal.cutoff is not None else None

    @property
    def cutoff(self) -> float | None:
        """A read of more novelty is refused; ``None`` where none is."""
        refusal = self.facts.refusal if self.facts is not None else None
        return refusal.cutoff if refusal is not None else None

    @property
    def needs_embedding(self) -> bool:
        """Whether novelty needs the distance to the classes' centroids (``model/centroids.py``)."""
        return self.refusal_score == "centroid"

    def novelty(
        self,
        scores: npt.NDArray[np.floating[Any]],
        extra: npt.NDArray[np.floating[Any]] | None,
        *,
        tokens: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64] | None:
        """How strange reads are to the model; larger is stranger, above :attr:`cutoff` they are refused.

        Of a pair it is the mean of its mates' novelties.

        Args:
            scores: class scores of single reads, as the model gives them; ``(reads, classes)``.
            extra: distances to the nearest centroid, where :attr:`needs_embedding`; ``(reads,)``.
            tokens: of each read, special tokens not counted; ``(reads,)``.

        Returns:
            ``(reads,)``; ``None`` where nothing is refused by it.
        """
        score = self.refusal_score
        if score is None:
            return None
        if score == "centroid":
            if extra is None:
                raise ValueError("the distance to the centroids is needed, and was not computed")
            return extra.astype(np.float64)
        return energies(scores) if score == "energy" else strangeness(self.probabilities(scores, tokens))


def calibrator_of(description: ModelDescription) -> Calibrator:
    """The calibrator of a model; see :class:`Calibrator` for one that is not calibrated."""
    return Calibrator(description.calibration)
