"""What a sample holds, in every format of samples, line by line."""

import biom
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prediction.formats.little_tree import FLAT, NO_TAXIDS, call_at, calls_of, result_of

from metagene_classifier.prediction.formats.cami_profile import percentages
from metagene_classifier.prediction.formats.registry import write_sample, write_table

TAXIDS = [562, 562, 561, 511145, 28901, 2697049, 999999, 1280, 0, 0]
"""Eight called, two not."""


def test_cami_profile_has_main_ranks_alone_and_leaves_gaps_in_paths(tmp_path):
    write_sample("cami-profile", tmp_path / "a.profile", result_of(calls_of(TAXIDS)))
    coli = "2|1224|||543|561|562\tBacteria|Pseudomonadota|||Enterobacteriaceae|Escherichia|Escherichia coli"
    salmonella = "2|1224|||543|590|28901\tBacteria|Pseudomonadota|||Enterobacteriaceae|Salmonella|Salmonella enterica"
    aureus = "2|1239|91061|||1279|1280\tBacteria|Bacillota|Bacilli|||Staphylococcus|Staphylococcus aureus"
    virus = "10239||||11118||694009\tViruses||||Coronaviridae||SARS-related coronavirus"
    assert (tmp_path / "a.profile").read_text() == (
        "@SampleID:gut 1\n@Version:0.10.0\n"
        "@Ranks:superkingdom|phylum|class|order|family|genus|species\n\n"
        "@@TAXID\tRANK\tTAXPATH\tTAXPATHSN\tPERCENTAGE\n"
        "2\tsuperkingdom\t2\tBacteria\t75.000000\n"
        "10239\tsuperkingdom\t10239\tViruses\t12.500000\n"
        "1224\tphylum\t2|1224\tBacteria|Pseudomonadota\t62.500000\n"
        "1239\tphylum\t2|1239\tBacteria|Bacillota\t12.500000\n"
        "91061\tclass\t2|1239|91061\tBacteria|Bacillota|Bacilli\t12.500000\n"
        "543\tfamily\t2|1224|||543\tBacteria|Pseudomonadota|||Enterobacteriaceae\t62.500000\n"
        "11118\tfamily\t10239||||11118\tViruses||||Coronaviridae\t12.500000\n"
        "561\tgenus\t2|1224|||543|561\tBacteria|Pseudomonadota|||Enterobacteriaceae|Escherichia\t50.000000\n"
        "590\tgenus\t2|1224|||543|590\tBacteria|Pseudomonadota|||Enterobacteriaceae|Salmonella\t12.500000\n"
        "1279\tgenus\t2|1239|91061|||1279\tBacteria|Bacillota|Bacilli|||Staphylococcus\t12.500000\n"
        f"562\tspecies\t{coli}\t37.500000\n"
        f"28901\tspecies\t{salmonella}\t12.500000\n"
        f"1280\tspecies\t{aureus}\t12.500000\n"
        f"694009\tspecies\t{virus}\t12.500000\n"
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda shares: sum(shares) > 0))
def test_percentages_of_a_rank_are_never_more_than_a_hundred(shares):
    whole = np.array(shares) / sum(shares)
    units = percentages(whole.tolist())
    assert sum(units) == 100_000_000
    assert np.abs(np.array(units) - whole * 1e8).max() <= 1.001
    assert sum(percentages((whole / 3).tolist())) == pytest.approx(1e8 / 3, abs=1)


def test_thirds_add_up_to_a_hundred():
    assert percentages([1 / 3, 1 / 3, 1 / 3]) == [33_333_334, 33_333_333, 33_333_333]
    assert percentages([1 / 3, 2 / 3]) == [33_333_333, 66_666_667]


