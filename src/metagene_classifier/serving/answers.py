"""What the API answers, as its schema documents it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.formats.csv_calls import Lineages
from metagene_classifier.prediction.formats.sunburst import sunburst_data, sunburst_nodes
from metagene_classifier.serving.results import SAMPLE, Download, Result

__all__ = ["CallAnswer", "CallsAnswer", "ErrorAnswer", "HealthAnswer", "ModelAnswer", "calls_answer"]


class ErrorAnswer(BaseModel):
    """Why a request was not served."""

    error: str = Field(description="One line: what was wrong, and what to do.")


class HealthAnswer(BaseModel):
    """Whether reads can be called."""

    status: str = Field(description="`ok`, or `stopping`.")
    waiting: int = Field(description="Requests that wait for the model.")


class FormatAnswer(BaseModel):
    """A file that a result can be had as."""

    name: str
    what: str
    lacking: str = Field(description="Why this model cannot give it; empty where it can.")

    @classmethod
    def of(cls, download: Download) -> FormatAnswer:
        """What a client is told of a download."""
        return cls(name=download.name, what=download.what, lacking=download.lacking)


class LimitsAnswer(BaseModel):
    """What one request may ask."""

    max_bytes: int
    max_reads: int
    max_read_bp: int
    timeout_s: float
    keep_s: float


class ModelAnswer(BaseModel):
    """The model that calls."""

    name: str = Field(description="Name of its folder.")
    encoder: str
    program: str
    classes: int
    has_taxonomy: bool
    calibrated: bool
    threshold: float = Field(description="Calibrated probability that a call must reach unless asked otherwise.")
    closed_set: bool = Field(description="Whether every read gets its likeliest class unless asked otherwise.")
    strand: str
    limits: LimitsAnswer
    formats: list[FormatAnswer]


class CallAnswer(BaseModel):
    """The call of a read, or of a pair."""

    read_id: str
    call: str = Field(description="A class's label, a taxon's name, or `unclassified`.")
    taxid: int | None
    rank: str
    confidence: float = Field(description="Calibrated probability of the taxon.")
    length_bp: int
    reason: str = Field(description="Why it is unclassified; empty otherwise.")
    lineage: str = Field(description="Names from the top down to the taxon, `;` between them.")


class CallsAnswer(BaseModel):
    """The calls of a request."""

    id: str = Field(description="For `/api/results/{id}`.")
    keep_s: float = Field(description="Seconds until the result is forgotten.")
    paired: bool
    threshold: float | None = Field(description="That a call had to reach; null in a closed set.")
    reads: int = Field(description="Reads, or pairs.")
    classified: int
    bases: int
    reasons: dict[str, int] = Field(description="Unclassified reads by reason.")
    noticed: list[str] = Field(description="What the reads needed before they could be scored.")
    calls: list[CallAnswer] = Field(description="In the order in which the reads came.")
    sunburst: dict[str, Any] = Field(description="Clades and their reads, for the picture.")


def calls_answer(result: Result, keep_s: float) -> CallsAnswer:
    """What a client is told of a result."""
    called = result.called
    return CallsAnswer(
        id=result.id,
        keep_s=keep_s,
        paired=result.paired,
        threshold=result.threshold,
        reads=called.tally.reads,
        classified=called.tally.reads - called.tally.unclassified,
        bases=called.tally.bases,
        reasons={reason: count for reason, count in called.tally.reasons.most_common() if count},
        noticed=called.noticed.lines(),
        calls=_calls(result, result.tree),
        sunburst=sunburst_data(sunburst_nodes(result.tree, called.tally.direct), SAMPLE),
    )


def _calls(result: Result, tree: ClassTree) -> list[CallAnswer]:
    lineages = Lineages(tree)
    return [
        CallAnswer(
            read_id=call.read_id,
            call=call.call,
            taxid=call.taxid,
            rank=call.rank,
            confidence=round(call.confidence, 6),
            length_bp=call.length_bp,
            reason=call.reason,
            lineage=lineages.of(call.taxon) if tree.has_taxonomy else "",
        )
        for call in result.called.calls
    ]
