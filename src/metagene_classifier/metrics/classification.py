"""Classification metrics of one set of reads with known classes, by scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metagene_classifier.errors import DataError
from metagene_classifier.metrics.auroc import one_vs_rest_auroc

__all__ = [
    "METRIC_NAMES",
    "ClassFigures",
    "ClassificationMetrics",
    "check_numbers",
    "classification_metrics",
    "metrics_of_calls",
]

NO_READS = "no reads to score: evaluation needs at least one labelled read"

# As people write them, in the order in which they are shown.
METRIC_NAMES: Mapping[str, str] = {
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy",
    "mcc": "MCC",
    "auroc": "AUROC",
    "loss": "Loss",
}


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against all others. Precision, recall and F1 are 0 where they divide by zero.

    Attributes:
        support: reads whose true class this is.
        auroc: ``None`` where no read, or every read, is of this class, or where it was not asked for.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    auroc: float | None


@dataclass(frozen=True, eq=False)
class ClassificationMetrics:
    """How well a set of reads was called.

    Attributes:
        reads: reads scored.
        classes: outputs of the head, whether or not a read of them is present.
        macro_f1: mean F1 of the classes that occur in the truth, so that a test set without some classes is not
            marked down for them; a read called as an absent class still costs its own class recall.
        micro_f1: over all decisions; with one call per read it equals the accuracy.
        weighted_f1: mean F1 weighted by support.
        mcc: Matthews correlation coefficient; 0 where it is undefined (all reads of one class, or called as one).
        auroc: mean of the one-vs-rest areas of the classes that have one; ``None`` where none has.
        auroc_undefined: why ``auroc`` is ``None``.
        loss: mean negative log likelihood of the true class, natural logarithm.
        per_class: in the order of the head's outputs.
        confusion: int64, (classes, classes); rows are the truth, columns the calls.
    """

    reads: int
    classes: int
    accuracy: float
    macro_f1: float
    micro_f1: float
    weighted_f1: float
    mcc: float
    auroc: float | None
    auroc_undefined: str | None
    loss: float
    per_class: tuple[ClassFigures, ...]
    confusion: np.ndarray[Any, Any]

    @property
    def classes_absent(self) -> tuple[str, ...]:
        """Labels of the classes that no read belongs to."""
        return tuple(figures.label for figures in self.per_class if figures.support == 0)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the confusion matrix, ready for JSON: plain numbers, and ``None`` for what is undefined."""
        figures: dict[str, Any] = {name: getattr(self, name) for name in ("reads", "classes", *METRIC_NAMES)}
        if self.auroc_undefined:
            figures["auroc_undefined"] = self.auroc_undefined
        figures["classes_absent"] = list(self.classes_absent)
        figures["per_class"] = [
            {
                "label": one.label,
                "precision": one.precision,
                "recall": one.recall,
                "f1": one.f1,
                "support": one.support,
                "auroc": one.auroc,
            }
            for one in self.per_class
        ]
        return figures


def classification_metrics(
    truth: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any],
    labels: Sequence[str],
    *,
    compute_auroc: bool = True,
) -> ClassificationMetrics:
    """Score calls against the truth; a read's call is its most probable class, the first of equals.

    Args:
        truth: class indices, (reads,).
        probabilities: (reads, classes), each row summing to 1.
        labels: the name of each class, (classes,).
        compute_auroc: ``False`` saves a sort of every class's scores.

    Raises:
        DataError: there are no reads, or scores that are not numbers.
        ValueError: the arrays do not fit each other, or rows do not sum to 1.
    """
    _check(truth, probabilities, labels)
    areas = one_vs_rest_auroc(truth, probabilities) if compute_auroc else None
    return metrics_of_calls(
        truth,
        probabilities.argmax(axis=1),
        probabilities[np.arange(len(truth)), truth],
        labels,
        areas=areas,
        areas_undefined=None if compute_auroc else "not computed",
    )


