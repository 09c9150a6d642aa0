"""Formats by name and by ending, and what they ask of a model."""

from pathlib import Path

import pytest
from tests.prediction.formats.little_tree import FLAT, NO_TAXIDS, TREE, context

from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.formats.registry import (
    FORMATS,
    READ_FORMATS,
    check_format,
    format_named,
    format_of_ending,
    open_reads,
)


def test_every_format_has_an_ending_of_its_own_that_finds_it():
    assert len({one.ending for one in FORMATS.values()}) == len(FORMATS)
    for name, one in FORMATS.items():
        assert format_of_ending(Path(f"out/sample.1{one.ending}")).name == name


@pytest.mark.parametrize(
    ("file", "name"),
    [("calls.CSV", "csv"), ("s.profile.tsv", "profile"), ("profile.tsv", "tsv"), ("a.krona.html", "krona-html")],
)
def test_the_longest_ending_counts(file, name):
    assert format_of_ending(Path(file)).name == name


def test_an_ending_or_name_that_is_none_is_told_with_those_that_are():
    with pytest.raises(ConfigError, match=r"^calls\.txt: the name says no format: end it with one of \.csv, \.tsv, "):
        format_of_ending(Path("calls.txt"), READ_FORMATS)
    with pytest.raises(ConfigError, match=r"no format 'krakn' \(did you mean 'kraken'\?\): there are csv, tsv, "):
        format_named("krakn", READ_FORMATS)
    with pytest.raises(ConfigError, match="no format 'biom'"):
        format_named("biom", READ_FORMATS)


def test_formats_of_taxids_are_refused_for_classes_without_any(tmp_path):
    for name in ("kraken", "cami-binning", "kraken-report"):
        with pytest.raises(ConfigError, match=r"2 of 2 classes have none \(lake genome 1, lake genome 2\)"):
            check_format(name, NO_TAXIDS)
        check_format(name, FLAT)
    with pytest.raises(ConfigError):
        open_reads("kraken", tmp_path / "x", context(NO_TAXIDS))
    assert list(tmp_path.iterdir()) == []
    for name in ("csv", "tsv", "parquet", "profile", "krona", "krona-html", "biom", "matrix"):
        check_format(name, NO_TAXIDS)


def test_a_format_of_ranks_is_refused_without_a_taxonomy():
    with pytest.raises(ConfigError, match="no taxonomy: give one with --taxonomy"):
        check_format("cami-profile", FLAT)
    check_format("cami-profile", TREE)
