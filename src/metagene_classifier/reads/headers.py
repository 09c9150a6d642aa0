"""What a read's header says: its class, and which read is its mate."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["HeaderPattern", "ParsedHeader", "mate_key"]


@dataclass(frozen=True, slots=True)
class ParsedHeader:
    """The parts of a labelled header, as text; ``None`` where it has none."""

    class_id: str
    tax_id: str | None = None
    readlen: str | None = None
    name: str | None = None
    mate: str | None = None


class HeaderPattern:
    """A regular expression with a group ``class_id`` and, if wanted, ``tax_id``, ``readlen``, ``name``, ``mate``."""

    def __init__(self, regex: str) -> None:
        self.regex = regex
        self._search = re.compile(regex).search

    def parse(self, header: str) -> ParsedHeader | None:
        """The header's parts; ``None`` when it does not match or its class is empty."""
        match = self._search(header)
        if match is None:
            return None
        groups = match.groupdict()
        class_id = groups["class_id"]
        if not class_id:
            return None
        return ParsedHeader(class_id, *(groups.get(part) or None for part in ("tax_id", "readlen", "name", "mate")))

    def class_id(self, header: str) -> str | None:
        """The header's class alone, which takes a third of the time of :meth:`parse`."""
        match = self._search(header)
        return (match["class_id"] or None) if match is not None else None


_MATE = re.compile(r"/[12]$")
# Illumina's " 1:N:0:INDEX" and SRA's " 1 length=150" say which mate it is or how long; the id before is the pair's.
_MATE_COMMENT = re.compile(r"[12]:[YN]:\d|.*\blength=\d")


def mate_key(header: str) -> str:
    """The same text for both mates of a pair, and another for every other read.

    That is the header without ``/1`` or ``/2``, and without the comments in which mates differ. The names in labelled
    headers (``lbl|…``) may hold spaces, so they count whole.
    """
    if header.startswith("lbl|"):
        return header[:-2] if header.endswith(("/1", "/2")) else header
    first, *comment = header.split(None, 1) or [header]
    if comment and (_MATE.search(first) or _MATE_COMMENT.match(comment[0])):
        return _MATE.sub("", first)
    return _MATE.sub("", header)
