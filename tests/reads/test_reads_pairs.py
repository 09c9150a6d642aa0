"""Mates: from two files that are in step, or from one in which they alternate."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.pairs import are_mates, interleaved_records, pair_id, paired_records
from metagene_classifier.reads.read import Read


def fastq(path, names):
    path.write_text("".join(f"@{name}\nACGT\n+\nIIII\n" for name in names))
    return path


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("M00:7 1:N:0:ACGT", "M00:7 2:N:0:ACGT", "M00:7"),
        ("r/1", "r/2", "r"),
        ("r/1 length=50", "r/2 length=70", "r"),
        ("r/2", "r/1", "r"),
        ("same", "same", "same"),
        ("same first", "same second", "same"),
        ("SRR1.7.1 7 length=150", "SRR1.7.2 7 length=150", "SRR1.7"),
        ("lbl|0|562|100|E. coli r7/1", "lbl|0|562|99|E. coli r7/2", None),
        ("lbl|0|562|100|E. coli r7/1", "lbl|0|562|100|E. coli r7/2", "lbl|0|562|100|E. coli r7"),
    ],
)
def test_names_of_mates(one, other, name):
    assert are_mates(Read(one, "A"), Read(other, "A")) == (name is not None)
    if name is not None:
        assert pair_id(Read(one, "A")) == pair_id(Read(other, "A")) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("r1", "r2"),
        ("SRR1.1", "SRR1.2"),
        ("r/1", "r/1"),
        ("M00:7 1:N:0:ACGT", "M00:7 1:N:0:ACGT"),
        ("M00:7 1:N:0:ACGT", "M00:8 2:N:0:ACGT"),
        ("a", ""),
    ],
)
def test_others_are_no_mates(one, other):
    """Reads that are counted look like mates, and a file given twice is in step with itself."""
    assert not are_mates(Read(one, "A"), Read(other, "A"))


def test_two_files_and_one_give_the_same_reads(tmp_path):
    first = fastq(tmp_path / "a.fq", ["x/1", "y/1", "z/1"])
    second = tmp_path / "b.fq.gz"
    second.write_bytes(gzip.compress(fastq(tmp_path / "b.fq", ["x/2", "y/2", "z/2"]).read_bytes()))
    both = fastq(tmp_path / "c.fq", ["x/1", "x/2", "y/1", "y/2", "z/1", "z/2"])
    assert list(paired_records(first, second)) == list(interleaved_records(both))


def read_until_fault(reads):
    found = []
    with pytest.raises(DataError) as fault:
        for read in reads:
            found.append(read.header)
    return found, str(fault.value)


def test_mates_out_of_step_are_told_by_record(tmp_path):
    first = fastq(tmp_path / "a.fq", ["x", "y", "z"])
    second = fastq(tmp_path / "b.fq", ["x", "z", "y"])
    found, told = read_until_fault(paired_records(first, second))
    assert found == ["x", "x"]
    assert "a.fq and " in told and "b.fq, record 2: 'y' and 'z' are no mates" in told


@pytest.mark.parametrize("longer", [0, 1])
def test_mates_of_different_counts_are_told_by_record(longer, tmp_path):
    files = [fastq(tmp_path / "a.fq", ["x", "y"]), fastq(tmp_path / "b.fq", ["x", "y"])]
    fastq(files[longer], ["x", "y", "z"])
    found, told = read_until_fault(paired_records(*files))
    assert found == ["x", "x", "y", "y"]
    assert f"{files[1 - longer]} ends after 2 records and {files[longer]} has a record 3" in told


def test_what_is_not_interleaved_is_told_by_record(tmp_path):
    found, told = read_until_fault(interleaved_records(fastq(tmp_path / "a.fq", ["x", "x", "y", "z"])))
    assert found == ["x", "x"] and "a.fq, record 4: 'z' is no mate of 'y'" in told
    found, told = read_until_fault(interleaved_records(fastq(tmp_path / "b.fq", ["x", "x", "y"])))
    assert found == ["x", "x"] and "record 3 ('y') has no mate" in told


def test_damage_in_one_file_gives_the_pairs_before_it(tmp_path):
    first = fastq(tmp_path / "a.fq", ["x", "y", "z"])
    second = fastq(tmp_path / "b.fq", ["x", "y"])
    with open(second, "a") as out:
        out.write("@z\nACGT\n+\nII\n")
    found, told = read_until_fault(paired_records(first, second))
    assert found == ["x", "x", "y", "y"] and "b.fq, record 3" in told


def test_both_from_standard_input_is_refused():
    with pytest.raises(DataError, match="both mates from standard input"):
        next(paired_records("-", "-"))


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12))
def test_a_read_and_its_mate_by_slash_share_a_name(name):
    one, other = Read(f"{name.strip()}/1", "A"), Read(f"{name.strip()}/2", "A")
    assert are_mates(one, other) == (pair_id(one) == pair_id(other))
    if " " not in name.strip():
        assert are_mates(one, other) and pair_id(one) == name.strip()
