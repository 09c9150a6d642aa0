"""Reads cut from a genome, those for training, validation and testing from disjoint blocks of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.reads.genomes import Genome

__all__ = ["Block", "CutRead", "ReadShape", "assign_blocks", "block_size", "cut_reads", "share_out", "tile"]

BLOCKS_PER_GENOME = 20
SHORTEST_READ_BP = 20
MOST_N = 0.1
"""Share of N in a read above which it is drawn again."""
_ROUNDS = 200
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
_BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
_CODES = np.zeros(256, dtype=np.uint8)
_CODES[_BASES] = np.arange(4)


@dataclass(frozen=True, slots=True)
class ReadShape:
    """What reads look like: length (mean and standard deviation, bp) and substitutions per base."""

    length_bp: int
    length_sd_bp: float = 0.0
    error_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a genome: the place of its record, and where it starts and ends there (from 0, half open)."""

    record: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CutRead:
    """A read and where it came from.

    Attributes:
        origin: ``genome:record:start-end:strand`` (from 1, end included, forward strand).
        sequence: the bases, with the errors that were made.
        errors: how many of them are not the genome's.
    """

    origin: str
    sequence: str
    errors: int = 0


def block_size(genome_bases: int, most_bp: int) -> int:
    """The smaller of ``most_bp`` and a twentieth of the genome."""
    return min(most_bp, genome_bases // BLOCKS_PER_GENOME)


def tile(genome: Genome, block_bp: int, read_bp: int) -> list[Block]:
    """Blocks from the start of every record on. Left out are those shorter than a read and those mostly of N."""
    return [
        Block(number, start, end)
        for number, record in enumerate(genome.records)
        for start in range(0, len(record.sequence), block_bp)
        if (end := min(start + block_bp, len(record.sequence))) - start >= read_bp
        and 2 * record.sequence.count(b"N", start, end) <= end - start
    ]


def assign_blocks(blocks: Sequence[Block], shares: Sequence[float], rng: np.random.Generator) -> list[list[Block]]:
    """Deal the blocks out at random, so that each part has its share of the bases.

    A part with a share above 0 gets one block at least; ``blocks`` must be as many as there are such parts.
    """
    order = [blocks[i] for i in rng.permutation(len(blocks))]
    total = sum(b.end - b.start for b in order)
    missing = [share * total for share in shares]
    parts: list[list[Block]] = [[] for _ in shares]
    for number, block in enumerate(order):
        empty = [i for i, share in enumerate(shares) if share > 0 and not parts[i]]
        # The part that lacks most takes the block, unless only enough are left to give each empty part one.
        candidates = empty if len(order) - number <= len(empty) else range(len(shares))
        part = max(candidates, key=lambda i: missing[i])
        parts[part].append(block)
        missing[part] -= block.end - block.start
    return parts


def share_out(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to ``total``, in proportion to ``shares`` (largest remainders)."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(x) for x in exact]
    for i in sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


def cut_reads(
    genome: Genome, counts: Sequence[int], shares: Sequence[float], block_bp: int, shape: ReadShape, seed: int
) -> Iterator[tuple[int, CutRead]]:
    """Reads of both strands, each with the place of its part in ``counts``.

    A genome's blocks and reads depend on the seed and on its own name and sequence, not on the other genomes.

    Args:
        genome: the genome.
        counts: reads for each part.
        shares: of the bases for each part; no two parts share a block.
        block_bp: length of a block (:func:`block_size`).
        shape: of the reads. Lengths lie within three standard deviations and never beyond their block.
        seed: of the random choices.

    Raises:
        DataError: the genome has too few blocks for the parts, or too few stretches without N.
    """
    name_key = zlib.crc32(genome.name.encode())
    dealing, *drawing = (
        np.random.default_rng(s) for s in np.random.SeedSequence([seed, name_key]).spawn(1 + len(counts))
    )
    blocks = tile(genome, block_bp, shape.length_bp)
    parts_needed = sum(share > 0 for share in shares)
    if len(blocks) < parts_needed:
        raise DataError(
            f"genome {genome.name}: {len(blocks)} blocks of at most {block_bp:,} bp can hold a read of "
            f"{shape.length_bp:,} bp, and {parts_needed} are needed: choose a shorter --length or leave it out"
        )
    for part, part_blocks in enumerate(assign_blocks(blocks, shares, dealing)):
        for read in _draw(genome, part_blocks, counts[part], shape, drawing[part]):
            yield part, read


def _draw(
    genome: Genome, blocks: Sequence[Block], count: int, shape: ReadShape, rng: np.random.Generator
) -> Iterator[CutRead]:
    done = 0
    starts = np.array([b.start for b in blocks], dtype=np.int64)
    ends = np.array([b.end for b in blocks], dtype=np.int64)
    places = ends - starts - shape.length_bp + 1
    for _ in range(_ROUNDS):
        if done == count:
            return
        wanted = count - done
        chosen = rng.choice(len(blocks), size=wanted, p=places / places.sum())
        lengths = np.minimum(_lengths(shape, wanted, rng), ends[chosen] - starts[chosen])
        firsts = rng.integers(starts[chosen], ends[chosen] - lengths + 1)
        reverse = rng.random(wanted) < 0.5
        for block, first, length, is_reverse in zip(chosen, firsts.tolist(), lengths.tolist(), reverse, strict=True):
            record = genome.records[blocks[block].record]
            bases = record.sequence[first : first + length]
            if bases.count(b"N") > MOST_N * length:
                continue
            if is_reverse:
                bases = bases.translate(_COMPLEMENT)[::-1]
            errors = 0
            if shape.error_rate > 0:
                bases, errors = _with_errors(bases, shape.error_rate, rng)
            strand = "-" if is_reverse else "+"
            origin = f"{genome.name}:{record.id}:{first + 1}-{first + length}:{strand}"
            yield CutRead(origin, bases.decode("ascii"), errors)
            done += 1
    if done < count:
        raise DataError(f"genome {genome.name}: too much N to cut {count:,} reads from it: leave it out")


def _lengths(shape: ReadShape, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if shape.length_sd_bp == 0:
        return np.full(count, shape.length_bp, dtype=np.int64)
    lengths = rng.normal(shape.length_bp, shape.length_sd_bp, size=count).round()
    least = max(SHORTEST_READ_BP, shape.length_bp - 3 * shape.length_sd_bp)
    return lengths.clip(least, shape.length_bp + 3 * shape.length_sd_bp).astype(np.int64)


def _with_errors(bases: bytes, error_rate: float, rng: np.random.Generator) -> tuple[bytes, int]:
    """Each base replaced by one of the other three with probability ``error_rate``; N stays. And how many were."""
    read = np.frombuffer(bases, dtype=np.uint8).copy()
    hit = np.flatnonzero((rng.random(len(read)) < error_rate) & (read != ord("N")))
    read[hit] = _BASES[(_CODES[read[hit]] + rng.integers(1, 4, size=len(hit))) % 4]
    return read.tobytes(), len(hit)
