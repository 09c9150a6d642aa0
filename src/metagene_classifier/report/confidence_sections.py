"""The sections of a report on confidence: whether it can be believed, and what becomes of unknown organisms."""

from __future__ import annotations

from collections.abc import Mapping

from metagene_classifier.metrics.open_set import OpenSetFigures
from metagene_classifier.model.calibration import CalibrationFacts
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.page import Column, DataTable, Figure, Part, Section, Text
from metagene_classifier.report.quality_plots import Bins, open_set_figure, reliability_figure, thresholds_figure

__all__ = ["confidence_section", "open_set_section"]

SCORES = {
    "probability": "Largest probability",
    "energy": "Energy of the scores",
    "centroid": "Distance to the class means",
}
FOLDS_NAMED = 6


def confidence_section(
    before: Bins | None, after: Bins | None, facts: CalibrationFacts | None, *, measured_on: str
) -> Section:
    """Whether confidence is the share that is right, and what thresholds give.

    Args:
        before: diagram of the plain softmax.
        after: of calibrated probabilities; ``None`` of a model that is not calibrated.
        facts: of the calibration, for temperature and thresholds.
        measured_on: which reads the diagrams are of.
    """
    parts: list[Part] = []
    diagrams = {"Softmax" if after is not None else "Confidence": before, "Calibrated": after}
    shown = {name: bins for name, bins in diagrams.items() if bins is not None}
    if shown:
        parts.append(
            Figure(
                "Reliability",
                svg_text(reliability_figure(shown)),
                f"Of {measured_on}. Calls of a confidence of 0.8 should be right eight times in ten: on the dashed "
                "line. ECE is the mean distance from it.",
            )
        )
    if facts is not None:
        parts.append(Text(_temperatures(facts)))
        if facts.table:
            parts += _thresholds(facts)
    return Section("Confidence", parts)


def _temperatures(facts: CalibrationFacts) -> list[str]:
    temperature = facts.temperature
    if temperature.by_length:
        by = ", ".join(f"{value:.3f} from {tokens:,} tokens" for tokens, value in temperature.by_length)
        text = f"Scores are divided by a temperature that depends on a read's length: {by}"
    else:
        text = f"Scores are divided by a temperature of {temperature.single:.3f}"
    text += f", fitted on {temperature.reads:,} validation reads."
    pairs = f"The summed log-probabilities of two mates are divided by {temperature.pairs:.3f}"
    pairs += (
        "." if temperature.pairs_measured else " (not measured: too few pairs; mates are taken to repeat each other)."
    )
    return [text, pairs]


def _thresholds(facts: CalibrationFacts) -> list[Part]:
    rows = facts.table
    figure = thresholds_figure(
        [row.threshold for row in rows],
        {
            "precision": [row.precision for row in rows],
            "sensitivity": [row.sensitivity for row in rows],
            "F1 with left-out taxa": [row.f1 for row in rows],
        },
        facts.threshold,
    )
    note = (
        "Precision and sensitivity are of validation reads, F1 of these and of reads of left-out taxa together. "
        "The default has the best F1."
    )
    return [Figure("What a threshold gives", svg_text(figure), note)]


def open_set_section(scores: Mapping[str, OpenSetFigures], chosen: str | None, cutoff: float | None) -> Section:
    """Reads of taxa that were left out of training: which score knows them.

    Args:
        scores: figures by score; empty for no section.
        chosen: the score that the model uses.
        cutoff: above which a read is refused; ``None`` where only the threshold refuses.
    """
    if not scores:
        return Section("Unknown organisms", [])
    note = (
        "Taxa are left out one after another, the head is fitted without them, and their reads are scored as "
        "strangers. The encoder itself has seen them unless it was frozen: truly new organisms may be harder to tell."
    )
    rows = [
        [SCORES.get(name, name), one.auroc, one.false_calls_at_95, one.known, one.unknown, len(one.folds)]
        for name, one in scores.items()
    ]
    columns = [
        Column("Score"),
        Column("AUROC", "figure", "chance that a left-out read looks stranger than a known one"),
        Column("False calls at 95%", "share", "of left-out reads, where 95% of the known reads are called"),
        Column("Known reads", "count"),
        Column("Left-out reads", "count"),
        Column("Folds", "count"),
    ]
    parts: list[Part] = [
        Figure(
            "Calls of strangers",
            svg_text(open_set_figure(scores, SCORES)),
            "The lower the curve, the fewer reads of unknown organisms are called. The dotted line is at 95% of known "
            "reads.",
        ),
        DataTable("Scores", columns, rows, unit="scores"),
    ]
    if chosen is not None:
        how = "and reads beyond its cut-off are refused" if cutoff is not None else "but adds nothing to the threshold"
        parts.insert(0, Text([f"{SCORES.get(chosen, chosen)} is the best of the scores, {how}."]))
    best = scores.get(chosen or "") or max(scores.values(), key=lambda one: one.auroc)
    folds = [
        [
            ", ".join(fold.left_out[:FOLDS_NAMED])
            + (f" and {len(fold.left_out) - FOLDS_NAMED:,} more" if len(fold.left_out) > FOLDS_NAMED else ""),
            fold.unknown,
            fold.auroc,
            fold.false_calls_at_95,
        ]
        for fold in best.folds
    ]
    fold_columns = [
        Column("Left out"),
        Column("Reads", "count"),
        Column("AUROC", "figure"),
        Column("False calls at 95%", "share"),
    ]
    parts.append(
        DataTable(f"Folds, by {SCORES.get(best.score, best.score).lower()}", fold_columns, folds, unit="folds")
    )
    return Section("Unknown organisms", parts, note)