def test_krona_text_has_a_line_for_each_taxon_that_reads_were_called_at(tmp_path):
    write_sample("krona", tmp_path / "a.krona", result_of(calls_of(TAXIDS)))
    above = "cellular organisms\tBacteria\tPseudomonadota\tEnterobacteriaceae"
    assert (tmp_path / "a.krona").read_text().splitlines() == [
        "2\tunclassified",
        f"1\t{above}\tEscherichia",
        f"2\t{above}\tEscherichia\tE. coli",
        f"1\t{above}\tEscherichia\tE. coli\tEscherichia coli K-12\tMG1655",
        f"1\t{above}\tSalmonella\tS. enterica",
        "1\tcellular organisms\tBacteria\tBacillota\tBacilli\tStaphylococcus\tS. aureus",
        "1\tViruses\tCoronaviridae\tSARSr-CoV\tSARS-CoV-2",
        "1\tnot in the taxonomy",
    ]


def test_the_profile_table_reads_as_a_table(tmp_path):
    write_sample("profile", tmp_path / "a.tsv", result_of(calls_of(TAXIDS)))
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t", dtype={"taxid": "Int64"}, keep_default_na=False, na_values=[""])
    coli = table[table["taxid"] == 562].iloc[0]
    assert (coli["rank"], coli["reads"], coli["direct_reads"], coli["abundance"]) == ("species", 3, 2, 0.375)
    last = table.iloc[-1]
    assert (last["name"], last["reads"]) == ("unclassified", 2)


def test_the_matrix_has_a_row_for_each_taxon_of_any_sample(tmp_path):
    results = [result_of(calls_of([562, 561, 0]), sample="a"), result_of(calls_of([28901, 28901]), sample="b\tb")]
    write_table("matrix", tmp_path / "m.tsv", results)
    table = pd.read_csv(tmp_path / "m.tsv", sep="\t", dtype={"taxid": "Int64"}, keep_default_na=False, na_values=[""])
    assert list(table.columns) == ["taxid", "name", "rank", "lineage", "a", "b b"]
    assert table.iloc[0][["name", "a", "b b"]].tolist() == ["unclassified", 1, 0]
    assert table[table["rank"] == "genus"][["taxid", "a", "b b"]].to_numpy().tolist() == [[561, 2, 0], [590, 0, 2]]
    species = table[table["rank"] == "species"]
    assert species["lineage"].tolist()[0].endswith(";Enterobacteriaceae;Escherichia;E. coli")


def test_biom_counts_each_read_once_and_knows_what_lies_above(tmp_path):
    results = [result_of(calls_of([562, 561, 0]), sample="a"), result_of(calls_of([28901, 28901]), sample="b")]
    write_table("biom", tmp_path / "t.biom", results)
    table = biom.load_table(str(tmp_path / "t.biom"))
    assert table.ids().tolist() == ["a", "b"]
    found = {taxid: table.data(taxid, axis="observation").tolist() for taxid in table.ids("observation")}
    assert found == {"561": [1, 0], "562": [1, 0], "28901": [0, 2]}
    assert table.metadata("562", axis="observation")["taxonomy"] == [
        *("cellular organisms", "Bacteria", "Pseudomonadota", "Enterobacteriaceae", "Escherichia", "E. coli"),
    ]
    assert table.metadata("a", axis="sample")["unclassified"] == "1"
    assert table.generated_by.startswith("metagene-classifier ")


def test_biom_of_samples_in_which_nothing_was_called(tmp_path):
    write_table("biom", tmp_path / "t.biom", [result_of(calls_of([0, 0]), sample="a"), result_of([], sample="b")])
    table = biom.load_table(str(tmp_path / "t.biom"))
    assert table.shape == (0, 2)


def test_classes_without_taxids_are_told_by_their_labels(tmp_path):
    result = result_of([call_at(1, tree=NO_TAXIDS), call_at(0, tree=NO_TAXIDS)], NO_TAXIDS)
    for name in ("krona", "krona-html", "profile"):
        write_sample(name, tmp_path / name, result)
        assert "lake genome 1" in (tmp_path / name).read_text()
    for name in ("biom", "matrix"):
        write_table(name, tmp_path / name, [result])
    assert biom.load_table(str(tmp_path / "biom")).ids("observation").tolist() == ["lake genome 1"]


@pytest.mark.parametrize("name", ["kraken-report", "krona", "krona-html", "profile"])
def test_a_sample_without_a_read(name, tmp_path):
    write_sample(name, tmp_path / "empty", result_of([], FLAT))
    assert (tmp_path / "empty").exists()
