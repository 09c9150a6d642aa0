"""Calls as Kraken 2 writes them: a line a read, https://github.com/DerrickWood/kraken2/wiki/Manual (Output Formats).

``C`` or ``U``, read id, taxid (0 for ``U``), length (``98|94`` of a pair) and the hit list, tabs between them. Kraken's
hits are runs of k-mers; ours are windows: ``562:38`` is a window of 38 tokens that by itself is called 562, and
``|:|`` stands between mates. A read without a window has ``0:0``, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from metagene_classifier.prediction.call import Call, Hit
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter, one_line, text_calls

__all__ = ["kraken_rows", "open_calls"]

BETWEEN_MATES = " |:| "
NO_HITS = "0:0"


def open_calls(path: Path, context: FormatContext) -> AbstractContextManager[ReadWriter]:
    """Calls as Kraken output; a context manager.

    Raises:
        OutputError: the file cannot be written.
    """
    return text_calls(path, "", kraken_rows)


def kraken_rows(calls: Sequence[Call]) -> str:
    """A line for each call."""
    return "".join(map(_row, calls))


def _row(call: Call) -> str:
    status, taxid = ("C", call.taxid or 0) if call.taxon else ("U", 0)
    lengths = "|".join(str(len(read.sequence)) for read in call.reads)
    hits = BETWEEN_MATES.join(_hits(mate) for mate in call.hits or ((),) * len(call.reads))
    return f"{status}\t{one_line(call.read_id)}\t{taxid}\t{lengths}\t{hits}\n"


def _hits(mate: Sequence[Hit]) -> str:
    return " ".join(f"{hit.taxid}:{hit.tokens}" for hit in mate) or NO_HITS
