"""The files under data/ are what their manifest and tables say."""

import csv
from pathlib import Path

import pytest

from metagene_classifier.reads.files import expand_inputs, read_records
from metagene_classifier.reads.headers import mate_key
from metagene_classifier.reads.labels import read_mapping

DATA = Path(__file__).parents[2] / "data"
with open(DATA / "MANIFEST.tsv", encoding="utf-8", newline="") as _manifest:
    MANIFEST = list(csv.DictReader(_manifest, delimiter="\t"))
SEQUENCES = [row for row in MANIFEST if row["file"].endswith((".fna.gz", ".fastq.gz"))]


def test_every_shipped_file_stands_in_the_manifest():
    tables = {"genomes/mapping.tsv", "viruses/mapping.tsv", "README.md", "MANIFEST.tsv"}
    files = {str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.is_file()}
    assert files - tables == {row["file"] for row in MANIFEST}


@pytest.mark.parametrize("row", SEQUENCES, ids=lambda row: row["file"])
def test_records_and_bases_are_those_of_the_manifest(row):
    lengths = [len(read.sequence) for read in read_records(DATA / row["file"])]
    assert (len(lengths), sum(lengths)) == (int(row["contigs_or_reads"]), int(row["bp"]))


def test_mates_of_the_shipped_pairs_share_their_key_and_no_other_read_does():
    first, second = (
        [mate_key(r.header) for r in read_records(DATA / "reads" / f"ecoli_illumina_spades1k_R{mate}.fastq.gz")]
        for mate in "12"
    )
    assert first == second
    assert len(set(first)) == len(first) == 2054


def test_every_taxid_of_the_mappings_stands_in_the_taxonomy():
    nodes = {int(line.split("\t", 1)[0]) for line in (DATA / "taxonomy" / "nodes.dmp").read_text().splitlines()}
    for folder, classes in (("genomes", 10), ("viruses", 30)):
        labels = read_mapping(DATA / folder / "mapping.tsv")
        assert len(labels) == classes
        assert set(labels.taxids) <= nodes


def test_a_folder_gives_its_sequence_files_and_not_its_tables():
    assert len(expand_inputs(str(DATA / "genomes"))) == 10
