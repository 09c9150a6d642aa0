"""The mapping table: order by class id, no silent winner among duplicates, and errors with the line."""

import pytest

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labels import (
    ClassLabel,
    Labels,
    infer_labels_from_files,
    read_label_table,
    read_mapping,
    write_mapping,
)


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "mapping.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_classes_are_ordered_by_id_as_numbers(table):
    labels = read_mapping(table("class_id\tlabel_name\ttax_id\n10\tten\t562\n9\tnine\t\n-1\tminus\t0\n"))
    assert labels.names == ["minus", "nine", "ten"]
    assert labels.taxids == [None, None, 562]
    assert labels.index("10") == 2
    assert len(labels) == 3


def test_classes_are_ordered_as_text_when_one_id_is_no_number(table):
    assert read_mapping(table("class_id\tlabel_name\n10\ta\n9\tb\nx\tc\n")).names == ["a", "b", "c"]


def test_other_columns_names_and_line_ends_do_no_harm(table):
    text = b"\xef\xbb\xbfname\tnote\tid\r\n\r\nEscherichia coli \tx\t 3\r\nb\t\t4"
    labels = read_mapping(table(text), class_column="id", label_column="name", tax_column="none")
    assert labels.classes == (ClassLabel("3", "Escherichia coli"), ClassLabel("4", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty: expected tab-separated columns"),
        ("class_id\tlabel_name\n", "no classes: only the header row"),
        ("class_id\tlabel\n1\ta\n", r"line 1: no column 'label_name' among class_id, label \(did you mean 'label'\?\)"),
        ("class_id,label_name\n1,a\n", "separated by tabs, not commas"),
        ("class_id\tlabel_name\n1\ta\n\n1\tb\n", "line 4: class id '1' stands in line 2 already"),
        ("class_id\tlabel_name\n1\ta\n2\ta\n", "line 3: label 'a' stands in line 2 already"),
        ("class_id\tlabel_name\n1\t\n", "line 2: label_name is empty"),
        ("class_id\tlabel_name\n1\n", "line 2: label_name is empty"),
        ("class_id\tlabel_name\n \ta\n", "line 2: class_id is empty"),
        ("class_id\tlabel_name\ttax_id\n1\ta\t-5\n", "line 2: tax_id '-5' is no positive integer"),
        ("class_id\tlabel_name\ttax_id\n1\ta\tE. coli\n", "line 2: tax_id 'E. coli' is no positive integer"),
        (b"\xff\xfe\x00c", "not a text file"),
    ],
)
def test_a_mapping_that_cannot_be_right_is_refused(table, text, message):
    with pytest.raises(DataError, match=message):
        read_mapping(table(text))


def test_a_missing_mapping_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.tsv: no such file"):
        read_mapping(tmp_path / "none.tsv")


def test_a_written_mapping_reads_back(tmp_path):
    labels = Labels((ClassLabel("2", "Escherichia coli", 562), ClassLabel("1", "no taxid")))
    write_mapping(tmp_path / "new" / "m.tsv", labels)
    assert read_mapping(tmp_path / "new" / "m.tsv") == labels


def test_label_table_with_and_without_a_header_row(table):
    expected = {"r1": "3", "r2": "Escherichia coli"}
    assert read_label_table(table("r1\t3\nr2\tEscherichia coli\nr1\t3\n")) == expected
    assert expected.items() <= read_label_table(table("read_id\tclass\nr1\t3\nr2\tEscherichia coli\textra\n")).items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r1\t3\nr1\t4\n", "line 2: read 'r1' is '4' here and '3' above"),
        ("r1\t3\nr2\n", "line 2: expected a read id and a class"),
        ("r1\t\t3\n", "line 1: class is empty"),
        ("\t3\n", "line 1: read id is empty"),
        ("", "empty"),
    ],
)
def test_a_label_table_that_cannot_be_right_is_refused(table, text, message):
    with pytest.raises(DataError, match=message):
        read_label_table(table(text))


def test_one_file_per_class_without_a_mapping(tmp_path):
    paths = [tmp_path / "b.fq.gz", tmp_path / "a.x.fa"]
    assert infer_labels_from_files(paths).classes == (ClassLabel("a.x", "a.x"), ClassLabel("b", "b"))
    with pytest.raises(DataError, match=r"both give the class 'b': rename one"):
        infer_labels_from_files([*paths, tmp_path / "b.fa"])


def test_quotes_that_r_and_spreadsheets_put_around_cells_are_no_part_of_them(table):
    labels = read_mapping(table('"class_id"\t"label_name"\t"tax_id"\n"0"\t"A ""b"", c"\t"562"\n1\t5" end\t\n'))
    assert labels.classes == (ClassLabel("0", 'A "b", c', 562), ClassLabel("1", '5" end'))


def test_a_label_that_means_no_class_is_refused(tmp_path):
    path = tmp_path / "mapping.tsv"
    path.write_text("class_id\tlabel_name\n0\tEscherichia coli\n1\tUnclassified\n")
    with pytest.raises(DataError, match=r"line 3: 'Unclassified' is what reads of no class are called"):
        read_mapping(path)
