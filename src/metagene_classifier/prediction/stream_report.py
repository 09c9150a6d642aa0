"""What was noticed while reads went by, block by block."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter

from metagene_classifier.reads.cleaning import CleaningCounts

__all__ = ["StreamReport"]


@dataclass
class StreamReport:
    """Counts of reads, of all or of one block."""

    reads: int = 0
    empty: int = 0
    truncated: int = 0
    windowed: int = 0
    cleaning: CleaningCounts = field(default_factory=CleaningCounts)

    def add(self, other: StreamReport) -> None:
        """Count in what was noticed elsewhere."""
        self.reads += other.reads
        self.empty += other.empty
        self.truncated += other.truncated
        self.windowed += other.windowed
        self.cleaning.reads += other.cleaning.reads
        for name in _CHANGES:
            own, more = getattr(self.cleaning, name), getattr(other.cleaning, name)
            own.reads += more.reads
            own.bases += more.bases

    def as_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> StreamReport:
        """What :meth:`as_json` gave.

        Raises:
            ValueError: it is something else.
        """
        return TypeAdapter(StreamReport).validate_python(values)

    def lines(self) -> list[str]:
        """A line for each thing that a user should know."""
        told = [self.cleaning.summary()]
        if self.empty:
            told.append(f"{self.empty:,} reads without a base")
        if self.truncated:
            told.append(f"{self.truncated:,} reads cut to the model's context (long reads: truncate)")
        if self.windowed:
            told.append(f"{self.windowed:,} reads longer than the model's context, scored by windows")
        return [line for line in told if line]


_CHANGES = tuple(one.name for one in fields(CleaningCounts) if one.name != "reads")
