"""Shards of one file's calls joined into what a single run would have written, byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from metagene_classifier.console import progress
from metagene_classifier.errors import DataError
from metagene_classifier.prediction.shard_facts import ShardFacts, facts_path, read_facts
from metagene_classifier.prediction.shards import shard_of_name
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.whole_files import whole_file

__all__ = ["FinishedShard", "find_shards", "join_shards", "what_differs"]

_COPIED_BYTES = 2**20


@dataclass(frozen=True)
class FinishedShard:
    """A shard's calls and its facts."""

    csv: Path
    facts: ShardFacts


def find_shards(named: Sequence[Path], output: Path) -> list[FinishedShard]:
    """All shards of a file, in order, checked to be whole in number and to belong together.

    Args:
        named: their CSVs, or folders that hold them; none for those that ``mgc predict --output OUTPUT`` has written.
        output: of the merge.

    Raises:
        DataError: one is missing, there twice, unfinished, or of other reads, another model or other options.
    """
    # "calls.*-of-8*" names both files of a shard.
    paths = list(dict.fromkeys(path for one in named for path in _shards_in(one))) if named else _shards_of(output)
    if not paths:
        raise DataError(f"no shards of {output} beside it (as {output.stem}.1-of-8{output.suffix}): name their files")
    shards = [FinishedShard(path, read_facts(path)) for path in paths]
    first = shards[0]
    for other in shards[1:]:
        _check_belongs(first, other)
    found: dict[int, FinishedShard] = {}
    for shard in sorted(shards, key=lambda one: one.facts.shard):
        twice = found.setdefault(shard.facts.shard, shard)
        if twice is not shard:
            raise DataError(f"shard {shard.facts.which} is there twice: {twice.csv} and {shard.csv}: name one of them")
    count = first.facts.shards
    missing = [number for number in range(1, count + 1) if number not in found]
    if missing:
        told = ",".join(map(str, missing[:20])) + (",…" if len(missing) > 20 else "")
        raise DataError(
            f"{len(missing)} of {count} shards missing: {told}: run them (again), as in --shard {missing[0]}/{count}"
        )
    return list(found.values())


def what_differs(shards: Sequence[FinishedShard]) -> list[str]:
    """What was not the same where the shards were computed, as ``max_tokens: 2048, 1024``; it may show in last digits.

    Args:
        shards: that belong together.
    """
    told = []
    names = dict.fromkeys(name for shard in shards for name in shard.facts.circumstances)
    for name in names:
        values = dict.fromkeys(str(shard.facts.circumstances.get(name, "unknown")) for shard in shards)
        if len(values) > 1:
            told.append(f"{name}: {', '.join(values)}")
    return told


def join_shards(shards: Sequence[FinishedShard], output: Path) -> StreamReport:
    """Write the rows of all shards in the order of the reads, and check each file on the way.

    Args:
        shards: all of them, in order.
        output: a file, or ``-`` for standard output.

    Returns:
        What the shards noticed, summed up.

    Raises:
        DataError: a file is not the one that was written.
        OutputError: the output cannot be written.
    """
    count, facts = len(shards), shards[0].facts
    readers = [_Reader(shard) for shard in shards]
    report = StreamReport()
    with _opened(output) as out, progress(total=facts.input_reads, unit="read", label="joining") as bar:
        for reader in readers:
            reader.copy(reader.facts.header_bytes, out.write if reader is readers[0] else lambda data: None)
        for block in range(facts.blocks_of_input):
            reader = readers[block % count]
            reader.copy(reader.facts.block_bytes[block // count], out.write)
            bar.update(min(facts.block_reads, facts.input_reads - block * facts.block_reads))
        for reader in readers:
            reader.check()
            report.add(reader.facts.report())
    return report


class _Reader:
    """Reads a shard's CSV from its beginning to its end, opening it each time: a system has few open files to give."""

    def __init__(self, shard: FinishedShard) -> None:
        self.facts = shard.facts
        self._path = shard.csv
        self._place = 0
        self._digest = hashlib.sha256()

    def copy(self, size: int, write: Callable[[bytes], Any]) -> None:
        """Hand the next ``size`` bytes on."""
        end = self._place + size
        try:
            with open(self._path, "rb") as source:
                source.seek(self._place)
                while self._place < end:
                    data = source.read(min(_COPIED_BYTES, end - self._place))
                    if not data:
                        raise self._changed()
                    self._digest.update(data)
                    self._place += len(data)
                    write(data)
        except FileNotFoundError as error:
            raise self._changed() from error
        except PermissionError as error:
            raise DataError(f"{self._path}: cannot be read: {error.strerror}") from error

    def check(self) -> None:
        """Refuse a file that is not the one that was written.

        Raises:
            DataError: it is longer, or holds something else.
        """
        if self._path.stat().st_size != self._place or self._digest.hexdigest() != self.facts.csv_sha256:
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"{self._path} is not the file that was written (damaged or changed): run shard {self.facts.which} again, "
            "or copy it again"
        )


@contextlib.contextmanager
def _opened(output: Path) -> Iterator[IO[bytes]]:
    if str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with whole_file(output, "wb") as out:
            yield out


def _shards_in(named: Path) -> list[Path]:
    if not named.is_dir():
        return [named.with_name(named.name.removesuffix(".json"))]
    inside = sorted(path for path in named.iterdir() if shard_of_name(path) and facts_path(path).exists())
    if not inside:
        raise DataError(f"{named}: no finished shards in this folder (as calls.1-of-8.csv and calls.1-of-8.csv.json)")
    return inside


def _shards_of(output: Path) -> list[Path]:
    if not output.parent.is_dir():
        return []
    found = [(path, shard_of_name(path)) for path in sorted(output.parent.iterdir())]
    return [path for path, named in found if named is not None and named[0] == output.name and path.is_file()]


def _check_belongs(one: FinishedShard, other: FinishedShard) -> None:
    left, right = one.facts, other.facts

    def refuse(what: str, of_one: object, of_other: object) -> None:
        raise DataError(
            f"{one.csv} and {other.csv} do not belong together: {what} {of_one} and {of_other}: "
            "join the shards of one run alone"
        )

    if left.shards != right.shards:
        refuse("they are of", f"{left.shards} shards", f"of {right.shards}")
    if left.input_sha256 != right.input_sha256:
        of_one, of_other = (f"{facts.input} with {facts.input_reads:,} reads" for facts in (left, right))
        refuse("their reads are others,", of_one, of_other)
    if left.model_sha256 != right.model_sha256:
        refuse("their models are others,", left.model, right.model)
    if left.block_reads != right.block_reads:
        refuse("their blocks have", f"{left.block_reads} reads", f"{right.block_reads}")
    for name in left.options | right.options:
        if left.options.get(name) != right.options.get(name):
            refuse(f"{name} is", left.options.get(name), right.options.get(name))
