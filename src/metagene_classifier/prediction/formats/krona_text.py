"""A sample as text for Krona's ktImportText, https://github.com/marbl/Krona/wiki/Importing-text-and-XML-data.

Reads called at a taxon itself, then the names from the top down to it, tabs between them. Krona adds the clades up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.reads.labels import UNCLASSIFIED
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["write"]


def write(path: Path, result: SampleResult) -> None:
    """Write a sample's text.

    Raises:
        OutputError: the file cannot be written.
    """
    tree, direct = result.tree, result.tally.direct
    with whole_file(path) as out:
        if direct[0]:
            out.write(f"{direct[0]}\t{UNCLASSIFIED}\n")
        for taxon in np.flatnonzero(direct[1:]) + 1:
            names = (one_line(tree.label_of(one)) for one in tree.lineage(int(taxon)))
            out.write("\t".join((str(direct[taxon]), *names)) + "\n")
