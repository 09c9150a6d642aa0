"""What a store says about itself: ``store.json`` and, beside each shard, its own facts; checked when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from metagene_classifier.errors import DataError
from metagene_classifier.whole_files import whole_file

__all__ = [
    "MAPPING_FILE",
    "SCHEMA_VERSION",
    "SHARDS_FOLDER",
    "STORE_FILE",
    "DamagedFacts",
    "InputFacts",
    "LabellingFacts",
    "ShardEntry",
    "ShardFacts",
    "SourceFacts",
    "StoreFacts",
    "TokenizerFacts",
    "fingerprint_of_shards",
    "is_store",
    "read_shard_facts",
    "read_store_facts",
    "reads_per_class_of",
    "shard_facts_path",
    "shard_name",
    "shard_path",
    "write_shard_facts",
    "write_store_facts",
]

STORE_FILE = "store.json"
MAPPING_FILE = "mapping.tsv"
SHARDS_FOLDER = "shards"
SCHEMA_VERSION = 1


class DamagedFacts(DataError):
    """A file of a store's facts that is missing or cannot be read."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TokenizerFacts(_Facts):
    """The tokenizer that the reads were cut with."""

    kind: str
    name: str
    fingerprint: str


class LabellingFacts(_Facts):
    """Where the classes of the reads came from."""

    labels_from: str
    header_regex: str | None = None
    labels_table_sha256: str | None = None
    strict_classes: bool


class InputFacts(_Facts):
    """A file that reads came from, as it was when they were read."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str


class SourceFacts(_Facts):
    """Where a shard's reads stand in the inputs."""

    input: int
    """Place among the store's inputs, from 0."""
    first_byte: int
    """Of the input's uncompressed text."""
    text_bytes: int
    first_record: int
    first_line: int


class ShardEntry(_Facts):
    """What ``store.json`` knows of a shard: enough to find it, to know it, and to make it again."""

    name: str
    reads: int
    tokens: int
    bytes: int
    """Of the file."""
    sha256: str
    """Of the file."""
    longest: int
    """Tokens of its longest read; 0 when it has none."""
    source: SourceFacts


class ShardFacts(ShardEntry):
    """What stands beside a shard. The counts of the classes do not go into ``store.json``: thousands of shards times
    thousands of classes would make it too large to be opened by every rank.
    """

    reads_per_class: dict[int, int]
    """By the class's place among the labels; classes without a read are left out."""
    noticed: dict[str, Any] = {}
    """Counters of what was cleaned and skipped."""


class StoreFacts(_Facts):
    """``store.json``: written last, so that it stands for a whole store."""

    schema_version: int = SCHEMA_VERSION
    package_version: str
    tokenizer: TokenizerFacts
    labelling: LabellingFacts
    classes_sha256: str
    """Of the classes in ``mapping.tsv``, in the order of their places."""
    inputs: tuple[InputFacts, ...]
    ids_dtype: Literal["uint16", "uint32"]
    read_ids: bool
    shards: tuple[ShardEntry, ...]
    reads_per_class: dict[int, int]
    """Of all shards together."""
    summary: dict[str, Any] = {}
    """What was noticed while it was prepared, over all shards."""


FactsType = TypeVar("FactsType", bound=_Facts)


def shard_name(number: int) -> str:
    """``shard-00000`` for the first."""
    return f"shard-{number:05d}"


def shard_path(folder: Path, name: str) -> Path:
    """The shard's Arrow file in the store ``folder``."""
    return folder / SHARDS_FOLDER / f"{name}.arrow"


def shard_facts_path(folder: Path, name: str) -> Path:
    """The file of the shard's facts in the store ``folder``."""
    return folder / SHARDS_FOLDER / f"{name}.json"


def is_store(path: Path) -> bool:
    """Whether ``path`` is the folder of a store, whole or unfinished."""
    return (path / STORE_FILE).is_file() or any((path / SHARDS_FOLDER).glob("shard-*.arrow"))


def reads_per_class_of(shards: Iterable[ShardFacts]) -> dict[int, int]:
    """The sum over shards, by class; for :class:`StoreFacts`."""
    total: dict[int, int] = {}
    for shard in shards:
        for index, reads in shard.reads_per_class.items():
            total[index] = total.get(index, 0) + reads
    return dict(sorted(total.items()))


def fingerprint_of_shards(shards: Iterable[ShardEntry]) -> str:
    """The same for the same bytes of the same shards in the same order; SHA-256 in hexadecimal."""
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()


def write_store_facts(folder: Path, facts: StoreFacts) -> None:
    """Write ``store.json``: from here on the folder is a whole store.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(folder / STORE_FILE) as out:
        out.write(facts.model_dump_json(indent=1) + "\n")


def read_store_facts(folder: Path) -> StoreFacts:
    """Read ``store.json``.

    Raises:
        DataError: there is no store, it is unfinished, it was written by a later version, or ``store.json`` is damaged.
    """
    path = folder / STORE_FILE
    if not path.is_file():
        if is_store(folder):
            raise DataError(
                f"{folder} is an unfinished store: run the same mgc prepare again, it goes on where it stopped"
            )
        raise DataError(f"{folder} is no store: there is no {STORE_FILE} in it (mgc prepare makes stores)")
    return _read(path, StoreFacts, f"{folder} was written")


def write_shard_facts(folder: Path, facts: ShardFacts) -> None:
    """Write the facts beside a shard, after the shard itself.

    Raises:
        OutputError: they cannot be written.
    """
    with whole_file(shard_facts_path(folder, facts.name)) as out:
        out.write(facts.model_dump_json() + "\n")


def read_shard_facts(folder: Path, name: str) -> ShardFacts:
    """Read the facts beside a shard.

    Raises:
        DataError: they are missing or damaged.
    """
    return _read(shard_facts_path(folder, name), ShardFacts, f"{folder} was written")


def _read(path: Path, kind: type[FactsType], written: str) -> FactsType:
    again = "run the same mgc prepare again"
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedFacts(f"{path} is missing: {again}") from error
    except (OSError, ValueError) as error:
        raise DamagedFacts(f"{path} is damaged ({error}): {again}") from error
    version = values.get("schema_version") if isinstance(values, Mapping) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{written} by a later version (schema {version}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade metagene-classifier"
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DamagedFacts(f"{path} is damaged ({key}: {first['msg']}): {again}") from error
