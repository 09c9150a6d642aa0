"""Every read is labelled, or counted and told; none is dropped in silence."""

import pytest

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.errors import DataError
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelledRead, LabellingReport, LabelSource, labelled_reads
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.read import Read

LABELS = Labels(
    (ClassLabel("7", "Escherichia coli", 562), ClassLabel("12", "Bacillus subtilis"), ClassLabel("13", "x"))
)
HEADERS = LabelSource(pattern=HeaderPattern(DEFAULT_HEADER_REGEX))


@pytest.fixture
def fasta(tmp_path):
    def write(*headers: str, name: str = "reads.fa", sequence: str = "ACGT"):
        path = tmp_path / name
        path.write_text("".join(f">{header}\n{sequence}\n" for header in headers))
        return path

    return write


def label(paths, source=HEADERS, strict=True):
    report = LabellingReport()
    return list(labelled_reads(paths, LABELS, source, strict, report)), report


def test_classes_from_headers(fasta):
    reads, report = label([fasta("lbl|12|1423|4|B. subtilis read/1", "lbl|7|562|4|x")])
    assert reads == [
        LabelledRead(Read("lbl|12|1423|4|B. subtilis read/1", "ACGT"), 1),
        LabelledRead(Read("lbl|7|562|4|x", "ACGT"), 0),
    ]
    assert (report.reads, report.labelled, report.per_class) == (2, 2, [1, 1, 0])
    assert report.classes_seen() == {0, 1}


def test_classes_from_a_table_by_id_or_label_for_both_mates(fasta):
    source = LabelSource(table={"r1": "12", "r2": "Escherichia coli", "r3/1": "7"})
    reads, _ = label([fasta("r1 comment", "r2/1", "r2/2", "r3/1")], source)
    assert [r.class_index for r in reads] == [1, 0, 0, 0]


def test_classes_from_file_names_by_id_or_label(fasta):
    paths = [fasta("a", name="12.fa"), fasta("b", "c", name="Escherichia_coli.fa"), fasta("d", name="x.fasta.gz")]
    reads, _ = label(paths, LabelSource())
    assert [r.class_index for r in reads] == [1, 0, 0, 2]


def test_headers_take_class_ids_alone(fasta):
    with pytest.raises(DataError, match="not in the mapping: Escherichia coli"):
        label([fasta("lbl|Escherichia coli|562|4|a")])


def test_headers_that_do_not_match_are_counted_and_the_first_five_shown(fasta):
    path = fasta("lbl|7|562|4|ok", *(f"read number {i}" for i in range(8)))
    with pytest.raises(DataError) as caught:
        label([path])
    message = str(caught.value)
    assert message.startswith("8 reads: header does not match the pattern, first: 'read number 0'")
    assert f"'read number 4' ({path}, record 6)" in message
    assert "read number 5" not in message
    assert "\n" not in message


def test_unknown_classes_are_counted_by_class_and_the_first_five_shown(fasta):
    path = fasta("lbl|7|562|4|ok", *(f"lbl|9{i % 2}|1|4|n{i}" for i in range(7)))
    with pytest.raises(
        DataError, match=r"7 reads of 2 classes that are not in the mapping: 90 \(4\), 91 \(3\)"
    ) as caught:
        label([path])
    assert f"'lbl|90|1|4|n4' ({path}, record 6)" in str(caught.value)
    assert "|n5" not in str(caught.value)


def test_every_read_comes_before_the_error(fasta):
    path = fasta("bad", "lbl|7|562|4|ok", "lbl|99|1|4|n", "lbl|12|562|4|ok")
    got = []
    with pytest.raises(DataError, match=r"1 reads: header .* \| 1 reads of 1 classes"):
        for read in labelled_reads([path], LABELS, HEADERS, True, LabellingReport()):
            got.append(read.class_index)
    assert got == [0, 1]


def test_without_strictness_both_are_skipped_and_counted(fasta):
    reads, report = label([fasta("bad", "lbl|7|562|4|ok", "lbl|99|1|4|n")], strict=False)
    assert [r.class_index for r in reads] == [0]
    assert (report.reads, report.labelled, report.unparsed, dict(report.unknown)) == (3, 1, 1, {"99": 1})
    assert len(report.faults(HEADERS)) == 2


@pytest.mark.parametrize("sequence", ["", "--..  -"])
def test_reads_without_a_base_are_skipped_and_counted(fasta, sequence):
    empty, full = fasta("lbl|7|562|0|a", name="empty.fa", sequence=sequence), fasta("lbl|7|562|4|b")
    reads, report = label([empty, full])
    assert (len(reads), report.empty, report.reads) == (1, 1, 2)


def test_no_read_left_is_an_error_even_without_strictness(fasta):
    with pytest.raises(DataError, match=r"no labelled read is left of 2 \(0 empty\) \| 2 reads: header does not match"):
        label([fasta("bad", "worse")], strict=False)
    with pytest.raises(DataError, match=r"no labelled read is left of 1 \(1 empty\)"):
        label([fasta("lbl|7|562|0|a", sequence="")])


def test_a_pattern_that_takes_names_for_classes_does_not_fill_the_memory(fasta):
    source = LabelSource(pattern=HeaderPattern(r"(?P<class_id>\S+)"))
    path = fasta("7", *(f"read{i}" for i in range(10_500)))
    _, report = label([path], source, strict=False)
    assert report.unknown.total() == 10_500
    assert len(report.unknown) == 10_001
    assert report.unknown["other classes"] == 500
