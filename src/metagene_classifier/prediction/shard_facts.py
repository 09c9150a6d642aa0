"""What stands beside a shard's calls: of which reads, model and options they are, and how to join them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from metagene_classifier.errors import DataError
from metagene_classifier.model.description import ModelDescription
from metagene_classifier.prediction.shards import Shard
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.whole_files import whole_file

__all__ = ["SCHEMA_VERSION", "ShardFacts", "facts_path", "model_digest", "read_facts", "write_facts"]

# 2: how reads are called is among the options.
SCHEMA_VERSION = 2
_REPORT = TypeAdapter(StreamReport)


class ShardFacts(BaseModel):
    """One finished shard."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    schema_version: int
    package_version: str
    shard: int = Field(ge=1)
    shards: int = Field(ge=1)
    input: str
    input_reads: int = Field(ge=0)
    """Of the whole file."""
    input_sha256: str
    """Of the headers and sequences of all of them."""
    model: str
    model_sha256: str
    """Of its description, which holds the digests of its files."""
    options: dict[str, str | bool | int | float]
    """What decides the calls beside reads and model."""
    circumstances: dict[str, str | int]
    """What decides the last digits of scores."""
    block_reads: int = Field(ge=1)
    header_bytes: int = Field(ge=0)
    block_bytes: list[int]
    """Of the CSV's rows, block by block."""
    csv_sha256: str
    noticed: dict[str, Any]
    """A :class:`StreamReport` of this shard's own reads."""

    @property
    def which(self) -> Shard:
        """Which shard it is."""
        return Shard(self.shard, self.shards)

    @property
    def csv_bytes(self) -> int:
        """Length of the CSV."""
        return self.header_bytes + sum(self.block_bytes)

    @property
    def blocks_of_input(self) -> int:
        """Blocks of the whole file."""
        return -(-self.input_reads // self.block_reads)

    def report(self) -> StreamReport:
        """What was noticed in this shard."""
        return _REPORT.validate_python(self.noticed)


def facts_path(csv: Path) -> Path:
    """The file beside a shard's CSV."""
    return csv.with_name(f"{csv.name}.json")


def model_digest(description: ModelDescription) -> str:
    """SHA-256 of everything that a model's folder says of itself, the digests of its files among it."""
    return hashlib.sha256(description.model_dump_json().encode()).hexdigest()


def noticed_of(report: StreamReport) -> dict[str, Any]:
    """A report as JSON holds it."""
    return asdict(report)


def write_facts(csv: Path, facts: ShardFacts) -> None:
    """Write the facts of a shard whose CSV is whole; with them the shard is finished."""
    with whole_file(facts_path(csv)) as out:
        out.write(facts.model_dump_json(indent=1) + "\n")


def read_facts(csv: Path) -> ShardFacts:
    """The facts of a finished shard.

    Raises:
        DataError: there are none, they are damaged, or a later version wrote them.
    """
    path = facts_path(csv)
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        version = values["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise DataError(f"{path} was written by a later version: upgrade metagene-classifier")
        facts = ShardFacts.model_validate(values)
        _REPORT.validate_python(facts.noticed)
    except FileNotFoundError as error:
        if not csv.exists():
            raise DataError(f"{csv}: no such file") from error
        raise DataError(
            f"{csv} is no finished shard, {path.name} is not beside it: run that shard again, or copy both files"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path} is damaged ({first}): run that shard again") from error
    if len(facts.block_bytes) != facts.which.blocks(facts.blocks_of_input):
        raise DataError(f"{path} is damaged (its blocks are not those of shard {facts.which}): run that shard again")
    return facts
