"""Counts of lengths in bounded memory, with percentiles and bars of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Histogram"]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
EXACT_BELOW = 10_000
BINS = 10
BAR_WIDTH = 40


@dataclass
class Histogram:
    """How often each length was seen: exact below 10,000, to three digits above, so that memory stays bounded."""

    counts: Counter[int] = field(default_factory=Counter)
    total: int = 0
    sum: int = 0
    shortest: int = 0
    longest: int = 0

    def add(self, lengths: Iterable[int]) -> None:
        """Count lengths."""
        for length in lengths:
            self.shortest = length if not self.total else min(self.shortest, length)
            self.longest = max(self.longest, length)
            self.total += 1
            self.sum += length
            self.counts[length if length < EXACT_BELOW else _three_digits(length)] += 1

    def percentile(self, percent: float) -> int:
        """The length that ``percent`` of the reads do not exceed; 0 when nothing was counted."""
        wanted = self.total * percent / 100
        seen = 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return 0

    def summary(self) -> dict[str, Any]:
        """The figures for a machine."""
        return {
            "reads": self.total,
            "mean": round(self.sum / self.total, 2) if self.total else None,
            "shortest": self.shortest,
            "longest": self.longest,
            "percentiles": {str(percent): self.percentile(percent) for percent in PERCENTILES},
        }

    def lines(self, unit: str) -> list[str]:
        """Bars of text over equal ranges, the longest hundredth in one, and a line of percentiles."""
        if not self.total:
            return [f"no reads, so no {unit}"]
        bulk = max(self.percentile(99), self.shortest)
        width = -(-(bulk - self.shortest + 1) // BINS)
        ranges: Counter[int] = Counter()
        for length, count in self.counts.items():
            ranges[BINS if length > bulk else max(length - self.shortest, 0) // width] += count
        rows = []
        for place in range(max(place for place in ranges if place < BINS) + 1):
            low = self.shortest + place * width
            high = min(low + width - 1, bulk)
            rows.append((f"{low:,}" if low == high else f"{low:,} to {high:,}", ranges[place]))
        if ranges[BINS]:
            rows.append((f"over {bulk:,}", ranges[BINS]))
        tallest = max(ranges.values())
        span = max(len(unit), *(len(name) for name, _ in rows))
        shown = "  ".join(f"{percent}% {self.percentile(percent):,}" for percent in PERCENTILES)
        return [
            f"{unit:>{span}}  {'reads':>13}",
            *(
                f"{name:>{span}}  {reads:>13,}  {'#' * -(-reads * BAR_WIDTH // tallest)}".rstrip()
                for name, reads in rows
            ),
            f"mean {self.sum / self.total:,.1f}, longest {self.longest:,}, percentiles: {shown}",
        ]


def _three_digits(length: int) -> int:
    scale: int = 10 ** (len(str(length)) - 3)
    return length // scale * scale
