"""Calls as CSV: one row a read, in input order."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import IO

from metagene_classifier.prediction.calls import Call

__all__ = ["CallsCsv"]

COLUMNS = ("read_id", "call", "taxid", "rank", "confidence", "length_bp", "reason")


class CallsCsv:
    """Writes calls as they come.

    Args:
        out: an open text file.
        labels: given, a column ``prob_<label>`` is added for each.
    """

    def __init__(self, out: IO[str], labels: list[str] | None) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._with_probabilities = labels is not None
        self._writer.writerow([*COLUMNS, *(f"prob_{label}" for label in labels or [])])

    def write(self, calls: Iterable[Call]) -> None:
        """Append a row for each call."""
        self._writer.writerows(self._row(call) for call in calls)

    def _row(self, call: Call) -> list[object]:
        row: list[object] = [
            call.read_id,
            call.call,
            call.taxid if call.taxid is not None else "",
            call.rank,
            f"{call.confidence:.6f}",
            call.length_bp,
            call.reason,
        ]
        if self._with_probabilities:
            row += [f"{probability:.6f}" for probability in call.probabilities.tolist()]
        return row
