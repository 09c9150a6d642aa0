"""Writing and reading the same tokenized reads through this project's store and through libraries of data sets.

    python benchmarks/store_libraries.py [--quick] [--json PATH]

The reads are 150 bp of a real genome, cut by METAGENE-1's tokenizer: 20,000 of them, repeated. Each library writes
tokens, class and group of every read, and reads tokens and class of single random reads, of lists of 128 random reads,
and of all reads in order, in the quickest way that its documentation gives. Each does so in a process of its own, when
the system has its files in memory already, and the best of five rounds counts. Memory is what reading adds to that of
torch and the library, the mapped pages of the files told apart. Libraries that are not installed are named and left
out.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np

from metagene_classifier.reads.labels import ClassLabel, Labels, write_mapping
from metagene_classifier.store import facts
from metagene_classifier.store.shards import write_shard
from metagene_classifier.store.tokens import TokenStore

DISTINCT_READS = 20_000
BATCH = 128
SHARD_BYTES = 64 * 2**20
ROUNDS, ROUND_S = 5, 0.5

WIDTHS = (9, 14, 10, 11, 12, 12, 10, 10)

Arrays = dict[str, Any]


class Reader(Protocol):
    """Reads tokens and classes back; what it returns is thrown away."""

    def one(self, read: int) -> object: ...

    def many(self, reads: list[int]) -> object: ...

    def all(self) -> Iterator[int]:
        """All reads in order; how many came at once."""


@dataclass(frozen=True)
class Library:
    """One of those compared."""

    name: str
    module: str
    distribution: str
    write: Callable[[Path, Arrays], None]
    open: Callable[[Path], Reader]


def rows_of(arrays: Arrays) -> Iterator[tuple[int, Any, int, int]]:
    ends = np.cumsum(arrays["lengths"])
    begins = ends - arrays["lengths"]
    columns = zip(begins.tolist(), ends.tolist(), arrays["classes"].tolist(), arrays["groups"].tolist(), strict=True)
    for read, (begin, end, label, group) in enumerate(columns):
        yield read, arrays["ids"][begin:end], label, group


def write_store(folder: Path, arrays: Arrays) -> None:
    write_mapping(folder / facts.MAPPING_FILE, Labels((ClassLabel("0", "a"), ClassLabel("1", "b"))))
    lengths, ids, classes = arrays["lengths"], arrays["ids"], arrays["classes"]
    size, sha256 = write_shard(folder, facts.shard_name(0), **arrays, read_ids=None)
    counts = dict(enumerate(np.bincount(classes).tolist()))
    shard = facts.ShardFacts(
        name=facts.shard_name(0),
        reads=len(lengths),
        tokens=len(ids),
        bytes=size,
        sha256=sha256,
        longest=int(lengths.max()),
        source=facts.SourceFacts(input=0, first_byte=0, text_bytes=0, first_record=1, first_line=1),
        reads_per_class=counts,
    )
    whole = facts.StoreFacts(
        package_version="",
        tokenizer=facts.TokenizerFacts(kind="", name="", fingerprint=""),
        labelling=facts.LabellingFacts(labels_from="header", strict_classes=True),
        inputs=(),
        ids_dtype="uint16",
        read_ids=False,
        shards=(shard,),
        reads_per_class=counts,
    )
    facts.write_store_facts(folder, whole)


class StoreReader:
    """Lists through ``tokens_of``, as training reads; copied, since others give copies too."""

    def __init__(self, folder: Path) -> None:
        self.store = TokenStore.open(folder)

    def one(self, read: int) -> object:
        return self.store.tokens(read).copy(), self.store.classes_of(np.array([read]))

    def many(self, reads: list[int]) -> object:
        numbers = np.array(reads)
        return np.concatenate(self.store.tokens_of(numbers)), self.store.classes_of(numbers)

    def all(self) -> Iterator[int]:
        for first in range(0, len(self.store), 1000):
            reads = range(first, min(first + 1000, len(self.store)))
            self.many(list(reads))
            yield len(reads)


def write_datasets(folder: Path, arrays: Arrays) -> None:
    from datasets import Dataset, Features, Sequence, Value, disable_progress_bars

    disable_progress_bars()
    features = Features({"tokens": Sequence(Value("uint16")), "class": Value("int32"), "group": Value("uint64")})

    def rows() -> Iterator[dict[str, Any]]:
        for _, tokens, label, group in rows_of(arrays):
            yield {"tokens": tokens, "class": label, "group": group}

    Dataset.from_generator(rows, features=features, cache_dir=str(folder))


class DatasetsReader:
    """Python lists, as it gives them by itself."""

    format: str | None = None

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset

        self.data = Dataset.from_file(str(next(folder.rglob("*.arrow")))).with_format(self.format)

    def one(self, read: int) -> object:
        row = self.data[read]
        return row["tokens"], row["class"]

    def many(self, reads: list[int]) -> object:
        rows = self.data[reads]
        return rows["tokens"], rows["class"]

    def all(self) -> Iterator[int]:
        for rows in self.data.iter(batch_size=1000):
            yield len(rows["tokens"])


class DatasetsNumpyReader(DatasetsReader):
    """NumPy arrays."""

    format = "numpy"


class IndexedReader:
    """Of a library whose sets give one read for each number."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def one(self, read: int) -> object:
        row = self.data[read]
        return row["tokens"], row["class"]

    def many(self, reads: list[int]) -> object:
        return [self.one(read) for read in reads]

    def all(self) -> Iterator[int]:
        for row in self.data:
            row["tokens"], row["class"]
            yield 1


