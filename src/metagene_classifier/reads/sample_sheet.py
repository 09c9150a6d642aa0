"""Samples and the files of their reads: from a sample sheet, or a sample for each file."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import sequence_stem

__all__ = ["Sample", "read_sample_sheet", "samples_of_inputs"]

_COLUMNS = {"sample": "sample", "r1": "R1", "fastq_1": "R1", "r2": "R2", "fastq_2": "R2"}
_DELIMITERS = ",;\t"
_NO_PART_OF_A_NAME = '/\\:*?"<>|'
_NAME_BYTES = 150  # files may have names of 255, and endings come behind
STANDARD_INPUT = "stdin"


@dataclass(frozen=True)
class Sample:
    """A sample and the files of its reads.

    Attributes:
        name: by which its files are called.
        sources: files that are read one after another (lanes), each with that of its mates, or ``None``; all have one
            or none has.
    """

    name: str
    sources: tuple[tuple[Path, Path | None], ...]

    @property
    def paired(self) -> bool:
        """Whether mates are in files of their own."""
        return self.sources[0][1] is not None


@dataclass(frozen=True)
class _Line:
    number: int
    sample: str
    first: str
    second: str


def read_sample_sheet(path: Path) -> list[Sample]:
    """Read a sample sheet: CSV with the columns ``sample``, ``R1`` and, for pairs, ``R2``.

    ``fastq_1`` and ``fastq_2``, as nf-core's pipelines call them, stand for ``R1`` and ``R2``. Upper and lower case,
    spaces around cells, blank lines, other columns, a byte order mark, and semicolons or tabs for commas do no harm.
    Paths are relative to the sheet's folder. A sample that stands in several lines has several lanes.

    Returns:
        The samples in the order in which they first stand there.

    Raises:
        DataError: the sheet cannot be read, or something in it cannot be used: every fault with its line.
    """
    lines = list(_lines(path))
    problems = [problem for line in lines for problem in _faults_of(line, path.parent)]
    problems += _faults_together(lines, path.parent)
    if problems:
        # Faults of one line stand together, in the order in which they were looked for.
        told = [f"line {number}: {what}" for number, what in sorted(problems, key=lambda one: one[0])]
        if len(told) == 1:
            raise DataError(f"{path}, {told[0]}")
        raise DataError("\n  ".join([f"{path}: {len(told)} problems; no sample was begun:", *told]))
    if not lines:
        raise DataError(f"{path}: no samples: only the header row stands in it")
    samples: dict[str, list[tuple[Path, Path | None]]] = {}
    for line in lines:
        second = path.parent / line.second if line.second else None
        samples.setdefault(line.sample, []).append((path.parent / line.first, second))
    return [Sample(name, tuple(sources)) for name, sources in samples.items()]


def samples_of_inputs(inputs: Sequence[str]) -> list[Sample]:
    """A sample for each file, called by its name without the endings; ``-`` is standard input, called ``stdin``.

    Raises:
        DataError: files that would give one name, a file that is named twice, or a name that is none for a sample; all
            of them are named.
    """
    problems = []
    names: dict[str, str] = {}
    files: dict[Path, str] = {}
    samples = []
    for given in inputs:
        name = STANDARD_INPUT if given == "-" else sequence_stem(Path(given).name)
        file = Path(given) if given == "-" else _resolved(Path(given))
        if file in files:
            problems.append(_twice(given, files[file]))
        elif (one_case := _one_case(name)) in names:
            problems.append(f"{names[one_case]} and {given} would both be the sample {name!r}")
        elif fault := _fault_of_name(name):
            problems.append(f"{given}: {fault}")
        files.setdefault(file, given)
        names.setdefault(_one_case(name), given)
        samples.append(Sample(name, ((Path(given), None),)))
    if problems:
        raise DataError(f"{'; '.join(problems)}: rename files, or name the samples in a --sample-sheet")
    return samples


def _lines(path: Path) -> Iterator[_Line]:
    """The lines that say something, below the header row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            number, header = next(((number, line) for number, line in enumerate(file, 1) if line.strip()), (0, ""))
            if not header:
                raise DataError(f"{path}: empty: expected a header row: sample,R1,R2")
            delimiter = max(_DELIMITERS, key=header.count)
            columns = _columns(path, number, next(csv.reader([header], delimiter=delimiter)))
            begun = number + 1
            rows = csv.reader(file, delimiter=delimiter)
            for row in rows:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield _Line(begun, *(_cell(cells, columns.get(name)) for name in ("sample", "R1", "R2")))
                begun = number + 1 + rows.line_num
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder: give the CSV file of the sample sheet") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: expected the columns sample, R1 and R2") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _columns(path: Path, line: int, header: Sequence[str]) -> dict[str, int]:
    """The place of each column."""
    places: dict[str, int] = {}
    for place, cell in enumerate(header):
        name = _COLUMNS.get(cell.strip().lower())
        if name in places:
            raise DataError(f"{path}, line {line}: two columns for {name}: {', '.join(header)}")
        if name is not None:
            places[name] = place
    for needed in ("sample", "R1"):
        if needed not in places:
            there = ", ".join(cell.strip() for cell in header)
            raise DataError(f"{path}, line {line}: no column {needed!r} among {there}: expected sample,R1,R2")
    return places


