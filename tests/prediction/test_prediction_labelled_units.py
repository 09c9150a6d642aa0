"""Labelled reads and pairs on their way to a scorer."""

import pytest

from metagene_classifier.errors import DataError
from metagene_classifier.prediction.labelled_units import LabelledUnits
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import ClassLabel, Labels

LABELS = Labels((ClassLabel("0", "E. coli", 562), ClassLabel("1", "S. aureus", 1280)))


def fasta(path, reads):
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in reads))
    return path


def pairs_of(tmp_path, table, first, second, strict=True):
    files = [fasta(tmp_path / "R1.fa", first), fasta(tmp_path / "R2.fa", second)]
    source = ReadSource(*map(str, files))
    return LabelledUnits(files, source, LABELS, LabelSource(table=table), strict)


def test_a_pair_has_the_class_of_its_mates_and_is_never_parted(tmp_path):
    names = [f"p{number}" for number in range(5)]
    table = {name: str(number % 2) for number, name in enumerate(names)}
    units = pairs_of(
        tmp_path, table, [(f"{name}/1", "ACGT") for name in names], [(f"{name}/2", "TTTT") for name in names]
    )
    blocks = list(units.blocks(3))
    assert [len(block) for block in blocks] == [2] * 5
    assert [read.id for block in blocks for read in block][:4] == ["p0/1", "p0/2", "p1/1", "p1/2"]
    assert units.truth(2).tolist() == [0, 1] and units.truth(3).tolist() == [0, 1, 0]
    again = [(read.id, number) for read, number in units.reads()]
    assert again == [(f"p{number}/{mate}", number % 2) for number in range(5) for mate in (1, 2)]
    assert units.report.labelled == 5  # a second look counts nothing twice


def test_mates_of_two_classes_are_refused_with_the_record(tmp_path):
    table = {"a/1": "0", "a/2": "0", "b/1": "0", "b/2": "1"}
    units = pairs_of(tmp_path, table, [("a/1", "ACGT"), ("b/1", "ACGT")], [("a/2", "ACGT"), ("b/2", "ACGT")])
    with pytest.raises(DataError, match=r"record 2: .*of two classes: E. coli and S. aureus"):
        list(units.blocks(100))


def test_an_empty_first_mate_leaves_the_class_to_the_second(tmp_path):
    units = pairs_of(tmp_path, {"a/2": "1"}, [("a/1", "")], [("a/2", "ACGT")])
    (block,) = units.blocks(100)
    assert [read.id for read in block] == ["a/1", "a/2"] and units.truth(1).tolist() == [1]


def test_pairs_without_a_class_are_refused_or_skipped_whole(tmp_path):
    table = {"b": "0"}
    reads = [("a/1", "ACGT"), ("b/1", "ACGT")], [("a/2", "ACGT"), ("b/2", "ACGT")]
    with pytest.raises(DataError, match="1 reads: not in the table"):
        list(pairs_of(tmp_path, table, *reads).blocks(100))
    units = pairs_of(tmp_path, table, *reads, strict=False)
    (block,) = units.blocks(100)
    assert [read.id for read in block] == ["b/1", "b/2"] and units.report.unparsed == 1
