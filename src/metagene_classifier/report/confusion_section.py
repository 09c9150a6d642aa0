"""What was called as what: the section of a report that shows it for three classes and for thousands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.report.class_groups import MOST_GROUPS, group_classes
from metagene_classifier.report.confusion_plot import all_classes_figure, worst_confusions
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.heat_map import confusion_heat_map, short_share
from metagene_classifier.report.page import Column, DataTable, Figure, Part, Section

__all__ = ["confusion_section", "most_taken_for"]

PAIRS = 400
"""Pairs of confused classes that the table lists."""


def confusion_section(
    confusion: npt.NDArray[np.integer[Any]], labels: Sequence[str], tree: ClassTree | None
) -> Section:
    """Few classes cell by cell; many as groups, as a picture of all, and as a table of the worst pairs.

    Args:
        confusion: counts, ``(classes, classes)``; rows are the truth.
        labels: ``(classes,)``.
        tree: of the classes, where there is one.
    """
    parts: list[Part] = []
    if len(labels) <= MOST_GROUPS:
        parts.append(confusion_heat_map(confusion, labels, caption="Confusion matrix", note=_ROWS))
    else:
        groups = group_classes(confusion, labels, tree)
        summed = groups.summed(confusion)
        by = f"by {groups.rank}" if groups.rank else "of classes side by side"
        how = f"The {len(labels):,} classes summed up by {groups.rank}."
        if groups.rank is None:
            how = (
                f"The {len(labels):,} classes in {len(groups.names)} groups; those that are often confused lie in one. "
                "A group is called by its first class and how many more it has."
            )
        parts.append(confusion_heat_map(summed, groups.names, caption=f"Confusion matrix {by}", note=f"{how} {_ROWS}"))
        parts.append(
            Figure(
                "All classes",
                svg_text(all_classes_figure(confusion, groups)),
                "In the same order. What lies off the diagonal was called wrong.",
            )
        )
    if pairs := worst_confusions(confusion, labels, PAIRS):
        parts.append(_pairs_table(pairs, labels, tree))
    return Section("What was called as what", parts)


_ROWS = "Rows are the true classes, columns what their reads were called; colour is the share of a row."


def _pairs_table(pairs: Sequence[Any], labels: Sequence[str], tree: ClassTree | None) -> DataTable:
    columns = [
        Column("True class"),
        Column("Called as"),
        Column("Reads", "count", "reads of the true class that were called so"),
        Column("Share", "share", "of the true class's reads"),
    ]
    rows = [[pair.truth, pair.called, pair.reads, pair.share] for pair in pairs]
    if tree is not None and tree.has_taxonomy:
        columns.append(Column("Both are", hint="the lowest taxon above both"))
        place = {label: int(taxon) for label, taxon in zip(labels, tree.taxon_of_class.tolist(), strict=True)}
        for row, pair in zip(rows, pairs, strict=True):
            row.append(_meet(tree, place[pair.truth], place[pair.called]))
    return DataTable(
        "Most confused pairs", columns, rows, filterable=len(rows) > 8, unit="pairs", sorted_by=(2, "descending")
    )


def _meet(tree: ClassTree, one: int, other: int) -> str:
    """The lowest taxon above both, with its rank."""
    shared = 0
    for first, second in zip(tree.lineage(one), tree.lineage(other), strict=False):
        if first != second:
            break
        shared = first
    if not shared:
        return "of no common taxon"
    taxon = tree.taxa[shared]
    return f"{taxon.name} ({taxon.rank})" if taxon.rank and taxon.rank != "no rank" else taxon.name


def most_taken_for(confusion: npt.NDArray[np.integer[Any]], labels: Sequence[str]) -> list[str | None]:
    """Of every class the wrong one that most of its reads were called, and their share; ``None`` where none was.

    Args:
        confusion: counts, ``(classes, classes)``; rows are the truth.
        labels: ``(classes,)``.
    """
    found: list[str | None] = []
    for truth, row in enumerate(confusion):
        total, right = int(row.sum()), int(row[truth])
        if right == total:
            found.append(None)
            continue
        wrong = row.copy()
        wrong[truth] = 0
        called = int(wrong.argmax())
        found.append(f"{labels[called]} ({short_share(int(wrong[called]) / total)})")
    return found
