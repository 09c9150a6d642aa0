"""A confusion matrix as a table of coloured cells, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["HeatCell", "HeatMap", "confusion_heat_map", "short_share"]

WITH_COUNTS = 12
WITH_SHARES = 22
FAINTEST = 7
"""Per cent of the heat colour by which a cell with any read differs from an empty one."""
# The page's --heat and --page, light and dark: the colour of the text on a cell follows from them.
HEAT = ((0x00, 0x62, 0x9F), (0x56, 0xB4, 0xE9))
PAGE = ((0xFF, 0xFF, 0xFF), (0x12, 0x16, 0x1B))


@dataclass(frozen=True, slots=True)
class HeatCell:
    """Reads of one class, or group, that were called as another.

    Attributes:
        reads: how many; a cell without any is left empty.
        share: of the row's reads.
        colour: how much of the heat colour the cell has, in per cent.
        white_in_light: text on it is white in the light scheme, not black.
        black_in_dark: text on it is black in the dark scheme, not white.
    """

    reads: int
    share: float
    colour: int
    white_in_light: bool
    black_in_dark: bool

    @property
    def share_text(self) -> str:
        """In whole per cent; what is neither none nor all is never shown as 0% or 100%."""
        return short_share(self.share)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Rows are the truth, columns the calls; both have the same names.

    Attributes:
        caption: its title.
        names: of rows and columns.
        cells: row by row; ``None`` where no read is.
        totals: reads of each row.
        note: how to read it.
    """

    caption: str
    names: Sequence[str]
    cells: Sequence[Sequence[HeatCell | None]]
    totals: Sequence[int]
    note: str = ""

    @property
    def shows_counts(self) -> bool:
        """Whether cells have room for counts."""
        return len(self.names) <= WITH_COUNTS

    @property
    def shows_shares(self) -> bool:
        """Whether cells have room for shares."""
        return len(self.names) <= WITH_SHARES


def confusion_heat_map(
    confusion: npt.NDArray[np.integer[Any]], names: Sequence[str], *, caption: str, note: str = ""
) -> HeatMap:
    """Colour every cell by its share of the row's reads.

    Args:
        confusion: counts, ``(names, names)``; rows are the truth.
        names: of classes or groups.
        caption: title of the table.
        note: how to read it.
    """
    totals = confusion.sum(axis=1)
    # With many cells the square root lifts confusions of a few per cent into sight.
    power = 1.0 if len(names) <= WITH_SHARES else 0.5
    rows: list[list[HeatCell | None]] = []
    for counts, total in zip(confusion.tolist(), totals.tolist(), strict=True):
        rows.append([_cell(reads, reads / total, power) if reads else None for reads in counts])
    return HeatMap(caption, list(names), rows, totals.tolist(), note)


def short_share(share: float) -> str:
    """A share in whole per cent; what is neither none nor all is never shown as 0% or 100%."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _cell(reads: int, share: float, power: float) -> HeatCell:
    colour = max(FAINTEST, round(100 * math.pow(share, power)))
    light, dark = (_luminance(_mixed(HEAT[scheme], PAGE[scheme], colour / 100)) for scheme in (0, 1))
    return HeatCell(reads, share, colour, light < _EVEN, dark > _EVEN)


# Where black and white have the same contrast (4.58:1), by the formula of WCAG 2.2.
_EVEN = math.sqrt(1.05 * 0.05) - 0.05


def _mixed(colour: Sequence[int], page: Sequence[int], part: float) -> list[float]:
    return [part * one + (1 - part) * other for one, other in zip(colour, page, strict=True)]


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour, 0 to 255 each (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    linear = [
        value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
