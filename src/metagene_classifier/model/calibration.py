"""What was measured of a model's confidence at the end of its training; kept in the model's description."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CONFUSION_FILE",
    "CalibrationFacts",
    "CutOff",
    "NoveltyScore",
    "RefusalFacts",
    "ReliabilityFacts",
    "ScoreFacts",
    "TemperatureFacts",
]

CONFUSION_FILE = "confusion.safetensors"
"""In the model's folder: how often validation reads of each class are called each class."""

NoveltyScore = Literal["probability", "energy", "centroid"]
"""How strange a read is to the model: one less the largest calibrated probability; the energy of its class scores
(arXiv 2010.03759); the distance of its embedding to the nearest class's mean (arXiv 1807.03888)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TemperatureFacts(_Part):
    """What class scores are divided by before the softmax (arXiv 1706.04599)."""

    single: float = Field(gt=0)
    """Of a read by itself."""
    by_length: tuple[tuple[int, float], ...] = ()
    """From so many tokens on, another temperature, from the fewest tokens up; empty where one does for all lengths."""
    pairs: float = Field(gt=0)
    """Of the summed log-probabilities of two mates."""
    pairs_measured: bool
    """``False``: validation held too few pairs, and two mates are taken for no more evidence than one."""
    reads: int
    """Validation reads that they were fitted on."""
    strand: Literal["single", "average"] = "single"
    """How these reads were scored."""


class ReliabilityFacts(_Part):
    """A reliability diagram: bins of confidence with what was right in them; an empty bin has zeros."""

    edges: tuple[float, ...]
    reads: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    ece: float


class CutOff(_Part):
    """What one threshold gives.

    Precision and sensitivity are of validation reads: calls that are right among those that are right or wrong, and
    calls that are right among all reads. F1 is of validation reads and reads of left-out taxa together.
    """

    threshold: float
    precision: float
    sensitivity: float
    called: int
    """Validation reads that are called something."""
    f1: float


class ScoreFacts(_Part):
    """How well a score tells reads of left-out taxa from those of known ones."""

    auroc: float
    false_calls_at_95: float
    """Share of the left-out taxa's reads that are still called where 95% of the known reads are."""


class RefusalFacts(_Part):
    """Leaving taxa out: which score knows their reads best, and whether it adds to the threshold."""

    score: NoveltyScore
    """The one of the highest AUROC."""
    cutoff: float | None
    """A read of more is refused; ``None`` where refusing by it, besides the threshold, gains nothing."""
    figures: dict[NoveltyScore, ScoreFacts]
    known: int
    """Validation reads that were scored in each fold, at most."""
    unknown: int
    """Of them, reads that were a stranger in one fold."""
    folds: int


class CalibrationFacts(_Part):
    """Temperatures, thresholds and refusal of a model, and what they rest on."""

    temperature: TemperatureFacts
    before: ReliabilityFacts
    """Of the softmax as it is."""
    after: ReliabilityFacts
    threshold: float
    """The default: the best F1."""
    table: tuple[CutOff, ...]
    """From the lowest threshold up; what ``--target-precision`` looks in."""
    refusal: RefusalFacts | None = None
    """``None`` where no taxon was left out."""
    confusion: bool = False
    """Whether :data:`CONFUSION_FILE` stands in the folder."""

    @property
    def ece_before(self) -> float:
        """Expected calibration error of the softmax as it is."""
        return self.before.ece

    @property
    def ece_after(self) -> float:
        """Expected calibration error of the calibrated probabilities."""
        return self.after.ece
