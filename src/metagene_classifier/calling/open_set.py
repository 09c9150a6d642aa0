"""Leaving taxa out: how strange their reads look to a head that never learned them.

The classes are dealt into folds. For each, a head is fitted on embeddings of the other classes' training reads, and
scores validation reads of all classes; those of the classes left out are then strangers. The encoder itself has seen
the left-out classes where it was fine-tuned, so real strangers may look less strange than these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.head_fit import fit_head
from metagene_classifier.calling.novelty import energies, strangeness
from metagene_classifier.calling.spaces import Axes, centroids_of
from metagene_classifier.calling.temperature import fit_temperature
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.open_set import FoldNovelty, OpenSetFigures, open_set_figures
from metagene_classifier.model.calibration import NoveltyScore
from metagene_classifier.model.scoring import probabilities_of

__all__ = ["SCORES", "Embedded", "LeftOut", "class_folds", "figures_of", "leave_taxa_out"]

SCORES: tuple[NoveltyScore, ...] = ("probability", "energy", "centroid")
LEAST_CLASSES = 3
# Reads of a class from which a head is fitted from nothing; with fewer it begins at the trained head.
READS_TO_LEARN_FROM = 8
# Class scores that a fold's temperature is fitted on at most.
FITTED_VALUES = 2**22


@dataclass(frozen=True)
class Embedded:
    """Reads that have been through the encoder and the trained head.

    Attributes:
        values: embeddings; ``(reads, hidden)`` float32.
        scores: class scores of the trained head; ``(reads, classes)`` float32.
        classes: of each read; ``(reads,)`` int64.
    """

    values: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LeftOut:
    """One fold.

    Attributes:
        classes: those left out.
        unknown: places of their reads among those scored; ``(unknown,)``.
        known: places of all others; ``(known,)``.
        novelty: of all reads scored, by score; ``(reads,)``.
        probabilities: calibrated ones of the strangers, 0 for what was left out; ``(unknown, classes)`` float32.
        truth: the strangers' classes; ``(unknown,)``.
    """

    classes: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    novelty: dict[NoveltyScore, npt.NDArray[np.float64]]
    probabilities: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]


def class_folds(tree: ClassTree, classes: npt.NDArray[np.int64], most: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Deal classes into folds.

    Classes that share a taxon are in one fold. Where there are more taxa than folds, the species of a genus are too, so
    that no near relative of a stranger is left in the head; but a genus that is larger than a fold is split.

    Args:
        tree: of the model.
        classes: to be dealt; ``(some,)``.
        most: folds.
        seed: of the order in which they are dealt.

    Returns:
        Classes of each fold, in order; every one is in exactly one fold, and no fold is empty.
    """
    taxa = tree.taxon_of_class[classes]
    different = np.unique(taxa)
    if len(different) <= most:
        return [classes[taxa == taxon] for taxon in different]
    genus = tree.at_rank("genus")[different]
    keys = np.where(genus >= 0, genus, different)
    size = -(-len(different) // most)
    order = np.random.default_rng(seed).permutation(len(different))
    groups: list[npt.NDArray[np.int64]] = []
    for key in dict.fromkeys(keys[order].tolist()):
        members = different[order[keys[order] == key]]
        groups += [members[start : start + size] for start in range(0, len(members), size)]
    folds: list[list[int]] = [[] for _ in range(most)]
    for members in sorted(groups, key=len, reverse=True):
        min(folds, key=len).extend(members.tolist())
    return [classes[np.isin(taxa, fold)] for fold in folds if fold]


def leave_taxa_out(
    fit: Embedded,
    scored: Embedded,
    tree: ClassTree,
    *,
    folds: int,
    seed: int,
    step: Callable[[], object] = lambda: None,
) -> list[LeftOut]:
    """Fit a head without each fold's classes, and see what it makes of their reads.

    Args:
        fit: training reads.
        scored: validation reads.
        tree: of the model's classes.
        folds: at most.
        seed: of the folds.
        step: called after each.

    Returns:
        The folds; none where fewer than three classes have reads in both.
    """
    both = np.intersect1d(fit.classes, scored.classes)
    if len(both) < LEAST_CLASSES:
        return []
    dealt = class_folds(tree, both, folds, seed)
    axes = Axes.of(fit.values, seed)
    if len(dealt) < 2:
        return []
    placed_fit, placed = axes.place(fit.values), axes.place(scored.values)
    directions = Axes.of(fit.values, seed, to_length_1=True)
    enough = np.median(np.bincount(fit.classes)[both]) >= READS_TO_LEARN_FROM
    found = []
    for left_out in dealt:
        kept = np.setdiff1d(np.unique(fit.classes), left_out)
        if len(kept) < 2:
            continue
        is_unknown = np.isin(scored.classes, left_out)
        # A read of a class without training reads is neither known nor of this fold.
        is_known = np.isin(scored.classes, kept)
        learned = np.isin(fit.classes, kept)
        place = np.searchsorted(kept, fit.classes[learned])
        begin = None if enough else fit.scores[np.ix_(learned, kept)]
        head = fit_head(placed_fit[learned], place, len(kept), begin=begin, share=1.0 / len(dealt))
        scores = head.scores(placed, None if enough else scored.scores[:, kept])
        known = np.flatnonzero(is_known)
        some = known[:: max(1, len(known) * len(kept) // FITTED_VALUES)]
        temperature = fit_temperature(scores[some], np.searchsorted(kept, scored.classes[some]))
        probabilities = probabilities_of(scores.astype(np.float64) / temperature)
        centroids = centroids_of(directions, fit.values[learned], fit.classes[learned])
        unknown = np.flatnonzero(is_unknown)
        whole = np.zeros((len(unknown), len(tree.labels)), np.float32)
        whole[:, kept] = probabilities[unknown]
        found.append(
            LeftOut(
                classes=left_out,
                unknown=unknown,
                known=known,
                novelty={
                    "probability": strangeness(probabilities),
                    "energy": energies(scores),
                    "centroid": centroids.distances(scored.values),
                },
                probabilities=whole,
                truth=scored.classes[unknown],
            )
        )
        step()
    return found


def figures_of(folds: Sequence[LeftOut], tree: ClassTree) -> dict[NoveltyScore, OpenSetFigures]:
    """How well each score tells the folds' strangers from the other reads.

    Args:
        folds: at least one.
        tree: names the classes.
    """
    names = tree.labels.names
    return {
        score: open_set_figures(
            score,
            [
                FoldNovelty(
                    tuple(names[one] for one in fold.classes.tolist()),
                    fold.novelty[score][fold.known],
                    fold.novelty[score][fold.unknown],
                )
                for fold in folds
            ],
        )
        for score in SCORES
    }
