"""NCBI's taxonomy: what is read of a dump, what a model keeps of it, and dumps that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import Taxonomy

DATA = Path(__file__).parents[2] / "data" / "taxonomy"

NODES = (
    "1\t|\t1\t|\tno rank\t|\n"
    "2\t|\t1\t|\tdomain\t|\n"
    "20\t|\t2\t|\tgenus\t|\n"
    "200\t|\t20\t|\tspecies\t|\n"
    "201\t|\t20\t|\tspecies\t|\n"
)
NAMES = (
    "1\t|\troot\t|\t\t|\tscientific name\t|\n"
    "2\t|\tBacteria\t|\tBacteria <bacteria>\t|\tscientific name\t|\n"
    "2\t|\teubacteria\t|\t\t|\tgenbank common name\t|\n"
    "20\t|\tAlpha\t|\t\t|\tscientific name\t|\n"
    '200\t|\t"Alpha" prima\t|\t\t|\tscientific name\t|\n'
    "201\t|\tAlpha secunda\t|\t\t|\tscientific name\t|\n"
)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    folder = tmp_path / "taxdump"
    folder.mkdir()
    (folder / "nodes.dmp").write_text(NODES)
    (folder / "names.dmp").write_text(NAMES)
    return folder


def test_a_lineage_goes_from_below_the_root_to_the_taxon(dump: Path) -> None:
    taxonomy = Taxonomy.read(dump)
    assert taxonomy.lineage(200) == (2, 20, 200)
    assert taxonomy.lineage(1) == ()
    assert [taxonomy[taxid].rank for taxid in taxonomy.lineage(200)] == ["domain", "genus", "species"]


def test_names_are_the_scientific_ones_with_their_quotes(dump: Path) -> None:
    taxonomy = Taxonomy.read(dump)
    assert taxonomy[2].name == "Bacteria"
    assert taxonomy[200].name == '"Alpha" prima'


def test_columns_of_a_whole_dump_are_passed_over(dump: Path) -> None:
    whole = "".join(
        line.removesuffix("|") + "|\tAP\t|\t0\t|\t1\t|\t11\t|\t1\t|\t0\t|\t1\t|\t0\t|\t0\t|\t\t|\n"
        for line in NODES.splitlines()
    )
    (dump / "nodes.dmp").write_text(whole)
    assert Taxonomy.read(dump).lineage(201) == (2, 20, 201)


def test_only_what_is_wanted_and_above_is_kept(dump: Path) -> None:
    taxonomy = Taxonomy.read(dump, wanted=[201, 999])
    assert set(taxonomy) == {1, 2, 20, 201}


def test_merged_taxids_are_followed_and_deleted_ones_are_not_there(dump: Path) -> None:
    (dump / "merged.dmp").write_text("77\t|\t78\t|\n78\t|\t200\t|\n")
    (dump / "delnodes.dmp").write_text("99\t|\n")
    taxonomy = Taxonomy.read(dump, wanted=[77])
    assert taxonomy.current(77) == 200
    assert taxonomy.current(99) is None
    assert taxonomy.current(200) == 200


def test_a_merge_into_a_taxid_that_is_not_there_is_unknown(dump: Path) -> None:
    (dump / "merged.dmp").write_text("77\t|\t5555\t|\n")
    assert Taxonomy.read(dump).current(77) is None


def test_faults_are_listed_by_label(dump: Path) -> None:
    (dump / "merged.dmp").write_text("77\t|\t200\t|\n")
    (dump / "delnodes.dmp").write_text("99\t|\n")
    labels = Labels(
        (
            ClassLabel("0", "old", 77),
            ClassLabel("1", "gone", 99),
            ClassLabel("2", "strange", 5),
            ClassLabel("3", "none"),
        )
    )
    lines = Taxonomy.read(dump).faults(labels)
    assert lines == [
        "taxonomy: 2 of 4 classes have taxids that it lacks, 1 of them deleted; they get no ranks: "
        "gone (99), strange (5)",
        "taxonomy: taxids that are merged into others by now: 77 is 200",
    ]


def test_what_is_saved_is_loaded(dump: Path, tmp_path: Path) -> None:
    (dump / "merged.dmp").write_text("77\t|\t200\t|\n")
    Taxonomy.read(dump).subset([77]).save(tmp_path / "taxonomy.tsv")
    loaded = Taxonomy.load(tmp_path / "taxonomy.tsv")
    assert set(loaded) == {1, 2, 20, 200}
    assert loaded.current(77) == 200
    assert loaded[200].name == '"Alpha" prima'
    assert loaded.lineage(200) == (2, 20, 200)


def test_a_taxon_that_is_its_own_ancestor_is_named(dump: Path) -> None:
    (dump / "nodes.dmp").write_text(NODES.replace("20\t|\t2\t|\tgenus", "20\t|\t200\t|\tgenus"))
    with pytest.raises(DataError, match=r"nodes\.dmp: a taxon is its own ancestor: 20 < 200 < 20"):
        Taxonomy.read(dump)


def test_a_taxon_that_is_its_own_parent_is_named(dump: Path) -> None:
    (dump / "nodes.dmp").write_text(NODES.replace("20\t|\t2\t|\tgenus", "20\t|\t20\t|\tgenus"))
    with pytest.raises(DataError, match="own ancestor: 20 < 20"):
        Taxonomy.read(dump)


def test_a_missing_parent_is_named(dump: Path) -> None:
    (dump / "nodes.dmp").write_text(NODES.replace("20\t|\t2\t|\tgenus", "20\t|\t3\t|\tgenus"))
    with pytest.raises(DataError, match=r"nodes\.dmp: taxid 20 has the parent 3, which is not there"):
        Taxonomy.read(dump)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nodes.dmp", "1\t|\t1\t|\n", "nodes.dmp, line 1: 2 cells"),
        ("nodes.dmp", "x\t|\t1\t|\tno rank\t|\n", "nodes.dmp, line 1: 'x' is no taxid"),
        ("nodes.dmp", "2\t|\t2\t|\tdomain\t|\n", "no root"),
        ("names.dmp", "1\t|\troot\t|\t\t|\tscientific name\t|\n", "no scientific name of taxid 2, 20, 200, 201"),
    ],
    ids=["few cells", "no number", "no root", "no name"],
)
def test_a_damaged_dump_is_one_line(dump: Path, name: str, text: str, message: str) -> None:
    (dump / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Taxonomy.read(dump)


def test_a_folder_without_a_dump_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Taxonomy.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nodes\.dmp: no such file"):
        Taxonomy.read(tmp_path)


def test_the_shipped_taxonomy_has_every_shipped_genome() -> None:
    taxonomy = Taxonomy.read(DATA)
    assert [taxonomy[taxid].name for taxid in taxonomy.lineage(562)][-2:] == ["Escherichia", "Escherichia coli"]
