"""Shards that are damaged or missing are made again from their place in the inputs, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from metagene_classifier.console import progress
from metagene_classifier.errors import DataError
from metagene_classifier.store.facts import ShardEntry, ShardFacts, shard_path
from metagene_classifier.store.preparing.filling import ShardFiller, entry_of
from metagene_classifier.store.preparing.pieces import pieces_of
from metagene_classifier.store.preparing.pool import ReadPieces
from metagene_classifier.store.shards import file_digest

__all__ = ["damaged_shards", "mend"]


def damaged_shards(folder: Path, shards: Sequence[ShardEntry]) -> list[ShardEntry]:
    """Those that are missing, or not the bytes that were written."""
    with progress(total=sum(shard.bytes for shard in shards), unit="B", label="verifying the store") as bar:
        bar.unit_scale = True
        return [shard for shard in shards if file_digest(shard_path(folder, shard.name), bar.update) != shard.sha256]


def mend(folder: Path, entry: ShardEntry, files: Sequence[Path], read: ReadPieces, read_ids: bool) -> ShardEntry:
    """Make one shard again.

    Args:
        folder: of the store.
        entry: of the shard.
        files: the inputs, known to be unchanged.
        read: turns pieces into reads.
        read_ids: whether the store keeps names.

    Returns:
        What the shard is now; the same, unless another version of a library wrote it.

    Raises:
        DataError: the input does not give these reads any more.
        OutputError: it cannot be written.
    """
    source = entry.source
    path = files[source.input]
    made: list[ShardFacts] = []
    number = int(entry.name.rsplit("-", 1)[1])
    filler = ShardFiller(
        folder,
        first=number,
        input=source.input,
        record=source.first_record,
        line=source.first_line,
        read_ids=read_ids,
        written=made.append,
        ends_when_full=False,
    )
    with contextlib.closing(filler):
        end = source.first_byte + source.text_bytes
        for piece, reads in read(pieces_of(path, source.input, first_byte=source.first_byte, end_byte=end)):
            if reads is None:
                raise DataError(f"{path} is not the file that this store was made from: it changed since")
            filler.add(piece, reads)
        filler.finish(ends_input=False)
    renewed = entry_of(made[0])
    if (renewed.reads, renewed.tokens) != (entry.reads, entry.tokens):
        raise DataError(
            f"{path} gives other reads for {entry.name} than when the store was made, so it cannot be mended: "
            "make it anew (mgc prepare --overwrite; mgc cache clear for one of the cache)"
        )
    return renewed
