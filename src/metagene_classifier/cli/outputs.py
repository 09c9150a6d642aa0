"""The closing lines of commands that stream reads into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier.console import say

if TYPE_CHECKING:
    from metagene_classifier.model.description import ModelDescription
    from metagene_classifier.prediction.stream_report import StreamReport

__all__ = ["tell_calibration", "tell_stream"]


def tell_calibration(description: ModelDescription, folder: Path, strand: str) -> None:
    """A line where the confidence of calls is not what it was measured to be."""
    if description.calibration is None:
        say(
            f"{folder} is not calibrated: each read gets its likeliest class unless --confidence says otherwise, and "
            "confidence is the softmax of the scores (mgc train calibrates where there are validation reads)"
        )
    elif strand != description.calibration.temperature.strand:
        say(
            f"confidence was measured on {description.calibration.temperature.strand} strands, and reads were scored "
            f"with --strand {strand}: it may be a little off"
        )


def tell_stream(report: StreamReport, what: str, output: Path) -> None:
    """The closing lines: what was noticed, and where the result is."""
    for line in report.lines():
        say(line)
    say(f"{what} written to {'standard output' if str(output) == '-' else output}")
