"""Quantized weights on disk: METAGENE-1's 26 GB are read and quantized once, and after that 4 GB are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from metagene_classifier.cache import (
    CacheEntry,
    caching_is_off,
    clear,
    find_entry,
    mark_used,
    what_is_damaged,
    write_entry,
)
from metagene_classifier.errors import MgcError, OutputError
from metagene_classifier.model.quantization import INT8_THRESHOLD, NEVER_QUANTIZED, Quantization

__all__ = ["KIND", "QuantizedWeights", "cached_or_made", "files_identity"]

KIND = "quantized"
# Raised whenever what is written, or how it is made, changes.
FORMAT = 1
SMALL_BYTES = 2**20
SAMPLES, SAMPLE_BYTES = 64, 4096
# A shard is in memory twice while it is written.
SHARD = "256MB"


@dataclass(frozen=True)
class QuantizedWeights:
    """What decides the bits of an encoder's quantized weights.

    Attributes:
        name: of the encoder, as the user gave it.
        files: as :func:`files_identity` names its files.
        quantization: ``int8`` or ``nf4``.
        dtype: of the weights before they are quantized, and of all that is not.
        device: its type: cards and CPUs round differently.
    """

    name: str
    files: str
    quantization: Quantization
    dtype: str
    device: str

    @property
    def facts(self) -> dict[str, Any]:
        """All that the key depends on."""
        return {
            **asdict(self),
            "format": FORMAT,
            "settings": {"int8_threshold": INT8_THRESHOLD, "double_quantization": True, "left": NEVER_QUANTIZED},
            "bitsandbytes": ".".join(metadata.version("bitsandbytes").split(".")[:2]),
            "transformers": metadata.version("transformers").split(".")[0],
        }

    @property
    def key(self) -> str:
        """Another one for every other content; the encoder's name is not part of it."""
        facts = {name: value for name, value in self.facts.items() if name != "name"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def files_identity(folder: Path) -> str:
    """What tells an encoder's files from all others, without reading all of them.

    The commit, for a folder of the hub's cache. For any other folder a digest of the names, sizes, times and content of
    its configuration and weights; of large files 64 samples are read.
    """
    if folder.parent.name == "snapshots" and len(folder.name) == 40:
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(
        [folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    ):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
        with open(path, "rb") as handle:
            if state.st_size <= SMALL_BYTES:
                digest.update(handle.read())
                continue
            for sample in range(SAMPLES):
                handle.seek(sample * (state.st_size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(handle.read(SAMPLE_BYTES))
    return digest.hexdigest()


def cached_or_made(
    weights: QuantizedWeights,
    *,
    read: Callable[[Path], Any],
    make: Callable[[], Any],
    check: Callable[[Any], None],
    tell: Callable[[str], None],
) -> Any:
    """The quantized encoder from the cache, or a new one that is then put there.

    A damaged entry is thrown away; a cache that cannot be written costs a line and nothing else. Of several ranks on a
    machine the first writes.

    Args:
        weights: which.
        read: loads an encoder from an entry's folder.
        make: loads it from its own files, and quantizes it.
        check: raises when the encoder cannot be used. Running one may change it, so it is written before it is checked.
        tell: called with lines for the user.
    """
    if caching_is_off():
        encoder = make()
        check(encoder)
        return encoder
    encoder = _from_cache(weights, read, tell)
    if encoder is not None:
        return encoder
    encoder = make()
    written = _put(weights, encoder, tell) if os.environ.get("LOCAL_RANK", "0") == "0" else None
    try:
        check(encoder)
    except MgcError:
        _discard(weights, tell)
        raise
    if written is not None:
        size = f"{written.bytes / 1e9:.2f} GB" if written.bytes >= 10**8 else f"{written.bytes / 1e6:.2f} MB"
        tell(f"{weights.quantization} weights cached, {written.folder} ({size}): the next load reads them")
    return encoder


def _from_cache(weights: QuantizedWeights, read: Callable[[Path], Any], tell: Callable[[str], None]) -> Any | None:
    found = find_entry(KIND, weights.key)
    if found is None:
        return None
    damaged = what_is_damaged(found)
    if damaged is None:
        try:
            encoder = read(found.folder)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # whatever the libraries say of files that are not as they were written
            damaged = " ".join(str(error).split())[:120] or type(error).__name__
        else:
            mark_used(found.folder)
            tell(f"{weights.quantization} weights read from the cache, {found.folder}")
            return encoder
    tell(f"the cached {weights.quantization} weights in {found.folder} are damaged ({damaged}): made again")
    _discard(weights, tell)
    return None


def _discard(weights: QuantizedWeights, tell: Callable[[str], None]) -> None:
    try:
        clear(KIND, weights.key)
    except OutputError as error:
        tell(str(error))


def _put(weights: QuantizedWeights, encoder: Any, tell: Callable[[str], None]) -> CacheEntry | None:
    description = f"{weights.name} in {weights.quantization}, the rest in {weights.dtype}"

    def save(folder: Path) -> None:
        named = encoder.config.architectures
        encoder.save_pretrained(folder, max_shard_size=SHARD)
        encoder.config.architectures = named  # saving puts the class of the encoder alone in its place

    try:
        write_entry(KIND, weights.key, description, weights.facts, save)
        return find_entry(KIND, weights.key)
    except MgcError as error:
        reason = str(error)
    except Exception as error:  # safetensors has errors of its own for a full disk
        reason = " ".join(str(error).split())[:200]
    tell(f"the {weights.quantization} weights are not cached: {reason}")
    return None
