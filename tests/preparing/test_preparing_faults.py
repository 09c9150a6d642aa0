"""Where preparing breaks off: nothing is lost in silence, nothing is mixed, and the same command goes on."""

from __future__ import annotations

import gzip
import os
import random
import zlib
from pathlib import Path

import pytest

from metagene_classifier.errors import DataError, OutputError
from metagene_classifier.reads import files as sequence_files
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.store.facts import STORE_FILE
from metagene_classifier.store.preparing import filling, pieces
from metagene_classifier.store.preparing import prepare as preparing
from metagene_classifier.store.preparing.cached import cached_store
from metagene_classifier.store.preparing.prepare import prepare
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.tokenization.choice import SHIPPED_MINBPE
from metagene_classifier.tokenization.minbpe import load_minbpe


def silent(line: str) -> None:
    """Tell nobody."""


@pytest.fixture
def sizes(monkeypatch):
    """Pieces and shards so small that few reads fill many."""

    def choose(*, piece: int, shard: int) -> None:
        monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
        monkeypatch.setattr(filling, "SHARD_BYTES", shard)
        monkeypatch.setattr(preparing, "SMALL_BYTES", 0)

    return choose


def stopped_after(shards: int, request: PrepareRequest, folder: Path, monkeypatch) -> None:
    """Prepare, and stop when so many shards are whole."""
    written = []
    write = filling.write_shard

    def some(*arguments, **options):
        if len(written) == shards:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(filling, "write_shard", some)
        prepare(request, folder, workers=1, tell=silent)


def test_records_are_counted_anew_in_the_file_behind_a_full_last_shard(
    request_of, labelled_files, tmp_path, sizes, monkeypatch
):
    sizes(piece=300, shard=1)  # each piece is a shard
    request = request_of(labelled_files.val_fasta, labelled_files.train_fasta)
    straight = prepare(request, tmp_path / "straight", workers=1, tell=silent)
    first_file = sum(1 for shard in straight.facts.shards if shard.source.input == 0)
    stopped_after(first_file, request, tmp_path / "stopped", monkeypatch)
    resumed = prepare(request, tmp_path / "stopped", workers=1, tell=silent)
    assert resumed.facts.shards == straight.facts.shards
    behind = resumed.facts.shards[first_file].source
    assert (behind.input, behind.first_record, behind.first_line) == (1, 1, 1)


