"""How diverse a sample is, by scikit-bio over the estimated reads of its species."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree

__all__ = ["Diversity", "diversity", "species_of_taxa"]


@dataclass(frozen=True)
class Diversity:
    """Alpha diversity.

    Attributes:
        shannon: entropy with natural logarithms; ``None`` without reads.
        simpson: chance that two reads are of different species; ``None`` without reads.
        richness: species with at least half a read.
    """

    shannon: float | None
    simpson: float | None
    richness: int


def species_of_taxa(tree: ClassTree) -> npt.NDArray[np.int64]:
    """The species that each taxon belongs to; -1 for taxa above. ``(taxa,)``.

    A class that is of no species, as in a model without a taxonomy, stands for one itself.
    """
    species = tree.at_rank("species")
    own = tree.taxon_of_class
    species[own] = np.where(species[own] < 0, own, species[own])
    return species


def diversity(reads: npt.NDArray[np.float64]) -> Diversity:
    """Diversity of a sample.

    Args:
        reads: estimated for each species, in fractions too; ``(species,)``.
    """
    from skbio.diversity.alpha import shannon, simpson, sobs

    if not reads.sum() > 0:
        return Diversity(None, None, 0)
    return Diversity(
        max(0.0, float(shannon(reads, base=np.e))), max(0.0, float(simpson(reads))), int(sobs(np.floor(reads + 0.5)))
    )
