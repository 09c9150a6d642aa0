"""The default threshold, and whether a cut-off on novelty refuses strangers that the threshold lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.open_set import LeftOut, figures_of
from metagene_classifier.calling.rule import decide
from metagene_classifier.calling.thresholds import Outcomes, best_threshold, cut_off_table, ladders, outcomes
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.open_set import OpenSetFigures, known_quantiles
from metagene_classifier.model.calibration import CutOff, NoveltyScore, RefusalFacts, ScoreFacts

__all__ = ["Choice", "choose"]

RETAINED = (0.998, 0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.925, 0.9, 0.875, 0.85, 0.8)
"""Shares of known reads that a cut-off may keep."""
LEAST_GAIN = 0.01
"""F1 that a cut-off must add to the threshold's: less is noise, and one rule is easier to understand than two."""


@dataclass(frozen=True)
class Choice:
    """What a model calls and refuses by default.

    Attributes:
        threshold: of the best F1.
        table: of all thresholds, without any cut-off on novelty.
        refusal: by leaving taxa out; ``None`` where none were.
        figures: of each score; empty where no taxa were left out.
        confusion: of the validation reads, with the strangers as a row where there are any.
    """

    threshold: float
    table: tuple[CutOff, ...]
    refusal: RefusalFacts | None
    figures: dict[NoveltyScore, OpenSetFigures]
    confusion: Confusion


def choose(
    probabilities: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    tree: ClassTree,
    folds: Sequence[LeftOut] = (),
    novelty: Mapping[NoveltyScore, npt.NDArray[np.float64]] | None = None,
) -> Choice:
    """Choose threshold and cut-off for the best F1 over known reads and strangers, which weigh alike.

    A fold's head is another one than the model's, and so are its scores. A cut-off is therefore chosen as the share of
    known reads that it keeps, in each fold and in the model.

    Args:
        probabilities: calibrated, of validation reads; ``(reads, classes)``.
        classes: of each; ``(reads,)``.
        tree: of the model.
        folds: taxa left out; empty without any.
        novelty: of the validation reads to the model itself, by score; ``(reads,)`` each. Needed with folds.
    """
    truth = tree.taxon_of_class[classes]
    calls = ladders(probabilities, tree)
    known = outcomes(calls, truth, tree)
    if not folds or novelty is None:
        threshold, _ = best_threshold(known)
        table = cut_off_table(known, known)
        return Choice(threshold, table, None, {}, _confusion(probabilities, classes, tree, threshold))
    figures = figures_of(folds, tree)
    score = max(figures, key=lambda name: figures[name].auroc)
    strange = np.concatenate([fold.probabilities for fold in folds])
    strange_truth = tree.taxon_of_class[np.concatenate([fold.truth for fold in folds])]
    strange_calls = ladders(strange, tree)
    own = novelty[score]
    share = known_quantiles(own, own)
    strange_share = np.concatenate(
        [known_quantiles(fold.novelty[score][fold.unknown], fold.novelty[score][fold.known]) for fold in folds]
    )
    weight = len(classes) / len(strange_truth)

    def together(kept: float) -> Outcomes:
        return outcomes(calls, truth, tree, refused=share > kept) + outcomes(
            strange_calls, strange_truth, tree, known=False, weight=weight, refused=strange_share > kept
        )

    everything = together(np.inf)
    threshold, best = best_threshold(everything)
    retained, best = np.inf, best + LEAST_GAIN
    for kept in RETAINED:
        candidate, f1 = best_threshold(together(kept))
        if f1 > best:
            threshold, retained, best = candidate, kept, f1
    cutoff = None if retained == np.inf else float(np.quantile(own, retained, method="inverted_cdf"))
    refusal = RefusalFacts(
        score=score,
        cutoff=cutoff,
        figures={
            name: ScoreFacts(auroc=one.auroc, false_calls_at_95=one.false_calls_at_95) for name, one in figures.items()
        },
        known=max(len(fold.known) for fold in folds),
        unknown=len(strange_truth),
        folds=len(folds),
    )
    refused = np.zeros(len(own), np.bool_) if cutoff is None else own > cutoff
    confusion = _confusion(
        probabilities,
        classes,
        tree,
        threshold,
        refused=refused,
        strange=strange,
        strange_refused=strange_share > retained,
    )
    return Choice(threshold, cut_off_table(known, everything), refusal, figures, confusion)


def _confusion(
    probabilities: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    tree: ClassTree,
    threshold: float,
    *,
    refused: npt.NDArray[np.bool_] | None = None,
    strange: npt.NDArray[np.float32] | None = None,
    strange_refused: npt.NDArray[np.bool_] | None = None,
) -> Confusion:
    def called(reads: npt.NDArray[np.float32], out: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        unclassified = decide(reads, tree, threshold).taxa == 0
        if out is not None:
            unclassified |= out
        places: npt.NDArray[np.int64] = np.where(unclassified, reads.shape[1], reads.argmax(axis=1))
        return places

    return Confusion.of(
        classes,
        called(probabilities, refused),
        probabilities.shape[1],
        None if strange is None else called(strange, strange_refused),
    )
