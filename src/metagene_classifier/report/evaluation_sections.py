"""The sections of a report on labelled reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.classification import METRIC_NAMES, ClassificationMetrics
from metagene_classifier.report.confusion_section import most_taken_for
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.page import Column, DataTable, Figure, Part, Section, Text, Tile, Tiles
from metagene_classifier.report.plots import per_class_figure, reads_per_class_figure
from metagene_classifier.report.quality_plots import (
    groups_figure,
    ranks_figure,
)

if TYPE_CHECKING:
    from metagene_classifier.metrics.calls import CallFigures
    from metagene_classifier.metrics.groups import GroupFigures
    from metagene_classifier.metrics.ranks import RankFigures
    from metagene_classifier.prediction.compare import ComparedFigures

__all__ = [
    "calls_section",
    "classes_section",
    "compared_section",
    "groups_section",
    "metric_tiles",
    "ranks_section",
    "reasons_table",
]


def metric_tiles(metrics: ClassificationMetrics) -> list[Tile]:
    """The overall figures, without refusal."""
    tiles = [Tile("Reads", f"{metrics.reads:,}"), Tile("Classes", f"{metrics.classes:,}")]
    for key, name in METRIC_NAMES.items():
        value = getattr(metrics, key)
        tiles.append(Tile(name, "–" if value is None else f"{value:.4f}"))
    return tiles


def classes_section(metrics: ClassificationMetrics, tree: ClassTree | None, *, table: bool) -> Section:
    """How well each class is called.

    Args:
        metrics: of all of them.
        tree: for taxids and lineages, where there is one.
        table: also the table of all classes.
    """
    labels = [one.label for one in metrics.per_class]
    counts = {"true class": metrics.confusion.sum(axis=1), "called": metrics.confusion.sum(axis=0)}
    parts: list[Part] = []
    if table:
        parts.append(_classes_table(metrics, tree))
        parts.append(
            Figure(
                "Precision, recall and F1",
                svg_text(per_class_figure(metrics.per_class)),
                "Every read is called its likeliest class here, however unsure.",
            )
        )
    parts.append(Figure("Reads of each class", svg_text(reads_per_class_figure(counts, labels))))
    return Section("Classes", parts)


def _classes_table(metrics: ClassificationMetrics, tree: ClassTree | None) -> DataTable:
    columns = [
        Column("Class"),
        Column("Precision", "figure", "of the reads called so, those that are"),
        Column("Recall", "figure", "of the class's reads, those called so"),
        Column("F1", "figure", "harmonic mean of precision and recall"),
        Column("AUROC", "figure", "chance that a read of the class gets a higher probability of it than another read"),
        Column("Reads", "count", "that are of the class"),
        Column("Called", "count", "reads called so"),
        Column("Mostly taken for", hint="the wrong class that most of its reads are called, and their share"),
    ]
    labels = [one.label for one in metrics.per_class]
    called = metrics.confusion.sum(axis=0).tolist()
    wrong = most_taken_for(metrics.confusion, labels)
    rows: list[list[Any]] = [
        [one.label, one.precision, one.recall, one.f1, one.auroc, one.support, called[at], wrong[at]]
        for at, one in enumerate(metrics.per_class)
    ]
    if tree is not None and tree.has_taxonomy:
        genera = tree.at_rank("genus")[tree.taxon_of_class].tolist()
        columns.insert(1, Column("Genus"))
        for row, genus in zip(rows, genera, strict=True):
            row.insert(1, tree.label_of(genus) if genus >= 0 else None)
    faint = [not one.support for one in metrics.per_class]
    return DataTable("All classes", columns, rows, filterable=True, unit="classes", faint=faint)


def calls_section(figures: CallFigures, reasons: Mapping[str, int], threshold: float) -> Section:
    """Calls as ``mgc predict`` makes them: with the threshold and refusal.

    Args:
        figures: of the calls.
        reasons: unclassified reads by reason.
        threshold: on the confidence.
    """
    tiles = [
        Tile("Called", f"{figures.called / figures.reads:.2%}" if figures.reads else "–", f"{figures.called:,} reads"),
        Tile("Precision", _figure(figures.precision)),
        Tile("Sensitivity", _figure(figures.sensitivity)),
        Tile("F1", _figure(figures.f1)),
        Tile("Correct", f"{figures.correct:,}", "at their own taxon"),
        Tile("Vague", f"{figures.vague:,}", "at a taxon above it"),
        Tile("Wrong", f"{figures.wrong:,}"),
        Tile("Unclassified", f"{figures.unclassified:,}"),
    ]
    parts: list[Part] = [Tiles(tiles)]
    if any(reasons.values()):
        parts.append(reasons_table(reasons, figures.reads))
    return Section(
        "Calls with refusal",
        parts,
        f"As mgc predict calls these reads, at the threshold {threshold:.4g}. Precision is correct of correct and "
        "wrong; sensitivity is correct of all reads.",
    )


def reasons_table(reasons: Mapping[str, int], reads: int) -> DataTable:
    """Why reads are unclassified.

    Args:
        reasons: reads by reason.
        reads: all reads.
    """
    falling = sorted(reasons.items(), key=lambda item: -item[1])
    rows = [[reason, count, count / reads if reads else None] for reason, count in falling if count]
    columns = [Column("Reason"), Column("Reads", "count"), Column("Share", "share", "of all reads")]
    return DataTable("Why reads are unclassified", columns, rows, unit="reasons", sorted_by=(1, "descending"))


def ranks_section(ranks: Sequence[RankFigures], compared: Sequence[ComparedFigures]) -> Section:
    """Figures at every rank, beside those of other classifiers.

    Args:
        ranks: from the highest to the lowest; empty without a taxonomy.
        compared: other classifiers on the same reads.
    """
    if not ranks:
        return Section("Ranks", [])
    classifiers = {"this model": ranks} | {one.name: one.ranks for one in compared if one.ranks}
    columns = [
        Column("Rank"),
        Column("Taxa", "count", "that the reads belong to"),
        Column("Called", "share", "of the reads, at this rank or below"),
        Column("Completeness", "figure", "share of a taxon's reads that are called as it, mean over taxa"),
        Column("Purity", "figure", "share of the reads called as a taxon that are of it, mean over taxa"),
        Column("F1", "figure"),
        Column("Misclassified", "share", "of the called reads"),
        Column("Accuracy", "figure", "share of all reads called rightly"),
        Column("L1", "figure", "sum of the differences of the profile's shares, 0 to 2"),
        Column("Bray-Curtis", "figure", "difference of the profile, 0 to 1"),
    ]
    rows: list[list[Any]] = []
    for name, figures in classifiers.items():
        for one in figures:
            values = [
                one.rank,
                one.taxa,
                one.called / one.reads if one.reads else None,
                one.completeness,
                one.purity,
                one.f1,
                one.misclassification,
                one.accuracy,
                one.counted.l1,
                one.counted.bray_curtis,
            ]
            rows.append([name, *values] if len(classifiers) > 1 else values)
    if len(classifiers) > 1:
        columns.insert(0, Column("Classifier"))
    figure = Figure("From the highest rank to the lowest", svg_text(ranks_figure(classifiers)))
    picks: dict[int, str | None] = {0: None, 1: None} if len(classifiers) > 1 else {}
    table = DataTable("Figures by rank", columns, rows, unit="rows", picks=picks)
    parts: list[Part] = [figure, table]
    if any(one.estimated for one in ranks):
        parts.append(_profiles_table(ranks))
    return Section(
        "Ranks", parts, "Completeness, purity and the profile's distances are defined as in CAMI's AMBER and OPAL."
    )


def _profiles_table(ranks: Sequence[RankFigures]) -> DataTable:
    columns = [
        Column("Rank"),
        Column("L1, counted", "figure", "of the calls as they are counted"),
        Column("L1, estimated", "figure", "of the profile that corrects for confusions"),
        Column("Bray-Curtis, counted", "figure"),
        Column("Bray-Curtis, estimated", "figure"),
    ]
    rows = [
        [
            one.rank,
            one.counted.l1,
            one.estimated.l1 if one.estimated else None,
            one.counted.bray_curtis,
            one.estimated.bray_curtis if one.estimated else None,
        ]
        for one in ranks
    ]
    return DataTable("The profile against the truth", columns, rows, unit="ranks")


def groups_section(groups: Sequence[GroupFigures]) -> Section:
    """Figures by length, error rate and strand."""
    shown = [one for one in groups if one.rows]
    if not shown:
        return Section("Kinds of reads", [])
    columns = [
        Column("By"),
        Column("Reads of"),
        Column("Reads", "count"),
        Column("Called", "share"),
        Column("Precision", "figure", "with refusal"),
        Column("Sensitivity", "figure", "with refusal"),
        Column("Accuracy", "figure", "of the likeliest class, without refusal"),
    ]
    rows = [
        [
            group.kind,
            row.name,
            row.reads,
            row.called / row.reads if row.reads else None,
            row.precision,
            row.sensitivity,
            row.accuracy,
        ]
        for group in shown
        for row in group.rows
    ]
    return Section(
        "Kinds of reads",
        [
            Figure("Precision, sensitivity and accuracy", svg_text(groups_figure(shown))),
            DataTable("Figures by kind of read", columns, rows, filterable=len(rows) > 8, unit="groups"),
        ],
    )


def compared_section(ours: CallFigures, compared: Sequence[ComparedFigures]) -> Section:
    """This model's calls beside those of other classifiers on the same reads."""
    if not compared:
        return Section("Other classifiers", [])
    columns = [
        Column("Classifier"),
        *(Column(name, "count") for name in ("Called", "Correct", "Vague", "Wrong", "Unclassified")),
        *(Column(name, "figure") for name in ("Precision", "Sensitivity", "F1")),
        Column("Missing", "count", "reads that its file does not have; they count as unclassified"),
    ]

    def row(name: str, one: CallFigures, missing: int | None) -> list[Any]:
        counts = [one.called, one.correct, one.vague, one.wrong, one.unclassified]
        return [name, *counts, one.precision, one.sensitivity, one.f1, missing]

    rows = [row("this model", ours, None), *(row(one.name, one.open, one.missing) for one in compared)]
    sources = [f"{one.name}: {one.source}" for one in compared]
    sources += [line for one in compared for line in one.warnings]
    return Section(
        "Other classifiers",
        [DataTable("Calls of the same reads", columns, rows, unit="classifiers"), Text(sources)],
    )


def _figure(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.4f}"
