"""Any file that a sequencer or a database gives is read, whatever its name, line ends or compression."""

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import expand_inputs, read_records, sequence_stem
from metagene_classifier.reads.read import Read

FASTQ = b"@r1 first\nACGT\n+\nIIII\n@r2\nGG\n+\n#I\n"
FASTA = b">r1 first\nACGT\nAC\n>r2\nGG\n"
FASTQ_READS = [Read("r1 first", "ACGT", "IIII"), Read("r2", "GG", "#I")]
FASTA_READS = [Read("r1 first", "ACGTAC"), Read("r2", "GG")]
COMPRESSIONS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


def reads_of(tmp_path: Path, content: bytes, name: str = "reads") -> list[Read]:
    path = tmp_path / name
    path.write_bytes(content)
    return list(read_records(path))


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
@pytest.mark.parametrize("name", ["reads.fastq", "reads.fa.gz", "reads.xz", "reads"])
def test_compression_is_told_by_content_whatever_the_name(tmp_path, compress, name):
    assert reads_of(tmp_path, compress(FASTQ), name) == FASTQ_READS
    assert reads_of(tmp_path, compress(FASTA), name) == FASTA_READS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (FASTQ.replace(b"\n", b"\r\n"), FASTQ_READS),
        (FASTA.replace(b"\n", b"\r\n"), FASTA_READS),
        (FASTA.replace(b"\n", b"\r"), FASTA_READS),
        (FASTQ[:-1], FASTQ_READS),
        (FASTA[:-1], FASTA_READS),
        (b"\n\r\n \n" + FASTQ, FASTQ_READS),
        (b"\n\n" + FASTA, FASTA_READS),
        (FASTQ + b"\n\r\n\n", FASTQ_READS),
        (FASTA + b"\n\n", FASTA_READS),
        (b">r1 first\n\nACGT\n\nAC\n\n>r2\nGG", FASTA_READS),
        (b">lower\nacgtRYun-\n", [Read("lower", "acgtRYun-")]),
        (b">empty\n>r2\nGG\n", [Read("empty", ""), Read("r2", "GG")]),
        (b"@empty\n\n+\n\n@r2\nGG\n+r2\n#I\n", [Read("empty", "", ""), Read("r2", "GG", "#I")]),
        (">café\nAC\n".encode(), [Read("café", "AC")]),
    ],
)
def test_harmless_variations_of_the_formats(tmp_path, content, expected):
    assert reads_of(tmp_path, content) == expected


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_a_file_joined_from_several_is_read_to_its_end(tmp_path, compress):
    assert reads_of(tmp_path, compress(FASTQ) + compress(FASTQ)) == FASTQ_READS * 2


def test_a_name_with_spaces_stays_whole(tmp_path):
    (read,) = reads_of(tmp_path, b">lbl|3|562|8|Escherichia coli str. K-12/1\nACGTACGT\n")
    assert read.header == read.id == "lbl|3|562|8|Escherichia coli str. K-12/1"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_standard_input(compress):
    program = "from metagene_classifier.reads.files import read_records; print([r.id for r in read_records('-')])"
    done = subprocess.run([sys.executable, "-c", program], input=compress(FASTQ), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "['r1', 'r2']"


sequences = st.text("ACGTNacgtn", max_size=400)
headers = st.text("abcXYZ019_.:|", min_size=1, max_size=20)


@given(records=st.lists(st.tuples(headers, sequences), min_size=1), width=st.integers(1, 80), crlf=st.booleans())
def test_wrapped_fasta_gives_back_what_was_written(tmp_path_factory, records, width, crlf):
    end = "\r\n" if crlf else "\n"
    text = io.StringIO()
    for header, sequence in records:
        lines = [f">{header}", *(sequence[i : i + width] for i in range(0, len(sequence), width))]
        text.write("".join(line + end for line in lines))
    path = tmp_path_factory.mktemp("fasta") / "x"
    path.write_bytes(gzip.compress(text.getvalue().encode()))
    assert [(r.header, r.sequence, r.qualities) for r in read_records(path)] == [(h, s, None) for h, s in records]


@pytest.mark.parametrize(
    "record", [b"@r\n" + b"ACGTA" * 30 + b"\n+\n" + b"I" * 150 + b"\n", b">r\n" + b"A" * 150 + b"\n"]
)
def test_memory_does_not_grow_with_the_file(tmp_path, record):
    def peak(records: int) -> int:
        path = tmp_path / f"{records}.gz"
        path.write_bytes(gzip.compress(record * records, 1))
        tracemalloc.start()
        assert sum(1 for _ in read_records(path)) == records
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(20_000) < 1.1 * peak(5_000)


def test_inputs_are_files_folders_and_standard_input_in_the_order_given(tmp_path):
    for name in ("b.FASTQ.gz", "a.fna", "c.fq.zst", "notes.txt", ".hidden.fa", "d.csv.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.fa").mkdir()
    other = tmp_path / "notes.txt"
    assert expand_inputs(str(tmp_path)) == [tmp_path / "a.fna", tmp_path / "b.FASTQ.gz", tmp_path / "c.fq.zst"]
    assert expand_inputs([str(other), "-"]) == [other, Path("-")]


def test_all_missing_inputs_are_named_at_once(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*x\.fa, .*y\.fa"):
        expand_inputs([str(tmp_path / "x.fa"), str(tmp_path), str(tmp_path / "y.fa")])


def test_a_folder_without_sequence_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no sequence files in this folder"):
        expand_inputs(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.b.fna.gz", "a.b"), ("reads.FQ", "reads"), ("x.fa.fa", "x.fa"), ("x.txt", "x.txt"), ("x.gz", "x")],
)
def test_stem_drops_only_format_and_compression(name, stem):
    assert sequence_stem(name) == stem


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "reads.fa"
    path.write_bytes(b"\xef\xbb\xbf>a\nACGT\n")
    assert [(read.header, read.sequence) for read in read_records(path)] == [("a", "ACGT")]
