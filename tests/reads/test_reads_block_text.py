"""A block of text gives the reads, cleaned, and the counts that reading record by record gives, or nothing."""

from __future__ import annotations

import gzip
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.block_text import BlockReads, parse_block
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.content import Content
from metagene_classifier.reads.parsing import fasta_reads, fastq_reads
from metagene_classifier.reads.read import Read

DATA = Path(__file__).parents[2] / "data"


def records_of(text: bytes) -> list[Read]:
    content = Content(io.BytesIO(text))
    parse = fasta_reads if text.startswith(b">") else fastq_reads
    return list(parse(io.BufferedReader(content), content, "reads", 0))


def assert_same(block: BlockReads, reads: list[Read]) -> None:
    cleaned = [clean_sequence(read.sequence) for read in reads]
    assert block.headers == [read.header for read in reads]
    assert block.lengths.tolist() == list(map(len, cleaned))
    assert "".join("ACGTN"[code] for code in block.codes) == "".join(cleaned)
    kept = np.array([place % 3 != 1 for place in range(len(reads))], bool)
    for mask in (None, kept, np.zeros(len(reads), bool)):
        counts = CleaningCounts()
        for place, read in enumerate(reads):
            if mask is None or mask[place]:
                counts.add(read.sequence, cleaned[place])
        assert asdict(block.counts(mask)) == asdict(counts)
    part = block.only(kept)
    assert part.headers == [read.header for read, keep in zip(reads, kept, strict=True) if keep]
    assert "".join("ACGTN"[code] for code in part.codes) == "".join(
        one for one, keep in zip(cleaned, kept, strict=True) if keep
    )
    assert part.lengths.tolist() == block.lengths[kept].tolist()
    assert asdict(part.counts()) == asdict(block.counts(kept))


PLAIN = [
    b">a\nACGT\n",
    b">a\nACGT",
    b">a/1 of sample\nACGT\nAC\n\n>b\nGGGG\n",
    b">a\r\nACGT\r\nAC\r\n>b\r\nG\r\n",
    b"> lbl|1|562|4|E. coli /1 \nACGT\n>\nacgu\n>gaps\n--.*\n>none\n>iupac\nRYxu>;@5\n",
    b"@a\nACGT\n+\nIIII\n",
    b"@a\nACGT\n+\nIIII",
    b"@a b\r\nACGT\r\n+a b\r\nIIII\r\n@c\r\nnnu-\r\n+\r\n@@>+\r\n",
    b"@ a \nACGT\n+ a \nIIII\n@\n\n+\n\n",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_taken(text: bytes) -> None:
    block = parse_block(text)
    assert block is not None
    assert_same(block, records_of(text))


NOT_PLAIN = {
    "nothing": b"",
    "no record": b"ACGT\n",
    "a blank first line": b"\n>a\nACGT\n",
    "a letter that is not ASCII": b">a\nACGT\n>\xc3\xa9\nACGT\n",
    "NUL": b">a\nAC\0GT\n",
    "a control character": b">a\x1bb\nACGT\n",
    "DEL": b">a\nAC\x7fGT\n",
    "a space in a sequence": b">a\nAC GT\n",
    "a header behind a space": b">a\nACGT\n >b\nACGT\n",
    "a tab in a sequence": b">a\nACGT\t\n",
    "line ends of two kinds": b">a\r\nACGT\n>b\r\nACGT\n",
    "a return inside a line": b">a\nAC\rGT\n>b\nACGT\r\n",
    "a return inside a header": b">a\rb\nACGT\r\n",
    "lines ended by returns alone": b">a\rACGT\r",
    "a FASTQ record cut short": b"@a\nACGT\n+\n",
    "no plus": b"@a\nACGT\n-\nIIII\n",
    "a plus too many": b"@a\nACGT\n+\nIIII\n+b\nACGT\n+\nIIII\n",
    "qualities missing": b"@a\nACGT\n+\nIII\n",
    "another header after the plus": b"@a\nACGT\n+b\nIIII\n",
    "blank lines at the end of FASTQ": b"@a\nACGT\n+\nIIII\n\n",
}


@pytest.mark.parametrize("text", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_other_text_is_left_to_the_careful_way(text: bytes) -> None:
    assert parse_block(text) is None


headers = st.text("ab|/ 1>@+\t", max_size=8)
sequences = st.text("ACGTNacgtnUuRy-.*>@+;5", max_size=12)
line_ends = st.sampled_from(["\n", "\r\n"])


@given(st.lists(st.tuples(headers, st.lists(sequences, max_size=3)), min_size=1, max_size=5), line_ends, st.booleans())
def test_any_plain_fasta(records: list[tuple[str, list[str]]], line_end: str, ended: bool) -> None:
    lines = [line for header, parts in records for line in (f">{header}", *parts)]
    text = (line_end.join(lines) + line_end * ended).encode()
    block = parse_block(text)
    assert block is not None
    assert_same(block, records_of(text))


@given(st.lists(st.tuples(headers, sequences, st.booleans()), min_size=1, max_size=5), line_ends, st.booleans())
def test_any_plain_fastq(records: list[tuple[str, str, bool]], line_end: str, ended: bool) -> None:
    lines = []
    for header, sequence, again in records:
        lines += [f"@{header}", sequence, f"+{header * again}", "I" * len(sequence)]
    text = (line_end.join(lines) + line_end * (ended or not lines[-1])).encode()
    block = parse_block(text)
    assert block is not None
    assert_same(block, records_of(text))


pieces = st.sampled_from(
    [b">", b"@", b"+", b"\n", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b"ACGT", b"acgu", b"R-", b"I", b"\0", b"\xff"]
)


@given(st.sampled_from([b">a\nAC", b"@a\nAC\n+\nII", b"@", b">"]), st.lists(pieces, max_size=14))
def test_any_text_gives_what_the_careful_way_gives_or_nothing(start: bytes, rest: list[bytes]) -> None:
    text = start + b"".join(rest)
    block = parse_block(text)
    try:
        reads = records_of(text)
    except DataError:
        assert block is None
    else:
        if block is not None:
            assert_same(block, reads)


@pytest.mark.parametrize("name", ["ecoli_illumina_spades1k_R1", "lambda_longread_racon", "sarscov2_ont_MT007544"])
def test_sequencers_reads_are_plain(name: str) -> None:
    text = gzip.decompress((DATA / "reads" / f"{name}.fastq.gz").read_bytes())
    block = parse_block(text)
    assert block is not None
    assert_same(block, records_of(text))
    reads = records_of(text)
    fasta = "".join(f">{read.header}\n{read.sequence}\n" for read in reads).encode()
    assert_same(parse_block(fasta), reads)
