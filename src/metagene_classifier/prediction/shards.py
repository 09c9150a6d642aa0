"""A file's reads shared out over runs that know nothing of one another: which blocks are whose.

Blocks go round: of ``n`` shards, shard ``i`` has the blocks ``i - 1``, ``i - 1 + n``, ``i - 1 + 2n``, … So no run must
know how many reads there are, and a compressed file or a pipe is as good as a plain one. Every run reads it to its end
and passes over the blocks of others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import ConfigError
from metagene_classifier.reads.read import Read

__all__ = ["Census", "Shard", "parse_shard", "shard_of_name", "shard_path"]

_ASKED = re.compile(r"(\d+)/(\d+)")
_NAMED = re.compile(r"(.+)\.(\d+)-of-(\d+)((?:\.[^.]+)?)")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shares of a file, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, block: int) -> bool:
        """Whether a block, counted from 0, is in this shard."""
        return block % self.count == self.number - 1

    def blocks(self, blocks: int) -> int:
        """How many of so many blocks it has."""
        return len(range(self.number - 1, blocks, self.count))

    def own(self, blocks: Iterable[list[Read]]) -> Iterator[list[Read]]:
        """Its blocks among those of the whole file."""
        return (block for number, block in enumerate(blocks) if self.has(number))


def parse_shard(text: str) -> Shard:
    """``2/8`` as the second of eight shards.

    Raises:
        ConfigError: it is no such thing, or counted from 0.
    """
    match = _ASKED.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--shard {text}: expected NUMBER/COUNT, as in --shard 2/8")
    shard = Shard(int(match[1]), int(match[2]))
    if not 1 <= shard.number <= shard.count:
        raise ConfigError(
            f"--shard {text}: shards are counted from 1 to their number, as in --shard 1/8 (of a Slurm array: "
            "--array=1-8 and --shard $SLURM_ARRAY_TASK_ID/8)"
        )
    return shard


def shard_path(output: Path, shard: Shard) -> Path:
    """Where a shard of ``output`` is written: ``calls.2-of-8.csv`` for ``calls.csv``."""
    return output.with_name(f"{output.stem}.{shard.number}-of-{shard.count}{output.suffix}")


def shard_of_name(path: Path) -> tuple[str, Shard] | None:
    """What :func:`shard_path` made a name of: the output's name and the shard; ``None`` for any other name."""
    match = _NAMED.fullmatch(path.name)
    return None if match is None else (match[1] + match[4], Shard(int(match[2]), int(match[3])))


class Census:
    """Counts all reads of a file, those of other shards too, and knows the file again under any name or compression."""

    def __init__(self) -> None:
        self.reads = 0
        self._digest = hashlib.sha256()

    def watch(self, blocks: Iterable[list[Read]]) -> Iterator[list[Read]]:
        """The blocks as they come."""
        for block in blocks:
            self.reads += len(block)
            text = "\n".join([part for read in block for part in (read.header, read.sequence)])
            self._digest.update(text.encode("utf-8", "surrogateescape"))
            self._digest.update(b"\n")
            yield block

    @property
    def digest(self) -> str:
        """SHA-256 of the headers and sequences so far, in order."""
        return self._digest.hexdigest()
