"""What a client sends becomes reads, or one line that says why not."""

import bz2
import gzip
import io
import lzma

import pytest

from metagene_classifier.errors import DataError, MgcError
from metagene_classifier.reads.read import Read
from metagene_classifier.serving.limits import Limits, RefusedError
from metagene_classifier.serving.received import receive

ONE = b">a first\nACGT\nAC\n>b\nGG\n"
FASTQ = b"@a/1 x\nACGT\n+\nIIII\n@b/1\nGG\n+\n!!\n"
PACKED = gzip.compress(ONE, mtime=0)
MATES = b"@a/2\nTT\n+\nII\n@b/2\nCC\n+\nII\n"


def received(first, second=None, interleaved=False, **limits):
    other = None if second is None else io.BytesIO(second)
    return receive(io.BytesIO(first), other, interleaved=interleaved, limits=Limits(**limits))


@pytest.mark.parametrize("sent", [ONE, PACKED, b"\xef\xbb\xbf" + ONE, b"\n \r\n" + ONE.replace(b"\n", b"\r\n")])
def test_fasta_plain_compressed_or_from_an_editor_on_windows(sent):
    found = received(sent)
    assert found.reads == [Read("a first", "ACGTAC"), Read("b", "GG")]
    assert not found.paired


def test_fastq_keeps_its_qualities():
    assert received(FASTQ).reads == [Read("a/1 x", "ACGT", "IIII"), Read("b/1", "GG", "!!")]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_mates_of_two_files_lie_beside_each_other(compress):
    found = received(FASTQ, compress(MATES))
    assert [read.header for read in found.reads] == ["a/1 x", "a/2", "b/1", "b/2"]
    assert found.paired


def test_interleaved_mates():
    both = b">a/1\nA\n>a/2\nC\n>b/1\nG\n>b/2\nT\n"
    assert received(both, interleaved=True).paired
    assert not received(both).paired


@pytest.mark.parametrize(
    ("first", "second", "interleaved", "line"),
    [
        (b"", None, False, "reads: empty: there is no read in it"),
        (b"ACGT\n", None, False, "reads: neither FASTA nor FASTQ: it begins with 'ACGT', not with '>' or '@'"),
        (FASTQ[:-5], None, False, "reads, record 2 (line 7): the file ends inside this record: it was cut short"),
        (PACKED[:-9], None, False, "reads: compressed data cut short"),
        (PACKED[:12] + b"rubbish" * 9, None, False, "reads: "),
        (b"BAM\1...", None, False, "reads: alignments (SAM, BAM or CRAM): turn them into FASTQ first (samtools fastq)"),
        (FASTQ, MATES[:13], False, "mates end after 1 records and reads have a record 2: give both files of one run"),
        (FASTQ[:19], MATES, False, "reads end after 1 records and mates have a record 2: give both files of one run"),
        (FASTQ, MATES[13:] + MATES[:13], False, "record 1: 'a/1' and 'b/2' are no mates"),
        (FASTQ, MATES, True, "mates come either in a file of their own or interleaved: choose one"),
        (b">a/1\nA\n>a/2\nC\n>b/1\nG\n", None, True, "record 3 ('b/1') has no mate: the reads end with it"),
        (b">a/1\nA\n>b/2\nC\n", None, True, "record 2: 'b/2' is no mate of 'a/1' before it"),
    ],
)
def test_faults_are_one_line(first, second, interleaved, line):
    with pytest.raises(MgcError) as told:
        received(first, second, interleaved)
    assert str(told.value).startswith(line)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_compressions_that_may_take_any_memory_are_not_taken(compress):
    with pytest.raises(RefusedError, match="is not taken here: send plain text or gzip") as told:
        received(compress(ONE))
    assert told.value.status == 415


def test_a_small_file_that_holds_much_text_is_refused_before_all_of_it_is_there():
    class Watched(io.BytesIO):
        taken = 0

        def read(self, *size):
            data = super().read(*size)
            Watched.taken += len(data)
            return data

    bomb = gzip.compress(b">a\n" + b"A" * 50_000_000)
    with pytest.raises(RefusedError, match="more than 100,000 bytes of reads") as told:
        receive(Watched(bomb), None, interleaved=False, limits=Limits(max_bytes=100_000))
    assert told.value.status == 413
    assert len(bomb) > 40_000
    assert Watched.taken < len(bomb)


def test_the_bytes_of_both_files_count():
    received(FASTQ, MATES, max_bytes=len(FASTQ) + len(MATES))
    with pytest.raises(RefusedError, match="bytes"):
        received(FASTQ, MATES, max_bytes=len(FASTQ) + len(MATES) - 1)


def test_too_many_reads_and_too_long_ones():
    received(ONE, max_reads=2, max_read_bp=6)
    with pytest.raises(RefusedError, match="more than 1 reads") as told:
        received(ONE, max_reads=1)
    assert told.value.status == 413
    with pytest.raises(RefusedError, match="read 1 has 6 bases and 5 are taken"):
        received(ONE, max_read_bp=5)


def test_a_file_of_nothing_but_a_header_is_a_read_without_a_base():
    assert received(b">a\n").reads == [Read("a", "")]


def test_bytes_that_are_not_text_are_told():
    with pytest.raises(DataError, match="bytes that are not text"):
        received(b">a\nAC\x00GT\n")
