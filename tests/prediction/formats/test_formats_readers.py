"""The tools that people have beside this one read our files, and find in them what we wrote."""

import csv
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import biom
import pandas as pd
import pytest
from biom.cli.table_validator import _validate_table
from tests.prediction.formats.little_tree import NODES, calls_of, context, result_of
from tests.tools import ROOT, run_tool

from metagene_classifier.prediction.formats.registry import open_reads, write_sample, write_table

FIRST = [562] * 6 + [561] * 2 + [511145] + [28901] * 3 + [1280] * 4 + [2697049] * 2 + [999999] + [0] * 5
SECOND = [1280] * 7 + [562] * 3


@pytest.fixture
def reports(tmp_path) -> list[Path]:
    paths = [tmp_path / "first.kreport", tmp_path / "second.kreport"]
    for path, taxids in zip(paths, (FIRST, SECOND), strict=True):
        write_sample("kraken-report", path, result_of(calls_of(taxids), sample=path.stem))
    return paths


def test_multiqc_finds_and_reads_kraken_reports(reports, tmp_path):
    said = run_tool("multiqc", "--no-version-check", "--outdir", tmp_path / "mqc", tmp_path)
    assert "Found 2 reports" in said
    species = pd.read_csv(tmp_path / "mqc" / "multiqc_data" / "kraken-top-n-plot_Species.txt", sep="\t", index_col=0)
    assert species.loc[
        "first.kreport", ["Escherichia coli", "Staphylococcus aureus", "Salmonella enterica"]
    ].tolist() == [
        7,
        4,
        3,
    ]
    assert species.loc["first.kreport", "Unclassified"] == 5
    assert species.loc["second.kreport", ["Escherichia coli", "Staphylococcus aureus", "Unclassified"]].tolist() == [
        3,
        7,
        0,
    ]


def test_taxpasta_merges_kraken_reports(reports, tmp_path):
    run_tool("taxpasta", "merge", "--profiler", "kraken2", "--output", tmp_path / "merged.tsv", *reports)
    merged = pd.read_csv(tmp_path / "merged.tsv", sep="\t", index_col="taxonomy_id")
    found = {taxid: tuple(row) for taxid, row in merged.iterrows() if any(row)}
    assert found == {
        0: (5, 0),
        561: (2, 0),
        562: (6, 3),
        511145: (1, 0),
        28901: (3, 0),
        1280: (4, 7),
        2697049: (2, 0),
        999999: (1, 0),
    }


def test_a_reader_that_goes_by_indents_and_rank_codes_finds_the_tree(reports):
    """As Bracken and KrakenTools read: parents by the indent, species by the code S, reads below it by S1, S2, …"""
    parents, stack, species = {}, [], {}
    for line in reports[0].read_text().splitlines():
        _, clade, _, code, taxid, name = line.split("\t")
        depth = (len(name) - len(name.lstrip(" "))) / 2
        assert depth == int(depth)
        if code == "U":
            continue
        del stack[int(depth) :]
        parents[int(taxid)] = stack[-1] if stack else 1
        stack.append(int(taxid))
        if code == "S":
            species[int(taxid)] = int(clade)
    expected = {taxid: parent for taxid, parent, _, _ in NODES}
    assert {taxid: expected.get(taxid, 1) for taxid in parents} == parents
    assert species == {562: 7, 28901: 3, 1280: 4, 694009: 2}


def test_krona_draws_from_the_text(tmp_path):
    write_sample("krona", tmp_path / "gut.krona", result_of(calls_of(FIRST)))
    run_tool("ktImportText", "-o", tmp_path / "krona.html", tmp_path / "gut.krona")
    page = (tmp_path / "krona.html").read_text()
    drawn = ElementTree.fromstring(re.search(r"<krona .*</krona>", page, re.DOTALL)[0])
    figures = {
        node.get("name"): [int(node.findtext(f"{figure}/val", "0")) for figure in ("magnitude", "magnitudeUnassigned")]
        for node in drawn.iter("node")
    }
    assert figures["all"] == [24, 0]
    assert figures["Enterobacteriaceae"] == [12, 0]
    assert figures["Escherichia"] == [9, 2]
    assert figures["E. coli"] == [7, 6]
    assert figures["unclassified"] == [5, 0]