def write_litdata(folder: Path, arrays: Arrays) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes=SHARD_BYTES)
    for read, tokens, label, group in rows_of(arrays):
        writer.add_item(read, {"tokens": tokens, "class": label, "group": group})
    writer.done()
    writer.merge()


def open_litdata(folder: Path) -> Reader:
    from litdata import StreamingDataset

    return IndexedReader(StreamingDataset(str(folder)))


def write_mosaic(folder: Path, arrays: Arrays) -> None:
    from streaming import MDSWriter

    columns = {"tokens": "ndarray:uint16", "class": "int32", "group": "uint64"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD_BYTES, progress_bar=False) as out:
        for _, tokens, label, group in rows_of(arrays):
            out.write({"tokens": tokens, "class": np.int32(label), "group": np.uint64(group)})


def open_mosaic(folder: Path) -> Reader:
    from streaming import LocalDataset

    return IndexedReader(LocalDataset(str(folder)))


LIBRARIES = (
    Library("this project", "pyarrow", "pyarrow", write_store, StoreReader),
    Library("datasets", "datasets", "datasets", write_datasets, DatasetsReader),
    Library("datasets, numpy", "datasets", "datasets", write_datasets, DatasetsNumpyReader),
    Library("litdata", "litdata", "litdata", write_litdata, open_litdata),
    Library("mosaicml-streaming", "streaming", "mosaicml-streaming", write_mosaic, open_mosaic),
)


def written(name: str, folder: Path, given: Path) -> float:
    """Seconds that writing takes, in a process of its own."""
    library = _named(name)
    arrays = dict(np.load(given))
    importlib.import_module(library.module)
    began = time.perf_counter()
    library.write(folder, arrays)
    return time.perf_counter() - began


def read_back(name: str, folder: Path, reads: int) -> dict[str, float]:
    """Speeds and memory of reading, in a process of its own."""
    library = _named(name)
    importlib.import_module("torch")
    importlib.import_module(library.module)
    before = _memory_mib()
    began = time.perf_counter()
    reader = library.open(folder)
    reader.one(0)
    opened = time.perf_counter() - began
    random = np.random.default_rng(0).integers(0, reads, 2**19)
    lists = random.reshape(-1, BATCH).tolist()
    in_order = _per_second(reader.all())
    one = _per_second(1 for read in random.tolist() if reader.one(read))
    many = _per_second(BATCH for numbers in lists if reader.many(numbers))
    after = _memory_mib()
    return {
        "open_s": opened,
        "one_reads_per_s": one,
        "batch_reads_per_s": many,
        "in_order_reads_per_s": in_order,
        "own_mib": after["RssAnon"] - before["RssAnon"],
        "mapped_mib": after["RssFile"] - before["RssFile"] + after["RssShmem"] - before["RssShmem"],
    }


def _named(name: str) -> Library:
    return next(library for library in LIBRARIES if library.name == name)


def _per_second(counts: Iterator[int]) -> float:
    """The best of a few rounds, so that what else the machine does shows little."""
    best = 0.0
    for _ in range(ROUNDS):
        began, done = time.perf_counter(), 0
        for count in counts:
            done += count
            if time.perf_counter() - began > ROUND_S:
                break
        best = max(best, done / (time.perf_counter() - began))
    return best


def _memory_mib() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}


def tokenized(reads: int) -> Arrays:
    """Arrays as a shard holds them."""
    from setting import metagene_tokenizer, reads_of_genome

    tokens = metagene_tokenizer().encode_batch(reads_of_genome(min(DISTINCT_READS, reads)))
    times = -(-reads // len(tokens))
    lengths = np.tile(np.array([len(each) for each in tokens]), times)[:reads]
    ids = np.tile(np.concatenate(tokens).astype(np.uint16), times)[: lengths.sum()]
    classes = (np.arange(reads) % 2).astype(np.int32)
    return {"ids": ids, "lengths": lengths, "classes": classes, "groups": np.arange(reads, dtype=np.uint64)}


@click.command()
@click.option("--quick", is_flag=True, help="50,000 reads and not 500,000.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """Reads a second, bytes and memory of several ways to keep tokenized reads on disk."""
    import torch
    from setting import machine, record

    reads = 50_000 if quick else 500_000
    arrays = tokenized(reads)
    figures: dict[str, Any] = {"reads": reads, "tokens": len(arrays["ids"]), **machine(torch.device("cpu"))}
    print(f"{reads:,} reads of {len(arrays['ids']) / reads:.1f} tokens; reads a second:")
    heads = ("write", "bytes a read", "open", "one", "128", "in order", "memory", "mapped")
    print(" " * 20 + "".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    with (
        tempfile.TemporaryDirectory() as work,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        given = Path(work) / "reads.npz"
        np.savez(given, **arrays)
        for library in LIBRARIES:
            if importlib.util.find_spec(library.module) is None:
                print(f"{library.name:20}not installed, left out")
                continue
            folder = Path(work) / library.name.replace(" ", "-")
            folder.mkdir()
            seconds = processes.submit(written, library.name, folder, given).result()
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            row = processes.submit(read_back, library.name, folder, reads).result()
            row |= {"write_s": seconds, "bytes_per_read": size / reads}
            figures[library.name] = {"version": version(library.distribution), **row}
            cells = (
                f"{row['write_s']:.1f} s",
                f"{row['bytes_per_read']:.1f}",
                f"{row['open_s'] * 1000:.1f} ms",
                *(f"{row[f'{way}_reads_per_s']:,.0f}" for way in ("one", "batch", "in_order")),
                *(f"{row[f'{kind}_mib']:.0f} MiB" for kind in ("own", "mapped")),
            )
            line = "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
            print(f"{library.name:20}{line}", flush=True)
    record(figures, json_path)


if __name__ == "__main__":
    main()
