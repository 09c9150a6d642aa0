"""The alphabet that tokenizers know: A, C, G, T and N, in upper case."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Changes", "CleaningCounts", "clean_sequence"]


class _Table(dict[int, str | None]):
    """Every character that is not named becomes N (the IUPAC codes for several bases are among them)."""

    def __missing__(self, character: int) -> str:
        return "N"


_CLEAN = _Table(
    {ord(base): base for base in "ACGTN"}
    | {ord(base.lower()): base for base in "ACGTN"}
    | {ord("U"): "T", ord("u"): "T"}
    | dict.fromkeys(map(ord, "-.* \t\r\n\v\f"))
)
_NO_LOWER_CASE = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")


def clean_sequence(sequence: str) -> str:
    """Upper case, U to T, gaps (``-``, ``.``, ``*``, white space) removed, anything else that is no base to N."""
    return sequence.translate(_CLEAN)


@dataclass(slots=True)
class Changes:
    """How often cleaning changed something of one kind."""

    reads: int = 0
    bases: int = 0

    def add(self, bases: int) -> None:
        """Count one read in which ``bases`` characters changed."""
        if bases:
            self.reads += 1
            self.bases += bases


@dataclass(slots=True)
class CleaningCounts:
    """What cleaning changed, summed over reads; a read that needed nothing costs one comparison."""

    reads: int = 0
    """Seen, changed or not."""
    lower_case: Changes = field(default_factory=Changes)
    u_to_t: Changes = field(default_factory=Changes)
    gaps_removed: Changes = field(default_factory=Changes)
    ambiguous_to_n: Changes = field(default_factory=Changes)

    def add(self, raw: str, cleaned: str) -> None:
        """Count one read: as it stood in its file, and what :func:`clean_sequence` made of it."""
        self.reads += 1
        if raw == cleaned:
            return
        self.lower_case.add(len(raw) - len(raw.translate(_NO_LOWER_CASE)))
        self.u_to_t.add(raw.count("U") + raw.count("u"))
        self.gaps_removed.add(len(raw) - len(cleaned))
        self.ambiguous_to_n.add(cleaned.count("N") - raw.count("N") - raw.count("n"))

    def summary(self) -> str | None:
        """One line for the user; ``None`` when no read was changed."""
        kinds = (
            ("lower case to upper", self.lower_case),
            ("U to T", self.u_to_t),
            ("gaps removed", self.gaps_removed),
            ("other letters to N", self.ambiguous_to_n),
        )
        told = [f"{kind} in {c.reads:,} ({c.bases:,} characters)" for kind, c in kinds if c.reads]
        return f"cleaned, of {self.reads:,} reads: {'; '.join(told)}" if told else None
