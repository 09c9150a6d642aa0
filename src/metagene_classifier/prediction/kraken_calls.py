"""Calls of another classifier, from the output of Kraken and of all that write like it, matched with reads by id."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.reads.content import Content, decompressed

__all__ = ["MatchedCalls", "OtherCalls", "ReadKeys", "match_calls", "read_kraken"]

Int64s = npt.NDArray[np.int64]

_NAMED_TAXID = re.compile(r"\(taxid (\d+)\)$")
_MATE = re.compile(r"/[12]$")


class ReadKeys:
    """Ids of reads as numbers, in four forms, 32 bytes a read.

    Tools cut an id at its first space or take the mate's number off, each as it likes; two lists of reads are matched
    by the form in which most of them agree.
    """

    FORMS = 4

    def __init__(self) -> None:
        self._keys = [array("q") for _ in range(self.FORMS)]

    def add(self, read_id: str) -> None:
        """The next read."""
        whole = read_id.strip()
        first = whole.split(None, 1)[0] if whole else ""
        for keys, text in zip(self._keys, (whole, _MATE.sub("", whole), first, _MATE.sub("", first)), strict=True):
            # Two ids of one number are as good as impossible: 64 bits, and a key that changes with every process.
            keys.append(hash(text))

    def __len__(self) -> int:
        return len(self._keys[0])

    def form(self, number: int) -> Int64s:
        """All reads in one of the forms; ``(reads,)``."""
        return np.frombuffer(self._keys[number], np.int64) if len(self) else np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class OtherCalls:
    """What another classifier made of reads.

    Attributes:
        name: of the classifier, for tables.
        source: the file.
        keys: of its reads, in order.
        taxids: of its calls, 0 for unclassified; ``(records,)``.
    """

    name: str
    source: Path
    keys: ReadKeys
    taxids: Int64s


def read_kraken(path: Path, name: str) -> OtherCalls:
    """Read Kraken's output: ``C`` or ``U``, read id and taxid in tab-separated columns; others are passed over.

    The taxid may stand behind a name, as ``--use-names`` writes it. A compressed file is told by its content.

    Raises:
        DataError: the file is missing, damaged, or a line is none of Kraken's.
    """
    keys, taxids = ReadKeys(), array("q")
    for number, line in _lines(path):
        cells = line.split("\t", 3)
        if len(cells) < 3 or cells[0] not in ("C", "U"):
            raise DataError(
                f"{path}, line {number}: not Kraken's output: expected C or U, a read id and a taxid, tab-separated "
                "(kraken2 --output; not its --report)"
            )
        keys.add(cells[1])
        taxids.append(_taxid(path, number, cells[2]) if cells[0] == "C" else 0)
    if not len(keys):
        raise DataError(f"{path}: empty: no call of another classifier stands in it")
    return OtherCalls(name, path, keys, np.frombuffer(taxids, np.int64))


@dataclass(frozen=True, eq=False)
class MatchedCalls:
    """Another classifier's calls of our reads.

    Attributes:
        taxids: of each of our reads, 0 where it is unclassified or missing; ``(reads,)``.
        missing: reads of ours that the file does not have.
        extra: records of the file that are none of our reads.
        ambiguous: reads of ours that share their id with others, of which the file has another number.
    """

    taxids: Int64s
    missing: int
    extra: int
    ambiguous: int


def match_calls(reads: ReadKeys, other: OtherCalls) -> MatchedCalls:
    """Find the other classifier's call of each read; of reads with one id the first has the first call, and so on."""
    found = max(
        (_matched(reads.form(form), other.keys.form(form)) for form in range(ReadKeys.FORMS)),
        key=lambda one: int((one[0] >= 0).sum()),
    )
    places, ambiguous = found
    here = places >= 0
    taxids = np.zeros(len(places), np.int64)
    taxids[here] = other.taxids[places[here]]
    matched = int(here.sum())
    return MatchedCalls(taxids, len(places) - matched, len(other.taxids) - matched, ambiguous)


def _matched(ours: Int64s, theirs: Int64s) -> tuple[Int64s, int]:
    """Place of each of our reads among theirs, -1 for none, and how many of ours cannot be told apart."""
    ids, numbered = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    mine, yours = numbered[: len(ours)], numbered[len(ours) :]
    my_count, your_count = np.bincount(mine, minlength=len(ids)), np.bincount(yours, minlength=len(ids))
    your_order = np.argsort(yours, kind="stable")
    your_first = np.cumsum(your_count) - your_count
    my_order = np.argsort(mine, kind="stable")
    my_first = np.cumsum(my_count) - my_count
    turn = np.empty(len(ours), np.int64)
    turn[my_order] = np.arange(len(ours)) - my_first[mine[my_order]]
    has = turn < your_count[mine]
    places = np.full(len(ours), -1, np.int64)
    places[has] = your_order[your_first[mine[has]] + turn[has]]
    unclear = (np.maximum(my_count, your_count) > 1) & (my_count != your_count) & (my_count > 0) & (your_count > 0)
    return places, int(my_count[unclear].sum())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank."""
    try:
        with open(path, "rb") as raw:
            content = Content(decompressed(raw))
            text = io.TextIOWrapper(io.BufferedReader(content), encoding="utf-8", errors="replace", newline="\n")
            number = 0
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
            if content.failure is not None:
                raise content.broken_off(str(path), number)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _taxid(path: Path, line: int, text: str) -> int:
    text = text.strip()
    named = _NAMED_TAXID.search(text)
    digits = named[1] if named else text
    if not (digits.isascii() and digits.isdecimal()):
        raise DataError(f"{path}, line {line}: {text!r} is no taxid")
    if len(digits) > 18:
        raise DataError(f"{path}, line {line}: {digits[:18]}… is too large for a taxid")
    return int(digits)
