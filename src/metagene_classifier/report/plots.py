"""The pictures of a report, each readable for three classes and for thousands.

Every function returns a matplotlib figure; ``drawing.save_png`` and ``drawing.svg_text`` write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_classifier.metrics.classification import METRIC_NAMES
from metagene_classifier.report.drawing import (
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

    from metagene_classifier.metrics.classification import ClassFigures

__all__ = ["per_class_figure", "reads_per_class_figure", "training_curves_figure"]

# Up to here every class has a labelled row of its own.
_ROWS = 40
_ROW_IN = 0.24


@drawn
def training_curves_figure(history: Sequence[Mapping[str, Any]], primary: str = "macro_f1") -> Figure:
    """Loss, the primary metric and the learning rate over the optimizer's steps.

    Args:
        history: log entries with ``step`` and any of ``loss`` (training), ``eval_loss``, ``eval_<primary>`` and
            ``learning_rate``, as ``transformers.Trainer`` logs them; others are passed over.
        primary: the metric that chose the best model.
    """
    curves = {key: _curve(history, key) for key in ("loss", "eval_loss", f"eval_{primary}", "learning_rate")}
    figure = new_figure(9.6, 3.1)
    loss, metric, rate = figure.subplots(1, 3, sharex=True)
    for axes, title in ((loss, "Loss"), (metric, METRIC_NAMES.get(primary, primary)), (rate, "Learning rate")):
        axes.set_title(title)
        axes.set_xlabel("step")
        plain_axes(axes, grid="y")
    _line(loss, curves["loss"], SERIES[0], "training", marker="")
    _line(loss, curves["eval_loss"], SERIES[1], "validation", marker="o")
    if len(loss.lines) > 1:
        loss.legend()
    _line(metric, curves[f"eval_{primary}"], SERIES[1], "validation", marker="o")
    _line(rate, curves["learning_rate"], SERIES[0], "", marker="")
    rate.locator_params(axis="y", nbins=4)
    rate.yaxis.set_major_formatter("{x:.1e}")
    for axes in (loss, metric, rate):
        axes.locator_params(axis="x", nbins=5, integer=True)
        if not axes.lines:
            axes.set_yticks([])
            axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=MUTED, transform=axes.transAxes)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (entry["step"], entry[key]) for entry in history if "step" in entry and isinstance(entry.get(key), (int, float))
    ]
    return [float(step) for step, _ in points], [float(value) for _, value in points]


def _line(axes: Axes, curve: tuple[list[float], list[float]], colour: str, name: str, *, marker: str) -> None:
    if curve[0]:
        # One point alone would draw no line.
        marker = marker if len(curve[0]) > 1 else "o"
        axes.plot(*curve, color=colour, label=name, marker=marker, markersize=4, linewidth=1.6)


@drawn
def reads_per_class_figure(counts: Mapping[str, Sequence[int]], labels: Sequence[str]) -> Figure:
    """Reads of each class, largest first; for many classes the curve of counts by rank.

    Args:
        counts: up to three sets of reads (``{"training": …, "validation": …}``), each (classes,).
        labels: (classes,).
    """
    series = {name: np.asarray(values, dtype=np.int64) for name, values in counts.items()}
    order = np.argsort(-next(iter(series.values())), kind="stable")
    if len(labels) <= _ROWS:
        return _count_bars(series, labels, order)
    figure = new_figure(9.6, 3.6)
    axes = figure.subplots()
    plain_axes(axes, grid="y")
    rank = np.arange(1, len(labels) + 1)
    for colour, (name, values) in zip(SERIES, series.items(), strict=False):
        falling = np.sort(values)[::-1]
        empty = int((falling == 0).sum())
        legend = f"{name}: {falling[0]:,} to {falling[-1]:,}, median {int(np.median(falling)):,}"
        legend += f"; {empty:,} with none" if empty else ""
        axes.step(rank, np.where(falling > 0, falling, np.nan), where="mid", color=colour, label=legend, linewidth=1.6)
    axes.set_yscale("log")
    _plain_log_ticks(axes)
    axes.set_xlabel(f"the {len(labels):,} classes, the largest first")
    axes.set_ylabel("reads")
    axes.set_xlim(1, len(labels))
    figure.legend(loc="outside upper left")
    return figure


def _plain_log_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _count_bars(
    series: Mapping[str, np.ndarray[Any, Any]], labels: Sequence[str], order: np.ndarray[Any, Any]
) -> Figure:
    bar_in = _ROW_IN if len(series) == 1 else 0.16
    figure = new_figure(9.6, 0.9 + len(labels) * (bar_in * len(series) + 0.05))
    axes = figure.subplots()
    plain_axes(axes, grid="x")
    axes.spines["bottom"].set_visible(False)
    thickness = 0.8 / len(series)
    rows = np.arange(len(labels))
    for number, (colour, (name, values)) in enumerate(zip(SERIES, series.items(), strict=False)):
        offset = (number - (len(series) - 1) / 2) * thickness
        bars = axes.barh(rows + offset, values[order], thickness * 0.9, color=colour, label=name)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8, color=MUTED)
    _class_rows(axes, [labels[index] for index in order])
    axes.set_xlabel("reads")
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=6, integer=True)
    if len(series) > 1:
        figure.legend(loc="outside upper left", ncols=len(series))
    return figure


def _class_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows from the top downwards."""
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)


@drawn
def per_class_figure(per_class: Sequence[ClassFigures]) -> Figure:
    """Precision, recall and F1 of every class that has reads, best F1 first; for many, the worst and the spread."""
    present = sorted((one for one in per_class if one.support > 0), key=lambda one: -one.f1)
    if len(present) <= _ROWS:
        figure = new_figure(9.6, 1.2 + _ROW_IN * max(len(present), 2))
        _dots(figure.subplots(), present)
    else:
        worst = present[-20:]
        figure = new_figure(9.6, 1.5 + _ROW_IN * len(worst))
        spread, axes = figure.subplots(1, 2, width_ratios=[1, 1.15])
        f1 = [one.f1 for one in present]
        spread.hist(f1, bins=20, range=(0, 1), color=SERIES[0], rwidth=0.9)
        plain_axes(spread, grid="y")
        spread.set_title(f"F1 of {len(present):,} classes, median {np.median(f1):.3f}")
        spread.set_xlabel("F1")
        spread.set_ylabel("classes")
        spread.locator_params(axis="y", integer=True)
        axes.set_title("The 20 classes of lowest F1")
        _dots(axes, worst)
    handles, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=3)
    return figure


def _dots(axes: Axes, rows: Sequence[ClassFigures]) -> None:
    plain_axes(axes, grid="x")
    axes.grid(axis="y", color=MUTED, alpha=0.15, linewidth=0.7)
    places = np.arange(len(rows))
    # The three often coincide: forms that show through each other.
    axes.scatter([one.precision for one in rows], places, marker=">", s=34, color=SERIES[1], label="precision")
    axes.scatter([one.recall for one in rows], places, marker="<", s=34, color=SERIES[2], label="recall")
    axes.scatter([one.f1 for one in rows], places, marker="|", s=110, linewidths=2.2, color=SERIES[0], label="F1")
    _class_rows(axes, [one.label for one in rows])
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="x", labelcolor=INK)
