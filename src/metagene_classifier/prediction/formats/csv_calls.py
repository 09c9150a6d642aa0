"""Calls as CSV: one row a read, in input order."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from metagene_classifier.prediction.calls import Call

__all__ = ["CallsCsv"]

COLUMNS = ("read_id", "call", "taxid", "rank", "confidence", "length_bp", "reason")
# So many numbers are turned into text at once: few enough for the processor's cache.
NUMBERS_AT_ONCE = 2**16
# The last one is that of 1000 thousandths, whose first digit stands before the point.
_DIGITS = np.frombuffer("".join(f"{number % 1000:03d}" for number in range(1001)).encode(), np.uint8).reshape(1001, 3)


class CallsCsv:
    """The text of a CSV of calls, a piece at a time, so that whoever writes it knows where each piece ends.

    Args:
        labels: given, a column ``prob_<label>`` is added for each.
    """

    def __init__(self, labels: list[str] | None) -> None:
        self._labels = labels

    def header(self) -> str:
        """The row of the columns' names."""
        return "".join(_lines([[*COLUMNS, *(f"prob_{label}" for label in self._labels or [])]]))

    def rows(self, calls: Iterable[Call]) -> str:
        """A row for each call."""
        if self._labels is None:
            return "".join(_lines(map(_cells, calls)))
        held = list(calls)
        lines = _lines(map(_cells, held))
        return "".join(
            f"{line[:-1]}{probabilities}\n"
            for line, probabilities in zip(lines, _probability_cells(held, len(self._labels)), strict=True)
        )


def _cells(call: Call) -> tuple[object, ...]:
    return (
        call.read_id,
        call.call,
        call.taxid,
        call.rank,
        f"{call.confidence:.6f}",
        call.length_bp,
        call.reason,
    )


class _Lines(list[str]):
    """What a writer of the standard library writes to: a line for each row, line ends inside cells and all."""

    write = list.append


def _lines(rows: Iterable[Iterable[object]]) -> list[str]:
    lines = _Lines()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines


def _probability_cells(calls: list[Call], classes: int) -> Iterator[str]:
    """``,0.250000,0.750000`` for each call."""
    at_once = max(1, NUMBERS_AT_ONCE // classes)
    for start in range(0, len(calls), at_once):
        yield from _six_decimals(np.stack([call.probabilities for call in calls[start : start + at_once]]))


def _six_decimals(values: npt.NDArray[np.float32]) -> Iterator[str]:
    """Each row as text, a comma before each number; what ``format(value, ".6f")`` gives, many times faster.

    Args:
        values: ``(rows, columns)``.
    """
    if not ((values >= 0) & (values <= 1)).all():  # what is no number is neither
        yield from ("".join(f",{value:.6f}" for value in row) for row in values.tolist())
        return
    # 24 bits of a float32 and 20 of a million fit into a float64: the product is exact, and ties go to even in both.
    millionths = np.rint(values.astype(np.float64) * 1e6).astype(np.int32)
    thousandths = millionths // 1000
    text = np.empty((*values.shape, 9), np.uint8)
    text[..., 0] = ord(",")
    text[..., 1] = ord("0") + (thousandths == 1000)
    text[..., 2] = ord(".")
    text[..., 3:6] = _DIGITS[thousandths]
    text[..., 6:9] = _DIGITS[millionths - 1000 * thousandths]
    joined = text.tobytes().decode("ascii")
    width = 9 * values.shape[1]
    yield from (joined[start : start + width] for start in range(0, len(joined), width))
