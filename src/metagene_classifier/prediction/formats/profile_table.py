"""A sample as a table of taxa at every rank: reads, abundances and their intervals, as TSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.reads.labels import UNCLASSIFIED
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["COLUMNS", "write"]

COLUMNS = (
    *("taxid", "name", "rank", "reads", "direct_reads", "abundance", "abundance_low", "abundance_high"),
    *("method", "lineage"),
)
UNKNOWN = "unknown"


def write(path: Path, result: SampleResult) -> None:
    """Write a row for each taxon of the profile, then organisms unknown to the model, then unclassified reads.

    Raises:
        OutputError: the file cannot be written.
    """
    profile = result.profile
    with whole_file(path) as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in profile.rows:
            taxid = "" if row.taxid is None else row.taxid
            shares = (_share(row.abundance), _share(row.low), _share(row.high))
            numbers = (row.reads, row.direct, *shares)
            writer.writerow([taxid, one_line(row.name), row.rank, *numbers, profile.method, one_line(row.lineage)])
        if profile.unknown is not None:
            writer.writerow(["", UNKNOWN, "", "", "", _share(profile.unknown), "", "", profile.method, ""])
        reads = profile.unclassified
        writer.writerow(["", UNCLASSIFIED, "", reads, reads, "", "", "", profile.method, ""])


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.8f}"
