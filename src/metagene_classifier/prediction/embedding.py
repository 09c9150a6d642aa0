"""An embedding of every read of a file."""

from __future__ import annotations

from pathlib import Path

from metagene_classifier.console import progress
from metagene_classifier.prediction.formats.embeddings import embedding_format
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.files import read_records

__all__ = ["embed_reads"]


def embed_reads(scorer: Scorer, *, source: str, output: Path, report: StreamReport) -> None:
    """Stream reads from ``source`` and write their pooled hidden states to ``output``, in input order.

    Raises:
        MgcError: the input is damaged or the output cannot be written.
    """
    with embedding_format(output, scorer.width) as out, progress(unit="read", label="embedding") as bar:
        for block in scorer.stream(read_records(source), report):
            out.write([read.id for read in block.reads], block.values)
            bar.update(len(block.reads))
