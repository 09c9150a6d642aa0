"""Pictures of how far calls can be trusted: calibration, open-set curves, figures by rank and by kind of read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metagene_classifier.metrics.calibration import Reliability
from metagene_classifier.model.calibration import ReliabilityFacts
from metagene_classifier.report.drawing import (
    CATEGORIES,
    INK,
    MUTED,
    SERIES,
    drawn,
    new_figure,
    plain_axes,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metagene_classifier.metrics.groups import GroupFigures
    from metagene_classifier.metrics.open_set import OpenSetFigures
    from metagene_classifier.metrics.ranks import RankFigures

__all__ = ["Bins", "groups_figure", "open_set_figure", "ranks_figure", "reliability_figure", "thresholds_figure"]

Bins = Reliability | ReliabilityFacts
"""A reliability diagram, as it is measured or as a model's description keeps it."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@drawn
def reliability_figure(diagrams: Mapping[str, Bins]) -> Figure:
    """Accuracy over confidence, with the reads of each bin below; the diagonal is perfect calibration.

    Args:
        diagrams: one or two, by name.
    """
    figure = new_figure(4.4 * len(diagrams) + 0.4, 4.6)
    shapes = figure.subplots(2, len(diagrams), sharex=True, height_ratios=[3.2, 1], squeeze=False)
    for column, (colour, (name, bins)) in enumerate(zip(SERIES[1::-1], diagrams.items(), strict=False)):
        axes, below = shapes[0, column], shapes[1, column]
        reads = np.asarray(bins.reads)
        full = reads > 0
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        confidence, accuracy = np.asarray(bins.confidence)[full], np.asarray(bins.accuracy)[full]
        axes.vlines(confidence, confidence, accuracy, color=colour, linewidth=3, alpha=0.35)
        axes.plot(confidence, accuracy, color=colour, marker="o", markersize=4.5, linewidth=1.6)
        axes.set_title(f"{name}: ECE {bins.ece:.4f}")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(0, 1)
        plain_axes(axes, grid="both")
        edges = np.asarray(bins.edges)
        below.bar(edges[:-1], reads, np.diff(edges) * 0.92, align="edge", color=colour)
        below.set_xlabel("confidence")
        below.yaxis.set_major_formatter("{x:,.0f}")
        below.locator_params(axis="y", nbins=3, integer=True)
        plain_axes(below, grid="y")
        if column == 0:
            axes.set_ylabel("share that is right")
            below.set_ylabel("reads")
    return figure


@drawn
def open_set_figure(scores: Mapping[str, OpenSetFigures], names: Mapping[str, str]) -> Figure:
    """Reads of left-out taxa that are still called, over the known reads that are; lower is better.

    Args:
        scores: curves by score.
        names: of the scores, as people read them.
    """
    figure = new_figure(6.6, 4.4)
    axes = figure.subplots()
    plain_axes(axes, grid="both")
    axes.axvline(0.95, color=MUTED, linewidth=1, linestyle=":")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for number, (score, curve) in enumerate(scores.items()):
        axes.plot(
            curve.retained,
            curve.false_calls,
            color=CATEGORIES[number % len(CATEGORIES)],
            linestyle=("-", "--", "-.")[number % 3],
            linewidth=1.8,
            label=f"{names.get(score, score)}: AUROC {curve.auroc:.3f}",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("known reads that are called")
    axes.set_ylabel("reads of left-out taxa that are called")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.0%}")
    axes.legend(loc="upper left")
    return figure


@drawn
def thresholds_figure(
    thresholds: Sequence[float], curves: Mapping[str, Sequence[float | None]], chosen: float
) -> Figure:
    """What each threshold gives.

    Args:
        thresholds: ascending.
        curves: figures between 0 and 1 at each of them, by name.
        chosen: the model's default.
    """
    figure = new_figure(6.6, 3.6)
    axes = figure.subplots()
    plain_axes(axes, grid="both")
    for number, (name, values) in enumerate(curves.items()):
        shown = [np.nan if value is None else value for value in values]
        axes.plot(thresholds, shown, color=SERIES[number % 3], linestyle=("-", "--", "-.")[number % 3], label=name)
    axes.axvline(chosen, color=INK, linewidth=1, linestyle=":")
    left = chosen > 0.5
    axes.annotate(
        f"default {chosen:.3g}",
        (chosen, 0.02),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8.5,
        color=INK,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("threshold on the confidence")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


@drawn
def ranks_figure(classifiers: Mapping[str, Sequence[RankFigures]]) -> Figure:
    """Completeness, purity, F1 and accuracy from the highest rank to the lowest, a line for each classifier.

    Args:
        classifiers: figures of each rank, by the classifier's name; the first is this model.
    """
    wanted = (("completeness", "Completeness"), ("purity", "Purity"), ("f1", "F1"), ("accuracy", "Accuracy"))
    ranks = list(dict.fromkeys(one.rank for figures in classifiers.values() for one in figures))
    figure = new_figure(10.2, 3.4)
    for axes, (field, title) in zip(figure.subplots(1, len(wanted), sharey=True), wanted, strict=True):
        plain_axes(axes, grid="both")
        for number, (name, figures) in enumerate(classifiers.items()):
            values = {one.rank: getattr(one, field) for one in figures}
            axes.plot(
                range(len(ranks)),
                [np.nan if values.get(rank) is None else values[rank] for rank in ranks],
                color=CATEGORIES[number % len(CATEGORIES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                linewidth=1.6,
                label=shortened(name, 30),
            )
        axes.set_title(title)
        axes.set_xticks(range(len(ranks)), ranks, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(-0.4, len(ranks) - 0.6)
    if len(classifiers) > 1:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=min(len(classifiers), 4))
    return figure


@drawn
def groups_figure(groups: Sequence[GroupFigures]) -> Figure:
    """Precision, sensitivity and closed-set accuracy of the reads of each length, error rate and strand.

    Args:
        groups: those with at least one row.
    """
    most = max(len(one.rows) for one in groups)
    figure = new_figure(3.5 * max(len(groups), 2), 1.9 + 0.27 * most)
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        _group_dots(axes, group, most)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3)
    return figure


def _group_dots(axes: Axes, group: GroupFigures, most: int) -> None:
    plain_axes(axes, grid="both")
    places = np.arange(len(group.rows))
    for (field, name, marker), colour in zip(
        (
            ("precision", "precision", ">"),
            ("sensitivity", "sensitivity", "<"),
            ("accuracy", "closed-set accuracy", "|"),
        ),
        (SERIES[1], SERIES[2], SERIES[0]),
        strict=True,
    ):
        values = [np.nan if getattr(row, field) is None else getattr(row, field) for row in group.rows]
        bar = {"s": 110, "linewidths": 2.2} if marker == "|" else {"s": 34}
        axes.scatter(values, places, marker=marker, color=colour, label=name, **bar)
    axes.set_yticks(places, [row.name for row in group.rows])
    axes.set_ylim(most - 0.4, -0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_title(f"By {group.kind}")
