"""What a saved model says about itself: ``metagene_classifier.json``, checked when it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.calibration import CalibrationFacts
from metagene_classifier.model.quantization import Quantization
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.whole_files import whole_file

__all__ = [
    "DESCRIPTION_FILE",
    "SCHEMA_VERSION",
    "CallingFacts",
    "EncoderFacts",
    "LabelFacts",
    "ModelDescription",
    "TokenizerFacts",
    "check_files",
    "file_digests",
    "read_description",
    "write_description",
]

DESCRIPTION_FILE = "metagene_classifier.json"
# 2: the encoder's quantization, and rows in its probe. 3: calibration, what is never called, the taxonomy.
SCHEMA_VERSION = 3
# Above this size a file is known by its length alone: hashing a whole encoder would cost half a minute at each start.
HASHED_BYTES = 256 * 2**20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class EncoderFacts(_Part):
    """The encoder that the model stands on."""

    name: str
    revision: str | None
    stored: bool
    """Whether its weights lie in the model's own folder, since they were trained."""
    architecture: str
    hidden_size: int
    vocab_size: int
    asked_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """What the configuration asked for; ``auto`` lets prediction follow its own device."""
    dtype: Literal["bfloat16", "float16", "float32"]
    compute_dtype: Literal["bfloat16", "float16", "float32"]
    quantization: Quantization = "none"
    """Of the encoder's linear layers while the model was trained."""
    probe: dict[str, list[float]]


class TokenizerFacts(_Part):
    """The tokenizer that the model was trained with."""

    kind: str
    name: str
    fingerprint: str
    add_bos: bool
    add_eos: bool


class LabelFacts(_Part):
    """One class."""

    class_id: str
    label: str
    taxid: int | None


class CallingFacts(_Part):
    """What is never called, and how strands are scored, where a prediction says nothing else."""

    min_tokens: int = 0
    min_complexity: float = 0.0
    strand: Literal["single", "average"] = "single"


class ModelDescription(_Part):
    """Everything but the weights that prediction needs."""

    schema_version: int
    package_version: str
    encoder: EncoderFacts
    adapter: bool
    tokenizer: TokenizerFacts
    labels: tuple[LabelFacts, ...] = Field(min_length=1)
    pooling: Literal["mean", "max", "cls", "last"]
    dropout: float
    max_length: int
    long_reads: Literal["window", "truncate", "error"]
    window_overlap: float
    header_regex: str
    calling: CallingFacts = CallingFacts()
    calibration: CalibrationFacts | None = None
    taxonomy: bool = False
    """Whether the classes' ranks and lineages stand in ``taxonomy.tsv``."""
    files: dict[str, str]
    """Every other file of the folder that prediction reads, with its length and SHA-256."""

    def label_table(self) -> Labels:
        """The classes in the order of the head's outputs."""
        return Labels(tuple(ClassLabel(c.class_id, c.label, c.taxid) for c in self.labels))


def write_description(folder: Path, description: ModelDescription) -> None:
    """Write ``metagene_classifier.json`` into a model's folder."""
    with whole_file(folder / DESCRIPTION_FILE) as out:
        out.write(description.model_dump_json(indent=2) + "\n")


def read_description(folder: Path) -> ModelDescription:
    """Read a model folder's description and check the folder's files against it.

    Raises:
        ModelFolderError: it is no model's folder, was written by a later version, or is damaged.
    """
    path = folder / DESCRIPTION_FILE
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(f"{folder} holds no {DESCRIPTION_FILE}: it is no trained model's folder") from error
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} is damaged ({error}): copy the model again") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelFolderError(
            f"{folder} was written by a later version (schema {version}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade metagene-classifier"
        )
    try:
        description = ModelDescription.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelFolderError(f"{path} is damaged ({key}: {first['msg']}): copy the model again") from error
    check_files(folder, description.files)
    return description


def file_digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Length and SHA-256 of files, as ``"1234:abcd…"``; large files by their length alone."""
    return {name: _digest(folder / name) for name in names}


def check_files(folder: Path, digests: dict[str, str]) -> None:
    """Refuse a folder whose files are not those that were written.

    Raises:
        ModelFolderError: a file is missing or has changed.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise ModelFolderError(f"{folder} lacks {name}: the model is not whole, copy it again")
        if _digest(path) != digest:
            raise ModelFolderError(f"{path} is not the file that was saved (damaged or changed): copy the model again")


def _digest(path: Path) -> str:
    size = path.stat().st_size
    if size > HASHED_BYTES:
        return f"{size}:"
    with open(path, "rb") as handle:
        return f"{size}:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
