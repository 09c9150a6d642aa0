"""Small pieces and shards, so that a few reads make many of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import read_mapping
from metagene_classifier.store.preparing import filling, pieces, prepare
from metagene_classifier.store.preparing.request import PrepareRequest


@pytest.fixture
def small(monkeypatch) -> None:
    """Pieces of 300 bytes, shards of 1,000."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 300)
    monkeypatch.setattr(filling, "SHARD_BYTES", 1_000)
    monkeypatch.setattr(prepare, "SMALL_BYTES", 0)


@pytest.fixture
def request_of(labelled_files, tokenizer):
    """A request for files of the three classes of ``labelled_files``; its training reads by default."""

    def make(*files: Path, **changes) -> PrepareRequest:
        request = PrepareRequest(
            files=list(files) or [labelled_files.train_fasta],
            labels=read_mapping(labelled_files.mapping_tsv),
            source=LabelSource(HeaderPattern(DEFAULT_HEADER_REGEX)),
            labels_from="header",
            strict=True,
            tokenizer=tokenizer,
        )
        return replace(request, **changes)

    return make


@pytest.fixture
def shards_of():
    """Name and content of every shard in a store, in order."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((folder / "shards").glob("*.arrow"))}

    return read
