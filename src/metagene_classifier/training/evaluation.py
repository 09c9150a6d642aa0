"""Scoring the validation reads during training, each read exactly once whatever the number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.metrics.classification import ClassificationMetrics, classification_metrics
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.scoring import probabilities_of, score_reads
from metagene_classifier.training.data import TrainingData
from metagene_classifier.training.loop import LoopSettings

__all__ = ["evaluate_store"]

READS_PER_BLOCK = 4096


def evaluate_store(
    classifier: ReadClassifier, data: TrainingData, settings: LoopSettings, compute_auroc: bool, accelerator: Any
) -> ClassificationMetrics:
    """Metrics of the classifier, in evaluation mode, over ``data.validation``; the same on every rank."""
    store = data.validation
    blocks = range(0, len(store), READS_PER_BLOCK)
    mine: dict[int, npt.NDArray[np.float32]] = {}
    for start in blocks[accelerator.process_index :: accelerator.num_processes]:
        reads = [store.tokens(read) for read in range(start, min(start + READS_PER_BLOCK, len(store)))]
        mine[start] = score_reads(
            classifier,
            reads,
            data.framing,
            width=len(data.labels),
            max_tokens=settings.max_tokens,
            layout=settings.layout,
            device=accelerator.device,
        )
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        mine = dict(gather_object(list(mine.items())))
    scores = np.concatenate([mine[start] for start in blocks])
    return classification_metrics(
        store.classes, probabilities_of(scores), data.labels.names, compute_auroc=compute_auroc
    )
