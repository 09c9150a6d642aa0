"""Training prepares its reads into the cache by itself, once."""

from __future__ import annotations

import io
import shutil
import sys

import pytest

from metagene_classifier import cache
from metagene_classifier.store.preparing import cached, digests
from metagene_classifier.store.preparing.cached import cached_store
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.tokenization.choice import SHIPPED_MINBPE
from metagene_classifier.tokenization.minbpe import load_minbpe


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Empty at first."""
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "cache"))


def silent(line: str) -> None:
    """Tell nobody."""


def test_the_same_reads_are_prepared_once_wherever_they_lie(small, request_of, labelled_files, tmp_path):
    store = cached_store(request_of(), workers=1, tell=silent)
    times = {path: path.stat().st_mtime_ns for path in store.folder.glob("shards/*")}
    moved = tmp_path / "elsewhere.fasta"
    shutil.copy(labelled_files.train_fasta, moved)
    told = []
    again = cached_store(request_of(moved), workers=1, tell=told.append)
    assert (again.folder, told) == (store.folder, [])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert [entry.kind for entry in cache.entries()] == ["stores"]
    assert str(labelled_files.train_fasta) in cache.entries()[0].description
    assert cache.clear("stores") > 0
    assert not store.folder.exists()


def test_whatever_changes_the_tokens_or_classes_is_another_store(small, request_of, labelled_files):
    requests: list[PrepareRequest] = [
        request_of(),
        request_of(labelled_files.val_fasta),
        request_of(tokenizer=load_minbpe(SHIPPED_MINBPE)),
    ]
    folders = {cached_store(request, workers=1, tell=silent).folder for request in requests}
    assert len(folders) == 3
    assert cached_store(request_of(strict=False), workers=1, tell=silent).folder in folders


def test_a_damaged_shard_in_the_cache_is_made_again(small, request_of):
    store = cached_store(request_of(), workers=1, tell=silent)
    victim = store.folder / "shards" / "shard-00002.arrow"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-8] + b"\0\0\0\0\0\0\0\1")
    told = []
    cached_store(request_of(), workers=1, tell=told.append)
    assert "shard-00002" in told[0]
    assert victim.read_bytes() == whole


def test_with_the_cache_off_the_store_goes_with_the_process(small, request_of, monkeypatch, tmp_path):
    monkeypatch.setenv("MGC_NO_CACHE", "1")
    at_exit = []
    monkeypatch.setattr(cached.atexit, "register", lambda *words, **options: at_exit.append((words, options)))
    store = cached_store(request_of(), workers=1, tell=silent)
    assert len(store) == 48
    assert not (tmp_path / "cache").exists()
    for (call, *arguments), options in at_exit:
        call(*arguments, **options)
    assert not store.folder.exists()


def test_standard_input_is_prepared_and_not_kept(small, request_of, labelled_files, monkeypatch, tmp_path):
    class Input:
        buffer = io.BufferedReader(io.BytesIO(labelled_files.train_fasta.read_bytes()))

    monkeypatch.setattr(sys, "stdin", Input)
    from pathlib import Path

    store = cached_store(request_of(Path("-")), workers=1, tell=silent)
    assert len(store) == 48
    assert not (tmp_path / "cache").exists()


def test_the_digest_of_a_large_file_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "REMEMBERED_BYTES", 10)
    path = tmp_path / "reads.fa"
    path.write_bytes(b">a\nACGTACGT\n")
    first = digests.input_facts(path)
    with monkeypatch.context() as patch:
        patch.setattr(digests, "_digest", None)  # it is not read again
        assert digests.input_facts(path) == first
    path.write_bytes(b">a\nACGTACGA\n")
    assert digests.input_facts(path).sha256 != first.sha256
