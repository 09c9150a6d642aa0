"""A broken file gives its whole records, and then one line that says what is wrong and where."""

import bz2
import gzip
import lzma
import random
import re
import zlib
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.read import Read

RECORD = b"@r\nACGT\n+\nIIII\n"


def read_until_error(path: Path) -> tuple[list[Read], str]:
    reads = []
    with pytest.raises(DataError) as caught:
        for read in read_records(path):
            reads.append(read)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return reads, message


def broken(tmp_path: Path, content: bytes) -> tuple[int, str]:
    path = tmp_path / "x.fq"
    path.write_bytes(content)
    reads, message = read_until_error(path)
    assert message.startswith(str(path))
    return len(reads), message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "whole", "message"),
    [
        (RECORD * 2 + b"@b\nACGT\n+\nIII\n" + RECORD, 2, r", record 3 \(line 12\): .* differ in length"),
        (b"\n\n" + RECORD + b"@b\nACGT\n+\nIII\n", 1, r", record 2 \(line 10\): .* differ in length"),
        (RECORD * 20_000 + b"@b\nACGT\n+\nIIIII\n" + RECORD, 20_000, r", record 20001 \(line 80004\): .* length"),
        (RECORD * 2 + b"@b", 2, r", record 3 \(line 9\): the file ends inside this record"),
        (RECORD * 2 + b"@b\nAC", 2, r", record 3 \(line 10\): the file ends inside this record"),
        (RECORD * 2 + b"@b\nACGT\n+\n", 2, r", record 3 \(line 12\): the file ends inside this record"),
        (RECORD + b"@b\nACGT\nIIII\n" + RECORD, 1, r", record 2 \(line 7\): not FASTQ .* expected to start with '\+'"),
        (RECORD + b"b\nACGT\n+\nIIII\n", 1, r", record 2 \(line 5\): not FASTQ .* expected to start with '@'"),
        (RECORD + b"@b\nACGT\n+c\nIIII\n", 1, r", record 2 \(line 7\): not FASTQ .* descriptions don't match"),
        (RECORD * 3 + b"@b\nAC\xffT\n+\nIIII\n" + RECORD, 3, r", record 4 \(line 13\): bytes that are not text"),
        (RECORD + b"@b\nAC\0T\n+\nIIII\n" + RECORD, 1, r", record 2 \(line 5\): bytes that are not text"),
        (RECORD * 9000 + b"\0\0\0\0" * 100, 9000, r", record 9001 \(line 36001\): bytes that are not text"),
        (b">a\nAC\n>b\nACGT\n\0\x01\n>c\nA\n", 1, r", record 2 \(line 3\): bytes that are not text"),
        (b">a\nAC\n>b\nAC\xff\xfeGT\n", 1, r", record 2 \(line 3\): bytes that are not text"),
        (b"\n>\0\x01a\nAC\n", 0, r", record 1 \(line 2\): bytes that are not text"),
    ],
)
def test_bad_records_are_named_by_record_and_line(tmp_path, content, whole, message):
    count, told = broken(tmp_path, content)
    assert count == whole
    assert re.match(message, told), told


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0), bz2.compress(b""), lzma.compress(b"")])
def test_an_empty_file_is_called_empty(tmp_path, content):
    assert broken(tmp_path, content) == (0, ": empty: there is no read in it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), r"neither FASTA nor FASTQ: it begins with '\x89PNG'"),
        (b"read,sequence\n1,ACGT\n", "neither FASTA nor FASTQ: it begins with 'read,sequence'"),
        (gzip.compress(gzip.compress(RECORD, mtime=0), mtime=0), r"neither FASTA nor FASTQ: it begins with '\x1f\x8b"),
        (gzip.compress(b"BAM\1" + bytes(40), mtime=0), "holds alignments (SAM, BAM or CRAM): turn it into FASTQ first"),
        (b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:10\n", "holds alignments (SAM, BAM or CRAM): turn it into FASTQ first"),
    ],
)
def test_other_files_are_refused_with_what_they_look_like(tmp_path, content, message):
    count, told = broken(tmp_path, content)
    assert count == 0
    assert message in told


