"""Pictures of what is in samples: stacked bars, abundances with intervals, histograms of reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.report.drawing import (
    CATEGORIES,
    EDGE,
    INK,
    MUTED,
    OTHER,
    drawn,
    new_figure,
    plain_axes,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Histogram", "Interval", "histograms_figure", "intervals_figure", "stacked_bars_figure"]

ROW_IN = 0.3
LEGEND_ROW_IN = 0.19
LEGEND_COLUMNS = 3
FEWEST_BASES = 20
"""Of the axis of lengths, so that reads of one length are a bar and no wall."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True)
class Interval:
    """An abundance with its interval; the ends are ``None`` where none was estimated."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Histogram:
    """Reads in bins; ``edges`` is one longer than ``counts``."""

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


@drawn
def stacked_bars_figure(
    samples: Sequence[str],
    taxa: Mapping[str, Sequence[float]],
    other: Mapping[str, Sequence[float]],
    unclassified: Sequence[float],
) -> Figure:
    """A bar for each sample: shares of the commonest taxa, of the rest, and of unclassified reads.

    Args:
        samples: names.
        taxa: of each taxon its share in each sample; as many taxa as there are colours.
        other: what is called but has no colour of its own, likewise; two at most.
        unclassified: share in each sample.
    """
    places = np.arange(len(samples))
    start = np.zeros(len(samples))
    series: list[tuple[str, Sequence[float], dict[str, Any]]] = [
        (name, shares, {"color": colour}) for (name, shares), colour in zip(taxa.items(), CATEGORIES, strict=False)
    ]
    series += [
        (name, shares, {"color": OTHER, "hatch": hatch})
        for (name, shares), hatch in zip(other.items(), (None, "...."), strict=False)
    ]
    series.append(("unclassified", unclassified, {"facecolor": "none", "hatch": "////"}))
    series = [one for one in series if any(one[1])]
    figure = new_figure(10.2, 0.9 + LEGEND_ROW_IN * -(-len(series) // LEGEND_COLUMNS) + ROW_IN * len(samples))
    axes = figure.subplots()
    axes.set_axisbelow(True)
    for name, shares, look in series:
        axes.barh(places, shares, 0.74, left=start, edgecolor=EDGE, linewidth=0.8, label=shortened(name, 40), **look)
        start = start + np.asarray(shares)
    axes.set_yticks(places, [shortened(name, 28) for name in samples])
    axes.set_ylim(len(samples) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("share of the reads")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=LEGEND_COLUMNS)
    return figure


@drawn
def intervals_figure(samples: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Abundances with their intervals, a row for each taxon, and a mark for each sample.

    Args:
        samples: by name, of each taxon its abundance; up to as many samples as there are colours.
    """
    from matplotlib.ticker import PercentFormatter

    taxa = list(dict.fromkeys(name for rows in samples.values() for name in rows))
    figure = new_figure(9.6, 1.1 + max(0.26, 0.13 * len(samples) + 0.12) * len(taxa) + 0.3 * (len(samples) > 1))
    axes = figure.subplots()
    plain_axes(axes, grid="x")
    step = 0.7 / max(len(samples), 1)
    for number, (name, rows) in enumerate(samples.items()):
        offset = (number - (len(samples) - 1) / 2) * step
        colour = CATEGORIES[number % len(CATEGORIES)]
        shown = [(place + offset, rows[taxon]) for place, taxon in enumerate(taxa) if taxon in rows]
        for place, one in shown:
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot(
            [one.value for _, one in shown],
            [place for place, _ in shown],
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linestyle="",
            markersize=5.5,
            label=shortened(name, 30),
        )
    axes.set_yticks(range(len(taxa)), [shortened(taxon, 40) for taxon in taxa])
    axes.set_ylim(len(taxa) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_xlabel("estimated abundance")
    if len(samples) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


@drawn
def histograms_figure(lengths: Mapping[str, Histogram], confidences: Mapping[str, Histogram]) -> Figure:
    """Reads by length and by confidence, as shares of each sample's reads.

    Args:
        lengths: in bases, by sample.
        confidences: 0 to 1, by sample.
    """
    from matplotlib.ticker import PercentFormatter

    figure = new_figure(10.2, 3.5)
    left, right = figure.subplots(1, 2)
    for axes, histograms, name in ((left, lengths, "length in bases"), (right, confidences, "confidence")):
        plain_axes(axes, grid="y")
        _steps(axes, histograms)
        axes.set_xlabel(name)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0)
    left.set_ylabel("share of the reads")
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.locator_params(axis="x", nbins=7, integer=True)
    low, high = left.get_xlim()
    missing = max(0.0, FEWEST_BASES - (high - low)) / 2
    left.set_xlim(max(0.0, low - missing), high + missing)
    right.set_xlim(0, 1)
    if len(lengths) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    else:
        right.set_ylabel("share of the reads", color=MUTED)
    return figure


def _steps(axes: Axes, histograms: Mapping[str, Histogram]) -> None:
    for number, (name, one) in enumerate(histograms.items()):
        total = one.counts.sum()
        if not total:
            continue
        colour = CATEGORIES[number % len(CATEGORIES)]
        style = ("-", "--", "-.", ":")[number // len(CATEGORIES) % 4]
        axes.stairs(
            one.counts / total,
            one.edges,
            color=colour,
            linestyle=style,
            linewidth=1.7,
            fill=False,
            label=shortened(name, 30),
        )