@pytest.fixture
def taxonomy(tmp_path) -> Path:
    """A dump as AMBER wants one, with at least one merged taxid; it writes a copy of its own beside it."""
    folder = tmp_path / "taxonomy"
    shutil.copytree(ROOT / "data" / "taxonomy", folder)
    (folder / "merged.dmp").write_text("12\t|\t562\t|\n")
    return folder


def test_amber_takes_the_binning(taxonomy, tmp_path):
    """Against a truth that is the same but for one read."""
    path = tmp_path / "ours.binning"
    calls = calls_of([562, 562, 1280, 1280, 28901])
    with open_reads("cami-binning", path, context(sample="gut")) as out:
        out.write(calls)
    truth = tmp_path / "truth.binning"
    rows = "".join(f"r{number}\t{taxid}\t100\n" for number, taxid in enumerate([562, 562, 1280, 1280, 1280]))
    truth.write_text(f"@Version:0.10.0\n@SampleID:gut\n\n@@SEQUENCEID\tTAXID\t_LENGTH\n{rows}")
    folder = tmp_path / "amber"
    run_tool("amber.py", "--skip_gs", "-g", truth, "--ncbi_dir", taxonomy, "-l", "ours", "-o", folder, path)
    results = pd.read_csv(folder / "results.tsv", sep="\t")
    species = results[(results["Tool"] == "ours") & (results["rank"] == "species")].iloc[0]
    assert species["accuracy_seq"] == pytest.approx(0.8)
    assert species["misclassification_seq"] == pytest.approx(0.2)


def test_opal_takes_the_profile(tmp_path):
    """Against a truth in which a tenth of S. aureus is E. coli."""
    truth, ours = tmp_path / "truth.profile", tmp_path / "ours.profile"
    write_sample("cami-profile", truth, result_of(calls_of([1280] * 10 + [562] * 10), sample="gut"))
    write_sample("cami-profile", ours, result_of(calls_of([1280] * 9 + [562] * 11), sample="gut"))
    run_tool("opal.py", "-g", truth, "-l", "ours", "-o", tmp_path / "opal", ours)
    rows = csv.DictReader((tmp_path / "opal" / "results.tsv").read_text().splitlines(), delimiter="\t")
    found = {
        (row["rank"], row["metric"]): float(row["value"]) for row in rows if row["tool"] == "ours" and row["value"]
    }
    assert found["species", "L1 norm error"] == pytest.approx(0.1)
    assert found["species", "Bray-Curtis distance"] == pytest.approx(0.05)
    assert found["superkingdom", "L1 norm error"] == 0
    assert found["species", "Completeness"] == found["species", "Purity"] == 1


def test_biom_is_valid(tmp_path):
    results = [result_of(calls_of(taxids), sample=f"s{len(taxids)}") for taxids in (FIRST, SECOND)]
    write_table("biom", tmp_path / "t.biom", results)
    valid, report = _validate_table(str(tmp_path / "t.biom"))
    assert valid, report
    # As tools that group by rank use it.
    table = biom.load_table(str(tmp_path / "t.biom"))
    phyla = table.collapse(lambda _, metadata: (metadata["taxonomy"] + [""] * 3)[2], norm=False, axis="observation")
    assert phyla.data("Pseudomonadota", axis="observation").tolist() == [12, 3]


def test_pandas_reads_the_parquet(tmp_path):
    with open_reads("parquet", tmp_path / "a.parquet", context()) as out:
        out.write(calls_of(FIRST))
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["call"].value_counts()["E. coli"] == 6
    assert str(frame["rank"].dtype) == "category"
    assert frame.groupby("rank", observed=True).size()["genus"] == 2
