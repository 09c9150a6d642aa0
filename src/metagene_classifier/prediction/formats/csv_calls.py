"""Calls as CSV or TSV: one row a read or pair, in input order."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter, one_line, text_calls

__all__ = ["COLUMNS", "CallsCsv", "Lineages", "open_calls"]

COLUMNS = ("read_id", "call", "taxid", "rank", "confidence", "length_bp", "reason")
LINEAGE = "lineage"
"""A column more, where there is a taxonomy."""
# So many numbers are turned into text at once: few enough for the processor's cache.
NUMBERS_AT_ONCE = 2**16
# The last one is that of 1000 thousandths, whose first digit stands before the point.
_DIGITS = np.frombuffer("".join(f"{number % 1000:03d}" for number in range(1001)).encode(), np.uint8).reshape(1001, 3)


class Lineages:
    """The names above a call and its own, ``;`` between them; each lineage is put together once.

    Args:
        tree: of the classes.
    """

    def __init__(self, tree: ClassTree) -> None:
        self._tree = tree
        self._known: dict[int, str] = {0: ""}

    def of(self, taxon: int) -> str:
        """Of a taxon of the tree; empty for the root."""
        if taxon not in self._known:
            self._known[taxon] = self._tree.lineage_names(taxon)
        return self._known[taxon]


class CallsCsv:
    """The text of a CSV of calls, a piece at a time, so that whoever writes it knows where each piece ends.

    Args:
        labels: given, a column ``prob_<label>`` is added for each.
        tree: given with a taxonomy, a column ``lineage`` follows ``reason``.
        tabs: cells are parted by tabs, and what could part cells or lines within one is a space.
    """

    def __init__(self, labels: list[str] | None, tree: ClassTree | None = None, *, tabs: bool = False) -> None:
        self._labels = labels
        self._lineages = Lineages(tree) if tree is not None and tree.has_taxonomy else None
        self._separator = "\t" if tabs else ","
        self._tabs = tabs

    def header(self) -> str:
        """The row of the columns' names."""
        lineage = [LINEAGE] if self._lineages else []
        return "".join(self._lines([[*COLUMNS, *lineage, *(f"prob_{label}" for label in self._labels or [])]]))

    def rows(self, calls: Iterable[Call]) -> str:
        """A row for each call."""
        if self._labels is None:
            return "".join(self._lines(map(self._cells, calls)))
        held = list(calls)
        lines = self._lines(map(self._cells, held))
        return "".join(
            f"{line[:-1]}{probabilities}\n"
            for line, probabilities in zip(
                lines, _probability_cells(held, len(self._labels), self._separator), strict=True
            )
        )

    def _cells(self, call: Call) -> tuple[object, ...]:
        cells = (
            call.read_id,
            call.call,
            call.taxid,
            call.rank,
            f"{call.confidence:.6f}",
            call.length_bp,
            call.reason,
        )
        return cells if self._lineages is None else (*cells, self._lineages.of(call.taxon))

    def _lines(self, rows: Iterable[Iterable[object]]) -> list[str]:
        if self._tabs:
            rows = ([one_line(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        lines = _Lines()
        csv.writer(lines, delimiter=self._separator, lineterminator="\n").writerows(rows)
        return lines


def open_calls(path: Path, context: FormatContext) -> AbstractContextManager[ReadWriter]:
    """Calls as CSV; a context manager.

    Raises:
        OutputError: the file cannot be written.
    """
    text = CallsCsv(context.labels.names if context.probabilities else None, context.tree)
    return text_calls(path, text.header(), text.rows)


class _Lines(list[str]):
    """What a writer of the standard library writes to: a line for each row, line ends inside cells and all."""

    write = list.append


def _probability_cells(calls: list[Call], classes: int, separator: str) -> Iterator[str]:
    """``,0.250000,0.750000`` for each call."""
    at_once = max(1, NUMBERS_AT_ONCE // classes)
    for start in range(0, len(calls), at_once):
        yield from _six_decimals(np.stack([call.probabilities for call in calls[start : start + at_once]]), separator)


def _six_decimals(values: npt.NDArray[np.float32], separator: str) -> Iterator[str]:
    """Each row as text, a separator before each number; what ``format(value, ".6f")`` gives, many times faster.

    Args:
        values: ``(rows, columns)``.
    """
    if not ((values >= 0) & (values <= 1)).all():  # what is no number is neither
        yield from ("".join(f"{separator}{value:.6f}" for value in row) for row in values.tolist())
        return
    # 24 bits of a float32 and 20 of a million fit into a float64: the product is exact, and ties go to even in both.
    millionths = np.rint(values.astype(np.float64) * 1e6).astype(np.int32)
    thousandths = millionths // 1000
    text = np.empty((*values.shape, 9), np.uint8)
    text[..., 0] = ord(separator)
    text[..., 1] = ord("0") + (thousandths == 1000)
    text[..., 2] = ord(".")
    text[..., 3:6] = _DIGITS[thousandths]
    text[..., 6:9] = _DIGITS[millionths - 1000 * thousandths]
    joined = text.tobytes().decode("ascii")
    width = 9 * values.shape[1]
    yield from (joined[start : start + width] for start in range(0, len(joined), width))
