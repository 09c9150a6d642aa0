"""Reads by taxon and sample as BIOM 2.1 (HDF5), https://biom-format.org/documentation/format_versions/biom-2.1.html.

Each read counts once, at the taxon that it is called: rows can be added up to any rank by their lineage.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagene_classifier import __version__
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["write"]


def write(path: Path, results: Sequence[SampleResult]) -> None:
    """Write the table; how many reads of a sample are unclassified stands in the sample's metadata.

    An observation's id is its taxid, or its name where it has none; its metadata are ``taxonomy`` (names from the top
    down), ``rank`` and ``name``.

    Args:
        path: the file.
        results: of one model, in the order of the columns.

    Raises:
        OutputError: the file cannot be written.
    """
    import h5py
    from biom import Table

    tree = results[0].tree
    counts = np.stack([result.tally.direct for result in results])
    taxa = (np.flatnonzero(counts[:, 1:].any(axis=0)) + 1).tolist()
    table = Table(
        counts[:, taxa].T,
        [_id(tree.taxa[taxon].taxid, tree.label_of(taxon)) for taxon in taxa],
        [result.sample for result in results],
        [
            {
                "taxonomy": [tree.label_of(one) for one in tree.lineage(taxon)],
                "rank": tree.taxa[taxon].rank,
                "name": tree.label_of(taxon),
            }
            for taxon in taxa
        ],
        [
            {"reads": str(int(result.tally.direct.sum())), "unclassified": str(int(result.tally.direct[0]))}
            for result in results
        ],
        type="Taxon table",
    )
    held = io.BytesIO()  # the library writes to a path or to what can be read back
    with h5py.File(held, "w") as out:
        table.to_hdf5(out, generated_by=f"metagene-classifier {__version__}")
    with whole_file(path, "wb") as handle:
        handle.write(held.getvalue())


def _id(taxid: int | None, label: str) -> str:
    if taxid is not None:
        return str(taxid)
    return f"class {label}" if label.isdecimal() else label  # a label may be a number, and a taxid too