def test_a_file_cut_where_a_piece_ends_is_refused(request_of, tmp_path, sizes):
    record = b"@lbl|0\nACGT\n+\n!!!!\n"
    sizes(piece=10 * len(record), shard=2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = tmp_path / "cut.fq.gz"
    path.write_bytes(packer.compress(20 * record) + packer.flush(zlib.Z_FULL_FLUSH))
    with pytest.raises(DataError, match="cut short; whole records before the break: 20"):
        prepare(request_of(path), tmp_path / "store", workers=1, tell=silent)
    assert not (tmp_path / "store" / STORE_FILE).exists()


def test_a_disk_that_fails_while_finished_text_is_passed_over_ends_nothing_early(
    request_of, tmp_path, sizes, monkeypatch
):
    sizes(piece=20_000, shard=100_000)
    bases = random.Random(1)
    text = "".join(f">lbl|{n % 3}|1|150|r{n}\n{''.join(bases.choices('ACGT', k=150))}\n" for n in range(4000))
    path = tmp_path / "reads.fa.gz"
    path.write_bytes(gzip.compress(text.encode()))
    stopped_after(4, request_of(path), tmp_path / "store", monkeypatch)

    class Failing:
        def __init__(self, source) -> None:
            self.source, self.seen = source, 0

        def read1(self, size: int) -> bytes:
            data = self.source.read1(size)
            self.seen += len(data)
            if self.seen > 200_000:
                raise OSError(5, "Input/output error")
            return data

    with monkeypatch.context() as patched:
        opened = sequence_files.decompressed
        patched.setattr(sequence_files, "decompressed", lambda raw: Failing(opened(raw)))
        with pytest.raises(DataError, match="Input/output error"):
            prepare(request_of(path), tmp_path / "store", workers=1, tell=silent)
    assert len(prepare(request_of(path), tmp_path / "store", workers=1, tell=silent)) == 4000


def test_a_replacement_that_breaks_off_is_never_mixed_with_what_was_there(request_of, tmp_path, sizes, monkeypatch):
    sizes(piece=300, shard=1000)
    other = request_of(tokenizer=load_minbpe(SHIPPED_MINBPE))
    store = prepare(request_of(), tmp_path / "store", workers=1, tell=silent)
    expected = prepare(other, tmp_path / "expected", workers=1, tell=silent)
    assert len(store.facts.shards) > 2
    unlink = Path.unlink
    removed = []

    def dies(path: Path, missing_ok: bool = False) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", dies)
        prepare(other, tmp_path / "store", workers=1, tell=silent, overwrite=True)
    with pytest.raises(DataError, match="tokenizer"):
        prepare(other, tmp_path / "store", workers=1, tell=silent)
    again = prepare(other, tmp_path / "store", workers=1, tell=silent, overwrite=True)
    assert again.fingerprint() == expected.fingerprint()


def test_a_folder_of_the_users_own_files_is_left_alone(request_of, labelled_files, tmp_path):
    folder = tmp_path / "data"
    (folder / "shards").mkdir(parents=True)
    (folder / "mapping.tsv").write_text("mine")
    (folder / "shards" / "a.fa").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is not empty and no store"):
            prepare(request_of(), folder, workers=1, tell=silent, overwrite=overwrite)
    assert (folder / "mapping.tsv").read_text() == (folder / "shards" / "a.fa").read_text() == "mine"


@pytest.mark.parametrize("left", ["mapping.tsv.partial", "request.json.partial", ".entry.json.77"])
def test_what_a_kill_left_of_the_first_files_does_not_lock_the_folder(request_of, tmp_path, left):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / left).write_text("cl")
    assert len(prepare(request_of(), tmp_path / "store", workers=1, tell=silent)) == 48


def test_a_damaged_description_is_written_again(request_of, tmp_path, monkeypatch):
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "cache"))
    store = cached_store(request_of(), workers=1, tell=silent)
    whole = (store.folder / STORE_FILE).read_bytes()
    (store.folder / STORE_FILE).write_text("{")
    told: list[str] = []
    cached_store(request_of(), workers=1, tell=told.append)
    assert (store.folder / STORE_FILE).read_bytes() == whole
    assert any("written again" in line for line in told)


def test_a_changed_table_of_classes_is_written_again(request_of, labelled_files, tmp_path):
    store = prepare(request_of(), tmp_path / "store", workers=1, tell=silent)
    table = store.folder / "mapping.tsv"
    whole = table.read_text()
    table.write_text(whole.replace("0\t", "7\t", 1))
    told: list[str] = []
    prepare(request_of(), tmp_path / "store", workers=1, tell=told.append)
    assert table.read_text() == whole
    assert any("is written again" in line for line in told)


def test_a_header_without_a_word_is_a_read_like_others(tokenizer, tmp_path):
    path = tmp_path / "ecoli.fa"
    path.write_text(">\nACGT\n>r\nACGT\n")
    labels = Labels((ClassLabel("ecoli", "ecoli"), ClassLabel("b", "b")))
    request = PrepareRequest([path], labels, LabelSource(), "filename", True, tokenizer)
    assert len(prepare(request, tmp_path / "store", workers=1, tell=silent)) == 2


def test_a_pipe_is_refused_before_it_is_read(request_of, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"give a pipe as -"):
        prepare(request_of(tmp_path / "pipe"), tmp_path / "store", workers=1, tell=silent)


def test_a_file_named_twice_is_refused(request_of, labelled_files, tmp_path):
    twice = request_of(labelled_files.train_fasta, labelled_files.val_fasta, labelled_files.train_fasta)
    with pytest.raises(DataError, match="is named twice: each of its reads would count twice"):
        prepare(twice, tmp_path / "store", workers=1, tell=silent)
