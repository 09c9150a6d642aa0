"""The CSV of calls, character by character."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.prediction.formats.little_tree import FLAT, TREE, call_at, calls_of, taxon

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.formats.csv_calls import CallsCsv


def call(name="r1", label="E. coli", probabilities=(0.25, 0.75), taxid=562):
    values = np.asarray(probabilities, np.float32)
    return Call(name, label, taxid, "", float(values.max(initial=0)), 150, "", values, 1, 0, (), ())


def test_a_row_of_each_kind():
    nothing = Call("r2", "unclassified", None, "", 0.0, 0, "no bases", np.zeros(2, np.float32), 0, -1, (), ())
    assert CallsCsv(None).header() == "read_id,call,taxid,rank,confidence,length_bp,reason\n"
    assert CallsCsv(None).rows([call(), nothing]) == (
        "r1,E. coli,562,,0.750000,150,\nr2,unclassified,,,0.000000,0,no bases\n"
    )
    with_all = CallsCsv(["E. coli", "phage, T4"])
    assert with_all.header().endswith(',reason,prob_E. coli,"prob_phage, T4"\n')
    assert with_all.rows([call(), nothing]) == (
        "r1,E. coli,562,,0.750000,150,,0.250000,0.750000\nr2,unclassified,,,0.000000,0,no bases,0.000000,0.000000\n"
    )
    assert CallsCsv(None).rows([]) == with_all.rows([]) == ""


def test_a_name_may_hold_anything():
    names = ['a,"b"', "two\nlines", "end\n", ""]
    text = CallsCsv(["x", "y"]).rows(call(name=name) for name in names)
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in read] == names
    assert all(row[-2:] == ["0.250000", "0.750000"] for row in read)


SHARES = st.floats(0, 1, width=32) | st.integers(0, 2**20).map(lambda k: k / 2**20) | st.sampled_from([1.0, 5e-7, 0.0])


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=SHARES))
def test_probabilities_are_written_as_python_writes_them(values):
    text = CallsCsv([str(column) for column in range(values.shape[1])]).rows(call(probabilities=row) for row in values)
    expected = [[f"{value:.6f}" for value in row] for row in values.tolist()]
    assert [line.split(",")[7:] for line in text.splitlines()] == expected


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (12.5, "12.500000"), (-0.5, "-0.500000")])
def test_what_is_no_probability_is_written_as_it_is(value, text):
    assert CallsCsv(["a", "b"]).rows([call(probabilities=(0.5, value))]).endswith(f",0.500000,{text}\n")


def test_halves_go_to_the_even_digit():
    """1/128 is 0.0078125 to the last digit."""
    assert CallsCsv(["a", "b"]).rows([call(probabilities=(1 / 128, 3 / 128))]).endswith(",0.007812,0.023438\n")


def test_more_numbers_than_are_turned_into_text_at_once():
    values = np.random.default_rng(0).random((70, 1500), np.float32)
    text = CallsCsv([str(column) for column in range(1500)]).rows(call(probabilities=row) for row in values)
    assert [line.split(",")[7:] for line in text.splitlines()] == [[f"{v:.6f}" for v in row] for row in values.tolist()]


def test_with_a_taxonomy_a_column_says_what_lies_above():
    text = CallsCsv(["a"], TREE)
    assert text.header() == "read_id,call,taxid,rank,confidence,length_bp,reason,lineage,prob_a\n"
    rows = text.rows([call_at(taxon(561), probabilities=np.array([0.5], np.float32)) for _ in range(2)])
    lineage = "cellular organisms;Bacteria;Pseudomonadota;Enterobacteriaceae;Escherichia"
    assert rows == f"r1,Escherichia,561,genus,0.750000,20,,{lineage},0.500000\n" * 2


def test_unclassified_reads_have_no_lineage_and_no_taxonomy_means_no_column():
    assert CallsCsv(None, TREE).rows(calls_of([0])) == "r0,unclassified,,,0.250000,20,not sure enough,\n"
    assert CallsCsv(None, FLAT).header() == CallsCsv(None).header()
    assert CallsCsv(None, FLAT).rows(calls_of([562, 0], FLAT)) == CallsCsv(None).rows(calls_of([562, 0], FLAT))
