"""A store holds what reading, labelling, cleaning and tokenizing read by read give, however it came about."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import hashlib
import lzma
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.errors import DataError, OutputError
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.headers import HeaderPattern, mate_key
from metagene_classifier.reads.labelled import LabellingReport, LabelSource, labelled_reads
from metagene_classifier.reads.labels import ClassLabel, Labels, read_mapping
from metagene_classifier.store.facts import shard_facts_path
from metagene_classifier.store.preparing import filling, pieces
from metagene_classifier.store.preparing.begun import whole_shards
from metagene_classifier.store.preparing.lock import only_writer
from metagene_classifier.store.preparing.noticed import Noticed
from metagene_classifier.store.preparing.prepare import check_same, prepare
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.store.preparing.summary import summary_lines, warnings_of
from metagene_classifier.tokenization.choice import SHIPPED_MINBPE
from metagene_classifier.tokenization.minbpe import load_minbpe

LABELS = Labels((ClassLabel("0", "E", 1), ClassLabel("1", "B"), ClassLabel("2", "P")))
SOURCE = LabelSource(HeaderPattern(DEFAULT_HEADER_REGEX))


def silent(line: str) -> None:
    """Tell nobody."""


def columns(store) -> list[tuple]:
    """Every read of a store."""
    every = store.columns(0, len(store))
    tokens = [store.tokens(read).tolist() for read in range(len(store))]
    return list(zip(tokens, every.classes.tolist(), every.groups.tolist(), strict=True))


def read_by_read(request: PrepareRequest) -> tuple[list[tuple], LabellingReport, CleaningCounts]:
    """The same reads the plain way."""
    report, cleaning, found = LabellingReport(), CleaningCounts(), []
    for item in labelled_reads(request.files, request.labels, request.source, False, report):
        sequence = clean_sequence(item.read.sequence)
        cleaning.add(item.read.sequence, sequence)
        digest = hashlib.blake2b(mate_key(item.read.header).encode(), digest_size=8).digest()
        tokens = request.tokenizer.encode_batch([sequence])[0].tolist()
        found.append((tokens, item.class_index, int.from_bytes(digest, "little")))
    return found, report, cleaning


SEQUENCES = st.text("ACGTACGTACGTNacgtuURY-", max_size=40)
HEADERS = st.sampled_from(["lbl|0|1|9|a/1", "lbl|0|1|9|a/2", "lbl|1|2|9|b c", "lbl|2", "lbl|7|x", "who", "lbl|ü"])


@st.composite
def texts(draw) -> bytes:
    """FASTA or FASTQ as it comes: wrapped or not, LF or CRLF, with or without a last line end."""
    records = draw(st.lists(st.tuples(HEADERS, SEQUENCES), min_size=1, max_size=25))
    records.insert(draw(st.integers(0, len(records))), ("lbl|0|1|4|kept", "ACGT"))
    # A header that is not ASCII is a fault in FASTQ.
    fastq = draw(st.booleans()) and all(header.isascii() for header, _ in records)
    width = draw(st.sampled_from([7, 80]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = ""
    for header, sequence in records:
        if fastq:
            text += f"@{header}{end}{sequence}{end}+{end}{'@' * len(sequence)}{end}"
        else:
            text += f">{header}{end}" + "".join(f"{sequence[at : at + width]}{end}" for at in range(0, 40, width))
    if records[-1][1] and draw(st.booleans()):
        text = text.removesuffix(end)
    return draw(st.sampled_from([b"", b"\n\n", b"\xef\xbb\xbf"])) + text.encode()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=texts(),
    piece_bytes=st.integers(20, 400),
    shard_bytes=st.integers(1, 900),
    packed=st.sampled_from([bytes, gzip.compress]),
)
def test_a_store_holds_what_reading_read_by_read_gives(
    text, piece_bytes, shard_bytes, packed, tokenizer, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("prepared")
    path = folder / "reads"
    path.write_bytes(packed(text))
    request = PrepareRequest([path], LABELS, SOURCE, "header", False, tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece_bytes)
        patch.setattr(filling, "SHARD_BYTES", shard_bytes)
        store = prepare(request, folder / "store", workers=1, tell=silent)
    expected, report, cleaning = read_by_read(request)
    assert columns(store) == expected
    noticed = Noticed.from_json(store.facts.summary["noticed"])
    assert noticed.cleaning == cleaning
    said = noticed.labelling(request.files)
    assert (said.reads, said.labelled, said.empty) == (report.reads, report.labelled, report.empty)
    assert said.faults(SOURCE) == report.faults(SOURCE)
    assert store.reads_per_class.tolist() == report.per_class


FAULTS = [
    b">a\nAC\n>b\nA\x00C\n>c\nAC\n",
    b">a\nAC\n\n>b\nAC\n>c\n\xff\xfe\n",
    b"\n\n@a\nACGT\n+\n!!!!\n@b\nACG\n+\n!!\n@c\nAC\n+\n!!\n",
    b"@a\nACGT\n+\n!!!!\n\n@b\nACG\n+\n!!!\n",
    b"@a\nACGT\n+\n!!!!\n@b\nACG\n+\n",
    b"@a\nACGT\n+\n!!!!\n@b\nACGT\n-\n!!!!\n",
    b"@a\nACGT\n+\n!!!!\n@b\nAC\xe9T\n+\n!!!!\n",
    gzip.compress(b">lbl|0\nACGT\n" * 40, mtime=0)[:-10],
    gzip.compress(b"@lbl|0\nACGT\n+\n!!!!\n" * 40, mtime=0)[:-12],
    lzma.compress(b">lbl|0\nACGT\n" * 40)[:-30],
    bz2.compress(b">lbl|0\nACGT\n" * 40)[:-5],
    b"",
    b"\n \n",
    b"hello\n",
]


@pytest.mark.parametrize("content", FAULTS)
@pytest.mark.parametrize("piece_bytes", [1, 16, 40, 4_000])
def test_a_fault_is_reported_with_record_and_line_as_when_the_file_is_read(
    content, piece_bytes, request_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece_bytes)
    path = tmp_path / "reads"
    path.write_bytes(content)
    with pytest.raises(DataError) as expected:
        list(read_records(path))
    with pytest.raises(DataError, match=re.escape(str(expected.value))):
        prepare(request_of(path, strict=False), tmp_path / "store", workers=1, tell=silent)


def test_the_bytes_of_a_store_do_not_depend_on_the_workers(small, request_of, shards_of, labelled_files, tmp_path):
    files = (labelled_files.train_fasta, labelled_files.val_fasta)
    stores = [prepare(request_of(*files), tmp_path / f"{n}", workers=n, tell=silent) for n in (1, 2)]
    assert shards_of(stores[0].folder) == shards_of(stores[1].folder)
    assert stores[0].facts == stores[1].facts
    assert len(stores[0].facts.shards) > 5


def stopping_after(monkeypatch, shards: int, error: BaseException) -> None:
    """Writing the shard after so many raises."""
    written = []
    write = filling.write_shard

    def some(*arguments, **columns):
        if len(written) == shards:
            raise error
        written.append(1)
        return write(*arguments, **columns)

    monkeypatch.setattr(filling, "write_shard", some)


@pytest.mark.parametrize("name", ["plain", "gzipped", "two files"])
@pytest.mark.parametrize("shards", [0, 1, 3, 5])
def test_what_was_interrupted_goes_on_behind_the_last_whole_shard(
    name, shards, small, request_of, shards_of, labelled_files, tmp_path, monkeypatch
):
    files = [labelled_files.train_fasta]
    if name == "gzipped":
        files = [tmp_path / "train.fa.gz"]
        files[0].write_bytes(gzip.compress(labelled_files.train_fasta.read_bytes()))
    elif name == "two files":
        files.insert(0, labelled_files.val_fasta)
    request, told = request_of(*files), []
    whole = prepare(request, tmp_path / "whole", workers=1, tell=silent)
    folder = tmp_path / "store"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopping_after(patch, shards, KeyboardInterrupt())
        prepare(request, folder, workers=1, tell=told.append)
    kept = shards_of(folder)
    assert len(kept) == shards
    assert "run the same command again" in told[-1]
    times = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*")}
    store = prepare(request, folder, workers=1, tell=told.append)
    assert shards_of(folder) == shards_of(whole.folder)
    assert store.facts == whole.facts
    assert {path: path.stat().st_mtime_ns for path in times} == times  # nothing was made twice


def test_a_full_disk_keeps_what_is_whole_and_the_rest_follows(small, request_of, shards_of, tmp_path, monkeypatch):
    whole = prepare(request_of(), tmp_path / "whole", workers=1, tell=silent)
    folder = tmp_path / "store"
    with monkeypatch.context() as patch:
        sync, calls = os.fsync, []

        def full(handle):
            calls.append(handle)
            if len(calls) == 8:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"no space left on the disk of .*shard-0000\d.*free some and run again"):
            prepare(request_of(), folder, workers=1, tell=silent)
    assert shards_of(folder).items() < shards_of(whole.folder).items()
    assert not list((folder / "shards").glob("*.partial"))
    assert prepare(request_of(), folder, workers=1, tell=silent).facts == whole.facts


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_shard_is_named_and_made_again_alone(damage, small, request_of, shards_of, tmp_path):
    folder, told = tmp_path / "store", []
    store = prepare(request_of(), folder, workers=1, tell=silent)
    before = shards_of(folder)
    victim = folder / "shards" / "shard-00003.arrow"
    content = bytearray(victim.read_bytes())
    content[-70] ^= 1
    if damage == "changed":
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(content[:-70])
    else:
        victim.unlink()
    times = {path: path.stat().st_mtime_ns for path in (folder / "shards").glob("*.arrow") if path != victim}
    again = prepare(request_of(), folder, workers=1, tell=told.append)
    assert "shard-00003" in told[0]
    assert "shard-00002" not in told[0]
    assert shards_of(folder) == before
    assert again.facts == store.facts
    assert {path: path.stat().st_mtime_ns for path in times} == times
    prepare(request_of(), folder, workers=1, tell=told.append)
    assert "is whole" in told[-1]


def test_a_shard_of_an_unfinished_store_that_is_gone_is_made_again(small, request_of, shards_of, tmp_path, monkeypatch):
    whole = prepare(request_of(), tmp_path / "whole", workers=1, tell=silent)
    folder = tmp_path / "store"
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        stopping_after(patch, 4, KeyboardInterrupt())
        prepare(request_of(), folder, workers=1, tell=silent)
    (folder / "shards" / "shard-00001.arrow").unlink()
    assert prepare(request_of(), folder, workers=1, tell=silent).facts == whole.facts
    assert shards_of(folder) == shards_of(whole.folder)


def other_requests(request_of, labelled_files, tmp_path):
    """What a run may ask for that the store does not hold, and what the refusal must name."""
    labels = read_mapping(labelled_files.mapping_tsv)
    renamed = Labels((*labels.classes[:2], ClassLabel("2", "Qbeta", 39803)))
    copy = tmp_path / "copy.fa"
    copy.write_bytes(labelled_files.train_fasta.read_bytes().replace(b"A", b"C", 5))
    return {
        "tokenizer": request_of(tokenizer=load_minbpe(SHIPPED_MINBPE)),
        "dataset.header_regex": request_of(source=LabelSource(HeaderPattern(r"\|(?P<class_id>\d)\|"))),
        "dataset.labels_from": request_of(source=LabelSource(), labels_from="filename"),
        "phiX174 .* Qbeta": request_of(labels=renamed),
        "copy.fa has another content": request_of(copy),
        "made from 1 files, 2 are named": request_of(labelled_files.train_fasta, labelled_files.val_fasta),
    }


def test_another_request_is_refused_with_the_difference(small, request_of, labelled_files, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    unfinished = tmp_path / "unfinished"
    store = prepare(request_of(), folder, workers=1, tell=silent)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        stopping_after(patch, 2, KeyboardInterrupt())
        prepare(request_of(), unfinished, workers=1, tell=silent)
    for difference, request in other_requests(request_of, labelled_files, tmp_path).items():
        with pytest.raises(DataError, match=difference):
            prepare(request, folder, workers=1, tell=silent)
        with pytest.raises(DataError, match=difference):
            prepare(request, unfinished, workers=1, tell=silent)
        with pytest.raises(DataError, match=difference):
            check_same(store, request)
    check_same(store, request_of())
    check_same(store, request_of(files=[]))
    other = request_of(labelled_files.val_fasta)
    assert len(prepare(other, folder, workers=1, tell=silent, overwrite=True)) == 12


def test_an_input_is_the_same_while_its_content_is(small, request_of, labelled_files, tmp_path):
    path = tmp_path / "reads.fa"
    path.write_bytes(labelled_files.train_fasta.read_bytes())
    store = prepare(request_of(path), tmp_path / "store", workers=1, tell=silent)
    os.utime(path, ns=(1, 1))
    check_same(store, request_of(path))
    check_same(store, request_of(labelled_files.train_fasta))
    path.write_bytes(path.read_bytes()[:-2] + b"N\n")
    with pytest.raises(DataError, match="changed since"):
        prepare(request_of(path), store.folder, workers=1, tell=silent)


def test_strictness_is_asked_when_all_is_counted_and_a_lenient_run_takes_over(
    small, request_of, labelled_files, tmp_path, monkeypatch
):
    path = tmp_path / "reads.fa"
    path.write_bytes(b">who\nAC\n" + labelled_files.train_fasta.read_bytes() + b">lbl|9|1|4|x\nACGT\n>lbl|0\n\n")
    strict, lenient = request_of(path), request_of(path, strict=False)
    with pytest.raises(DataError) as expected:
        list(labelled_reads([path], strict.labels, strict.source, True, LabellingReport()))
    assert "record 50" in str(expected.value)
    folder = tmp_path / "store"
    with pytest.raises(DataError) as refused:
        prepare(strict, folder, workers=1, tell=silent)
    assert str(refused.value) == str(expected.value)
    with monkeypatch.context() as patch:
        patch.setattr(filling, "write_shard", None)  # everything is there
        store = prepare(lenient, folder, workers=1, tell=silent)
    assert len(store) == 48
    assert [line.split(":")[0] for line in warnings_of(store)] == [
        "1 reads",
        "1 reads of 1 classes that are not in the mapping",
        "1 reads without a base skipped",
    ]
    check_same(store, lenient)
    for attempt in (lambda: check_same(store, strict), lambda: prepare(strict, folder, workers=1, tell=silent)):
        with pytest.raises(DataError) as refused:
            attempt()
        assert str(refused.value) == str(expected.value)


def test_no_labelled_read_is_an_error_that_says_so(request_of, tmp_path):
    path = tmp_path / "reads.fa"
    path.write_bytes(b">lbl|0\n\n>lbl|1\n--\n")
    with pytest.raises(DataError, match=r"no labelled read is left of 2 \(2 empty\)"):
        prepare(request_of(path), tmp_path / "store", workers=1, tell=silent)


def test_names_are_kept_when_asked_for(small, request_of, labelled_files, tmp_path):
    store = prepare(request_of(read_ids=True), tmp_path / "store", workers=1, tell=silent)
    names = [read.id for read in read_records(labelled_files.train_fasta)]
    assert [store.read_id(read) for read in range(len(store))] == names
    with pytest.raises(DataError, match="with --read-ids"):
        prepare(request_of(), store.folder, workers=1, tell=silent)


def test_the_class_can_be_the_name_of_the_file_or_stand_in_a_table(small, request_of, tokenizer, tmp_path):
    for name in ("ecoli.fa", "phage.fa"):
        (tmp_path / name).write_bytes(b">r1\nACGT\n>r2\nACGTT\n")
    files = [tmp_path / "phage.fa", tmp_path / "ecoli.fa"]
    labels = Labels((ClassLabel("ecoli", "ecoli"), ClassLabel("phage", "phage")))
    named = PrepareRequest(files, labels, LabelSource(), "filename", True, tokenizer)
    store = prepare(named, tmp_path / "named", workers=1, tell=silent)
    assert store.classes_of(np.arange(4)).tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match="another class"):
        check_same(store, PrepareRequest(files[::-1], labels, LabelSource(), "filename", True, tokenizer))
    table = {"r1": "ecoli", "r2": "phage"}
    tabled = PrepareRequest(files[:1], labels, LabelSource(table=table), "tsv", True, tokenizer)
    store = prepare(tabled, tmp_path / "tabled", workers=1, tell=silent)
    assert store.classes_of(np.arange(2)).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"labels_tsv.*other content"):
        check_same(store, PrepareRequest([], labels, LabelSource(table={"r1": "phage"}), "tsv", True, tokenizer))


def test_two_writers_do_not_meet_in_a_folder(small, request_of, tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    with only_writer(folder, wait=False), pytest.raises(OutputError, match="another mgc prepare is writing"):
        prepare(request_of(), folder, workers=1, tell=silent)


def test_a_folder_of_other_things_is_not_written_to(request_of, tmp_path):
    (tmp_path / "thesis.tex").write_text("\\end{document}")
    with pytest.raises(OutputError, match="is not empty and no store"):
        prepare(request_of(), tmp_path, workers=1, tell=silent, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_table_of_classes_is_written_again_when_it_is_lost(small, request_of, tmp_path):
    store = prepare(request_of(), tmp_path / "store", workers=1, tell=silent)
    (store.folder / "mapping.tsv").unlink()
    assert prepare(request_of(), store.folder, workers=1, tell=silent).labels == store.labels


def test_the_summary_shows_twenty_classes_and_the_rest(tokenizer, tmp_path):
    labels = Labels(tuple(ClassLabel(str(n), f"class {n}") for n in range(30)))
    path = tmp_path / "reads.fa"
    path.write_text("".join(f">lbl|{n}\nACGTACGT\n" * (n + 1) for n in range(25)))
    request = PrepareRequest([path], labels, SOURCE, "header", True, tokenizer)
    lines = summary_lines(prepare(request, tmp_path / "store", workers=1, tell=silent))
    assert sum(line.endswith(tuple(f"  class {n}" for n in range(25))) for line in lines) == 20
    assert "           15  in 5 more classes of 1 to 5 reads" in lines
    assert "            0  in each of 5 more classes" in lines


def test_a_shards_facts_are_written_behind_it(small, request_of, tmp_path, monkeypatch):
    def dies(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(filling, "write_shard_facts", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(request_of(), tmp_path / "store", workers=1, tell=silent)
    assert not shard_facts_path(tmp_path / "store", "shard-00000").exists()
    assert whole_shards(tmp_path / "store") == []


def test_fastq_and_fasta_wrapped_over_many_pieces_keep_their_records(request_of, tmp_path, monkeypatch):
    """A record longer than a piece is not cut."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8)
    path = tmp_path / "long.fa"
    path.write_bytes(b">lbl|0|1|400|x\n" + b"ACGTTGCA\n" * 50 + b">lbl|1\nACGT\n")
    cut = [piece.text for piece in pieces.pieces_of(Path(path))]
    assert b"".join(cut) == path.read_bytes()
    assert cut[0].startswith(b">lbl|0|1|400|x\n" + b"ACGTTGCA\n" * 50)
