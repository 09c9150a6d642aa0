"""Reads for training and testing come from disjoint blocks, of the size and in the shares asked for."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.cutting import Block, ReadShape, assign_blocks, block_size, cut_reads, share_out, tile
from metagene_classifier.reads.genomes import Genome, GenomeRecord

SHARES = (0.8, 0.1, 0.1)


def random_genome(*lengths: int, seed: int = 0, name: str = "g") -> Genome:
    bases = random.Random(seed)
    return Genome(
        name,
        tuple(GenomeRecord(f"r{i}", "".join(bases.choices("ACGT", k=n)).encode()) for i, n in enumerate(lengths)),
    )


def origin(text: str) -> tuple[str, int, int, str]:
    """Record, first and last base (from 1) and strand."""
    _, record, place, strand = text.split(":")
    first, last = place.split("-")
    return record, int(first), int(last), strand


@pytest.mark.parametrize(
    ("genome_bp", "most_bp", "block_bp"), [(4_641_652, 50_000, 50_000), (7_500, 50_000, 375), (7_500, 200, 200)]
)
def test_a_block_is_the_smaller_of_the_option_and_a_twentieth(genome_bp, most_bp, block_bp):
    assert block_size(genome_bp, most_bp) == block_bp


def test_blocks_tile_every_record_and_leave_out_what_holds_no_read():
    genome = Genome(
        "g", (GenomeRecord("a", b"A" * 250), GenomeRecord("b", b"A" * 30), GenomeRecord("c", b"N" * 60 + b"A" * 90))
    )
    assert tile(genome, block_bp=100, read_bp=50) == [
        Block(0, 0, 100),
        Block(0, 100, 200),
        Block(0, 200, 250),
        Block(2, 100, 150),
    ]


@given(
    lengths=st.lists(st.integers(50, 100), min_size=20, max_size=200),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0), (0.98, 0.01, 0.01), (0.4, 0.3, 0.3)]),
    seed=st.integers(0, 2**32),
)
def test_every_part_gets_its_share_of_the_bases(lengths, shares, seed):
    blocks = [Block(i, 0, n) for i, n in enumerate(lengths)]
    parts = assign_blocks(blocks, shares, np.random.default_rng(seed))
    assert sorted((b for part in parts for b in part), key=lambda b: b.record) == blocks
    for part, share in zip(parts, shares, strict=True):
        assert bool(part) == (share > 0)
        if part:
            # One block more or less, and one for each part that would otherwise have none.
            assert abs(sum(b.end for b in part) - share * sum(lengths)) <= 3 * max(lengths)


def test_as_many_blocks_as_parts_give_each_one():
    parts = assign_blocks([Block(i, 0, 100) for i in range(3)], SHARES, np.random.default_rng(0))
    assert [len(part) for part in parts] == [1, 1, 1]


@given(total=st.integers(0, 10_000), shares=st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
def test_shared_out_numbers_sum_to_the_total_and_are_within_one_of_the_share(total, shares):
    counts = share_out(total, shares)
    assert sum(counts) == total
    assert all(abs(n - total * s / sum(shares)) <= 1 for n, s in zip(counts, shares, strict=True))


@given(
    lengths=st.lists(st.integers(150, 3_000), min_size=1, max_size=8).filter(lambda n: sum(n) > 6_000),
    sd=st.sampled_from([0.0, 40.0]),
    seed=st.integers(0, 1000),
)
def test_reads_are_what_stands_in_the_genome_and_no_block_feeds_two_parts(lengths, sd, seed):
    genome = random_genome(*lengths)
    block = block_size(sum(lengths), 50_000)
    records = {r.id: r.sequence.decode() for r in genome.records}
    owner: dict[tuple[str, int], int] = {}
    counts = [0, 0, 0]
    for part, read in cut_reads(genome, (40, 10, 10), SHARES, block, ReadShape(150, sd), seed):
        record, first, last, strand = origin(read.origin)
        expected = records[record][first - 1 : last]
        if strand == "-":
            expected = expected[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert read.sequence == expected
        assert (first - 1) // block == (last - 1) // block
        assert owner.setdefault((record, (first - 1) // block), part) == part
        counts[part] += 1
    assert counts == [40, 10, 10]


def test_both_strands_and_all_places_occur():
    genome = random_genome(20_000)
    places = [origin(read.origin) for _, read in cut_reads(genome, (2000,), (1.0,), 1000, ReadShape(150), 0)]
    assert 800 < sum(strand == "-" for *_, strand in places) < 1200
    assert min(first for _, first, _, _ in places) <= 20
    assert max(last for _, _, last, _ in places) > 19_980
    assert len({(first - 1) // 1000 for _, first, _, _ in places}) == 20


def test_lengths_follow_mean_and_deviation_within_three_of_them():
    genome = random_genome(100_000)
    reads = [read for _, read in cut_reads(genome, (3000,), (1.0,), 5000, ReadShape(200, 30), 0)]
    lengths = [len(read.sequence) for read in reads]
    assert abs(np.mean(lengths) - 200) < 3
    assert abs(np.std(lengths) - 30) < 3
    assert min(lengths) >= 110
    assert max(lengths) <= 290


def test_errors_are_substitutions_at_the_rate_asked_for():
    genome = random_genome(20_000)
    clean = [read for _, read in cut_reads(genome, (500,), (1.0,), 1000, ReadShape(150), 7)]
    reads = [read for _, read in cut_reads(genome, (500,), (1.0,), 1000, ReadShape(150, 0, 0.02), 7)]
    assert [read.origin for read in reads] == [read.origin for read in clean]
    wrong = sum(a != b for r, c in zip(reads, clean, strict=True) for a, b in zip(r.sequence, c.sequence, strict=True))
    assert 0.015 < wrong / (500 * 150) < 0.025
    assert set("".join(read.sequence for read in reads)) == set("ACGT")


def test_the_same_seed_gives_the_same_reads_and_another_gives_others():
    def cut(seed: int, name: str = "g"):
        return list(
            cut_reads(random_genome(20_000, name=name), (20, 5, 5), SHARES, 1000, ReadShape(150, 10, 0.01), seed)
        )

    assert cut(1) == cut(1)
    assert {r.sequence for _, r in cut(1)}.isdisjoint(r.sequence for _, r in cut(2))
    assert {r.sequence for _, r in cut(1)}.isdisjoint(r.sequence for _, r in cut(1, "another genome"))


def test_reads_with_more_than_a_tenth_of_n_are_drawn_again():
    record = GenomeRecord("r", b"".join((b"ACGT" * 100 + b"N" * 100) for _ in range(40)))
    reads = [read for _, read in cut_reads(Genome("g", (record,)), (300,), (1.0,), 1000, ReadShape(100), 0)]
    assert len(reads) == 300
    assert max(read.sequence.count("N") for read in reads) == 10


def test_a_genome_of_n_or_of_scraps_is_named():
    with pytest.raises(DataError, match=r"genome scraps: 0 blocks of at most 500 bp can hold a read of 150 bp, and 3"):
        list(cut_reads(random_genome(*[100] * 100, name="scraps"), (1, 1, 1), SHARES, 500, ReadShape(150), 0))
    speckled = Genome("speckled", (GenomeRecord("r", b"ACGN" * 5000),))
    with pytest.raises(DataError, match=r"genome speckled: too much N"):
        list(cut_reads(speckled, (1, 1, 1), SHARES, 500, ReadShape(150), 0))
