"""The taxonomy of NCBI: parents, ranks and names from a dump, cut down to the classes of a model.

A dump is a folder of tables (taxdump_readme.txt of https://ftp.ncbi.nlm.nih.gov/pub/taxonomy): a line a row, a vertical
bar between tabs after each cell. Older and shortened dumps have fewer columns behind those that are read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labels import Labels
from metagene_classifier.whole_files import whole_file

__all__ = ["ROOT", "TaxonNode", "Taxonomy"]

ROOT = 1
"""The taxid of the root."""
_COLUMNS = ("taxid", "parent", "rank", "name")
# Where a rank stands in our own table: the taxid is another's by now, which stands where the parent does.
_MERGED = "merged"


@dataclass(frozen=True, slots=True)
class TaxonNode:
    """One taxon; the root is its own parent."""

    taxid: int
    parent: int
    rank: str
    name: str


class Taxonomy:
    """Taxa by taxid, each with a way up to the root.

    Args:
        nodes: by taxid; the root among them.
        merged: taxids that are another's by now.
        deleted: taxids that are no more.

    Raises:
        DataError: there is no root, a parent is missing, or a taxon is its own ancestor.
    """

    def __init__(
        self, nodes: Mapping[int, TaxonNode], merged: Mapping[int, int] | None = None, deleted: Iterable[int] = ()
    ) -> None:
        self._nodes = nodes
        self._merged = merged or {}
        self.deleted = frozenset(deleted)
        if ROOT not in nodes:
            raise DataError(f"the taxonomy has no root (taxid {ROOT}): give a whole nodes.dmp")
        self._check_ways_up()

    @classmethod
    def read(cls, folder: str | Path, wanted: Iterable[int] | None = None) -> Taxonomy:
        """Read a dump's folder: ``nodes.dmp``, ``names.dmp`` and, where they are, ``merged.dmp`` and ``delnodes.dmp``.

        Args:
            folder: as ``taxdump.tar.gz`` unpacks.
            wanted: keep these taxids and their ancestors alone, in little memory; all by default.

        Raises:
            DataError: a file is missing, a line cannot be read, a parent is missing, or a taxon is its own ancestor.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder: give that of nodes.dmp and names.dmp (taxdump.tar.gz, unpacked)"
            )
        parents: dict[int, int] = {}
        ranks: dict[int, str] = {}
        path = folder / "nodes.dmp"
        known_ranks: dict[str, str] = {}  # millions of nodes, and a few dozen ranks
        for line, (taxid, parent, rank) in _cells(path, (0, 1, 2)):
            number = _taxid(path, line, taxid)
            parents[number] = _taxid(path, line, parent)
            ranks[number] = known_ranks.setdefault(rank, rank)
        if ROOT not in parents:
            raise DataError(f"{path}: no root (taxid {ROOT}): give a whole nodes.dmp")
        parents[ROOT] = ROOT
        merged = _pairs(folder / "merged.dmp")
        _check_parents(parents, str(path))
        kept: Iterable[int] = parents
        if wanted is not None:
            kept = _with_ancestors(parents, (_followed(merged, taxid) for taxid in wanted))
        nodes = {taxid: TaxonNode(taxid, parents[taxid], ranks[taxid], "") for taxid in kept}
        del parents, ranks
        path = folder / "names.dmp"
        for line, (taxid, name, kind) in _cells(path, (0, 1, 3)):
            if kind == "scientific name":
                node = nodes.get(_taxid(path, line, taxid))
                if node is not None:
                    nodes[node.taxid] = TaxonNode(node.taxid, node.parent, node.rank, name)
        unnamed = [taxid for taxid, node in nodes.items() if not node.name]
        if unnamed:
            raise DataError(
                f"{path}: no scientific name of {_some(unnamed)}, which nodes.dmp has: give both files of one dump"
            )
        path = folder / "delnodes.dmp"
        deleted = [_taxid(path, line, cells[0]) for line, cells in _cells_if_there(path, (0,))]
        return cls(nodes, merged, deleted)

    @classmethod
    def load(cls, path: Path) -> Taxonomy:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: it is damaged.
        """
        nodes: dict[int, TaxonNode] = {}
        merged: dict[int, int] = {}
        try:
            lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        for line, text in enumerate(lines[1:], 2):
            cells = text.split("\t")
            if len(cells) != len(_COLUMNS):
                raise DataError(f"{path}, line {line}: {len(cells)} columns, and {len(_COLUMNS)} are needed")
            taxid, parent = (_taxid(path, line, cell) for cell in cells[:2])
            if cells[2] == _MERGED:
                merged[taxid] = parent
            else:
                nodes[taxid] = TaxonNode(taxid, parent, cells[2], cells[3])
        return cls(nodes, merged)

    def save(self, path: Path) -> None:
        """Write a table of taxid, parent, rank and name, parents before children, then the merged taxids.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(path) as out:
            out.write("\t".join(_COLUMNS) + "\n")
            for taxid in sorted(self._nodes, key=lambda one: (len(self.lineage(one)), one)):
                node = self._nodes[taxid]
                out.write(f"{node.taxid}\t{node.parent}\t{node.rank}\t{node.name}\n")
            for old, new in sorted(self._merged.items()):
                out.write(f"{old}\t{new}\t{_MERGED}\t\n")

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def __contains__(self, taxid: object) -> bool:
        return taxid in self._nodes

    def __getitem__(self, taxid: int) -> TaxonNode:
        return self._nodes[taxid]

    def current(self, taxid: int) -> int | None:
        """The taxid that this one is called by now; ``None`` where there is none."""
        found = _followed(self._merged, taxid)
        return found if found in self._nodes else None

    def lineage(self, taxid: int) -> tuple[int, ...]:
        """From the taxon below the root down to this one; empty for the root.

        Raises:
            KeyError: the taxid is unknown.
        """
        way = []
        while taxid != ROOT:
            way.append(taxid)
            taxid = self._nodes[taxid].parent
        return tuple(reversed(way))

    def subset(self, taxids: Iterable[int]) -> Taxonomy:
        """These taxa and their ancestors alone; merged taxids are followed, unknown ones passed over."""
        asked = [(taxid, self.current(taxid)) for taxid in taxids]
        parents = {taxid: node.parent for taxid, node in self._nodes.items()}
        kept = _with_ancestors(parents, (found for _, found in asked if found is not None))
        merged = {taxid: found for taxid, found in asked if found is not None and found != taxid}
        return Taxonomy({taxid: self._nodes[taxid] for taxid in kept}, merged)

    def faults(self, labels: Labels) -> list[str]:
        """A line for classes whose taxid is not in the taxonomy, and for those whose taxid is another's by now."""
        with_taxid = [(one.label, one.taxid) for one in labels.classes if one.taxid is not None]
        unknown = [f"{label} ({taxid})" for label, taxid in with_taxid if self.current(taxid) is None]
        gone = sum(taxid in self.deleted for _, taxid in with_taxid)
        moved = [
            f"{taxid} is {self.current(taxid)}" for _, taxid in with_taxid if self.current(taxid) not in (taxid, None)
        ]
        lines = []
        if unknown:
            deleted = f", {gone:,} of them deleted" if gone else ""
            lines.append(
                f"taxonomy: {len(unknown):,} of {len(labels):,} classes have taxids that it lacks{deleted}; "
                f"they get no ranks: {_listed(unknown)}"
            )
        if moved:
            lines.append(f"taxonomy: taxids that are merged into others by now: {_listed(moved)}")
        return lines

    def _check_ways_up(self) -> None:
        _check_parents({taxid: node.parent for taxid, node in self._nodes.items()}, "the taxonomy")


