"""What headers and qualities say of how reads came about."""

import numpy as np
import pytest

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.reads.cutting import ReadShape, cut_reads
from metagene_classifier.reads.genomes import Genome, GenomeRecord
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.origins import Origin, expected_error_rates, origin_of


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        ("lbl|0|562|150|E_coli.K12:NC_000913.3:1201-1350:+", Origin("+", None)),
        ("lbl|0|562|150|E_coli.K12:NC_000913.3:1201-1350:-:3", Origin("-", 3)),
        ("lbl|0|562|150|g:r:1-150:-:0/2", Origin("-", 0)),
        ("lbl|0|562|150|g:r:1-150:+/1", Origin("+", None)),
        ("lbl|0|562|150|Escherichia coli read 7/1", None),
        ("HISEQ:497:HYVNHBCXY:1:2205:11552:72949 1:N:0", None),
        ("", None),
    ],
)
def test_strand_and_errors_stand_at_the_end_of_a_cut_reads_header(header, origin):
    assert origin_of(header) == origin


def test_errors_of_cut_reads_are_counted():
    genome = Genome("g", (GenomeRecord("r", b"ACGTTGCA" * 2500),))
    for _, read in cut_reads(genome, (300,), (1.0,), 1000, ReadShape(100, 0, 0.05), 3):
        first, last = map(int, read.origin.split(":")[2].split("-"))
        expected = genome.records[0].sequence[first - 1 : last].decode()
        if read.origin.endswith("-"):
            expected = expected[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert read.errors == sum(a != b for a, b in zip(read.sequence, expected, strict=True))
    clean = next(cut_reads(genome, (1,), (1.0,), 1000, ReadShape(100), 3))[1]
    assert clean.errors == 0


def test_the_header_with_errors_is_a_labelled_header():
    parsed = HeaderPattern(DEFAULT_HEADER_REGEX).parse("lbl|2|562|150|g:r:1201-1350:+:2/1")
    assert (parsed.class_id, parsed.readlen, parsed.name, parsed.mate) == ("2", "150", "g:r:1201-1350:+:2", "1")


def test_expected_errors_by_hand():
    # Phred 10, 20 and 0: one in ten, one in a hundred, all.
    rates = expected_error_rates(["+", "+5", None, "!", "", "IIII"])
    np.testing.assert_allclose(rates, [0.1, 0.055, np.nan, 1.0, np.nan, 1e-4])
    assert expected_error_rates([]).shape == (0,)
