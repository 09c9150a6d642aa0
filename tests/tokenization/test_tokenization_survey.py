"""What a file of labelled reads holds, and histograms of lengths."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.hub import METAGENE_1, RESOURCES
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.tokenization.histogram import Histogram
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.survey import FileSurvey, survey_file

TOKENIZER = load_huggingface(RESOURCES / "tokenizers" / "metagene-1", METAGENE_1)
LABELS = Labels((ClassLabel("1", "E. coli", 562), ClassLabel("2", "B. subtilis", 1423)))
HEADERS = LabelSource(pattern=HeaderPattern(DEFAULT_HEADER_REGEX))


def survey(path: Path, max_length: int = 512, max_reads: int | None = None) -> FileSurvey:
    return survey_file(
        path, labels=LABELS, source=HEADERS, tokenizer=TOKENIZER, max_length=max_length, max_reads=max_reads
    )


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "reads.fa"
    path.write_text(
        ">lbl|1|562|8|a\nACGTACGT\n>lbl|2|1423|4|b\nacgu\n>lbl|3|9|4|c\nACGT\n>who knows\nACGT\n>lbl|1|562|0|d\n--\n"
    )
    return path


def test_every_read_is_counted_where_it_belongs(fasta: Path) -> None:
    found = survey(fasta)
    report = found.labelling
    assert (report.reads, report.labelled, report.unparsed, report.empty) == (5, 2, 1, 1)
    assert report.unknown == {"3": 1}
    assert report.per_class == [1, 1]
    assert report.first_unparsed == [f"'who knows' ({fasta}, record 4)"]
    assert report.first_unknown == [f"'lbl|3|9|4|c' ({fasta}, record 3)"]
    assert (found.cleaning.lower_case.reads, found.cleaning.u_to_t.bases) == (1, 1)
    assert (found.format, found.whole, found.failure) == ("FASTA", True, None)


def test_tokens_are_counted_with_the_special_ones(fasta: Path) -> None:
    wanted = [len(ids) + 2 for ids in TOKENIZER.encode_batch(["ACGTACGT", "ACGT"])]
    found = survey(fasta, max_length=max(wanted) - 1)
    assert sorted(found.tokens.counts.elements()) == sorted(wanted)
    assert sorted(found.lengths_bp.counts.elements()) == [4, 8]
    assert found.longer == sum(length == max(wanted) for length in wanted)
    assert found.unknown_tokens == 0


def test_only_the_first_reads_are_looked_at_when_asked(fasta: Path) -> None:
    found = survey(fasta, max_reads=2)
    assert (found.labelling.reads, found.whole) == (2, False)
    assert survey(fasta, max_reads=5).whole


def test_a_file_that_breaks_off_is_counted_up_to_there(fasta: Path, tmp_path: Path) -> None:
    content = gzip.compress(fasta.read_bytes() * 2000)
    broken = tmp_path / "broken.fq"
    broken.write_bytes(content[: len(content) // 2])
    found = survey(broken)
    assert found.format == "FASTA, gzip"
    assert found.failure is not None and "cut short" in found.failure
    assert 0 < found.labelling.labelled < 4000
    assert found.lengths_bp.total == found.labelling.labelled
    assert not found.whole


def test_reads_are_measured_without_labels_and_tokenizer(fasta: Path) -> None:
    found = survey_file(fasta, labels=None, source=HEADERS, tokenizer=None, max_length=512)
    assert (found.labelling.labelled, found.labelling.unparsed, found.tokens.total) == (3, 1, 0)
    found = survey_file(fasta, labels=LABELS, source=None, tokenizer=None, max_length=512)
    assert found.labelling.labelled == 4


@given(st.lists(st.integers(0, 9_999), min_size=1))
def test_percentiles_are_those_of_numpy(lengths: list[int]) -> None:
    histogram = Histogram()
    histogram.add(lengths)
    for percent in (1, 25, 50, 75, 99):
        assert histogram.percentile(percent) == np.percentile(lengths, percent, method="inverted_cdf")
    assert (histogram.shortest, histogram.longest, histogram.total) == (min(lengths), max(lengths), len(lengths))


@given(st.lists(st.integers(0, 10_000_000), min_size=1))
def test_bars_hold_every_read_once(lengths: list[int]) -> None:
    histogram = Histogram()
    histogram.add(lengths)
    rows = histogram.lines("bp")[1:-1]
    assert sum(int(row.rstrip("# ").split()[-1].replace(",", "")) for row in rows) == len(lengths)


def test_long_lengths_take_bounded_memory() -> None:
    histogram = Histogram()
    histogram.add(range(10_000, 1_000_000))
    assert len(histogram.counts) == 1800
    assert (histogram.longest, histogram.total) == (999_999, 990_000)


def test_bars_are_aligned_and_show_outliers_apart() -> None:
    histogram = Histogram()
    histogram.add([150] * 990 + [151] * 9 + [5000])
    assert histogram.lines("length (bp)") == [
        "length (bp)          reads",
        "        150            990  ########################################",
        "   over 150             10  #",
        "mean 154.9, longest 5,000, percentiles: 1% 150  5% 150  25% 150  50% 150  75% 150  95% 150  99% 150",
    ]
