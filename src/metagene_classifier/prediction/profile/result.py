"""Everything that is known of a sample once its reads are called."""

from __future__ import annotations

from dataclasses import dataclass

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.profile.estimate import Profile
from metagene_classifier.prediction.profile.tally import SampleTally

__all__ = ["SampleResult"]


@dataclass(frozen=True, eq=False)
class SampleResult:
    """A sample's counts and abundances, from which its files and reports are made.

    Attributes:
        sample: its name.
        tally: its calls, counted.
        tree: of the model's classes, to which the places in tally and profile belong.
        profile: abundances and diversity.
        source: the files that the reads came from, for people.
    """

    sample: str
    tally: SampleTally
    tree: ClassTree
    profile: Profile
    source: str
