"""Embeddings as ``.npy``, ``.parquet`` or ``.csv``, by the output's ending; written as they come."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import ConfigError
from metagene_classifier.whole_files import whole_file

__all__ = ["EmbeddingFile", "check_ending", "embedding_format", "files_of"]

ENDINGS = (".npy", ".parquet", ".csv")
Values = npt.NDArray[np.float32]


class EmbeddingFile(Protocol):
    """Takes blocks of embeddings; a format differs only in how it lays them down."""

    def __enter__(self) -> EmbeddingFile: ...
    def __exit__(self, *error: Any) -> None: ...
    def write(self, read_ids: Sequence[str], values: Values) -> None:
        """Append embeddings, ``(reads, width)``."""


def check_ending(path: Path) -> None:
    """Refuse a name that says no format.

    Raises:
        ConfigError: the ending is none of the three.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--output {path}: embeddings are written as {', '.join(ENDINGS)}: end the name so")


def embedding_format(path: Path, width: int) -> EmbeddingFile:
    """The writer for a path, by its ending.

    Raises:
        ConfigError: as :func:`check_ending`.
    """
    check_ending(path)
    formats: dict[str, type[NpyFile] | type[ParquetFile] | type[CsvFile]]
    formats = {".npy": NpyFile, ".parquet": ParquetFile, ".csv": CsvFile}
    return formats[path.suffix.lower()](path, width)


def files_of(path: Path) -> list[Path]:
    """Every file that is written for an output, the read ids beside a NumPy array among them."""
    return [path, _ids_path(path)] if path.suffix.lower() == ".npy" else [path]


def _ids_path(path: Path) -> Path:
    return path.with_suffix(".ids.txt")


class _Whole:
    """Opens and closes a file that appears under its name only when it is whole."""

    mode = "wb"

    def __init__(self, path: Path, width: int) -> None:
        self._path = path
        self._width = width
        self._whole = whole_file(path, self.mode)
        self._out: IO[Any]

    def __enter__(self) -> Any:
        self._out = self._whole.__enter__()
        self.begin()
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            try:
                self.end()
            except BaseException as problem:
                self._whole.__exit__(type(problem), problem, problem.__traceback__)
                raise
        self._whole.__exit__(*error)

    def begin(self) -> None:
        """Write what stands first."""

    def end(self) -> None:
        """Write what stands last."""


class NpyFile(_Whole):
    """A NumPy array ``(reads, width)`` float32, and beside it ``<name>.ids.txt`` with a read id a line."""

    def begin(self) -> None:
        """Leave room for the header, which is only known at the end."""
        self._rows = 0
        self._ids_whole = whole_file(_ids_path(self._path))
        self._ids = self._ids_whole.__enter__()
        self._write_header()

    def _write_header(self) -> None:
        # NumPy pads its header so that the first number can grow in place.
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._width)}
        np.lib.format.write_array_header_1_0(self._out, header)

    def write(self, read_ids: Sequence[str], values: Values) -> None:
        """Append embeddings."""
        self._out.write(np.ascontiguousarray(values, "<f4").tobytes())
        self._ids.writelines(f"{read_id}\n" for read_id in read_ids)
        self._rows += len(values)

    def end(self) -> None:
        """Put the number of rows where it belongs."""
        begin_of_data = self._out.tell() - self._rows * self._width * 4
        self._out.seek(0)
        self._write_header()
        assert self._out.tell() == begin_of_data
        self._ids_whole.__exit__(None, None, None)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if error[0] is not None:
            self._ids_whole.__exit__(*error)


class ParquetFile(_Whole):
    """Columns ``read_id`` and ``embedding`` (a list of ``width`` float32); a row group a block."""

    def begin(self) -> None:
        """Open the writer."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema([("read_id", pa.string()), ("embedding", pa.list_(pa.float32(), self._width))])
        self._writer = pq.ParquetWriter(self._out, self._schema)

    def write(self, read_ids: Sequence[str], values: Values) -> None:
        """Append embeddings."""
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(values).reshape(-1), pa.float32())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self._width)
        self._writer.write_table(pa.table([pa.array(list(read_ids), pa.string()), vectors], schema=self._schema))

    def end(self) -> None:
        """Write the footer."""
        self._writer.close()

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            # Left open, the writer would try to end a file that is closed by then, and say so on the user's screen.
            with contextlib.suppress(Exception):
                self._writer.close()
        super().__exit__(*error)


class CsvFile(_Whole):
    """Columns ``read_id``, ``e0``, ``e1``, …"""

    mode = "w"

    def begin(self) -> None:
        """Write the header row."""
        self._writer = csv.writer(self._out, lineterminator="\n")
        self._writer.writerow(["read_id", *(f"e{column}" for column in range(self._width))])

    def write(self, read_ids: Sequence[str], values: Values) -> None:
        """Append embeddings."""
        self._writer.writerows(
            [read_id, *(f"{value:.7g}" for value in row)]
            for read_id, row in zip(read_ids, values.tolist(), strict=True)
        )
