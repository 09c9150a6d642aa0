"""Whatever is called, all formats tell the same counts."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import biom
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.formats.little_tree import FLAT, TREE, call_at, context, result_of

from metagene_classifier.prediction.formats.registry import FORMATS, open_reads, write_sample, write_table


def lines_of(text):
    return [line.split("\t") for line in text.splitlines()]


def direct_counts(tree, folder: Path) -> dict[str, Counter]:
    """Reads at each taxid as every format has them; unclassified ones at 0."""
    text = {name: (folder / name).read_text() for name, one in FORMATS.items() if one.text and (folder / name).exists()}
    found: dict[str, Counter] = {}
    found["csv"] = Counter(int(row["taxid"] or 0) for row in csv.DictReader(io.StringIO(text["csv"])))
    found["tsv"] = Counter(int(row["taxid"] or 0) for row in csv.DictReader(io.StringIO(text["tsv"]), delimiter="\t"))
    found["parquet"] = Counter(taxid or 0 for taxid in pq.read_table(folder / "parquet").column("taxid").to_pylist())
    found["kraken"] = Counter(int(taxid) for _, _, taxid, _, _ in lines_of(text["kraken"]))
    found["kraken-report"] = Counter({int(line[4]): int(line[2]) for line in lines_of(text["kraken-report"])})
    places = {tree.lineage_names(place): one.taxid for place, one in enumerate(tree.taxa)} | {"unclassified": 0}
    found["krona"] = Counter({places[";".join(names)]: int(reads) for reads, *names in lines_of(text["krona"])})
    rows = list(csv.DictReader(io.StringIO(text["profile"]), delimiter="\t"))
    found["profile"] = Counter({int(row["taxid"] or 0): int(row["direct_reads"]) for row in rows})
    table = biom.load_table(str(folder / "biom"))
    observed = {int(taxid): int(table.data(taxid, axis="observation").sum()) for taxid in table.ids("observation")}
    unclassified = int(table.metadata(table.ids()[0])["unclassified"])
    found["biom"] = Counter(observed) + Counter({0: unclassified})
    return {name: +counts for name, counts in found.items()}


def clade_counts(tree, folder: Path) -> dict[str, dict[int, int]]:
    """Reads of each clade but the root, as every format of clades has them."""
    report = {int(line[4]): int(line[1]) for line in lines_of((folder / "kraken-report").read_text())}
    rows = csv.DictReader(io.StringIO((folder / "profile").read_text()), delimiter="\t")
    matrix = csv.DictReader(io.StringIO((folder / "matrix").read_text()), delimiter="\t")
    return {
        "kraken-report": {taxid: reads for taxid, reads in report.items() if taxid != 1},
        "profile": {int(row["taxid"] or 0): int(row["reads"]) for row in rows if int(row["reads"])},
        "matrix": {int(row["taxid"] or 0): int(row["gut 1"]) for row in matrix if int(row["gut 1"])},
    }


CALLS = st.lists(st.integers(0, len(TREE) - 1), min_size=1, max_size=40)


def agree(tree, places):
    calls = [call_at(place, f"r{number}", tree=tree) for number, place in enumerate(places)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        for one in ("csv", "tsv", "parquet", "kraken", "cami-binning"):
            with open_reads(one, folder / one, context(tree)) as out:
                out.write(calls[:7])
                out.write(calls[7:])
        result = result_of(calls, tree)
        for one in ("kraken-report", "krona", "krona-html", "profile"):
            write_sample(one, folder / one, result)
        for one in ("biom", "matrix"):
            write_table(one, folder / one, [result])
        expected = Counter(tree.taxa[place].taxid if place else 0 for place in places)
        for one, counts in direct_counts(tree, folder).items():
            assert counts == expected, one
        binned = Counter(int(taxid) for _, taxid in lines_of((folder / "cami-binning").read_text().split("TAXID\n")[1]))
        assert binned == Counter({taxid: reads for taxid, reads in expected.items() if taxid})
        clades = Counter({0: expected[0]})
        for place in places:
            clades.update(tree.taxa[above].taxid for above in tree.lineage(place))
        for one, found in clade_counts(tree, folder).items():
            assert found == +clades, one
        data = json.loads(re.search(r'sunburst-data">(.*?)</script>', (folder / "krona-html").read_text())[1])
        shown = dict(zip(data["names"][1:], data["reads"][1:], strict=True))
        labels = {tree.label_of(place): one.taxid for place, one in enumerate(tree.taxa)} | {"unclassified": 0}
        assert data["reads"][0] == len(places)
        assert {labels[name]: reads for name, reads in shown.items()}.items() <= clades.items()
        assert {taxid for taxid, reads in expected.items() if reads} <= {labels[name] for name in shown}


# A call at the root is no call; so places below it alone, and 0 for unclassified.
@settings(max_examples=40, deadline=None)
@given(CALLS)
def test_all_formats_tell_the_same_counts(places):
    agree(TREE, places)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(FLAT) - 1), min_size=1, max_size=40))
def test_they_do_without_a_taxonomy(places):
    agree(FLAT, places)
