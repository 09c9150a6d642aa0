"""What a reader of a report should know before its figures: lines that stand above everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.metrics.classification import ClassificationMetrics

__all__ = ["NOT_CALIBRATED", "evaluation_cautions", "few_of", "training_cautions", "unclassified_caution"]

FEW_READS = 20
IMBALANCE = 10
"""How many times more reads the largest class has than the smallest before it is said."""
HIGH_UNCLASSIFIED = 0.5
NAMED = 5
NOT_CALIBRATED = (
    "This model is not calibrated: its confidence is the plain softmax, which is often too sure, and no read is "
    "refused unless a threshold is given."
)


def evaluation_cautions(metrics: ClassificationMetrics) -> list[str]:
    """Of figures of labelled reads: classes without reads or with few, classes never called, undefined figures."""
    lines = []
    absent = metrics.classes_absent
    if absent:
        have = "has no read here and counts" if len(absent) == 1 else "have no read here and count"
        lines.append(f"{len(absent):,} of {metrics.classes:,} classes {have} in no average: {few_of(absent)}")
    called = metrics.confusion.sum(axis=0)
    never = [one.label for one, reads in zip(metrics.per_class, called, strict=True) if one.support and not reads]
    if never:
        lines.append(f"{_classes(never)} with reads {'is' if len(never) == 1 else 'are'} never called: {few_of(never)}")
    few = [one.label for one in metrics.per_class if 0 < one.support < FEW_READS]
    if few:
        lines.append(f"{_classes(few)} with fewer than {FEW_READS} reads here, whose figures are rough: {few_of(few)}")
    if metrics.auroc_undefined:
        lines.append(f"AUROC: {metrics.auroc_undefined}")
    return lines


def training_cautions(
    labels: Sequence[str],
    trained: npt.NDArray[np.integer[Any]],
    validated: npt.NDArray[np.integer[Any]],
    *,
    weighted: bool,
) -> list[str]:
    """Of a run's reads: classes of very different size, and classes that were validated but never trained.

    Args:
        labels: ``(classes,)``.
        trained: training reads of each class in an epoch, ``(classes,)``.
        validated: validation reads of each class, ``(classes,)``.
        weighted: the loss evens the classes out.
    """
    lines = []
    present = np.flatnonzero(trained)
    if len(present) > 1 and not weighted:
        largest, smallest = present[trained[present].argmax()], present[trained[present].argmin()]
        times = trained[largest] / trained[smallest]
        if times >= IMBALANCE:
            lines.append(
                f"The classes are of very different size: {labels[largest]} has {trained[largest]:,} training reads "
                f"and {labels[smallest]} {trained[smallest]:,} ({times:,.0f} times fewer). dataset.sampling: balanced "
                "or loss.class_weights: balanced evens them out."
            )
    unseen = [labels[one] for one in np.flatnonzero((validated > 0) & (trained == 0)).tolist()]
    if unseen:
        lines.append(
            f"{_classes(unseen)} with validation reads and no training read, never to be called: {few_of(unseen)}"
        )
    return lines


def unclassified_caution(unclassified: int, reads: int, *, of: str, reasons: Mapping[str, int]) -> list[str]:
    """A line where more than half of the reads are unclassified, with the reason that most of them have.

    Args:
        unclassified: reads.
        reads: all of them.
        of: what the reads are of, such as a sample's name.
        reasons: unclassified reads by reason.
    """
    if not reads or unclassified <= HIGH_UNCLASSIFIED * reads:
        return []
    line = f"{of}: {unclassified / reads:.0%} of the reads are unclassified"
    if reasons:
        reason, most = max(reasons.items(), key=lambda item: item[1])
        line += f", most of them ({most:,}) because: {reason}"
    return [line + ". Organisms that the model does not know, or reads unlike its training reads, give this."]


def _classes(names: Sequence[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names):,} classes"


def few_of(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
