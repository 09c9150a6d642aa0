"""The confusion matrix as a picture: cells with figures for few classes, the worst confusions by name for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_classifier.report.drawing import GRID, INK, MUTED, drawn, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from metagene_classifier.report.class_groups import ClassGroups

__all__ = ["Confusion", "all_classes_figure", "confusion_matrix_figure", "worst_confusions"]

_CELLS_WITH_COUNTS = 12
_CELLS_WITH_TEXT = 25
_NAMED_CLASSES = 40
# More rows than this would be thinner than a dot of the picture: neighbouring classes are summed.
_DRAWN_ROWS = 500
# Dots large enough to be seen one by one.
_DOTS = 260
_WORST_PAIRS = 16

_CELL_DARK, _CELL_LIGHT, _NO_READS = "#111111", "#fefefe", "#e3e3e3"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Reads of class ``truth`` that were called ``called``, and their share of that class's reads."""

    truth: str
    called: str
    reads: int
    share: float


def worst_confusions(confusion: np.ndarray[Any, Any], labels: Sequence[str], limit: int) -> list[Confusion]:
    """The pairs of different classes with the most reads between them, at most ``limit``.

    Args:
        confusion: counts, (classes, classes); rows are the truth.
        labels: (classes,).
        limit: pairs at most.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    flat = wrong.ravel()
    limit = min(limit, flat.size)
    largest = np.argpartition(-flat, limit - 1)[:limit]
    largest = largest[np.lexsort((largest, -flat[largest]))]
    pairs = [(int(cell) // len(labels), int(cell) % len(labels)) for cell in largest if flat[cell] > 0]
    return [
        Confusion(
            labels[truth],
            labels[called],
            int(confusion[truth, called]),
            float(confusion[truth, called] / confusion[truth].sum()),
        )
        for truth, called in pairs
    ]


@drawn
def confusion_matrix_figure(confusion: np.ndarray[Any, Any], labels: Sequence[str]) -> Figure:
    """Rows are the truth and sum to 1 in colour; a grey row is a class without reads.

    Args:
        confusion: counts, (classes, classes).
        labels: (classes,).
    """
    classes = len(labels)
    if classes <= _CELLS_WITH_TEXT:
        side = max(2.2, (0.52 if classes <= _CELLS_WITH_COUNTS else 0.4) * classes)
        figure = new_figure(side + 3.6, side + 2.1)
        axes = figure.subplots()
        shares = _row_shares(confusion)
        _draw(axes, shares, gamma=1.0)
        _cell_texts(axes, confusion, shares)
    else:
        figure = new_figure(12.6, 7.6)
        axes, listing = figure.subplots(1, 2, width_ratios=[1.35, 1])
        grouped, size = _grouped(confusion)
        # The square root lifts confusions of a few per cent into sight.
        _draw(axes, _row_shares(grouped), gamma=0.5)
        if size > 1:
            axes.set_title(f"each cell is {size} x {size} classes")
        _list_worst(listing, worst_confusions(confusion, labels, _WORST_PAIRS))
    _name_classes(axes, labels, drawn_rows=axes.images[0].get_array().shape[0])  # type: ignore[union-attr]
    axes.set_ylabel("true class")
    axes.set_xlabel("called as")
    return figure


@drawn
def all_classes_figure(confusion: np.ndarray[Any, Any], groups: ClassGroups) -> Figure:
    """Every class a row and a column, in the order of its groups; transparent where no read is.

    Args:
        confusion: counts, (classes, classes); rows are the truth.
        groups: of the classes.
    """
    order = groups.order
    summed, size = _grouped(confusion[np.ix_(order, order)], _DOTS)
    shares = _row_shares(summed).filled(0)
    # One dark blue that shows on a white page and on a dark one; few reads are faint. A dot must be seen at all.
    cells = np.zeros((*shares.shape, 4), np.uint8)
    cells[..., :3] = (0x2F, 0x8E, 0xD3)
    cells[..., 3] = np.where(shares > 0, 105 + 150 * np.sqrt(shares), 0).astype(np.uint8)
    figure = new_figure(9.2, 7.6)
    axes = figure.subplots()
    axes.imshow(cells, interpolation="none")
    ends = np.cumsum([len(members) for members in groups.members]) / size
    starts = np.concatenate([[0.0], ends[:-1]])
    for end in ends[:-1]:
        for line in (axes.axhline, axes.axvline):
            line(end - 0.5, color=GRID, linewidth=0.5, zorder=0)
    far_enough = _apart((starts + ends) / 2, len(shares) / 42)
    axes.set_yticks(
        [float((starts[at] + ends[at]) / 2) - 0.5 for at in far_enough],
        [shortened(groups.names[at], 34) for at in far_enough],
        fontsize=7.5,
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GRID)
    axes.set_xlabel("called as" + (f"; each dot is {size} x {size} classes" if size > 1 else ""))
    axes.set_ylabel("true class")
    return figure


def _apart(places: np.ndarray[Any, Any], least: float) -> list[int]:
    """Which of ascending places can be named without their names running into each other."""
    kept: list[int] = []
    for number, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= least:
            kept.append(number)
    return kept


def _row_shares(confusion: np.ndarray[Any, Any]) -> np.ma.MaskedArray[Any, Any]:
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    return np.ma.masked_array(shares, mask=np.broadcast_to(totals == 0, shares.shape))


def _grouped(confusion: np.ndarray[Any, Any], most: int = _DRAWN_ROWS) -> tuple[np.ndarray[Any, Any], int]:
    """Sum neighbouring classes until at most ``most`` rows are left; also how many make one."""
    size = -(-len(confusion) // most)
    starts = np.arange(0, len(confusion), size)
    return np.add.reduceat(np.add.reduceat(confusion, starts, axis=0), starts, axis=1), size


def _draw(axes: Axes, shares: np.ma.MaskedArray[Any, Any], *, gamma: float) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    colours = colormaps["Blues"].with_extremes(bad=_NO_READS)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(gamma, 0, 1), interpolation="none")
    ticks = [0, 0.25, 0.5, 0.75, 1] if gamma == 1 else [0, 0.01, 0.05, 0.25, 0.5, 0.75, 1]
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, ticks=ticks, format="{x:.0%}")
    bar.set_label("share of the true class's reads")
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.set_anchor("N")


def _cell_texts(axes: Axes, confusion: np.ndarray[Any, Any], shares: np.ma.MaskedArray[Any, Any]) -> None:
    with_counts = len(confusion) <= _CELLS_WITH_COUNTS
    for row, column in zip(*np.nonzero(confusion), strict=True):
        share = float(shares[row, column])
        text = f"{share:.0%}" if share >= 0.005 else "<1%"
        if with_counts:
            text += f"\n{confusion[row, column]:,}"
        colour = _CELL_LIGHT if share > 0.55 else _CELL_DARK
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5, linespacing=1.25)


def _name_classes(axes: Axes, labels: Sequence[str], *, drawn_rows: int) -> None:
    group = -(-len(labels) // drawn_rows)
    every = -(-drawn_rows // _NAMED_CLASSES)
    places = range(0, drawn_rows, every)
    names = [shortened(labels[place * group], 30) for place in places]
    size = 8.5 if len(labels) <= _CELLS_WITH_TEXT else 7
    axes.set_xticks(places, names, rotation=90 if len(names) > 12 else 45, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    if len(names) <= 12:
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=2 if every > 1 else 0)


def _list_worst(axes: Axes, pairs: Sequence[Confusion]) -> None:
    axes.axis("off")
    axes.set_title("Most confused: true class, then what it was called" if pairs else "No read was called wrong")
    for number, pair in enumerate(pairs):
        height = 1 - (number + 0.5) / _WORST_PAIRS
        share = f"{pair.share:.0%}" if pair.share >= 0.005 else "<1%"
        axes.text(0.0, height, f"{pair.reads:,} reads ({share})", va="center", fontsize=8, color=MUTED)
        name = f"{shortened(pair.truth, 44)}\n→ {shortened(pair.called, 44)}"
        axes.text(0.27, height, name, va="center", fontsize=8, color=INK)
