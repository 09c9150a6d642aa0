"""Figures at the ranks of a taxonomy, defined as by the tools of CAMI, so that they compare with published ones.

Calls of reads: AMBER (Meyer et al. 2018, doi:10.1093/gigascience/giy069), its figures by sequence. Profiles: OPAL
(Meyer et al. 2019, doi:10.1186/s13059-019-1646-y).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.metrics.calls import harmonic_mean, share

__all__ = ["ProfileFigures", "RankFigures", "profile_figures", "rank_figures"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProfileFigures:
    """A profile against the true composition, at one rank.

    Attributes:
        l1: sum of the absolute differences of the shares; 0 for the truth itself, 2 for nothing in common.
        bray_curtis: the same divided by the sum of all shares, 0 to 1; ``None`` where both are empty.
        completeness: of the taxa that are there, those that the profile has.
        purity: of the taxa that the profile has, those that are there; 0 where it has none.
        f1: harmonic mean of the two; ``None`` where both are 0.
    """

    l1: float
    bray_curtis: float | None
    completeness: float
    purity: float
    f1: float | None


@dataclass(frozen=True, slots=True)
class RankFigures:
    """Calls against the truth at one rank.

    Reads whose class has no taxon at the rank are left out of all but the profiles.

    Attributes:
        rank: its name.
        reads: whose class has a taxon at the rank.
        called: of them those called at the rank or below it.
        correct: of those, called with the right taxon.
        taxa: that the reads belong to.
        completeness: share of a taxon's reads that are called as it, averaged over the taxa with reads.
        purity: share of the reads called as a taxon that belong to it, averaged over the taxa called; ``None`` where
            nothing is called.
        f1: harmonic mean of these two averages; ``None`` where it is undefined.
        misclassification: share of the called reads that are called wrongly; ``None`` where nothing is called.
        accuracy: share of the reads called rightly; what is not called counts as wrong.
        counted: the calls, counted, as a profile: shares of the reads that are called at all.
        estimated: the profile that corrects for confusions, where there is one.
    """

    rank: str
    reads: int
    called: int
    correct: int
    taxa: int
    completeness: float
    purity: float | None
    f1: float | None
    misclassification: float | None
    accuracy: float
    counted: ProfileFigures
    estimated: ProfileFigures | None = None

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Names of all figures in one level; those of the profiles have ``profile_`` and ``estimated_`` before them."""
        plain = tuple(name for name in RankFigures.__slots__ if name not in ("counted", "estimated"))
        return (*plain, *(f"{prefix}_{name}" for prefix in ("profile", "estimated") for name in _OF_PROFILES))

    def as_dict(self) -> dict[str, Any]:
        """By :meth:`columns`, for JSON and tables; ``None`` for what is undefined."""
        sides = [None if side is None else [getattr(side, name) for name in _OF_PROFILES] for side in self._profiles]
        plain = [getattr(self, name) for name in self.__slots__ if name not in ("counted", "estimated")]
        values = [*plain, *(value for side in sides for value in side or [None] * len(_OF_PROFILES))]
        return dict(zip(self.columns(), values, strict=True))

    @property
    def _profiles(self) -> tuple[ProfileFigures | None, ...]:
        return self.counted, self.estimated


_OF_PROFILES = ProfileFigures.__slots__


def rank_figures(
    rank: str,
    truth: Int64s,
    called: Int64s,
    is_called: npt.NDArray[np.bool_],
    reads: Int64s,
    *,
    estimated: Mapping[int, float] | None = None,
) -> RankFigures | None:
    """The figures of groups of reads that share class and call.

    Args:
        rank: its name.
        truth: taxon of the group's class at the rank, -1 where it has none; ``(groups,)``.
        called: taxon of the group's call at the rank, -1 where it has none (not called, or above the rank);
            ``(groups,)``.
        is_called: whether the group is called at all, at whatever taxon; ``(groups,)``.
        reads: of each group; ``(groups,)``.
        estimated: share of each taxon of the rank in an estimated profile; shares may sum to less than 1.

    Returns:
        ``None`` where no class with reads has a taxon at the rank.
    """
    known = (truth >= 0) & (reads > 0)
    if not known.any():
        return None
    taxa, places = np.unique(np.concatenate([truth, called]), return_inverse=True)
    true_at, called_at = places[: len(truth)], places[len(truth) :]
    size = len(taxa)

    def by_taxon(where: Int64s, kept: npt.NDArray[np.bool_]) -> Int64s:
        return np.bincount(where[kept], reads[kept], size).astype(np.int64)

    assigned = known & (called >= 0)
    right = assigned & (called == truth)
    of_taxon, as_taxon, hits = by_taxon(true_at, known), by_taxon(called_at, assigned), by_taxon(true_at, right)
    there, found = of_taxon > 0, as_taxon > 0
    completeness = float((hits[there] / of_taxon[there]).mean())
    purity = float((hits[found] / as_taxon[found]).mean()) if found.any() else None
    total, answered, correct = int(of_taxon.sum()), int(as_taxon.sum()), int(hits.sum())
    all_reads, all_called = reads.sum(), reads[is_called].sum()
    composition = of_taxon / all_reads
    in_profile = is_called & (called >= 0)
    profile = by_taxon(called_at, in_profile) / max(all_called, 1)
    return RankFigures(
        rank=rank,
        reads=total,
        called=answered,
        correct=correct,
        taxa=int(there.sum()),
        completeness=completeness,
        purity=purity,
        f1=harmonic_mean(purity, completeness),
        misclassification=None if not answered else 1 - correct / answered,
        accuracy=correct / total,
        counted=profile_figures(
            dict(zip(taxa.tolist(), composition.tolist(), strict=True)),
            dict(zip(taxa.tolist(), profile.tolist(), strict=True)),
        ),
        estimated=None
        if estimated is None
        else profile_figures(dict(zip(taxa.tolist(), composition.tolist(), strict=True)), estimated),
    )


def profile_figures(truth: Mapping[int, float], profile: Mapping[int, float]) -> ProfileFigures:
    """A profile against the truth, at one rank.

    Args:
        truth: share of each taxon; they sum to 1, or to less where some reads have no taxon at the rank.
        profile: the same of the profile. Shares are taken as they are, not scaled to sum to 1.
    """
    from skbio.diversity import beta_diversity

    taxa = sorted(set(truth) | set(profile))
    shares = np.array([[side.get(taxon, 0.0) for taxon in taxa] for side in (truth, profile)])
    there, found = shares > 0
    both = int((there & found).sum())
    completeness, purity = share(both, there.sum()) or 0.0, share(both, found.sum()) or 0.0
    distance = float(beta_diversity("braycurtis", shares)[0, 1]) if shares.any() else None
    return ProfileFigures(
        l1=float(np.abs(shares[0] - shares[1]).sum()),
        bray_curtis=distance,
        completeness=completeness,
        purity=purity,
        f1=harmonic_mean(completeness, purity),
    )
