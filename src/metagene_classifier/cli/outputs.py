"""The closing lines of commands that stream reads into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier.console import say

if TYPE_CHECKING:
    from metagene_classifier.prediction.stream_report import StreamReport

__all__ = ["tell_stream"]


def tell_stream(report: StreamReport, what: str, output: Path) -> None:
    """The closing lines: what was noticed, and where the result is."""
    for line in report.lines():
        say(line)
    say(f"{what} written to {'standard output' if str(output) == '-' else output}")
