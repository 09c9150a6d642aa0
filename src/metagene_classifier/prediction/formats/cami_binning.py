"""Calls as CAMI binning 0.10.0: the classified reads and their taxids, as AMBER reads them.

https://github.com/bioboxes/rfc/tree/master/data-format (binning). A read that is not listed is not binned.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter, one_line, text_calls

__all__ = ["open_calls"]


def open_calls(path: Path, context: FormatContext) -> AbstractContextManager[ReadWriter]:
    """Calls as CAMI binning; a context manager.

    Raises:
        OutputError: the file cannot be written.
    """
    head = f"@Version:0.10.0\n@SampleID:{one_line(context.sample)}\n\n@@SEQUENCEID\tTAXID\n"
    return text_calls(path, head, _rows)


def _rows(calls: Sequence[Call]) -> str:
    return "".join(f"{one_line(call.read_id)}\t{call.taxid}\n" for call in calls if call.taxon)
