"""A sample as CAMI profile 0.10.0: abundances at the main ranks, as OPAL reads them.

https://github.com/CAMI-challenge/contest_information/blob/master/file_formats/CAMI_TP_specification.mkd
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, ClassTree
from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["percentages", "write"]

UNITS = 10**6
"""Of a per cent: six decimals."""


def write(path: Path, result: SampleResult) -> None:
    """Write the abundances of a sample's profile as percentages; organisms unknown to the model are no taxon's.

    Taxa below species count for their species; taxa without a main rank, and classes that the taxonomy lacks, are left
    out, as the format has no place for them.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as out:
        out.write(f"@SampleID:{one_line(result.sample)}\n@Version:0.10.0\n@Ranks:{'|'.join(RANKS)}\n\n")
        out.write("@@TAXID\tRANK\tTAXPATH\tTAXPATHSN\tPERCENTAGE\n")
        out.writelines(_lines(result))


def _lines(result: SampleResult) -> Iterator[str]:
    tree = result.tree
    at_ranks = [tree.at_rank(rank) for rank in RANKS]
    abundances = {row.taxon: row.abundance for row in result.profile.rows if row.abundance > 0}
    for place, rank in enumerate(RANKS):
        found = [taxon for taxon in abundances if at_ranks[place][taxon] == taxon]
        found.sort(key=lambda taxon: (-abundances[taxon], taxon))
        for taxon, units in zip(found, percentages([abundances[taxon] for taxon in found]), strict=True):
            if units:
                path = [int(at_rank[taxon]) for at_rank in at_ranks[: place + 1]]
                taxids = "|".join(_taxid(tree, one) for one in path)
                names = "|".join(_name(tree, one) for one in path)
                percentage = f"{units // UNITS}.{units % UNITS:06d}"
                yield f"{tree.taxa[taxon].taxid}\t{rank}\t{taxids}\t{names}\t{percentage}\n"


def percentages(shares: Sequence[float]) -> list[int]:
    """Shares of one rank in millionths of a per cent, rounded so that together they are never more than 100 %.

    They are rounded down, and the units left over go to those that lost most by it.
    """
    exact = np.asarray(shares, np.float64) * 100 * UNITS
    if exact.sum() > 100 * UNITS:  # by the last bits of a float
        exact *= 100 * UNITS / exact.sum()
    units: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    left = min(100 * UNITS, round(exact.sum())) - int(units.sum())
    units[np.argsort(units - exact, kind="stable")[: max(0, left)]] += 1
    found: list[int] = units.tolist()
    return found


def _taxid(tree: ClassTree, taxon: int) -> str:
    return "" if taxon < 0 else str(tree.taxa[taxon].taxid)


def _name(tree: ClassTree, taxon: int) -> str:
    """``|`` parts the names of a path, so none may hold one."""
    return "" if taxon < 0 else one_line(tree.taxa[taxon].name).replace("|", "/")
