"""Scored blocks by hand: probabilities in, as a model would have given them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.model.calibration import (
    CalibrationFacts,
    CutOff,
    RefusalFacts,
    ReliabilityFacts,
    TemperatureFacts,
)
from metagene_classifier.prediction.calling import Caller, CallOptions
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

LABELS = Labels((ClassLabel("0", "Lowia", 100), ClassLabel("1", "Midia", 101), ClassLabel("2", "Highia", 102)))
TAXONOMY = Taxonomy(
    {
        taxid: TaxonNode(taxid, parent, rank, name)
        for taxid, parent, rank, name in [
            (1, 1, "no rank", "root"),
            (2, 1, "superkingdom", "Bacteria"),
            (50, 2, "genus", "Gcensis"),
            (60, 2, "genus", "Highus"),
            (100, 50, "species", "Lowia gcensis"),
            (101, 50, "species", "Midia gcensis"),
            (102, 60, "species", "Highia gcensis"),
        ]
    }
)
TREE = ClassTree.of(LABELS, TAXONOMY)
FLAT = ClassTree.of(LABELS)


def facts(
    single: float = 1.0, pairs: float = 1.0, refusal: RefusalFacts | None = None, threshold: float = 0.8
) -> CalibrationFacts:
    """A calibration with these temperatures."""
    bins = ReliabilityFacts(edges=(0.0, 1.0), reads=(9,), confidence=(0.5,), accuracy=(0.5,), ece=0.0)
    return CalibrationFacts(
        temperature=TemperatureFacts(single=single, pairs=pairs, pairs_measured=True, reads=9),
        before=bins,
        after=bins,
        threshold=threshold,
        table=(
            CutOff(threshold=0.5, precision=0.8, sensitivity=0.8, called=9, f1=0.8),
            CutOff(threshold=0.95, precision=0.99, sensitivity=0.5, called=5, f1=0.7),
        ),
        refusal=refusal,
    )


def energy_cutoff(cutoff: float) -> RefusalFacts:
    """Reads of more energy are strangers."""
    return RefusalFacts(score="energy", cutoff=cutoff, figures={}, known=1, unknown=1, folds=2)


def caller(tree: ClassTree = TREE, calibration: CalibrationFacts | None = None, **options: object) -> Caller:
    """Calls with these options."""
    return Caller(tree.labels, tree, Calibrator(calibration), CallOptions(**options))  # type: ignore[arg-type]


def scored(
    windows: Sequence[Sequence[Sequence[float]]],
    *,
    names: Sequence[str] | None = None,
    tokens: int = 40,
    shift: float = 0.0,
    complexity: Sequence[float] | None = None,
) -> ScoredBlock:
    """A block of reads by the class probabilities of their windows; a read without windows has no base.

    Args:
        windows: of each read, of each window, of each class.
        names: headers; r0, r1, … by default.
        tokens: of each window.
        shift: added to all class scores, which changes no probability.
        complexity: of each read.
    """
    counts = np.array([len(read) for read in windows], np.int64)
    rows = [row for read in windows for row in read]
    values = np.log(np.asarray(rows, np.float32).reshape(len(rows), 3)) + np.float32(shift)
    by_read = np.zeros((len(windows), 3), np.float32)
    place = 0
    for number, count in enumerate(counts):
        if count:
            by_read[number] = values[place : place + count].mean(axis=0)
        place += count
    bases = counts * 100
    headers = names or [f"r{number}" for number in range(len(windows))]
    spans = [(100 * window, 100 * window + 100) for read in windows for window in range(len(read))]
    return ScoredBlock(
        [Read(header, "A" * int(length)) for header, length in zip(headers, bases, strict=True)],
        bases,
        by_read,
        StreamReport(reads=len(windows)),
        tokens=counts * tokens,
        window_counts=counts,
        window_values=values,
        window_tokens=np.full(len(rows), tokens),
        window_spans=np.array(spans, np.int64).reshape(-1, 2),
        complexity=None if complexity is None else np.array(complexity),
    )
