"""Calls as TSV, Parquet and CAMI binning, as those who read them see them."""

import io
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.prediction.formats.little_tree import FLAT, TREE, call_at, calls_of, context, taxon

from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.formats import parquet_calls
from metagene_classifier.prediction.formats.registry import open_reads


def written(name, path, calls, **given):
    with open_reads(name, path, context(**given)) as out:
        for call in calls:
            out.write([call])
    return path


def test_tsv_has_the_columns_of_the_csv(tmp_path):
    calls = [*calls_of([562, 0, 511145]), call_at(taxon(561), "p", mates=2)]
    tsv = pd.read_csv(written("tsv", tmp_path / "a.tsv", calls, probabilities=True), sep="\t")
    csv = pd.read_csv(written("csv", tmp_path / "a.csv", calls, probabilities=True))
    pd.testing.assert_frame_equal(tsv, csv)
    assert tsv["lineage"].iloc[0].endswith(";Escherichia;E. coli")


def test_nothing_in_an_id_can_part_a_row_of_tsv(tmp_path):
    names = ["a\tb", "two\nlines", "\r\n", 'quoted "so"', "\u2028", ""]
    path = written("tsv", tmp_path / "a.tsv", [call_at(taxon(562), name) for name in names])
    lines = path.read_text().split("\n")
    assert len(lines) == len(names) + 2
    assert {line.count("\t") for line in lines[:-1]} == {7}
    read = pd.read_csv(path, sep="\t", keep_default_na=False)
    assert list(read["read_id"]) == ["a b", "two lines", "  ", 'quoted "so"', " ", ""]


def test_parquet_has_the_columns_of_the_csv_with_types(tmp_path):
    calls = calls_of([562, 0, 511145, 999999, 562])
    table = pq.read_table(written("parquet", tmp_path / "a.parquet", calls))
    assert table.column("read_id").to_pylist() == ["r0", "r1", "r2", "r3", "r4"]
    assert table.column("taxid").to_pylist() == [562, None, 511145, 999999, 562]
    assert table.column("confidence").to_pylist() == [0.75, 0.25, 0.75, 0.75, 0.75]
    assert str(table.schema.field("taxid").type) == "int32"
    for words in ("call", "rank", "reason", "lineage"):
        assert str(table.schema.field(words).type).startswith("dictionary<values=string")
    csv = pd.read_csv(written("csv", tmp_path / "a.csv", calls), keep_default_na=False)
    assert table.column_names == list(csv.columns)
    for column in ("read_id", "call", "rank", "length_bp", "reason", "lineage"):
        assert table.column(column).to_pylist() == list(csv[column])
    assert table.schema.metadata[b"sample"] == b"gut 1"


def test_parquet_with_probabilities_in_several_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_calls, "VALUES_AT_ONCE", 2 * len(TREE.labels))
    values = np.random.default_rng(0).random((5, len(TREE.labels)), np.float32)
    calls = [call_at(0, f"r{number}", probabilities=row) for number, row in enumerate(values)]
    path = written("parquet", tmp_path / "a.parquet", calls, probabilities=True)
    assert pq.ParquetFile(path).num_row_groups == 3
    table = pq.read_table(path)
    read = np.stack([table.column(f"prob_{label}").to_numpy() for label in TREE.labels.names], axis=1)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_parquet_without_a_taxonomy_or_without_a_call(tmp_path):
    assert (
        "lineage"
        not in pq.read_table(written("parquet", tmp_path / "a.parquet", calls_of([562], FLAT), tree=FLAT)).column_names
    )
    assert pq.read_table(written("parquet", tmp_path / "none.parquet", [])).num_rows == 0


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_what_was_called_before_a_break_can_be_read(name, tmp_path):
    path = tmp_path / f"a.{name}"
    with pytest.raises(KeyboardInterrupt), open_reads(name, path, context()) as out:
        out.write(calls_of([562, 0]))
        raise KeyboardInterrupt
    assert not path.exists()
    kept = tmp_path / f"a.{name}.partial"
    read = pq.read_table(kept) if name == "parquet" else pd.read_csv(kept)
    assert list(map(str, read["read_id"])) == ["r0", "r1"]


def test_cami_binning_lists_the_classified_reads(tmp_path):
    path = written("cami-binning", tmp_path / "a.binning", calls_of([562, 0, 1280]), sample="gut\t1")
    assert path.read_text() == "@Version:0.10.0\n@SampleID:gut 1\n\n@@SEQUENCEID\tTAXID\nr0\t562\nr2\t1280\n"


def test_text_goes_to_standard_output_and_parquet_does_not(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with open_reads("tsv", "-", context()) as out:
        out.write(calls_of([562]))
    assert sys.stdout.getvalue().splitlines()[1].startswith("r0\tE. coli\t562\tspecies\t")
    assert not sys.stdout.closed
    with pytest.raises(ConfigError, match="parquet is not text"):
        open_reads("parquet", "-", context())
