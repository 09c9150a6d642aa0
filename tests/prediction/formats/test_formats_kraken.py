"""Kraken's output and report, character by character."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prediction.formats.little_tree import FLAT, TREE, call_at, calls_of, context, taxon

from metagene_classifier.prediction.call import Hit
from metagene_classifier.prediction.formats.kraken_output import kraken_rows
from metagene_classifier.prediction.formats.kraken_report import report_lines
from metagene_classifier.prediction.formats.registry import open_reads
from metagene_classifier.reads.read import Read


def report(taxids, tree=TREE):
    direct = np.zeros(len(tree), np.int64)
    for call in calls_of(taxids, tree):
        direct[call.taxon] += 1
    return "".join(report_lines(tree, direct))


def test_a_read_called_and_one_not():
    called = call_at(taxon(562), "a", reads=(Read("a x", "ACGTA"),), hits=((Hit(562, 30), Hit(0, 12)),))
    nothing = call_at(0, "b", reads=(Read("b", ""),), hits=((),))
    assert kraken_rows([called, nothing]) == "C\ta\t562\t5\t562:30 0:12\nU\tb\t0\t0\t0:0\n"


def test_a_pair_has_both_lengths_and_a_border_between_its_hits():
    mates = (Read("p/1", "A" * 98), Read("p/2", "C" * 94))
    pair = call_at(taxon(561), "p", reads=mates, hits=((Hit(562, 25),), (Hit(28901, 20), Hit(561, 4))))
    assert kraken_rows([pair]) == "C\tp\t561\t98|94\t562:25 |:| 28901:20 561:4\n"
    one_empty = call_at(0, "p", reads=(mates[0], Read("p/2", "")), hits=((Hit(562, 25),), ()))
    assert kraken_rows([one_empty]) == "U\tp\t0\t98|0\t562:25 |:| 0:0\n"


def test_without_window_calls_the_hit_list_is_that_of_no_hit():
    assert kraken_rows([call_at(taxon(562), "p", mates=2, hits=())]) == "C\tp\t562\t20|20\t0:0 |:| 0:0\n"


def test_no_id_can_part_a_line():
    row = kraken_rows([call_at(taxon(562), "lbl|0|562|4|a\tb\x0bc\x85d/1")])
    assert row == "C\tlbl|0|562|4|a b c d/1\t562\t20\t562:7\n"


READ_BACK = st.lists(
    st.tuples(st.sampled_from(range(len(TREE))), st.integers(1, 2), st.lists(st.integers(0, 600), max_size=3)),
    max_size=20,
)


@given(READ_BACK)
def test_what_is_written_can_be_read_back(rows):
    calls = [
        call_at(
            place,
            f"r{number}",
            mates=mates,
            hits=tuple(tuple(Hit(562, tokens) for tokens in hits) for _ in range(mates)),
        )
        for number, (place, mates, hits) in enumerate(rows)
    ]
    found = []
    for line in kraken_rows(calls).splitlines():
        status, read_id, taxid, lengths, hits = line.split("\t")
        mates = [[tuple(map(int, hit.split(":"))) for hit in mate.split()] for mate in hits.split("|:|")]
        found.append((status == "C", read_id, int(taxid), list(map(int, lengths.split("|"))), mates))
    assert found == [
        (
            call.taxon > 0,
            call.read_id,
            call.taxid or 0,
            [20] * len(call.reads),
            [[(562, hit.tokens) for hit in mate] or [(0, 0)] for mate in call.hits],
        )
        for call in calls
    ]


def test_the_report_counts_clades_and_names_ranks_as_kraken_does():
    """The larger clade first; taxa without a rank of their own are so many steps below the one above them."""
    taxids = [0, 0, 562, 562, 562, 561, 511145, 28901, 1280, 1280, 2697049, 999999]
    assert report(taxids) == (
        " 16.67\t2\t2\tU\t0\tunclassified\n"
        " 83.33\t10\t0\tR\t1\troot\n"
        " 66.67\t8\t0\tR1\t131567\t  cellular organisms\n"
        " 66.67\t8\t0\tD\t2\t    Bacteria\n"
        " 50.00\t6\t0\tP\t1224\t      Pseudomonadota\n"
        " 50.00\t6\t0\tF\t543\t        Enterobacteriaceae\n"
        " 41.67\t5\t1\tG\t561\t          Escherichia\n"
        " 33.33\t4\t3\tS\t562\t            Escherichia coli\n"
        "  8.33\t1\t0\tS1\t83333\t              Escherichia coli K-12\n"
        "  8.33\t1\t1\tS2\t511145\t                Escherichia coli str. K-12 substr. MG1655\n"
        "  8.33\t1\t0\tG\t590\t          Salmonella\n"
        "  8.33\t1\t1\tS\t28901\t            Salmonella enterica\n"
        " 16.67\t2\t0\tP\t1239\t      Bacillota\n"
        " 16.67\t2\t0\tC\t91061\t        Bacilli\n"
        " 16.67\t2\t0\tG\t1279\t          Staphylococcus\n"
        " 16.67\t2\t2\tS\t1280\t            Staphylococcus aureus\n"
        "  8.33\t1\t0\tD\t10239\t  Viruses\n"
        "  8.33\t1\t0\tF\t11118\t    Coronaviridae\n"
        "  8.33\t1\t0\tS\t694009\t      SARS-related coronavirus\n"
        "  8.33\t1\t1\tS1\t2697049\t        Severe acute respiratory syndrome coronavirus 2\n"
        "  8.33\t1\t1\tR1\t999999\t  not in the taxonomy\n"
    )


def test_siblings_are_ordered_by_their_reads():
    lines = report([28901, 28901, 562, 2697049]).splitlines()
    names = [line.rpartition("\t")[2].strip() for line in lines]
    assert names.index("Salmonella") < names.index("Escherichia") < names.index("Viruses")


@pytest.mark.parametrize(
    ("taxids", "text"),
    [
        ([0, 0, 0], "100.00\t3\t3\tU\t0\tunclassified\n"),
        ([], ""),
    ],
)
def test_a_report_without_a_called_read(taxids, text):
    assert report(taxids) == text


def test_no_line_for_unclassified_reads_where_there_are_none():
    assert report([2]).splitlines()[0] == "100.00\t1\t0\tR\t1\troot"


def test_without_a_taxonomy_classes_hang_under_the_root():
    assert report([562, 0, 562, 1280], FLAT) == (
        " 25.00\t1\t1\tU\t0\tunclassified\n"
        " 75.00\t3\t0\tR\t1\troot\n"
        " 50.00\t2\t2\tR1\t562\t  E. coli\n"
        " 25.00\t1\t1\tR1\t1280\t  S. aureus\n"
    )


def test_calls_come_in_pieces_and_the_file_is_whole_at_the_end(tmp_path):
    path = tmp_path / "out.kraken"
    with open_reads("kraken", path, context()) as out:
        out.write(calls_of([562]))
        assert not path.exists()
        assert (tmp_path / "out.kraken.partial").read_text() == "C\tr0\t562\t20\t562:7\n"
        out.write(calls_of([0]))
    assert path.read_text() == "C\tr0\t562\t20\t562:7\nU\tr0\t0\t20\t0:7\n"