def test_missing_files_and_folders(tmp_path):
    assert "no such file" in read_until_error(tmp_path / "none.fa")[1]
    assert "is a folder" in read_until_error(tmp_path)[1]


# Random sequences and qualities compress badly, so that a file of a few hundred records spans many blocks.
_random = random.Random(1)
SEQUENCES = ["".join(_random.choices("ACGT", k=_random.randrange(50, 300))) for _ in range(3000)]
FASTQ = "".join(f"@r{i}\n{s}\n+\n{''.join(_random.choices('!#+5:?DI', k=len(s)))}\n" for i, s in enumerate(SEQUENCES))
FASTA = "".join(f">r{i}\n{s[:80]}\n{s[80:]}\n" for i, s in enumerate(SEQUENCES))
COMPRESSED = {
    (form, name): compress(text.encode())
    for form, text in (("fastq", FASTQ), ("fasta", FASTA))
    for name, compress in (
        ("gzip", gzip.compress),
        ("gzip of two members", lambda text: gzip.compress(text[:200_001]) + gzip.compress(text[200_001:])),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
        ("zstd", zstd.compress),
    )
}


def decompressible(name: str, content: bytes) -> bytes:
    """All that the format's own library can make of the first bytes of a file, members included."""
    makers = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor, "zstd": zstd.ZstdDecompressor}
    text = b""
    if name in makers:
        stream = makers[name]()
        # bzip2 keeps text back when its input runs out.
        while more := stream.decompress(content):
            text, content = text + more, b""
        return text
    while content:
        member = zlib.decompressobj(31)
        text += member.decompress(content)
        content = member.unused_data
    return text


@settings(max_examples=40, deadline=None)
@given(
    key=st.sampled_from(sorted(COMPRESSED)),
    place=st.one_of(st.floats(0.0, 1.0), st.integers(1, 20).map(lambda n: -n)),
)
def test_a_truncated_file_gives_every_whole_record_before_the_break(tmp_path_factory, key, place):
    form, name = key
    content = COMPRESSED[key]
    cut = min(max(int(place * len(content)) if place >= 0 else len(content) + place, 12), len(content) - 1)
    path = tmp_path_factory.mktemp("cut") / "x"
    path.write_bytes(content[:cut])
    text = decompressible(name, content[:cut]).decode()
    if form == "fasta":
        # Only the next header shows that a record is whole.
        whole = text.count("\n>")
    else:
        lines = text.split("\n")
        # A last record without its line end is whole if it has all its qualities.
        whole = len(lines) // 4 - (len(lines) % 4 == 0 and len(lines[-1]) != len(lines[-3]))
    reads, message = read_until_error(path)
    assert [r.sequence for r in reads] == SEQUENCES[:whole]
    assert f"cut short; whole records before the break: {whole:,};" in message


@pytest.mark.parametrize("name", ["gzip", "xz"])
def test_a_damaged_file_gives_the_records_before_the_damage(tmp_path, name):
    content = bytearray(COMPRESSED["fastq", name])
    damage = len(content) * 3 // 4
    content[damage : damage + 64] = bytes(64)
    path = tmp_path / "x"
    path.write_bytes(content)
    reads, message = read_until_error(path)
    assert [r.sequence for r in reads[:500]] == SEQUENCES[:500]
    # gzip makes some characters of damaged data before it notices; then FASTQ's own rules are broken first.
    assert re.search(rf"damaged data .* before the break: {len(reads):,};|, record {len(reads) + 1} ", message)


def test_rubbish_after_a_gzip_member_costs_no_record(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(RECORD * 1000) + b"rubbish")
    reads, message = read_until_error(path)
    assert len(reads) == 1000
    assert "damaged data" in message
    assert "before the break: 1,000" in message
