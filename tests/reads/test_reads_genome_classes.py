"""Which genome is which class: from a mapping table, or from the names of files and headers."""

from pathlib import Path

import pytest

from metagene_classifier.errors import DataError
from metagene_classifier.reads.genome_classes import ClassedGenomes, classes_from_genomes, classes_from_mapping
from metagene_classifier.reads.genomes import load_genomes, scan_genomes
from metagene_classifier.reads.labels import ClassLabel

VIRUSES = (
    ">Flu_A|11320|seg1 x\nACGT\n>Flu_A|11320|seg2\nAC\n>Zika|64320|NC_035889.1 Zika virus\nACGTACGT\n"
    ">HIV-1|11676|NC_001802.1\nACG\n"
)


@pytest.fixture
def genome(tmp_path):
    def write(name: str, text: str = ">c1\nACGT\n>c2\nAC\n") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def from_genomes(*paths: Path) -> ClassedGenomes:
    return classes_from_genomes([scan_genomes(path) for path in paths])


def from_mapping(table: Path, *paths: Path) -> ClassedGenomes:
    return classes_from_mapping([scan_genomes(path) for path in paths], table)


def members(classed: ClassedGenomes) -> list[tuple[str, int, str]]:
    """Name, bases and label of every genome."""
    return [(entry.name, entry.bases, classed.labels.names[index]) for entry, index in classed.members]


def test_file_names_give_labels_and_strains_of_one_species_are_one_class(genome):
    classed = from_genomes(
        genome("Escherichia_coli.K12_MG1655.fna"),
        genome("Bacillus_subtilis_168.fa"),
        genome("Escherichia_coli.O157.fa"),
        genome("GCF_000005845.2_ASM584v2.fna"),
    )
    assert [(c.class_id, c.label) for c in classed.labels.classes] == [
        ("0", "Bacillus subtilis 168"),
        ("1", "Escherichia coli"),
        ("2", "GCF_000005845.2_ASM584v2"),
    ]
    assert members(classed)[2] == ("Escherichia_coli.O157", 6, "Escherichia coli")


def test_headers_with_name_and_taxid_give_a_class_for_each_name(genome):
    classed = from_genomes(genome("viruses.fa", VIRUSES))
    assert classed.labels.classes == (
        ClassLabel("0", "Flu_A", 11320),
        ClassLabel("1", "HIV-1", 11676),
        ClassLabel("2", "Zika", 64320),
    )
    assert members(classed) == [("Flu_A", 6, "Flu_A"), ("Zika", 8, "Zika"), ("HIV-1", 3, "HIV-1")]


@pytest.mark.parametrize("tag", ["gi|404282430|ref|NC_018588.1|", "kraken:taxid|562|NC_1", "gb|1|x"])
def test_identifiers_of_databases_are_no_genome_names(genome, tag):
    assert members(from_genomes(genome("Listeria_x.fa", f">{tag} Listeria\nACGT\n"))) == [
        ("Listeria_x", 4, "Listeria x")
    ]


def test_a_mapping_finds_files_by_genome_column_label_or_class_id(genome, tmp_path):
    table = tmp_path / "m.tsv"
    table.write_text(
        "class_id\tlabel_name\ttax_id\tgenome\n3\tE. coli\t562\tGCF_1.fna; GCF_2\n4\tBacillus subtilis\t1423\t\n"
        "5\tx\t\t\n6\tunused\t\t\n"
    )
    classed = from_mapping(
        table, genome("GCF_1.fna"), genome("GCF_2.fa"), genome("Bacillus_subtilis.YB886.fna"), genome("5.fa")
    )
    assert [label for *_, label in members(classed)] == ["E. coli", "E. coli", "Bacillus subtilis", "x"]
    assert classed.labels.taxids == [562, 1423, None]


def test_a_mapping_finds_genomes_by_name_or_taxid_in_the_headers(genome, tmp_path):
    table = tmp_path / "m.tsv"
    table.write_text("class_id\tlabel_name\ttax_id\n1\tFlu A\t\n2\tZika virus\t64320\n3\tHIV-1\t1\n")
    assert [label for *_, label in members(from_mapping(table, genome("v.fa", VIRUSES)))] == [
        "Flu A",
        "Zika virus",
        "HIV-1",
    ]


def test_genomes_without_a_class_are_all_named(genome, tmp_path):
    table = tmp_path / "m.tsv"
    table.write_text("class_id\tlabel_name\ttax_id\n1\tFlu A\t\n")
    with pytest.raises(
        DataError, match=r"no class for a\.fa, Zika in v\.fa, HIV-1 in v\.fa: name them in a column 'genome'"
    ):
        from_mapping(table, genome("a.fa"), genome("v.fa", VIRUSES))


def test_records_of_a_genome_that_stand_apart_are_refused(genome):
    text = VIRUSES + ">Zika|64320|again\nAC\n"
    with pytest.raises(DataError, match=r"v\.fa, record 5: Zika stands further up too"):
        scan_genomes(genome("v.fa", text))


def test_two_taxids_for_one_name_are_refused(genome):
    with pytest.raises(DataError, match=r"record 2: Zika has taxid 2 here and 1 above"):
        scan_genomes(genome("v.fa", ">Zika|1|a\nAC\n>Zika|2|b\nAC\n"))
    with pytest.raises(DataError, match=r"b\.fa: Zika has taxid 2 here and 1 elsewhere"):
        from_genomes(genome("a.fa", ">Zika|1|a\nAC\n"), genome("b.fa", ">Zika|2|b\nAC\n"))


def test_genomes_are_loaded_cleaned_with_the_accession_as_record_id(genome):
    path = genome("v.fa", ">Flu_A|11320|seg1 x\nacRu\n>Flu_A|11320|seg2\nAC\n>Zika|64320|gi|7|ref|NC_1.1| Zika\nA\n")
    flu, zika = load_genomes(path, many=True)
    assert [(r.id, r.sequence) for r in flu.records] == [("seg1", b"ACNT"), ("seg2", b"AC")]
    assert (zika.name, zika.records[0].id) == ("Zika", "NC_1.1")
    (whole,) = load_genomes(path, many=False)
    assert (whole.name, len(whole.records)) == ("v", 3)
