"""Which class each reference genome belongs to: by a mapping table, or by the names of files and headers."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import sequence_stem
from metagene_classifier.reads.genomes import Genome, GenomeEntry, GenomeFile, load_genomes
from metagene_classifier.reads.labels import ClassLabel, Labels, read_mapping
from metagene_classifier.reads.tsv import table_rows

__all__ = ["ClassedGenomes", "classes_from_genomes", "classes_from_mapping"]

_GENUS_AND_SPECIES = re.compile(r"[A-Z][a-z]+_[a-z]+")
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class ClassedGenomes:
    """The classes, and every genome with the place of its class, in the order of the files."""

    labels: Labels
    members: tuple[tuple[GenomeEntry, int], ...]

    def load(self) -> Iterator[tuple[Genome, GenomeEntry, int]]:
        """Each genome, one in memory at a time."""
        for (path, many), members in itertools.groupby(self.members, key=lambda m: (m[0].path, m[0].one_of_many)):
            for genome, (entry, class_index) in zip(load_genomes(path, many), members, strict=True):
                yield genome, entry, class_index


def classes_from_mapping(files: Sequence[GenomeFile], mapping_tsv: Path) -> ClassedGenomes:
    """Give each genome to the class of a mapping table that it belongs to.

    A file belongs to the class whose ``genome`` cell (names parted by ``;``), label or class id is the file's name,
    the name without endings, or what stands before the name's first dot; ``_`` counts as a space. A file that none
    names is taken as many genomes, each matched by the name in its headers and then by their taxid. Classes without a
    genome are left out.

    Raises:
        DataError: the mapping cannot be read, or a genome belongs to no class.
    """
    labels = read_mapping(mapping_tsv)
    by_word = _words(mapping_tsv, labels)
    times = Counter(labels.taxids)
    by_taxid = {c.taxid: c.class_id for c in labels.classes if times[c.taxid] == 1}
    found: list[tuple[GenomeEntry, str]] = []
    unmatched: list[str] = []
    for file in files:
        name, stem = file.whole.path.name, file.whole.name
        class_id = _first(by_word, name, stem, stem.partition(".")[0])
        if class_id is not None:
            found.append((file.whole, class_id))
            continue
        if not file.many:
            unmatched.append(name)
        for entry in file.many:
            class_id = _first(by_word, entry.name) or by_taxid.get(entry.taxid)
            if class_id is not None:
                found.append((entry, class_id))
            else:
                unmatched.append(f"{entry.name} in {name}")
    if unmatched:
        more = f" and {len(unmatched) - _NAMES_SHOWN} more" if len(unmatched) > _NAMES_SHOWN else ""
        raise DataError(
            f"{mapping_tsv}: no class for {', '.join(unmatched[:_NAMES_SHOWN])}{more}: "
            "name them in a column 'genome' of it, or leave them out"
        )
    used = {class_id for _, class_id in found}
    return _classed([c for c in labels.classes if c.class_id in used], found)


def classes_from_genomes(files: Sequence[GenomeFile]) -> ClassedGenomes:
    """One class for each file, or for each genome of a file of many; numbered from 0 by label.

    ``Escherichia_coli.K12.fna.gz`` gives the label ``Escherichia coli``; other file names give themselves. Genomes
    with one label are one class.

    Raises:
        DataError: genomes with one label have different taxids.
    """
    found: list[tuple[GenomeEntry, str]] = []
    taxids: dict[str, int | None] = {}
    for entry in itertools.chain.from_iterable(file.many or (file.whole,) for file in files):
        label = entry.name if entry.one_of_many else _label(entry.name)
        before = taxids.get(label)
        if before and entry.taxid and before != entry.taxid:
            raise DataError(f"{entry.path}: {label} has taxid {entry.taxid} here and {before} elsewhere")
        taxids[label] = before or entry.taxid
        found.append((entry, label))
    ids = {label: str(number) for number, label in enumerate(sorted(taxids))}
    classes = [ClassLabel(ids[label], label, taxids[label]) for label in ids]
    return _classed(classes, [(entry, ids[label]) for entry, label in found])


def _classed(classes: Sequence[ClassLabel], found: Sequence[tuple[GenomeEntry, str]]) -> ClassedGenomes:
    labels = Labels(tuple(classes))
    return ClassedGenomes(labels, tuple((entry, labels.index(class_id)) for entry, class_id in found))


def _words(mapping_tsv: Path, labels: Labels) -> dict[str, str]:
    """Every word that names a class, to its class id; a genome's name counts before a label, a label before an id."""
    words = {c.class_id: c.class_id for c in labels.classes} | {c.label: c.class_id for c in labels.classes}
    columns, rows = table_rows(mapping_tsv, ("class_id",))
    if "genome" in columns:
        for row in rows:
            for name in filter(None, map(str.strip, row.cell(columns["genome"]).split(";"))):
                words[name] = words[sequence_stem(name)] = row.cell(columns["class_id"])
    return words


def _first(by_word: dict[str, str], *names: str) -> str | None:
    for name in names:
        for word in (name, name.replace("_", " ")):
            if word in by_word:
                return by_word[word]
    return None


def _label(stem: str) -> str:
    return stem.partition(".")[0].replace("_", " ") if _GENUS_AND_SPECIES.match(stem) else stem