def _cells(path: Path, wanted: tuple[int, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the wanted cells of every line of a dump.

    Raises:
        DataError: the file is missing, no text, or a line has too few cells.
    """
    last = max(wanted)
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                cells = line.rstrip("\n").removesuffix("\t|").split("\t|\t")
                if len(cells) <= last:
                    if not line.strip():
                        continue
                    raise DataError(f"{path}, line {number}: {len(cells)} cells between '|', and {last + 1} are needed")
                yield number, [cells[place].strip() for place in wanted]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: a taxonomy's folder has nodes.dmp and names.dmp") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _cells_if_there(path: Path, wanted: tuple[int, ...]) -> Iterator[tuple[int, list[str]]]:
    return _cells(path, wanted) if path.exists() else iter(())


def _pairs(path: Path) -> dict[int, int]:
    """Old taxid to new, of ``merged.dmp``."""
    return {_taxid(path, line, old): _taxid(path, line, new) for line, (old, new) in _cells_if_there(path, (0, 1))}


def _taxid(path: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise DataError(f"{path}, line {line}: {text!r} is no taxid")
    return int(text)


def _followed(merged: Mapping[int, int], taxid: int) -> int:
    seen = set()
    while taxid in merged and taxid not in seen:  # a dump's merges are one step, a patched one's may be several
        seen.add(taxid)
        taxid = merged[taxid]
    return taxid


def _with_ancestors(parents: Mapping[int, int], taxids: Iterable[int]) -> set[int]:
    kept = {ROOT}
    for one in taxids:
        taxid = one
        while taxid in parents and taxid not in kept:
            kept.add(taxid)
            taxid = parents[taxid]
    return kept


def _check_parents(parents: Mapping[int, int], where: str) -> None:
    """Refuse a missing parent, and a taxon that is its own ancestor."""
    rooted = {ROOT}
    for start in parents:
        way: dict[int, None] = {}
        taxid = start
        while taxid not in rooted:
            if taxid in way:
                circle = list(way)[list(way).index(taxid) :]
                raise DataError(f"{where}: a taxon is its own ancestor: {' < '.join(map(str, [*circle, taxid]))}")
            way[taxid] = None
            if parents[taxid] not in parents:
                raise DataError(f"{where}: taxid {taxid} has the parent {parents[taxid]}, which is not there")
            taxid = parents[taxid]
        rooted.update(way)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:5]) + (f" and {len(words) - 5:,} more" if len(words) > 5 else "")


def _some(taxids: list[int]) -> str:
    shown = ", ".join(map(str, taxids[:5]))
    return f"taxid {shown}" if len(taxids) <= 5 else f"taxids {shown} and {len(taxids) - 5:,} more"
