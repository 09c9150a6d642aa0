"""Calls as Parquet: the columns of the CSV with types, written as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.formats.csv_calls import COLUMNS, LINEAGE, Lineages
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["open_calls"]

ROWS_AT_ONCE = 2**16
VALUES_AT_ONCE = 2**24
"""Of probabilities in a row group, at most: 64 MiB."""


class _ParquetCalls:
    """Gathers calls into row groups: small ones make large files that are slow to read."""

    def __init__(self, out: Any, context: FormatContext) -> None:
        import pyarrow.parquet as pq

        self._labels = context.labels.names if context.probabilities else []
        self._lineages = Lineages(context.tree) if context.tree.has_taxonomy else None
        self._schema = self._schema_of(context)
        self._writer = pq.ParquetWriter(out, self._schema, compression="zstd")
        self._rows_at_once = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, len(self._labels))))
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def _schema_of(self, context: FormatContext) -> pa.Schema:
        import pyarrow as pa

        words = pa.dictionary(pa.int32(), pa.string())
        types = (pa.string(), words, pa.int32(), words, pa.float64(), pa.int64(), words)
        columns = list(zip(COLUMNS, types, strict=True))
        if self._lineages:
            columns.append((LINEAGE, words))
        columns += [(f"prob_{label}", pa.float32()) for label in self._labels]
        return pa.schema(columns, metadata={"sample": context.sample, "program": context.program})

    def write(self, calls: Sequence[Call]) -> None:
        """Append calls."""
        import pyarrow as pa

        columns = [
            pa.array([call.read_id for call in calls], pa.string()),
            _words([call.call for call in calls]),
            pa.array([call.taxid for call in calls], pa.int32()),
            _words([call.rank for call in calls]),
            pa.array([call.confidence for call in calls], pa.float64()),
            pa.array([call.length_bp for call in calls], pa.int64()),
            _words([call.reason for call in calls]),
        ]
        if self._lineages:
            columns.append(_words([self._lineages.of(call.taxon) for call in calls]))
        if self._labels:
            values = np.array([call.probabilities for call in calls], np.float32).reshape(-1, len(self._labels))
            columns += [pa.array(column, pa.float32()) for column in np.ascontiguousarray(values.T)]
        self._held.append(pa.record_batch(columns, schema=self._schema))
        self._rows += len(calls)
        if self._rows >= self._rows_at_once:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema), row_group_size=self._rows)
        self._held, self._rows = [], 0

    def close(self) -> None:
        """Write what is held and the footer, without which nothing can be read."""
        self._write_group()
        self._writer.close()


def _words(texts: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(texts, pa.string()).dictionary_encode()


@contextlib.contextmanager
def open_calls(path: Path, context: FormatContext) -> Iterator[ReadWriter]:
    """Calls as Parquet; a context manager. Broken off, the ``.partial`` that stays can be read all the same.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path, "wb", keep_partial=True) as out:
        writer = _ParquetCalls(out, context)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(Exception):  # the reason why it broke off matters more
                writer.close()
            raise
        writer.close()
