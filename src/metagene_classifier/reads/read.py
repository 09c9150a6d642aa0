"""One sequencing read, as it stands in its file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Read"]


@dataclass(frozen=True, slots=True)
class Read:
    """A FASTA or FASTQ record.

    Attributes:
        header: the whole header line without its ``>`` or ``@``.
        sequence: the bases as they stand in the file.
        qualities: the FASTQ quality string, of the sequence's length; ``None`` for FASTA.
    """

    header: str
    sequence: str
    qualities: str | None = None

    @property
    def id(self) -> str:
        """The header's first word, as other tools name the read.

        Labelled headers (``lbl|…``) may hold an organism's name with spaces, so there the whole header is the id.
        """
        if self.header.startswith("lbl|"):
            return self.header
        return self.header.split(None, 1)[0] if self.header.strip() else ""
