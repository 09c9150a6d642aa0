"""Tables of genome lengths, and which length a taxon has."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.prediction.profile.called import TREE, flat, place

from metagene_classifier.errors import DataError
from metagene_classifier.prediction.profile.genome_lengths import lengths_of_taxa, read_genome_lengths


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lengths.tsv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "taxid\tbases\n200\t5000000\nbeta\t2000000\n9606\t3100000000\n",
        "200\t5,000,000\n210\t2_000_000\n",
        "\ufeffprima\t5000000\r\n\r\nbeta\t2000000\textra\r\n210\t2000000\r\n",
    ],
    ids=["header-and-others", "grouped", "labels"],
)
def test_a_table_of_taxids_and_labels(tmp_path: Path, text: str) -> None:
    assert read_genome_lengths(table(tmp_path, text), TREE) == {place(200): 5_000_000, place(210): 2_000_000}


def test_labels_where_there_are_no_taxids(tmp_path: Path) -> None:
    assert read_genome_lengths(table(tmp_path, "class 1\t300\n"), flat(2)) == {2: 300}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taxid\tbases\n200\tlong\n", r"line 2: 'long' is no length in bases"),
        ("200\t0\n210\t0\n", r"line 2: '0' is no length in bases"),
        ("taxid\tbases\n200\n", r"line 2: '' is no length"),
        ("200\t5\n\nprima\t6\n", r"line 3: prima has 6 bases here and 5 in line 1: keep one"),
        ("9606\t5\n", r"no row is of a taxon of this model"),
        ("", r"empty"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_genome_lengths(table(tmp_path, text), TREE)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_genome_lengths(tmp_path / "none.tsv", TREE)


def test_lengths_from_below_and_from_above() -> None:
    lengths, known = lengths_of_taxa({place(2001): 6, place(201): 2, place(200): 5}, TREE)
    found = {taxid: float(lengths[place(taxid)]) for taxid in (2001, 200, 201, 20, 21, 210)}
    mean = (6 + 2 + 5) / 3
    # The genus has the mean of what is given below it; Beta has nothing below, and takes that of all bacteria.
    assert found == pytest.approx({2001: 6, 200: 5, 201: 2, 20: mean, 21: mean, 210: mean})
    assert known[1:].all()


def test_a_strain_takes_its_species_length() -> None:
    lengths, known = lengths_of_taxa({place(200): 5, place(210): 9}, TREE)
    assert lengths[place(2001)] == 5 and known[place(2001)]
    assert lengths[place(201)] == 5  # of the genus, in which nothing else is known


def test_what_nothing_is_known_of_has_the_mean_of_all() -> None:
    lengths, known = lengths_of_taxa({1: 4, 2: 8}, flat(3))
    assert lengths.tolist() == [6, 4, 8, 6] and known.tolist() == [False, True, True, False]
