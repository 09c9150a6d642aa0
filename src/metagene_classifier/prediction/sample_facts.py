"""What is kept of a finished sample beside its files: a run that broke off goes on behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metagene_classifier import __version__
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.whole_files import whole_file

__all__ = ["SCHEMA_VERSION", "Inputs", "SampleFacts", "finished_facts", "input_facts", "output_sizes"]

SCHEMA_VERSION = 1

Inputs = tuple[tuple[str, int, int], ...]
"""Of each file its path, length in bytes, and time of change in nanoseconds."""


class SampleFacts(BaseModel):
    """One finished sample."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    schema_version: int = SCHEMA_VERSION
    package_version: str = __version__
    sample: str
    inputs: Inputs
    model_sha256: str
    """Of its description, which holds the digests of its files."""
    options: dict[str, str | bool | int | float]
    """What decides the files beside reads and model."""
    outputs: dict[str, int]
    """Length of every file, by name."""
    units: int = Field(ge=0)
    """Reads, or pairs, that were called."""
    tally: dict[str, Any]
    """The counts, from which profile and tables are made again."""
    noticed: dict[str, Any]
    """A :class:`~metagene_classifier.prediction.stream_report.StreamReport`."""

    def write(self, path: Path) -> None:
        """Write them; with them the sample is finished."""
        with whole_file(path) as out:
            out.write(self.model_dump_json() + "\n")


def input_facts(source: ReadSource) -> Inputs:
    """By what files are known again; what is not there has no length."""
    found = []
    for name in source.files:
        path = Path(name).absolute()
        try:
            status = path.stat()
            found.append((_as_text(path), status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((_as_text(path), -1, -1))
    return tuple(found)


def _as_text(path: Path) -> str:
    """A path as JSON can hold it, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def output_sizes(paths: Sequence[Path]) -> dict[str, int]:
    """The length of each file, -1 where it is not there."""
    return {path.name: path.stat().st_size if path.is_file() else -1 for path in paths}


def finished_facts(
    path: Path,
    *,
    inputs: Inputs,
    model_sha256: str,
    options: dict[str, str | bool | int | float],
    outputs: Sequence[Path],
) -> SampleFacts | None:
    """The facts of a sample whose files are whole and what they would be again; ``None`` where it must be done.

    Args:
        path: of the facts.
        inputs: of the sample now.
        model_sha256: of the model now.
        options: those of now.
        outputs: the files that are wanted now.
    """
    try:
        facts = SampleFacts.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
    same = (
        facts.schema_version == SCHEMA_VERSION
        and facts.package_version == __version__
        and facts.inputs == inputs
        and facts.model_sha256 == model_sha256
        and facts.options == options
        and facts.outputs == output_sizes(outputs)
    )
    return facts if same else None
