"""Reads sorted by whether they were called."""

import gzip

import pytest
from tests.prediction.formats.little_tree import NO_TAXIDS, call_at, taxon

from metagene_classifier.errors import ConfigError, OutputError
from metagene_classifier.prediction.formats.fastq_out import SplitReads, split_paths
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.read import Read

CALLED = call_at(taxon(562), "a", reads=(Read("a first", "ACgtN", "II!~#"),))
NOT = call_at(0, "b", reads=(Read("b", "", ""),))
PAIR = call_at(taxon(1280), "p", reads=(Read("p/1 x", "AC", "IJ"), Read("p/2 y", "GGT", "KLM")))
NO_PAIR = call_at(0, "q", reads=(Read("q/1", "A", "B"), Read("q/2", "C", "D")))


def test_reads_keep_their_text_and_called_ones_get_their_taxid(tmp_path):
    with SplitReads(tmp_path / "in.fq", tmp_path / "out.fq", False) as out:
        out.write([CALLED, NOT])
        out.write([CALLED])
    assert (tmp_path / "in.fq").read_text() == "@a first kraken:taxid|562\nACgtN\n+\nII!~#\n" * 2
    assert (tmp_path / "out.fq").read_text() == "@b\n\n+\n\n"


def test_fasta_stays_fasta(tmp_path):
    with SplitReads(tmp_path / "in.fa", None, False) as out:
        out.write([call_at(taxon(562), "a", reads=(Read("a", "ACGT"),)), NOT])
    assert (tmp_path / "in.fa").read_text() == ">a kraken:taxid|562\nACGT\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.fa"]


def test_mates_go_to_files_of_their_own_or_stand_beside_each_other(tmp_path):
    with SplitReads(tmp_path / "in#.fq", tmp_path / "out.fq", True) as out:
        out.write([PAIR, NO_PAIR, PAIR])
    assert (tmp_path / "in_1.fq").read_text() == "@p/1 x kraken:taxid|1280\nAC\n+\nIJ\n" * 2
    assert (tmp_path / "in_2.fq").read_text() == "@p/2 y kraken:taxid|1280\nGGT\n+\nKLM\n" * 2
    assert (tmp_path / "out.fq").read_text() == "@q/1\nA\n+\nB\n@q/2\nC\n+\nD\n"


def test_gz_is_compressed_and_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        with SplitReads(None, tmp_path / f"{name}#.fq.gz", True) as out:
            out.write([NO_PAIR] * 3)
    assert gzip.decompress((tmp_path / "one_2.fq.gz").read_bytes()) == b"@q/2\nC\n+\nD\n" * 3
    assert (tmp_path / "one_1.fq.gz").read_bytes() == (tmp_path / "two_1.fq.gz").read_bytes()
    assert (tmp_path / "one_1.fq.gz").read_bytes()[4:8] == bytes(4)  # no time
    assert [read.header for read in read_records(tmp_path / "one_1.fq.gz")] == ["q/1"] * 3


def test_a_class_without_a_taxid_adds_nothing_to_the_header(tmp_path):
    with SplitReads(tmp_path / "in.fq", None, False) as out:
        out.write([call_at(1, "a", tree=NO_TAXIDS)])
    assert (tmp_path / "in.fq").read_text().startswith("@a\n")


@pytest.mark.parametrize("ending", [".fq", ".fq.gz"])
def test_a_break_leaves_whole_reads_in_the_partial_file(ending, tmp_path):
    with pytest.raises(KeyboardInterrupt), SplitReads(tmp_path / f"in{ending}", None, False) as out:
        out.write([CALLED] * 2)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [f"in{ending}.partial"]
    assert len(list(read_records(tmp_path / f"in{ending}.partial"))) == 2


def test_names_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="files of their own"):
        SplitReads(tmp_path / "a_1.fq", tmp_path / "a#.fq", True)
    with pytest.raises(ConfigError, match=r"written plain or as \.gz"):
        split_paths(tmp_path / "a.fq.bz2", False)
    (tmp_path / "in_2.fq").mkdir()
    with pytest.raises(OutputError, match="is a folder"), SplitReads(tmp_path / "in#.fq", None, True):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix == ".fq"] == []


def test_a_sign_for_mates_is_a_letter_like_others_where_there_are_none(tmp_path):
    assert split_paths(tmp_path / "a#.fq", False) == (tmp_path / "a#.fq",)
