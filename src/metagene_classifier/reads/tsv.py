"""Tab-separated tables, with the line of whatever is wrong in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError, nearest

__all__ = ["Row", "table_rows", "tsv_rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """A line's number in its file (from 1) and its cells, without the white space and quotes around them."""

    line: int
    cells: tuple[str, ...]

    def cell(self, place: int) -> str:
        """The cell at ``place``; empty where the line is too short."""
        return self.cells[place] if place < len(self.cells) else ""

    def needed(self, path: Path, place: int, column: str) -> str:
        """The cell at ``place``.

        Raises:
            DataError: it is empty.
        """
        text = self.cell(place)
        if not text:
            raise DataError(f"{path}, line {self.line}: {column} is empty")
        return text


def tsv_rows(path: Path) -> Iterator[Row]:
    """The lines of a tab-separated file that are not blank. A byte order mark and CRLF do no harm.

    Raises:
        DataError: the file cannot be read, is not text, or holds nothing.
    """
    empty = True
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    empty = False
                    yield Row(number, tuple(map(_plain, line.rstrip("\n").split("\t"))))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (UTF-8): expected tab-separated columns") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if empty:
        raise DataError(f"{path}: empty: expected tab-separated columns")


def _plain(cell: str) -> str:
    """A cell without the white space around it, and without the quotes that R and spreadsheets put there."""
    cell = cell.strip()
    quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"').strip() if quoted else cell


def table_rows(path: Path, needed: Sequence[str]) -> tuple[dict[str, int], Iterator[Row]]:
    """The place of every column that the header row names, and the rows below it.

    Raises:
        DataError: a column of ``needed`` is missing.
    """
    rows = tsv_rows(path)
    header = next(rows)
    columns = {name: place for place, name in enumerate(header.cells)}
    for name in needed:
        if name not in columns:
            commas = len(columns) == 1 and "," in header.cells[0]
            hint = "; columns must be separated by tabs, not commas" if commas else nearest(name, columns)
            raise DataError(f"{path}, line {header.line}: no column {name!r} among {', '.join(columns)}{hint}")
    return columns, rows
