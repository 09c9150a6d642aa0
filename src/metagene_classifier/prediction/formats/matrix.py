"""Reads by taxon and sample as TSV: a row a taxon at every rank, a column a sample."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.reads.labels import UNCLASSIFIED
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["COLUMNS", "write"]

COLUMNS = ("taxid", "name", "rank", "lineage")


def write(path: Path, results: Sequence[SampleResult]) -> None:
    """Write the reads of each taxon and all below it; rows of one rank add up, those of several count reads again.

    Args:
        path: the file.
        results: of one model, in the order of the columns.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow([*COLUMNS, *(one_line(result.sample) for result in results)])
        writer.writerow(["", UNCLASSIFIED, "", "", *(int(result.tally.direct[0]) for result in results)])
        if not results:
            return
        tree = results[0].tree
        clades = np.stack([result.tally.clade(tree) for result in results])
        for taxon in np.flatnonzero(clades[:, 1:].any(axis=0)).tolist():
            place = taxon + 1
            one = tree.taxa[place]
            names = (one_line(tree.label_of(place)), one.rank, one_line(tree.lineage_names(place)))
            writer.writerow(["" if one.taxid is None else one.taxid, *names, *clades[:, place].tolist()])
