"""What commands that write one file have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier.console import say
from metagene_classifier.errors import OutputError
from metagene_classifier.whole_files import check_output_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.scorer import StreamReport

__all__ = ["check_new_output", "tell_stream"]


def check_new_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that would replace a file, before any work is done.

    Raises:
        OutputError: it is a folder, or exists and ``overwrite`` was not given.
    """
    if str(output) == "-":
        return
    check_output_file(output)
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists: name another file, or replace it with --overwrite")


def tell_stream(report: StreamReport, what: str, output: Path) -> None:
    """The closing lines: what was noticed, and where the result is."""
    for line in report.lines():
        say(line)
    say(f"{what} written to {'standard output' if str(output) == '-' else output}")
