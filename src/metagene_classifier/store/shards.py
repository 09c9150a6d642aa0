"""One shard of a store: an Arrow IPC stream of a single record batch, read in place through a memory map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from metagene_classifier.errors import DataError
from metagene_classifier.store.facts import shard_path
from metagene_classifier.whole_files import whole_file

__all__ = ["Shard", "file_digest", "shard_schema", "write_shard"]

HASHED_BYTES = 2**22
_ID_TYPES = (pa.uint16(), pa.uint32())


def shard_schema(ids: pa.DataType, read_ids: bool) -> pa.Schema:
    """The columns of a shard; ``ids`` is uint16 or uint32."""
    fields = [
        pa.field("tokens", pa.list_(pa.field("item", ids, nullable=False)), nullable=False),
        pa.field("class", pa.int32(), nullable=False),
        pa.field("group", pa.uint64(), nullable=False),
    ]
    return pa.schema([*fields, pa.field("read_id", pa.string(), nullable=False)] if read_ids else fields)


def write_shard(
    folder: Path,
    name: str,
    *,
    ids: npt.NDArray[Any],
    lengths: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int32],
    groups: npt.NDArray[np.uint64],
    read_ids: Sequence[str] | None,
) -> tuple[int, str]:
    """Write a shard of the store ``folder`` under its final name when it is whole.

    Args:
        folder: of the store.
        name: as in ``shard-00000``.
        ids: token ids of all reads, one after another; ``(tokens,)`` uint16 or uint32.
        lengths: tokens of each read; ``(reads,)``.
        classes: place of each read's class among the labels; ``(reads,)``.
        groups: equal for mates; ``(reads,)``.
        read_ids: ``(reads,)``, or ``None`` to leave the column out.

    Returns:
        Bytes and SHA-256 of the file.

    Raises:
        OutputError: it cannot be written.
        ValueError: the arrays do not fit one another, or hold more than 2**31 - 1 tokens.
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(ids) or not len(lengths) == len(classes) == len(groups):
        raise ValueError(f"{len(ids)} ids, {len(lengths)} lengths, {len(classes)} classes, {len(groups)} groups")
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{offsets[-1]} tokens are too many for one shard")
    schema = shard_schema(pa.from_numpy_dtype(ids.dtype), read_ids is not None)
    flat = _array(ids, schema.field("tokens").type.value_type)
    tokens = pa.ListArray.from_arrays(_array(offsets, pa.int32()), flat, type=schema.field("tokens").type)
    columns = [tokens, _array(classes, pa.int32()), _array(groups, pa.uint64())]
    if read_ids is not None:
        columns.append(pa.array(read_ids, pa.string()))
    batch = pa.record_batch(columns, schema=schema)
    with whole_file(shard_path(folder, name), "wb") as out:
        hashing = _Hashing(out)
        with pa.ipc.new_stream(pa.PythonFile(hashing, "w"), schema) as stream:
            stream.write_batch(batch)
    return hashing.bytes, hashing.digest.hexdigest()


def file_digest(path: Path, seen: Callable[[int], object]) -> str | None:
    """SHA-256 of a file, of which no more is held than a piece; ``None`` where it cannot be read.

    Args:
        path: of the file.
        seen: told the bytes of every piece that was read, for progress.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while piece := handle.read(HASHED_BYTES):
                digest.update(piece)
                seen(len(piece))
    except OSError:
        return None
    return digest.hexdigest()


class _Hashing:
    """A binary file that hashes what is written to it, so that it need not be read again."""

    closed = False

    def __init__(self, out: Any) -> None:
        self.out = out
        self.bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        written: int = self.out.write(data)
        return written

    def flush(self) -> None:
        self.out.flush()


@dataclass(frozen=True)
class Shard:
    """The columns of a shard, in place: nothing is copied, and the pages of the file come as they are touched.

    Attributes:
        ids: token ids of all reads; ``(tokens,)`` uint16 or uint32, read-only.
        offsets: where each read begins in ``ids``; ``(reads + 1,)`` int32.
        classes: ``(reads,)`` int32.
        groups: ``(reads,)`` uint64.
        read_ids: an Arrow array of strings, or ``None``.
        bounds: ``offsets`` once more, quick to take single numbers from.
    """

    ids: npt.NDArray[Any]
    offsets: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int32]
    groups: npt.NDArray[np.uint64]
    read_ids: Any
    bounds: memoryview

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Map the file; its handle is closed again, so that any number of shards may be open.

        Raises:
            DataError: it is missing, cut short, or no shard.
        """
        try:
            with pa.memory_map(str(path)) as source:
                stream = pa.ipc.open_stream(source)
                batch = stream.read_next_batch()
            return cls._of(batch)
        except Exception as error:  # a damaged file fails in as many ways as there are bytes
            raise DataError(
                f"{path} is missing or damaged ({str(error).splitlines()[0] if str(error) else 'no reads in it'}): "
                "run the same mgc prepare again, it makes this shard anew"
            ) from error

    @classmethod
    def _of(cls, batch: pa.RecordBatch) -> Shard:
        tokens = batch.column("tokens")
        if not pa.types.is_list(tokens.type) or tokens.type.value_type not in _ID_TYPES:
            raise ValueError(f"tokens are {tokens.type}")
        if batch.schema != shard_schema(tokens.type.value_type, "read_id" in batch.schema.names):
            raise ValueError(f"its columns are {', '.join(batch.schema.names)}")
        offsets = _view(tokens.offsets, np.dtype(np.int32))
        ids = _view(tokens.values, np.dtype(str(tokens.type.value_type)))
        if offsets[0] != 0 or offsets[-1] != len(ids):
            raise ValueError(f"{len(ids)} tokens, and its reads end at {offsets[-1]}")
        return cls(
            ids,
            offsets,
            _view(batch.column("class"), np.dtype(np.int32)),
            _view(batch.column("group"), np.dtype(np.uint64)),
            batch.column("read_id") if "read_id" in batch.schema.names else None,
            offsets.data,
        )

    def __len__(self) -> int:
        return len(self.classes)


def _array(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Like ``pa.array``, which would import pandas."""
    plain = np.ascontiguousarray(values, np.dtype(str(kind)))
    return pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])


def _view(array: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Its values in place; Arrow's own ``to_numpy`` would import pandas."""
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
