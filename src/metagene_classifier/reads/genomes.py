"""Reference genomes in FASTA files.

A file holds one genome (its records are chromosomes, plasmids, contigs or segments) or many, whose headers then look
like ``>name|taxid|accession`` with the records of one genome one after another.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.files import read_records, sequence_stem
from metagene_classifier.reads.read import Read

__all__ = ["Genome", "GenomeEntry", "GenomeFile", "GenomeRecord", "load_genomes", "scan_genomes"]

_NAME_AND_TAXID = re.compile(r"(?P<name>[^|]+)\|(?P<taxid>\d+)\|")
# First fields of NCBI's own identifiers (gi|404282430|ref|NC_018588.1|) and of Kraken's; they name no genome.
_DATABASE_TAGS = re.compile(r"gi|gb|emb|dbj|ref|lcl|gnl|bbs|bbm|pir|prf|sp|tr|tp[gde]|pdb|pat|kraken:taxid")


@dataclass(frozen=True, slots=True)
class GenomeRecord:
    """One sequence of a genome, cleaned; its id is the last field of the header's first word (an accession)."""

    id: str
    sequence: bytes


@dataclass(frozen=True, slots=True)
class Genome:
    """A genome in memory."""

    name: str
    records: tuple[GenomeRecord, ...]


@dataclass(frozen=True, slots=True)
class GenomeEntry:
    """A genome in its file, measured; name and taxid are the header's where the file holds many."""

    path: Path
    name: str
    bases: int
    taxid: int | None = None
    one_of_many: bool = False


@dataclass(frozen=True, slots=True)
class GenomeFile:
    """A file taken as one genome and, where every header names one, as many."""

    whole: GenomeEntry
    many: tuple[GenomeEntry, ...]


def scan_genomes(path: Path) -> GenomeFile:
    """Measure the genomes of a file, one record in memory at a time.

    Raises:
        DataError: the file cannot be read, or the headers of one genome stand apart or have different taxids.
    """
    bases, all_named = 0, True
    many: dict[str, GenomeEntry] = {}
    last = None
    for number, read in enumerate(read_records(path), 1):
        bases += len(read.sequence)
        named = _name_and_taxid(read)
        if named is None:
            all_named = False
            continue
        name, taxid = named
        before = many.get(name)
        if before is not None and name != last:
            raise DataError(f"{path}, record {number}: {name} stands further up too: put its records together")
        if before is not None and before.taxid != taxid:
            raise DataError(f"{path}, record {number}: {name} has taxid {taxid} here and {before.taxid} above")
        so_far = before.bases if before is not None else 0
        many[name] = GenomeEntry(path, name, so_far + len(read.sequence), taxid, one_of_many=True)
        last = name
    whole = GenomeEntry(path, sequence_stem(path.name), bases)
    return GenomeFile(whole, tuple(many.values()) if all_named else ())


def load_genomes(path: Path, many: bool) -> Iterator[Genome]:
    """The genomes of a file, in order, one in memory at a time.

    Args:
        path: the file.
        many: whether to take it as many genomes, named in the headers.
    """
    if not many:
        yield Genome(sequence_stem(path.name), tuple(map(_record, read_records(path))))
        return
    for named, reads in itertools.groupby(read_records(path), key=_name_and_taxid):
        if named is not None:
            yield Genome(named[0], tuple(map(_record, reads)))


def _name_and_taxid(read: Read) -> tuple[str, int] | None:
    match = _NAME_AND_TAXID.match(read.header)
    if match is None or _DATABASE_TAGS.fullmatch(match["name"]):
        return None
    return match["name"].strip(), int(match["taxid"])


def _record(read: Read) -> GenomeRecord:
    fields = [field for field in read.header.split(None, 1)[0].split("|") if field] if read.header else []
    return GenomeRecord(fields[-1] if fields else "unnamed", clean_sequence(read.sequence).encode("ascii"))