def _cell(cells: Sequence[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""


def _faults_of(line: _Line, folder: Path) -> Iterator[tuple[int, str]]:
    """What is wrong with a line by itself."""
    if fault := _fault_of_name(line.sample):
        yield line.number, fault
    if not line.first:
        yield line.number, "R2 without R1" if line.second else "R1 is empty"
    for column, given in (("R1", line.first), ("R2", line.second)):
        if not given:
            continue
        file = folder / given
        if given == "-":
            yield line.number, f"{column} is standard input, which a sheet cannot name: give a file"
        elif fault := _fault_of_file(file):
            yield line.number, f"{column} {given}{fault}"


def _faults_together(lines: Sequence[_Line], folder: Path) -> Iterator[tuple[int, str]]:
    """What is wrong with a line beside those before it."""
    files: dict[Path, tuple[int, str]] = {}
    spelled: dict[str, _Line] = {}
    for line in lines:
        for column, given in (("R1", line.first), ("R2", line.second)):
            file = _resolved(folder / given)
            if given and file in files:
                number, before = files[file]
                where = "the same line" if number == line.number else f"line {number}"
                yield line.number, f"{column} {given} stands in {where} already{_named(before, given)}"
            elif given:
                files[file] = line.number, given
        first = spelled.setdefault(_one_case(line.sample), line)
        if not line.sample or first is line:
            continue
        if first.sample != line.sample:
            yield (
                line.number,
                f"sample {line.sample!r} differs from {first.sample!r} in line {first.number} by its spelling alone: "
                "their files could have one name",
            )
        elif bool(first.second) != bool(line.second):
            was, is_now = ("pairs", "single reads") if first.second else ("single reads", "pairs")
            yield (
                line.number,
                f"sample {line.sample!r} has {is_now} here and {was} in line {first.number}: give them as two samples",
            )


def _fault_of_file(file: Path) -> str:
    """Why a file cannot be read; empty when it can."""
    try:
        if file.is_dir():
            return " is a folder: give the file"
        if not file.exists():
            return f": no such file (looked for in {file.parent.absolute()})"
    except OSError as error:
        return f": cannot be read: {error.strerror}"
    return "" if os.access(file, os.R_OK) else ": may not be read"


def _resolved(path: Path) -> Path:
    """The file that a path leads to, for telling whether two are one."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, or no path at all
        return path


def _twice(given: str, before: str) -> str:
    return f"{given} is named twice" if given == before else f"{before} and {given} are one file"


def _named(before: str, given: str) -> str:
    return "" if before == given else f", as {before}"


def _one_case(name: str) -> str:
    """The same for names that a disk may not tell apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _fault_of_name(name: str) -> str:
    """Why a text cannot be a sample's name, and with it that of files; empty when it can."""
    if not name:
        return "sample is empty"
    if name[0] in ".-":
        return f"sample {name!r} begins with {name[0]!r}"
    bad = sorted({letter for letter in name if letter in _NO_PART_OF_A_NAME or not letter.isprintable()})
    if bad:
        return f"sample {name!r} holds {' '.join(map(repr, bad))}, which names of files cannot"
    if len(name.encode(errors="replace")) > _NAME_BYTES:
        return f"sample {name[:20]!r}… has a name of more than {_NAME_BYTES} bytes"
    return ""
