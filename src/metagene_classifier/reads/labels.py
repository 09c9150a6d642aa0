"""The classes of a run: their ids, labels and taxids, and the tables that say so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import sequence_stem
from metagene_classifier.reads.tsv import Row, table_rows, tsv_rows
from metagene_classifier.whole_files import whole_file

__all__ = [
    "UNCLASSIFIED",
    "ClassLabel",
    "Labels",
    "infer_labels_from_files",
    "read_label_table",
    "read_mapping",
    "write_mapping",
]


UNCLASSIFIED = "unclassified"
"""What a read is called that gets no class; no label may be the same."""


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class: its id in headers, its name, and its NCBI taxid where it has one."""

    class_id: str
    label: str
    taxid: int | None = None


@dataclass(frozen=True)
class Labels:
    """The classes in the order of the head's outputs: by class id, as numbers when all are, otherwise as text."""

    classes: tuple[ClassLabel, ...]

    def __post_init__(self) -> None:
        numbers = all(_is_integer(c.class_id) for c in self.classes)
        ordered = sorted(self.classes, key=lambda c: (int(c.class_id) if numbers else 0, c.class_id))
        object.__setattr__(self, "classes", tuple(ordered))

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {c.class_id: index for index, c in enumerate(self.classes)}

    @cached_property
    def _indices_by_either(self) -> dict[str, int]:
        return {c.label: index for index, c in enumerate(self.classes)} | self._indices

    def index(self, class_id: str) -> int:
        """The output of the class with this id.

        Raises:
            KeyError: there is none.
        """
        return self._indices[class_id]

    def find(self, class_id: str) -> int | None:
        """The output of the class with this id; ``None`` when there is none."""
        return self._indices.get(class_id)

    def find_either(self, word: str) -> int | None:
        """The output of the class with this id or, failing that, this label; ``None`` when there is none."""
        return self._indices_by_either.get(word)

    def fingerprint(self) -> str:
        """The same for the same ids, labels and taxids in the same order; SHA-256 in hexadecimal."""
        rows = [[c.class_id, c.label, c.taxid] for c in self.classes]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """The label of every class."""
        return [c.label for c in self.classes]

    @property
    def taxids(self) -> list[int | None]:
        """The taxid of every class."""
        return [c.taxid for c in self.classes]


def read_mapping(
    path: str | Path,
    class_column: str = "class_id",
    label_column: str = "label_name",
    tax_column: str = "tax_id",
) -> Labels:
    """The classes of a tab-separated table with a header row; other columns may stand in it too.

    Args:
        path: the table.
        class_column: name of the column of class ids.
        label_column: name of the column of labels.
        tax_column: name of the column of NCBI taxids, which may be missing; an empty cell or 0 means none.

    Raises:
        DataError: a column is missing, a cell is empty, a taxid is no positive integer, or two rows share a class id
            or a label.
    """
    path = Path(path)
    columns, rows = table_rows(path, (class_column, label_column))
    tax_index = columns.get(tax_column)
    classes: list[ClassLabel] = []
    id_lines: dict[str, int] = {}
    label_lines: dict[str, int] = {}
    for row in rows:
        class_id, label = (row.needed(path, columns[name], name) for name in (class_column, label_column))
        for what, word, seen in (("class id", class_id, id_lines), ("label", label, label_lines)):
            if word in seen:
                raise DataError(f"{path}, line {row.line}: {what} {word!r} stands in line {seen[word]} already")
            seen[word] = row.line
        if label.lower() == UNCLASSIFIED:
            raise DataError(
                f"{path}, line {row.line}: {label!r} is what reads of no class are called: name it otherwise"
            )
        taxid = row.cell(tax_index) if tax_index is not None else ""
        classes.append(ClassLabel(class_id, label, _taxid(path, row, taxid, tax_column)))
    if not classes:
        raise DataError(f"{path}: no classes: only the header row stands in it")
    return Labels(tuple(classes))


def write_mapping(path: str | Path, labels: Labels) -> None:
    """Write the table that :func:`read_mapping` reads back.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(Path(path)) as out:
        out.write("class_id\tlabel_name\ttax_id\n")
        for c in labels.classes:
            out.write(f"{c.class_id}\t{c.label}\t{c.taxid or ''}\n")


def read_label_table(path: str | Path) -> dict[str, str]:
    """Read id to class (id or label), from the first two columns of a tab-separated table.

    A header row needs no telling apart: no read is called ``read_id``.

    Raises:
        DataError: a row without a read id or a class, or a read with two different classes.
    """
    path = Path(path)
    table: dict[str, str] = {}
    for row in tsv_rows(path):
        if len(row.cells) < 2:
            raise DataError(f"{path}, line {row.line}: expected a read id and a class, separated by a tab")
        read_id, word = row.cells[:2]
        if not read_id or not word:
            raise DataError(f"{path}, line {row.line}: {'class' if read_id else 'read id'} is empty")
        if table.setdefault(read_id, word) != word:
            raise DataError(f"{path}, line {row.line}: read {read_id!r} is {word!r} here and {table[read_id]!r} above")
    return table


def infer_labels_from_files(inputs: Sequence[Path]) -> Labels:
    """One class for each file, its name without the endings both class id and label.

    Raises:
        DataError: two files give one name, or standard input is among them.
    """
    stems: dict[str, Path] = {}
    for path in inputs:
        stem = sequence_stem(path.name)
        if stem == "-":
            raise DataError("standard input has no file name to take the class from")
        if stem in stems:
            raise DataError(f"{stems[stem]} and {path} both give the class {stem!r}: rename one")
        stems[stem] = path
    return Labels(tuple(ClassLabel(stem, stem) for stem in stems))


def _taxid(path: Path, row: Row, text: str, column: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise DataError(f"{path}, line {row.line}: {column} {text!r} is no positive integer (empty or 0 for none)")
    return int(text) or None


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()
