"""A store's folder before its store is whole: whether it may be used, what was asked for, and how far that has come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_classifier.cache import ENTRY_FILE as CACHE_ENTRY_FILE
from metagene_classifier.errors import DataError, OutputError
from metagene_classifier.reads.labels import read_mapping, write_mapping
from metagene_classifier.store.facts import (
    MAPPING_FILE,
    SHARDS_FOLDER,
    STORE_FILE,
    InputFacts,
    LabellingFacts,
    ShardFacts,
    TokenizerFacts,
    read_shard_facts,
    shard_facts_path,
    shard_name,
)
from metagene_classifier.store.preparing.digests import input_facts
from metagene_classifier.store.preparing.filling import ENDS_INPUT
from metagene_classifier.store.preparing.lock import LOCK_FILE
from metagene_classifier.store.preparing.request import (
    STDIN,
    Identity,
    PrepareRequest,
    differences,
    identity_of,
    input_differences,
)
from metagene_classifier.whole_files import whole_file

__all__ = ["REQUEST_FILE", "Begun", "begin", "make_folder", "refusal", "remove_store", "whole_shards"]

REQUEST_FILE = "request.json"
FORMAT = 1


def make_folder(folder: Path) -> None:
    """Make the folder of a store, or see that nothing but a store is in it.

    Raises:
        OutputError: it is a file, cannot be made, or holds something else.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file: name a folder for the store")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    strangers = sorted(name for name in inside if name not in _BEGUN and not _is_left_over(name))
    if strangers and not any(name in inside for name in (STORE_FILE, REQUEST_FILE)):
        raise OutputError(f"{folder} is not empty and no store ({strangers[0]} is in it): name another folder")


# What stands in a folder before the request is written, a request that was not written to its end included.
_BEGUN = (LOCK_FILE, CACHE_ENTRY_FILE)


def _is_left_over(name: str) -> bool:
    return name.endswith(".partial") or name.startswith(f".{CACHE_ENTRY_FILE}.")


def remove_store(folder: Path) -> None:
    """Remove a store, whole or begun, and nothing else of the folder.

    Raises:
        OutputError: something cannot be removed.
    """
    try:
        # Shards first: what is left when this breaks off must not be taken for those of another request.
        if (folder / SHARDS_FOLDER).is_dir():
            for path in (folder / SHARDS_FOLDER).glob("shard-*"):
                path.unlink(missing_ok=True)
        for name in (STORE_FILE, REQUEST_FILE, MAPPING_FILE):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove the store in {folder}: {error.strerror}") from error


@dataclass(frozen=True)
class Begun:
    """What stands in ``request.json``: the request of a store that was begun."""

    identity: Identity
    inputs: tuple[InputFacts, ...]


def begin(request: PrepareRequest, folder: Path) -> Begun:
    """The request of the unfinished store in the folder, which is begun here if there is none.

    Raises:
        DataError: it is another one.
    """
    path = folder / REQUEST_FILE
    identity = identity_of(request)
    if path.is_file():
        begun = _read_request(path)
        found = differences(begun.identity, read_mapping(folder / MAPPING_FILE), identity, request.labels)
        found += input_differences(begun.inputs, request.files, request.labels_from)
        if request.read_ids != begun.identity.read_ids:
            found.append(f"the store was begun {'with' if begun.identity.read_ids else 'without'} --read-ids")
        if not found:
            return Begun(identity, begun.inputs)
        if any((folder / SHARDS_FOLDER).glob("shard-*")):
            raise DataError(refusal(folder, found))
        # Nothing has come of that request, as where its input could not be read: it stands in nobody's way.
    inputs = tuple(
        InputFacts(path=STDIN, bytes=0, mtime_ns=0, sha256="") if str(file) == STDIN else input_facts(file)
        for file in request.files
    )
    # The request is written last, so that without one there is nothing of worth in the folder.
    write_mapping(folder / MAPPING_FILE, request.labels)
    values = {
        "format": FORMAT,
        "tokenizer": identity.tokenizer.model_dump(),
        "labelling": identity.labelling.model_dump(),
        "read_ids": identity.read_ids,
        "inputs": [facts.model_dump() for facts in inputs],
    }
    with whole_file(path) as out:
        json.dump(values, out, indent=1)
    return Begun(identity, inputs)


def refusal(folder: Path, found: Sequence[str]) -> str:
    """The line for a folder whose store is another one, with the differences ``found``."""
    return f"{folder} holds another store: {'; '.join(found)}: name another folder, or give --overwrite"


def whole_shards(folder: Path) -> list[ShardFacts]:
    """The facts of the shards from the first on, up to the first that is missing."""
    found: list[ShardFacts] = []
    while shard_facts_path(folder, name := shard_name(len(found))).is_file():
        try:
            facts = read_shard_facts(folder, name)
        except DataError:
            break
        counts = {key: facts.noticed[key] for key in ("records", "lines", ENDS_INPUT)}
        found.append(facts.model_copy(update={"reads_per_class": {}, "noticed": counts}))  # the rest is large
    return found


def _read_request(path: Path) -> Begun:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise DataError(f"{path} is of another version: give --overwrite to begin anew")
        return Begun(
            Identity(
                TokenizerFacts(**values["tokenizer"]), LabellingFacts(**values["labelling"]), bool(values["read_ids"])
            ),
            tuple(InputFacts(**facts) for facts in values["inputs"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: give --overwrite to begin anew") from error
