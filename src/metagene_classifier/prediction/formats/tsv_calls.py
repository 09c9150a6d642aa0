"""Calls as TSV: the columns of the CSV, and never a tab or a line end within a cell."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter, text_calls

__all__ = ["open_calls"]


def open_calls(path: Path, context: FormatContext) -> AbstractContextManager[ReadWriter]:
    """Calls as TSV; a context manager.

    Raises:
        OutputError: the file cannot be written.
    """
    text = CallsCsv(context.labels.names if context.probabilities else None, context.tree, tabs=True)
    return text_calls(path, text.header(), text.rows)