def metrics_of_calls(
    truth: np.ndarray[Any, Any],
    called: np.ndarray[Any, Any],
    likelihood: np.ndarray[Any, Any],
    labels: Sequence[str],
    *,
    areas: np.ndarray[Any, Any] | None,
    areas_undefined: str | None,
) -> ClassificationMetrics:
    """The figures of calls of which no probabilities are at hand but those of the true class.

    Args:
        truth: class indices, (reads,).
        called: likewise, the most probable class.
        likelihood: probability of the true class, (reads,).
        labels: the name of each class, (classes,).
        areas: under the curve of each class, NaN where it has none, (classes,); ``None`` where they are not known.
        areas_undefined: why they are not.

    Raises:
        DataError: there are no reads.
    """
    from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

    if len(truth) == 0:
        raise DataError(NO_READS)
    reads, classes = len(truth), len(labels)
    every_class = np.arange(classes)

    def averaged_f1(average: str, over: np.ndarray[Any, Any]) -> float:
        return float(precision_recall_fscore_support(truth, called, labels=over, average=average, zero_division=0)[2])

    with warnings.catch_warnings():
        # All reads of one class and called as it: what the result means then is said in our own docstring.
        warnings.filterwarnings("ignore", message="A single label was found")
        confusion = confusion_matrix(truth, called, labels=every_class).astype(np.int64)
        mcc = float(matthews_corrcoef(truth, called))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, called, labels=every_class, average=None, zero_division=0
    )
    if areas is None:
        areas = np.full(classes, np.nan)
    has_area = np.isfinite(areas)
    if areas_undefined is None and not has_area.any():
        areas_undefined = "needs reads of at least two classes"
    smallest = np.finfo(np.float32).tiny
    likelihood = np.maximum(likelihood.astype(np.float64), smallest)
    return ClassificationMetrics(
        reads=reads,
        classes=classes,
        accuracy=float((called == truth).mean()),
        macro_f1=averaged_f1("macro", np.unique(truth)),
        micro_f1=averaged_f1("micro", every_class),
        weighted_f1=averaged_f1("weighted", every_class),
        mcc=mcc,
        auroc=float(areas[has_area].mean()) if has_area.any() else None,
        auroc_undefined=areas_undefined,
        loss=float(-np.log(likelihood).mean()),
        per_class=tuple(
            ClassFigures(
                label=labels[index],
                precision=float(precision[index]),
                recall=float(recall[index]),
                f1=float(f1[index]),
                support=int(support[index]),
                auroc=None if math.isnan(areas[index]) else float(areas[index]),
            )
            for index in range(classes)
        ),
        confusion=confusion,
    )


def _check(truth: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any], labels: Sequence[str]) -> None:
    reads, classes = probabilities.shape
    if truth.shape != (reads,) or len(labels) != classes:
        raise ValueError(
            f"truth {truth.shape}, probabilities {probabilities.shape} and {len(labels)} labels do not fit"
        )
    if reads == 0:
        raise DataError(NO_READS)
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"truth holds classes from {truth.min()} to {truth.max()}; there are {classes}")
    sums = check_numbers(probabilities)
    if np.abs(sums - 1).max() > 0.01:
        raise ValueError("probabilities must sum to 1 in each row; were these logits?")


def check_numbers(probabilities: np.ndarray[Any, Any], first_read: int = 1) -> np.ndarray[Any, Any]:
    """Each row's sum, (reads,), for probabilities that are numbers.

    Args:
        probabilities: (reads, classes).
        first_read: number of the first row, for the message.

    Raises:
        DataError: some are not.
    """
    sums: np.ndarray[Any, Any] = probabilities.sum(axis=1, dtype=np.float64)
    broken = ~np.isfinite(sums)
    if broken.any():
        raise DataError(
            f"the scores of {broken.sum():,} of {len(sums):,} reads are not numbers (the first is read "
            f"{int(broken.argmax()) + first_read}): the model has diverged; train again with a lower learning rate"
        )
    return sums
