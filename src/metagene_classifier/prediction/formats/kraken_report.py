"""A sample as Kraken 2 reports it, https://github.com/DerrickWood/kraken2/wiki/Manual (Sample Report Output Format).

Percentage of all reads, reads of the clade, reads called at the taxon itself, rank code, taxid and name, tabs between
them; the name is indented by two spaces a level. A taxon without a rank of its own has the code of the nearest ranked
one above it and the steps from there: ``G2`` lies two below a genus.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import TOP_RANKS, ClassTree
from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.prediction.profile.clades import clade_sums
from metagene_classifier.reads.labels import UNCLASSIFIED
from metagene_classifier.reads.taxonomy import ROOT
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["report_lines", "write"]

CODES = {
    **dict.fromkeys(TOP_RANKS, "D"),
    "kingdom": "K",
    "phylum": "P",
    "class": "C",
    "order": "O",
    "family": "F",
    "genus": "G",
    "species": "S",
}


def write(path: Path, result: SampleResult) -> None:
    """Write a sample's report.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as out:
        out.writelines(report_lines(result.tree, result.tally.direct))


def report_lines(tree: ClassTree, direct: npt.NDArray[np.int64]) -> Iterator[str]:
    """The lines, unclassified reads first where there are any, then each clade, the larger of siblings before others.

    Args:
        tree: of the classes.
        direct: reads called at each taxon itself, unclassified ones at the root; ``(taxa,)``.
    """
    total = int(direct.sum())
    unclassified = int(direct[0])
    called = direct.copy()
    called[0] = 0
    clade = clade_sums(called, tree)
    children: list[list[int]] = [[] for _ in tree.taxa]
    for taxon in (np.flatnonzero(clade[1:]) + 1).tolist():
        children[tree.taxa[taxon].parent].append(taxon)
    if unclassified:
        yield _line(total, unclassified, unclassified, "U", 0, UNCLASSIFIED, 0)
    if unclassified == total:
        return
    # A taxon, the code above it, and the steps from there.
    stack = [(0, "R", -1)]
    while stack:
        taxon, code, steps = stack.pop()
        node = tree.taxa[taxon]
        own = CODES.get(node.rank)
        code, steps = (own, 0) if own else (code, steps + 1)
        at_taxon = int(direct[taxon]) if taxon else 0
        taxid = node.taxid if taxon else ROOT
        yield _line(total, int(clade[taxon]), at_taxon, f"{code}{steps or ''}", taxid or 0, node.name, node.depth)
        # The stack gives them back in reverse: the largest first, and equals in the tree's order.
        below = sorted(children[taxon], key=lambda child: (-clade[child], child))
        stack += [(child, code, steps) for child in reversed(below)]


def _line(total: int, clade: int, direct: int, code: str, taxid: int, name: str, depth: int) -> str:
    return f"{100 * clade / total:6.2f}\t{clade}\t{direct}\t{code}\t{taxid}\t{'  ' * depth}{one_line(name)}\n"
